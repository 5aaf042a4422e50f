//! Histories that part: a primary that published what its successor never had, one that is rewound and comes back, a
//! standby that lags on purpose, a recovery to a point in time. Who keeps books by the messages has what the server
//! has, once what `timeline` tells of is struck out.

use std::time::Duration;

use pg_test::history::{Commit, Ends};
use pg_test::{
    DEADLINE, Fixture, Message, Postgres, Shutdown, Testbed, insert_lsn, send_signal, wait_until,
};
use postgres::Client;

use crate::helpers::{
    ask, first_deliveries, ids, is_change, make_blog, published_so_far, run, wait_until_replayed,
    wait_until_saved,
};
use crate::standby::wait_until_archived;

fn fixture<'bed>(bed: &'bed Testbed) -> (Fixture<'bed>, Client) {
    let fixture = bed.scene("rejoined");
    let mut client = fixture.client();
    make_blog(&mut client);
    (fixture, client)
}

/// Row 1, which the standby has, and everybody knows to be confirmed. Then the standby is away.
fn part(fixture: &Fixture<'_>, client: &mut Client, standby: &Postgres) -> Vec<Message> {
    run(client, "INSERT INTO blog_articles VALUES (1)");
    let first = fixture.consumer.wait_for_events(1);
    wait_until_saved(client, &first[0]);
    wait_until_replayed(&mut standby.connect(&fixture.database), flushed(client));
    standby.stop(Shutdown::Fast);
    first
}

/// The primary is lost, and the standby takes over without having heard of it since.
fn promote(bed: &Testbed, standby: &Postgres) {
    bed.postgres.stop(Shutdown::Immediate);
    standby.start();
    standby.promote();
}

/// Rows of a consumer's books: what came, in order, each once, but for what is of a history that is no more.
fn books(events: &[Message]) -> Vec<i64> {
    let mut ends = Ends::default();
    events.iter().for_each(|event| _ = ends.hear(event));
    assert!(ends.count() > 0, "nobody told of the timeline");
    let is_valid = |event: &&Message| is_change(event) && !ends.exclude(Commit::of(event));
    first_deliveries(&events.iter().filter(is_valid).cloned().collect::<Vec<_>>())
}

/// The end of the WAL, which goes out: what a hint bit has written goes with what is flushed next.
fn flushed(client: &mut Client) -> u64 {
    let end = insert_lsn(client);
    run(client, "CHECKPOINT");
    end
}

fn rows(client: &mut Client) -> Vec<i64> {
    let query = "SELECT array_agg(id::bigint ORDER BY id) FROM blog_articles";
    ask(client, query)
}

/// Its event was written before the timeline ended, and its commit after that.
#[test]
fn what_was_begun_before_the_end_of_a_timeline_and_committed_behind_it_is_of_a_history_that_is_no_more()
 {
    let bed = Testbed::private(&[]);
    let (fixture, mut client) = fixture(&bed);
    let standby = bed.postgres.standby("follower", &[]);
    let [mut open, mut preparing] = [fixture.client(), fixture.client()];
    run(&mut open, "BEGIN; INSERT INTO blog_articles VALUES (2)");
    run(&mut preparing, "BEGIN; INSERT INTO blog_articles VALUES (3); PREPARE TRANSACTION 'p'");
    run(&mut preparing, "BEGIN; INSERT INTO blog_articles VALUES (4); PREPARE TRANSACTION 'q'");
    let mut events = part(&fixture, &mut client, &standby);
    run(&mut open, "COMMIT");
    run(&mut client, "COMMIT PREPARED 'p'");
    events.extend(fixture.consumer.wait_for_events(2));
    promote(&bed, &standby);
    let mut client = standby.connect(&fixture.database);
    // This time later than what was open then.
    run(&mut client, "COMMIT PREPARED 'q'");
    run(&mut client, "COMMIT PREPARED 'p'");
    let after = published_so_far(&fixture, &mut client);
    assert!(ids(&after).ends_with(&[4, 3]), "{after:?}");
    let again = after.iter().find(|event| ids(std::slice::from_ref(event)) == [3]);
    assert_eq!(again.and_then(|event| event.message_id.clone()), events[2].message_id);
    events.extend(after);
    assert_eq!(books(&events), [1, 4, 3]);
    assert_eq!(rows(&mut client), [1, 3, 4]);
}

