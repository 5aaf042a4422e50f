//! A standby keeps what it needs to go on with the stream, and says whether it could.

use std::fs;

use pg_test::{
    DEADLINE, Fixture, Message, Postgres, Shutdown, Testbed, insert_lsn, send_signal, wait_until,
    wait_until_confirmed,
};
use postgres::Client;
use serde_json::json;

use crate::helpers::{
    ask, commit_lsn, first_deliveries, lsn, make_blog, published_so_far, replace_worker, run,
    wait_until_replayed, wait_until_saved, worker_pid,
};

/// So that a few rows fill some of them.
const SMALL_SEGMENTS: &str = "--wal-segsize=1";

/// A primary with small segments, which keeps no more WAL than it must.
pub fn bed() -> Testbed {
    Testbed::private_with(&[SMALL_SEGMENTS], &["max_wal_size = 2MB", "min_wal_size = 2MB"])
}

pub fn fixture(bed: &Testbed) -> (Fixture<'_>, Client) {
    let fixture = bed.scene("takeover");
    let mut client = fixture.client();
    make_blog(&mut client);
    (fixture, client)
}

/// Waits until the status of a standby says this.
#[track_caller]
pub fn wait_until_it_says(standby: &Postgres, database: &str, words: &str) {
    let mut client = standby.connect(database);
    let query = "SELECT state || ': ' || coalesce(reason, '') FROM amqp.status";
    wait_until(&format!("the status says \"{words}\""), DEADLINE, || {
        ask::<String>(&mut client, query).contains(words).then_some(())
    });
}

/// Fills segments, and has both servers remove what they do not need.
pub fn fill_segments(primary: &mut Client, standbys: &mut [Client], count: usize) {
    for _ in 0..count {
        run(primary, "SELECT pg_switch_wal(); CHECKPOINT");
        let end = insert_lsn(primary);
        for standby in &mut *standbys {
            wait_until_replayed(standby, end);
            run(standby, "CHECKPOINT");
        }
    }
}

/// Row 1 is confirmed, row 2 is not, and the broker does not answer any more.
pub fn leave_one_unconfirmed(bed: &Testbed, fixture: &Fixture<'_>, client: &mut Client) {
    run(client, "INSERT INTO blog_articles VALUES (1)");
    wait_until_saved(client, &fixture.consumer.wait_for_events(1)[0]);
    send_signal(bed.rabbitmq.pid(), "STOP");
    run(client, "INSERT INTO blog_articles VALUES (2)");
}

/// A standby that never had the WAL of what is not confirmed, and says so.
fn made_during_an_outage(bed: &Testbed, fixture: &Fixture<'_>, client: &mut Client) -> Postgres {
    leave_one_unconfirmed(bed, fixture, client);
    fill_segments(client, &mut [], 5);
    let standby = bed.postgres.standby("follower", &[]);
    fill_segments(client, &mut [standby.connect(&fixture.database)], 2);
    wait_until_it_says(&standby, &fixture.database, "standby: cannot take over yet");
    standby
}

/// The primary is lost, this one is promoted, and the broker answers again: what is published then.
pub fn take_over(bed: &Testbed, fixture: &Fixture<'_>, standby: &Postgres) -> Vec<i64> {
    bed.postgres.stop(Shutdown::Immediate);
    standby.promote();
    send_signal(bed.rabbitmq.pid(), "CONT");
    let mut client = standby.connect(&fixture.database);
    run(&mut client, "INSERT INTO blog_articles VALUES (9)");
    let events = published_so_far(fixture, &mut client);
    let log = standby.log();
    assert!(!log.contains("events are lost"), "{log}");
    assert_tells_of_timeline(&events, &mut client);
    first_deliveries(&events).into_iter().filter(|&id| id > 1).collect()
}

