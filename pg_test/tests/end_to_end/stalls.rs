//! The worker has one loop: what takes long in it, a slot on a slow disk, WAL on a cold one, delays what the
//! broker says by that time and no more, and shutdown likewise.

use std::ffi::OsStr;
use std::fs;
use std::time::Duration;

use pg_test::{
    DEADLINE, Fixture, Postgres, Shutdown, Testbed, c_library, wait_until, wait_until_confirmed,
};
use postgres::Client;

use crate::helpers::{
    ask, first_deliveries, make_blog, replace_worker, run, wait_until_read, wait_until_streaming,
    worker_pid,
};

/// What can be slow.
#[derive(Clone, Copy)]
enum Slow {
    /// Each time the slot is made durable.
    Slot,
    /// Each read of WAL.
    Wal,
    /// Each look-up of a name.
    Names,
}

impl Slow {
    fn name(self) -> &'static str {
        match self {
            Slow::Slot => "slot",
            Slow::Wal => "wal",
            Slow::Names => "names",
        }
    }
}

/// From now on this takes so long.
fn slow_down(postgres: &Postgres, what: Slow, time: Duration) {
    let file = postgres.data_dir().join(format!("stall.{}", what.name()));
    fs::write(file, time.as_millis().to_string()).unwrap();
}

/// As fast as before.
fn speed_up(postgres: &Postgres, what: Slow) {
    fs::remove_file(postgres.data_dir().join(format!("stall.{}", what.name()))).unwrap();
}

/// How often it was slow so far, a time that is not over yet included.
fn stalls(postgres: &Postgres, what: Slow) -> u64 {
    let file = postgres.data_dir().join(format!("stalled.{}", what.name()));
    fs::metadata(file).map_or(0, |file| file.len())
}

#[track_caller]
fn wait_for_stall(postgres: &Postgres, what: Slow) {
    let before = stalls(postgres, what);
    wait_until("it stalls", DEADLINE, || (stalls(postgres, what) > before).then_some(()));
}

/// Servers whose PostgreSQL can be slowed down.
fn testbed(heartbeat: &str) -> Testbed {
    let bed = Testbed::private(&[
        "fsync = on",
        "max_wal_size = '4GB'",
        "checkpoint_timeout = '1d'",
        "amqp.connect_timeout = 1",
        heartbeat,
    ]);
    let code = include_str!("stalls.c");
    let library = c_library::compile(bed.postgres.folder(), "stalls", code).unwrap();
    bed.postgres.stop(Shutdown::Fast);
    bed.postgres.start_with(&[("LD_PRELOAD", library.as_os_str())]);
    bed
}

fn fixture(bed: &Testbed) -> (Fixture<'_>, Client) {
    let fixture = bed.scene("stalls");
    let mut client = fixture.client();
    make_blog(&mut client);
    wait_until_streaming(&mut client);
    (fixture, client)
}

/// Whether the worker ever lost its connection, or did not get one.
fn was_interrupted(postgres: &Postgres) -> bool {
    postgres.log().contains("stream stands still")
}

#[track_caller]
fn insert(client: &mut Client, id: i64) {
    run(client, &format!("INSERT INTO blog_articles VALUES ({id})"));
}

/// Tells the worker to end, and returns when it has; how often the slot was slow meanwhile.
#[track_caller]
fn end_worker(bed: &Testbed, client: &mut Client) -> u64 {
    let worker = worker_pid(client);
    let before = stalls(&bed.postgres, Slow::Slot);
    run(client, &format!("SELECT pg_terminate_backend({worker})"));
    wait_until("the worker ends", DEADLINE, || {
        let lives = "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = ";
        (!ask::<bool>(client, &format!("{lives}{worker}"))).then_some(())
    });
    stalls(&bed.postgres, Slow::Slot) - before
}

/// Two seconds for each save of the position.
#[test]
fn a_slot_that_is_slow_to_save_delays_a_confirm_by_one_save_at_most() {
    let bed = testbed("amqp.heartbeat = 4");
    let (fixture, mut client) = fixture(&bed);
    slow_down(&bed.postgres, Slow::Slot, Duration::from_secs(2));
    for id in 1..=8 {
        // Some are written while the worker stalls, some just before.
        if id % 2 == 0 {
            wait_for_stall(&bed.postgres, Slow::Slot);
        }
        insert(&mut client, id);
        let stalls_before = stalls(&bed.postgres, Slow::Slot);
        wait_until("it is confirmed", DEADLINE, || {
            let query = format!("SELECT events_confirmed = {id} FROM amqp.status");
            ask::<bool>(&mut client, &query).then_some(())
        });
        let stalls = stalls(&bed.postgres, Slow::Slot) - stalls_before;
        assert!(stalls <= 1, "the confirm of {id} waited for {stalls} saves");
    }
    assert_eq!(first_deliveries(&fixture.consumer.wait_for_events(8)), (1..=8).collect::<Vec<_>>());
    assert!(!was_interrupted(&bed.postgres), "{}", bed.postgres.log());
    insert(&mut client, 9);
    wait_for_stall(&bed.postgres, Slow::Slot);
    insert(&mut client, 10);
    let saves = end_worker(&bed, &mut client);
    assert!(saves <= 1, "it ended after {saves} more saves");
}

