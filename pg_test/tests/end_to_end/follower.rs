//! A standby's worker is in nobody's way, and goes on where it may; and two servers that were one.

use std::time::Duration;

use pg_test::history::{Commit, Ends};
use pg_test::{
    DEADLINE, Message, Postgres, Shutdown, Testbed, insert_lsn, send_signal, wait_until,
};
use postgres::error::SqlState;

use crate::helpers::{
    ask, first_deliveries, ids, lsn, published_so_far, run, wait_until_replayed, wait_until_saved,
    worker_pid,
};
use crate::takeover::{
    READY, bed, fill_segments, fixture, leave_one_unconfirmed, take_over, wait_until_it_says,
};

/// A slot that is free again is found within a minute.
const RETRY: Duration = Duration::from_secs(90);

const NO_SLOT: &str = "standby: cannot take over: no slot: all replication slots are in use";

/// Dropping one waits for every process that may have its files open.
#[test]
fn a_tablespace_can_be_made_and_dropped_while_a_standby_follows() {
    let bed = Testbed::private(&["allow_in_place_tablespaces = on"]);
    let (fixture, mut client) = fixture(&bed);
    // Replay would wait for ever for who stands in its way.
    let standby = bed.postgres.standby("follower", &["max_standby_streaming_delay = -1"]);
    wait_until_it_says(&standby, &fixture.database, "standby: can");
    let mut reader = standby.connect(&fixture.database);
    let worker = worker_pid(&mut reader);
    run(&mut client, "CREATE TABLESPACE elsewhere LOCATION ''");
    run(&mut client, "CREATE TABLE there (id int) TABLESPACE elsewhere");
    run(&mut client, "DROP TABLE there");
    run(&mut client, "DROP TABLESPACE elsewhere");
    wait_until_replayed(&mut reader, insert_lsn(&mut client));
    assert_eq!(worker_pid(&mut reader), worker);
}

/// Of the two that replay could wait for, the query is one, and the worker is not.
#[test]
fn a_query_that_stands_in_the_way_of_replay_is_cancelled_and_the_worker_follows_on() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let standby = bed.postgres.standby("follower", &["max_standby_streaming_delay = 500ms"]);
    leave_one_unconfirmed(&bed, &fixture, &mut client);
    wait_until_it_says(&standby, &fixture.database, READY);
    let mut reader = standby.connect(&fixture.database);
    let worker = worker_pid(&mut reader);
    let mut query = standby.connect(&fixture.database);
    let count = "SELECT count(*) FROM uncaptured";
    run(&mut client, "CREATE TABLE uncaptured AS SELECT generate_series(1, 100) AS id");
    wait_until_replayed(&mut reader, insert_lsn(&mut client));
    run(&mut query, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(ask::<i64>(&mut query, count), 100);
    run(&mut client, "DELETE FROM uncaptured");
    run(&mut client, "VACUUM uncaptured");
    wait_until_replayed(&mut reader, insert_lsn(&mut client));
    let error = query.query_one(count, &[]).expect_err("its snapshot is too old");
    // It was cancelled, or its session ended, as it held a transaction open.
    assert!(
        error.is_closed() || error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE),
        "{error}"
    );
    fill_segments(&mut client, &mut [reader], 5);
    let mut reader = standby.connect(&fixture.database);
    assert_eq!(worker_pid(&mut reader), worker);
    assert_eq!(take_over(&bed, &fixture, &standby), [2, 9]);
}

/// How often the log says that there is no slot.
fn warnings(standby: &Postgres) -> usize {
    let log = standby.log();
    log.lines().filter(|line| line.contains("WARNING") && line.contains("cannot take over")).count()
}

#[test]
fn a_standby_that_gets_no_slot_says_so_once_and_takes_one_as_soon_as_it_is_free() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let conf = ["max_replication_slots = 1", "amqp.standby_slot = off"];
    let standby = bed.postgres.standby("follower", &conf);
    let mut reader = standby.connect(&fixture.database);
    run(&mut reader, "SELECT pg_create_physical_replication_slot('another')");
    standby.set("amqp.standby_slot", "on");
    wait_until_it_says(&standby, &fixture.database, NO_SLOT);
    leave_one_unconfirmed(&bed, &fixture, &mut client);
    let worker = worker_pid(&mut reader);
    run(&mut reader, "SELECT pg_drop_replication_slot('another')");
    wait_until("it has a slot", RETRY, || {
        let query =
            "SELECT count(*) = 1 FROM pg_replication_slots WHERE slot_name = 'amqp_cdc' AND active";
        ask::<bool>(&mut reader, query).then_some(())
    });
    wait_until_it_says(&standby, &fixture.database, READY);
    assert_eq!((worker_pid(&mut reader), warnings(&standby)), (worker, 1), "{}", standby.log());
    assert_eq!(take_over(&bed, &fixture, &standby), [2, 9]);
}

/// PostgreSQL has such a server follow, and lets it have no slot at all.
#[test]
fn a_standby_without_replication_slots_follows_all_the_same() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let standby = bed.postgres.standby("follower", &["max_replication_slots = 0"]);
    wait_until_it_says(&standby, &fixture.database, NO_SLOT);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    let mut reader = standby.connect(&fixture.database);
    wait_until_replayed(&mut reader, insert_lsn(&mut client));
    assert_eq!(ask::<i64>(&mut reader, "SELECT count(*) FROM blog_articles"), 1);
    assert_eq!(warnings(&standby), 1, "{}", standby.log());
}