/// The first message of the new primary says what of the old timeline is of a history that is no more.
#[track_caller]
fn assert_tells_of_timeline(events: &[Message], client: &mut Client) {
    let told = events.iter().filter(|event| event.kind.as_deref() == Some("timeline"));
    let told: Vec<_> = told.collect();
    let [notice] = told[..] else { panic!("{told:?}") };
    let system: String = ask(client, "SELECT system_identifier::text FROM pg_control_system()");
    let body = notice.json();
    let at = body["at"].as_str().expect("it says where");
    assert_eq!((&body["from"], &body["to"]), (&json!(1), &json!(2)));
    assert_eq!(notice.message_id, Some(format!("{system}/2/{at}/timeline")));
    assert_eq!(notice.routing_key, "amqp_cdc.timeline");
    for event in events {
        let id = event.message_id.as_deref().unwrap_or_default();
        let [_, timeline, place] = id.splitn(3, '/').collect::<Vec<_>>()[..] else {
            panic!("{id}")
        };
        let is_new = lsn(place.trim_end_matches("/timeline")) >= lsn(at);
        assert_eq!(timeline, if is_new { "2" } else { "1" }, "{id}");
    }
    let from_new = |event: &&Message| event.headers.contains_key("xid");
    let after = events.iter().skip_while(|event| event.message_id != notice.message_id);
    assert!(after.clone().any(|event| from_new(&event)), "it comes before what is not confirmed");
}

pub const READY: &str = "standby: can take over: everything up to";

#[test]
fn a_standby_keeps_what_is_not_confirmed_through_an_outage_and_a_restart_of_its_own() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let standby = bed.postgres.standby("follower", &[]);
    leave_one_unconfirmed(&bed, &fixture, &mut client);
    let mut reader = [standby.connect(&fixture.database)];
    fill_segments(&mut client, &mut reader, 20);
    wait_until_it_says(&standby, &fixture.database, READY);
    for how in [Shutdown::Fast, Shutdown::Immediate] {
        standby.restart(how);
        reader = [standby.connect(&fixture.database)];
        fill_segments(&mut client, &mut reader, 5);
        wait_until_it_says(&standby, &fixture.database, READY);
    }
    let worker = worker_pid(&mut reader[0]);
    send_signal(worker, "TERM");
    wait_until("another worker follows", DEADLINE, || {
        (worker_pid(&mut reader[0]) != worker).then_some(())
    });
    fill_segments(&mut client, &mut reader, 5);
    assert_eq!(take_over(&bed, &fixture, &standby), [2, 9]);
}

#[test]
fn each_of_several_standbys_can_take_over() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let first = bed.postgres.standby("first", &[]);
    // It follows the other one.
    let second = first.standby("second", &[]);
    leave_one_unconfirmed(&bed, &fixture, &mut client);
    let mut readers = [&first, &second].map(|standby| standby.connect(&fixture.database));
    fill_segments(&mut client, &mut readers, 10);
    assert_eq!(take_over(&bed, &fixture, &first), [2, 9]);
    // The next one goes on where that one was.
    let mut client = first.connect(&fixture.database);
    wait_until_replayed(&mut readers[1], insert_lsn(&mut client));
    send_signal(bed.rabbitmq.pid(), "STOP");
    run(&mut client, "INSERT INTO blog_articles VALUES (10)");
    fill_segments(&mut client, &mut readers[1..], 10);
    first.stop(Shutdown::Immediate);
    second.promote();
    send_signal(bed.rabbitmq.pid(), "CONT");
    let mut client = second.connect(&fixture.database);
    let events = first_deliveries(&published_so_far(&fixture, &mut client));
    assert!(events.contains(&10) && !second.log().contains("events are lost"), "{events:?}");
}

#[test]
fn a_standby_that_was_made_during_an_outage_says_what_it_lacks_until_it_does_not() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let standby = made_during_an_outage(&bed, &fixture, &mut client);
    standby.restart(Shutdown::Fast);
    wait_until_it_says(&standby, &fixture.database, "standby: cannot take over yet");
    send_signal(bed.rabbitmq.pid(), "CONT");
    wait_until_it_says(&standby, &fixture.database, READY);
    // What it lacked is confirmed by now.
    assert_eq!(take_over(&bed, &fixture, &standby), [2, 9]);
}