/// The broker takes a client for dead that it has not heard for two heartbeats. It is right.
#[test]
fn a_stall_that_the_broker_does_not_bear_costs_a_connection_and_nothing_else() {
    let bed = testbed("amqp.heartbeat = 1");
    let (fixture, mut client) = fixture(&bed);
    insert(&mut client, 1);
    slow_down(&bed.postgres, Slow::Slot, Duration::from_secs(8));
    wait_for_stall(&bed.postgres, Slow::Slot);
    insert(&mut client, 2);
    wait_until("the broker hangs up", DEADLINE, || {
        (bed.rabbitmq.log().contains("missed heartbeats from client")).then_some(())
    });
    speed_up(&bed.postgres, Slow::Slot);
    wait_until("it is noticed", DEADLINE, || was_interrupted(&bed.postgres).then_some(()));
    insert(&mut client, 3);
    wait_until_confirmed(&mut client);
    assert_eq!(first_deliveries(&fixture.consumer.wait_for_events(3)), [1, 2, 3]);
}

/// Ten milliseconds for each page: reading takes half a minute, and the broker, which bears two seconds, hears
/// of the worker all the time. So does the handshake of a worker that connects meanwhile.
#[test]
fn wal_on_a_cold_disk_costs_no_connection() {
    let bed = testbed("amqp.heartbeat = 1");
    let (fixture, mut client) = fixture(&bed);
    slow_down(&bed.postgres, Slow::Wal, Duration::from_millis(10));
    // The position stays in front of it.
    let mut open = fixture.client();
    run(&mut open, "BEGIN; INSERT INTO blog_articles VALUES (1)");
    run(
        &mut client,
        "SELECT count(pg_logical_emit_message(false, 'other', repeat('x', 8000)))
         FROM generate_series(1, 1000)",
    );
    insert(&mut client, 2);
    wait_until_read(&mut client, "all is read");
    insert(&mut client, 3);
    wait_until_confirmed(&mut client);
    assert!(!was_interrupted(&bed.postgres), "{}", bed.postgres.log());

    replace_worker(&mut client);
    run(&mut open, "COMMIT");
    wait_until_streaming(&mut client);
    let is_behind = "SELECT read_lsn < pg_current_wal_flush_lsn() FROM amqp.status";
    assert!(ask::<bool>(&mut client, is_behind), "it had read all before it was connected");
    wait_for_stall(&bed.postgres, Slow::Wal);
    assert!(end_worker(&bed, &mut client) <= 1);
    speed_up(&bed.postgres, Slow::Wal);
    wait_until_confirmed(&mut client);
    let mut seen = first_deliveries(&fixture.consumer.wait_for_events(3));
    seen.sort();
    assert_eq!(seen, [1, 2, 3]);
    assert!(!was_interrupted(&bed.postgres), "{}", bed.postgres.log());
}

/// It is looked up beside the loop.
#[test]
fn a_name_that_is_never_found_stops_neither_reading_nor_the_end() {
    let bed = testbed("amqp.heartbeat = 1");
    let (fixture, mut client) = fixture(&bed);
    slow_down(&bed.postgres, Slow::Names, Duration::from_secs(3600));
    bed.postgres.set("amqp.host", "broker.invalid");
    wait_until("it is looked up", DEADLINE, || {
        (stalls(&bed.postgres, Slow::Names) > 0).then_some(())
    });
    insert(&mut client, 1);
    wait_until_read(&mut client, "it is read all the same");
    wait_until("an attempt is given up", DEADLINE, || {
        bed.postgres.log().contains("did not answer").then_some(())
    });
    insert(&mut client, 2);
    wait_until_read(&mut client, "it is read, too");
    assert_eq!(stalls(&bed.postgres, Slow::Names), 1, "further attempts wait for the first one");
    end_worker(&bed, &mut client);
    worker_pid(&mut client);
    bed.postgres.stop(Shutdown::Fast);
    speed_up(&bed.postgres, Slow::Names);
    bed.postgres.start_with(&[] as &[(&str, &OsStr)]);
    let mut client = fixture.client();
    bed.postgres.reset("amqp.host");
    wait_until_confirmed(&mut client);
    assert_eq!(first_deliveries(&fixture.consumer.wait_for_events(2)), [1, 2]);
}