#[test]
fn a_standby_that_has_lost_the_library_keeps_its_slot_until_somebody_drops_it() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let standby = bed.postgres.standby("follower", &[]);
    leave_one_unconfirmed(&bed, &fixture, &mut client);
    wait_until_it_says(&standby, &fixture.database, READY);
    // An empty list cannot be set so.
    standby.set("shared_preload_libraries", "plpgsql");
    standby.restart(Shutdown::Fast);
    let mut reader = [standby.connect(&fixture.database)];
    let slots =
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'amqp_cdc' AND NOT active";
    assert_eq!(ask::<i64>(&mut reader[0], slots), 1);
    let files = "SELECT count(*) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'";
    fill_segments(&mut client, &mut reader, 20);
    assert!(ask::<i64>(&mut reader[0], files) >= 20);
    run(&mut reader[0], "SELECT pg_drop_replication_slot('amqp_cdc')");
    wait_until("what it retained is gone", DEADLINE, || {
        fill_segments(&mut client, &mut reader, 1);
        (ask::<i64>(&mut reader[0], files) < 15).then_some(())
    });
    send_signal(bed.rabbitmq.pid(), "CONT");
}

/// Both go on from the position in the slot, which the copy has, too.
#[test]
fn a_snapshot_of_the_data_directory_that_is_started_beside_the_first_server_sends_duplicates_alone()
{
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    send_signal(bed.rabbitmq.pid(), "STOP");
    run(&mut client, "INSERT INTO blog_articles VALUES (2), (3)");
    run(&mut client, "BEGIN; INSERT INTO blog_articles VALUES (4); PREPARE TRANSACTION 'p'");
    bed.postgres.kill();
    let copy = bed.postgres.snapshot(&[]);
    bed.postgres.start();
    copy.start();
    send_signal(bed.rabbitmq.pid(), "CONT");
    let mut events = Vec::new();
    for server in [&bed.postgres, &copy] {
        let mut client = server.connect(&fixture.database);
        run(&mut client, "COMMIT PREPARED 'p'");
        events.extend(published_so_far(&fixture, &mut client));
        let log = server.log();
        assert!(!log.contains("was terminated by signal") && !log.contains("are lost"), "{log}");
        assert!(log.contains("stream goes on from"), "{log}");
    }
    for id in [2, 3, 4] {
        let of_it: Vec<_> =
            events.iter().filter(|event| ids(std::slice::from_ref(event)) == [id]).collect();
        assert!(of_it.len() >= 2, "{id}: {events:?}");
        let name = |event: &Message| (event.message_id.clone(), event.body.clone());
        assert!(of_it.iter().all(|event| name(event) == name(of_it[0])), "{of_it:?}");
        // The first may be what the broker had taken; row 4 committed on each of the two by itself.
        let is_resent = of_it[1..].iter().all(|event| event.headers.contains_key("resent"));
        assert!(is_resent || id == 4, "{of_it:?}");
    }
    assert!(!ids(&events).contains(&1), "{events:?}");
}

/// The rule of docs/messages.md, by which a consumer finds what it has got and nobody has any more. The event of row 2
/// lies before the end of its timeline, and the commit behind it.
#[test]
fn what_the_new_primary_never_had_is_told_by_the_timeline_and_the_commit() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let standby = bed.postgres.standby("follower", &[]);
    let mut reader = standby.connect(&fixture.database);
    let mut open = fixture.client();
    run(&mut open, "BEGIN; INSERT INTO blog_articles VALUES (2)");
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    wait_until_replayed(&mut reader, insert_lsn(&mut client));
    let sender: i32 = ask(&mut client, "SELECT pid FROM pg_stat_replication");
    send_signal(sender.unsigned_abs(), "STOP");
    run(&mut open, "COMMIT");
    run(&mut client, "INSERT INTO blog_articles VALUES (4)");
    let mut events = fixture.consumer.wait_for_events(3);
    bed.postgres.kill();
    standby.promote();
    run(&mut reader, "INSERT INTO blog_articles VALUES (9)");
    events.extend(published_so_far(&fixture, &mut reader));
    // Also where no position was recorded yet, and it has a gap to tell of.
    let told = events.iter().find(|event| event.kind.as_deref() == Some("timeline"));
    let told = told.expect("it tells of the failover");
    let at = lsn(told.json()["at"].as_str().expect("it says where"));
    let mut ends = Ends::default();
    events.iter().for_each(|event| _ = ends.hear(event));
    let is_no_more = |event: &&Message| ends.exclude(Commit::of(event));
    let is_row = |event: &&Message| event.headers.contains_key("table");
    let (gone, kept): (Vec<&Message>, Vec<&Message>) =
        events.iter().filter(|event| is_row(event)).partition(is_no_more);
    let rows = |events: &[&Message]| {
        first_deliveries(&events.iter().copied().cloned().collect::<Vec<_>>())
    };
    assert_eq!((rows(&gone), rows(&kept)), (vec![2, 4], vec![3, 9]), "{events:?}");
    let id = gone[0].message_id.as_deref().expect("every message has a message_id");
    let event = id.splitn(3, '/').nth(2).expect("it ends with the event's place");
    assert!(lsn(event) < at, "its event alone does not tell");
    let there: Vec<i32> = ask(&mut reader, "SELECT array_agg(id ORDER BY id) FROM blog_articles");
    assert_eq!(there, [3, 9]);
}