#[test]
fn a_standby_that_lacks_something_says_so_to_the_consumers_when_it_is_promoted() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let standby = made_during_an_outage(&bed, &fixture, &mut client);
    bed.postgres.stop(Shutdown::Immediate);
    standby.promote();
    send_signal(bed.rabbitmq.pid(), "CONT");
    let mut client = standby.connect(&fixture.database);
    let events = published_so_far(&fixture, &mut client);
    let place = |kind: &str| {
        let told = events.iter().find(|event| event.kind.as_deref() == Some(kind));
        told.map(commit_lsn).unwrap_or_else(|| panic!("no {kind}: {events:?}"))
    };
    // Confirmed both or none: a worker that knew what is confirmed would announce no gap.
    assert_eq!(place("gap"), place("timeline"));
}

#[test]
fn a_slot_that_lost_its_wal_on_the_standby_is_made_anew() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let standby = bed.postgres.standby("follower", &["max_slot_wal_keep_size = 4MB"]);
    leave_one_unconfirmed(&bed, &fixture, &mut client);
    let mut reader = [standby.connect(&fixture.database)];
    fill_segments(&mut client, &mut reader, 10);
    wait_until_it_says(&standby, &fixture.database, "standby: cannot take over yet");
    assert!(standby.log().contains("was invalidated and is made anew"));
    send_signal(bed.rabbitmq.pid(), "CONT");
    wait_until_it_says(&standby, &fixture.database, READY);
    assert_eq!(take_over(&bed, &fixture, &standby), [2, 9]);
}

#[test]
fn a_standby_that_nobody_would_promote_retains_nothing() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let standby = bed.postgres.standby("follower", &[]);
    leave_one_unconfirmed(&bed, &fixture, &mut client);
    wait_until_it_says(&standby, &fixture.database, READY);
    let mut reader = standby.connect(&fixture.database);
    let slots = "SELECT count(*) FROM pg_replication_slots";
    assert_eq!(ask::<i64>(&mut reader, slots), 1);
    standby.set("amqp.standby_slot", "off");
    wait_until_it_says(
        &standby,
        &fixture.database,
        "standby: cannot take over: amqp.standby_slot is off",
    );
    assert_eq!(ask::<i64>(&mut reader, slots), 0);
    standby.reset("amqp.standby_slot");
    wait_until_it_says(&standby, &fixture.database, "standby: can");
    assert_eq!(ask::<i64>(&mut reader, slots), 1);
    send_signal(bed.rabbitmq.pid(), "CONT");
}

#[test]
fn where_nobody_publishes_a_standby_retains_no_more_than_it_must() {
    let conf = [
        "max_wal_size = 2MB",
        "min_wal_size = 2MB",
        // For what sends it to the standby.
        "wal_keep_size = 8MB",
        "shared_preload_libraries = ''",
    ];
    let bed = Testbed::private_with(&[SMALL_SEGMENTS], &conf);
    let mut client = bed.postgres.connect("postgres");
    let preload = "shared_preload_libraries = 'amqp_cdc'";
    let standby = bed.postgres.standby("follower", &[preload]);
    let mut reader = [standby.connect("postgres")];
    let files = "SELECT count(*) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'";
    fill_segments(&mut client, &mut reader, 40);
    assert!(ask::<i64>(&mut reader[0], files) >= 40);
    fill_segments(&mut client, &mut reader, 40);
    wait_until("what nobody publishes is retained no more", DEADLINE, || {
        fill_segments(&mut client, &mut reader, 1);
        (ask::<i64>(&mut reader[0], files) < 40).then_some(())
    });
}

/// Replaying it waits for every process of the server.
#[test]
fn a_database_can_be_dropped_while_a_standby_follows() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let standby = bed.postgres.standby("follower", &[]);
    wait_until_it_says(&standby, &fixture.database, "standby: can");
    run(&mut client, "CREATE DATABASE gone");
    run(&mut client, "DROP DATABASE gone");
    wait_until_replayed(&mut standby.connect(&fixture.database), insert_lsn(&mut client));
}