#[test]
fn a_former_primary_that_was_rewound_takes_the_stream_over_again() {
    let bed = Testbed::private(&["wal_log_hints = on"]);
    let (fixture, mut client) = fixture(&bed);
    let other = bed.postgres.standby("other", &[]);
    let mut events = part(&fixture, &mut client, &other);
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    events.extend(fixture.consumer.wait_for_events(1));
    promote(&bed, &other);
    let mut client = other.connect(&fixture.database);
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    events.extend(published_so_far(&fixture, &mut client));

    bed.postgres.rewind(&other);
    bed.postgres.follow(&other, "first");
    let mut rejoined = fixture.client();
    run(&mut client, "INSERT INTO blog_articles VALUES (4)");
    wait_until("it could take over", DEADLINE, || {
        let reason: String = ask(&mut rejoined, "SELECT coalesce(reason, '') FROM amqp.status");
        reason.contains("can take over: everything up to").then_some(())
    });
    events.extend(published_so_far(&fixture, &mut client));
    send_signal(bed.rabbitmq.pid(), "STOP");
    run(&mut client, "INSERT INTO blog_articles VALUES (5)");
    wait_until_replayed(&mut rejoined, flushed(&mut client));
    other.stop(Shutdown::Immediate);
    bed.postgres.promote();
    send_signal(bed.rabbitmq.pid(), "CONT");
    run(&mut rejoined, "INSERT INTO blog_articles VALUES (6)");
    events.extend(published_so_far(&fixture, &mut rejoined));
    assert_eq!(books(&events), [1, 3, 4, 5, 6]);
    assert_eq!(rows(&mut rejoined), [1, 3, 4, 5, 6]);
    let log = bed.postgres.log();
    assert!(!log.contains("events are lost"), "{log}");
}

#[test]
fn a_standby_that_lags_on_purpose_loses_nothing_that_it_had_received() {
    let bed = Testbed::private(&[]);
    let (fixture, mut client) = fixture(&bed);
    let standby = bed.postgres.standby("late", &["recovery_min_apply_delay = '1h'"]);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    let mut events = fixture.consumer.wait_for_events(1);
    wait_until_saved(&mut client, &events[0]);
    send_signal(bed.rabbitmq.pid(), "STOP");
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    let end = flushed(&mut client);
    let mut late = standby.connect(&fixture.database);
    wait_until("the standby has received everything", DEADLINE, || {
        let query = "SELECT (pg_last_wal_receive_lsn() - '0/0')::bigint";
        (ask::<i64>(&mut late, query) as u64 >= end).then_some(())
    });
    assert_eq!(ask::<i64>(&mut late, "SELECT count(*) FROM blog_articles"), 0);
    bed.postgres.stop(Shutdown::Immediate);
    standby.promote();
    send_signal(bed.rabbitmq.pid(), "CONT");
    run(&mut late, "INSERT INTO blog_articles VALUES (3)");
    events.extend(published_so_far(&fixture, &mut late));
    assert_eq!(books(&events), [1, 2, 3]);
    assert_eq!(rows(&mut late), [1, 2, 3]);
}

/// The original had published what came behind that point.
#[test]
fn a_recovery_to_a_point_in_time_says_what_is_no_more_and_goes_on_from_there() {
    let archiving = "archive_command = 'mkdir -p ../archive && cp %p ../archive/%f'";
    let bed = Testbed::private(&["archive_mode = on", archiving]);
    let (fixture, mut client) = fixture(&bed);
    let archive = bed.postgres.folder().join("archive");
    let restore = format!("restore_command = 'cp {}/%f %p'", archive.display());
    let target = ["recovery_target_name = 'here'", "recovery_target_action = 'promote'"];
    let copy = bed.postgres.backup(&[&[restore.as_str()], &target[..]].concat());
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    let mut events = fixture.consumer.wait_for_events(1);
    wait_until_saved(&mut client, &events[0]);
    send_signal(bed.rabbitmq.pid(), "STOP");
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    run(&mut client, "SELECT pg_create_restore_point('here')");
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    send_signal(bed.rabbitmq.pid(), "CONT");
    wait_until("the original has published everything", DEADLINE, || {
        events.extend(fixture.consumer.next_within(Duration::from_millis(100)));
        (first_deliveries(&events) == [1, 2, 3]).then_some(())
    });
    wait_until_archived(&mut client);
    bed.postgres.stop(Shutdown::Immediate);

    copy.start_from_archive();
    let mut client = copy.connect(&fixture.database);
    run(&mut client, "INSERT INTO blog_articles VALUES (4)");
    let after = published_so_far(&fixture, &mut client);
    assert_eq!(ids(&after), [2, 4], "what was not known there to be confirmed comes again");
    events.extend(after);
    assert_eq!(books(&events), [1, 2, 4]);
    assert_eq!(rows(&mut client), [1, 2, 4]);
    assert!(!copy.log().contains("events are lost"), "{}", copy.log());
}