#[test]
fn a_transaction_that_is_half_confirmed_is_finished_by_the_standby() {
    const ROWS: i64 = 100_000;
    let bed = bed();
    let (mut fixture, mut client) = fixture(&bed);
    // Taking them takes a while.
    fixture.consumer = fixture.broker().consume(&fixture.queue()).with_deadline(4 * DEADLINE);
    let standby = bed.postgres.standby("follower", &[]);
    run(&mut client, "INSERT INTO blog_articles VALUES (0)");
    wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    wait_until_it_says(&standby, &fixture.database, READY);
    let insert = format!("INSERT INTO blog_articles SELECT g FROM generate_series(1, {ROWS}) g");
    run(&mut client, &insert);
    wait_until("some of them are confirmed", DEADLINE, || {
        ask::<bool>(&mut client, "SELECT events_confirmed > 20000 FROM amqp.status").then_some(())
    });
    send_signal(bed.rabbitmq.pid(), "STOP");
    // That they are is recorded within a second, and nothing else is written.
    let written = insert_lsn(&mut client);
    wait_until("a position is recorded", DEADLINE, || {
        (insert_lsn(&mut client) > written).then_some(())
    });
    let mut reader = standby.connect(&fixture.database);
    wait_until_replayed(&mut reader, insert_lsn(&mut client));
    bed.postgres.stop(Shutdown::Immediate);
    standby.promote();
    send_signal(bed.rabbitmq.pid(), "CONT");
    let events = published_so_far(&fixture, &mut reader);
    // It is not passed over for one of the events that were confirmed.
    assert!(events.iter().any(|event| event.kind.as_deref() == Some("timeline")));
    let rows = first_deliveries(&events).into_iter().filter(|&id| id > 0);
    assert_eq!(rows.collect::<Vec<_>>(), (1..=ROWS).collect::<Vec<_>>());
}

#[test]
fn what_was_prepared_on_the_old_primary_is_committed_on_the_new_one() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let standby = bed.postgres.standby("follower", &[]);
    run(&mut client, "BEGIN; INSERT INTO blog_articles VALUES (3); PREPARE TRANSACTION 'p'");
    leave_one_unconfirmed(&bed, &fixture, &mut client);
    fill_segments(&mut client, &mut [standby.connect(&fixture.database)], 10);
    assert_eq!(take_over(&bed, &fixture, &standby), [2, 9]);
    let mut client = standby.connect(&fixture.database);
    run(&mut client, "COMMIT PREPARED 'p'");
    assert_eq!(first_deliveries(&published_so_far(&fixture, &mut client)), [3]);
}

/// Whoever comes third has heard of nothing that the second one confirmed.
#[test]
fn each_of_several_promotions_in_a_row_is_told_of() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let first = bed.postgres.standby("first", &[]);
    let second = first.standby("second", &[]);
    leave_one_unconfirmed(&bed, &fixture, &mut client);
    let mut reader = second.connect(&fixture.database);
    for (primary, next) in [(&bed.postgres, &first), (&first, &second)] {
        wait_until_replayed(&mut reader, insert_lsn(&mut primary.connect(&fixture.database)));
        primary.stop(Shutdown::Immediate);
        next.promote();
    }
    send_signal(bed.rabbitmq.pid(), "CONT");
    let told = |events: &[Message]| -> Vec<_> {
        let told = events.iter().filter(|event| event.kind.as_deref() == Some("timeline"));
        told.map(Message::json).map(|body| (body["from"].clone(), body["to"].clone())).collect()
    };
    let events = published_so_far(&fixture, &mut reader);
    assert_eq!(told(&events), [(json!(1), json!(2)), (json!(2), json!(3))], "{events:?}");
    assert_eq!(first_deliveries(&events).last(), Some(&2));
    // Each once: what a worker that comes later tells would be the same again.
    wait_until_confirmed(&mut reader);
    replace_worker(&mut reader);
    assert_eq!(told(&published_so_far(&fixture, &mut reader)), []);
}

/// Until it is told of, the primary does not know what is confirmed.
#[test]
fn a_standby_retains_what_the_primary_retains_behind_a_gap() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let standby = bed.postgres.standby("follower", &[]);
    leave_one_unconfirmed(&bed, &fixture, &mut client);
    let mut reader = [standby.connect(&fixture.database)];
    // For the standby, which has no slot there: no checkpoint may be faster than what is sent to it.
    bed.postgres.set("wal_keep_size", "2MB");
    bed.postgres.set("max_slot_wal_keep_size", "4MB");
    fill_segments(&mut client, &mut reader, 10);
    wait_until("the primary has lost its WAL", DEADLINE, || {
        bed.postgres.log().contains("events are lost").then_some(())
    });
    bed.postgres.reset("max_slot_wal_keep_size");
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    for _ in 0..9 {
        fill_segments(&mut client, &mut reader, 8);
        // Its worker looks once a second.
        let begin = insert_lsn(&mut client);
        wait_until("the primary gives a sign of life", DEADLINE, || {
            (insert_lsn(&mut client) > begin).then_some(())
        });
    }
    wait_until_it_says(&standby, &fixture.database, READY);
    assert_eq!(take_over(&bed, &fixture, &standby), [2, 3, 9]);
}

/// It knows of what has never been in the history that begins then.
#[test]
fn the_slot_of_a_standby_that_recovers_to_an_earlier_time_is_not_believed() {
    // No checkpoint.
    let bed = Testbed::private_with(&[SMALL_SEGMENTS], &[]);
    let (fixture, mut client) = fixture(&bed);
    // What is written to disk is what must be replayed before it is consistent.
    let standby = bed.postgres.standby("follower", &["bgwriter_lru_maxpages = 0"]);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    let target: String = ask(&mut client, "SELECT pg_current_wal_insert_lsn()::text");
    let mut later = String::new();
    for id in 2..5 {
        run(&mut client, "SELECT pg_switch_wal()");
        later = ask(&mut client, "SELECT pg_current_wal_insert_lsn()::text");
        run(&mut client, &format!("INSERT INTO blog_articles VALUES ({id})"));
        wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    }
    let mut reader = standby.connect(&fixture.database);
    wait_until("the standby has saved what came later", DEADLINE, || {
        let query = format!("SELECT restart_lsn > '{later}' FROM pg_replication_slots");
        ask::<bool>(&mut reader, &query).then_some(())
    });
    standby.set("recovery_target_lsn", &target);
    standby.set("recovery_target_action", "promote");
    bed.postgres.stop(Shutdown::Immediate);
    standby.restart(Shutdown::Immediate);
    let mut client = standby.connect(&fixture.database);
    wait_until("the recovery has ended", DEADLINE, || {
        (!ask::<bool>(&mut client, "SELECT pg_is_in_recovery()")).then_some(())
    });
    run(&mut client, "INSERT INTO blog_articles VALUES (9)");
    let events = published_so_far(&fixture, &mut client);
    assert!(first_deliveries(&events).contains(&9), "{events:?}");
    let log = standby.log();
    assert!(log.contains("is of another history"), "{log}");
}

/// Somebody removed a file: what comes behind it is not retained for ever.
#[test]
fn a_standby_goes_on_behind_wal_that_is_gone() {
    const SEGMENT: u64 = 1 << 20;
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let standby = bed.postgres.standby("follower", &[]);
    leave_one_unconfirmed(&bed, &fixture, &mut client);
    wait_until_it_says(&standby, &fixture.database, READY);
    let mut reader = [standby.connect(&fixture.database)];
    let worker = worker_pid(&mut reader[0]);
    send_signal(worker, "STOP");
    let gone = insert_lsn(&mut client) / SEGMENT + 2;
    fill_segments(&mut client, &mut reader, 5);
    let [high, low] = [(gone * SEGMENT) >> 32, ((gone * SEGMENT) & 0xFFFF_FFFF) / SEGMENT];
    let file = standby.data_dir().join(format!("pg_wal/00000001{high:08X}{low:08X}"));
    fs::remove_file(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    send_signal(worker, "CONT");
    wait_until_it_says(&standby, &fixture.database, "standby: cannot take over yet");
    send_signal(bed.rabbitmq.pid(), "CONT");
    wait_until_it_says(&standby, &fixture.database, READY);
    assert_eq!(take_over(&bed, &fixture, &standby), [2, 9]);
}
