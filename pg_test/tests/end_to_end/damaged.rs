//! WAL that cannot be read: what is intact before it is published once, an operator can have it passed, and
//! what the damage took is told.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

use pg_test::{
    DEADLINE, Fixture, Shutdown, Testbed, insert_lsn, send_signal, wait_until, wait_until_confirmed,
};
use postgres::Client;

use crate::helpers::{
    ask, blog_and_operations, commit_lsn, first_deliveries, ids, lsn, lsn_text, replace_worker,
    run, saved_confirmed, wait_for_reason, wait_until_saved, wait_until_streaming, worker_pid,
};

fn testbed() -> Testbed {
    Testbed::private(&[
        "checkpoint_timeout = '1d'",
        "max_wal_size = '4GB'",
        "autovacuum = off",
        "amqp.exchange = 'operations'",
    ])
}

/// Gets what is published to its own exchange and to the worker's.
fn fixture<'bed>(bed: &'bed Testbed, name: &str) -> (Fixture<'bed>, Client) {
    let (fixture, mut client) = blog_and_operations(bed, name);
    run(&mut client, "INSERT INTO blog_articles VALUES (0)");
    let first = fixture.consumer.wait_for_events(1);
    wait_until_saved(&mut client, &first[0]);
    (fixture, client)
}

/// The WAL file that holds this place.
fn file_of(client: &mut Client, lsn: u64) -> String {
    ask(client, &format!("SELECT pg_walfile_name('{}')", lsn_text(lsn)))
}

/// Overwrites these bytes of the WAL, all in one segment, with zeros.
fn damage(bed: &Testbed, client: &mut Client, from: u64, to: u64) {
    let size: i32 =
        ask(client, "SELECT setting::int FROM pg_settings WHERE name = 'wal_segment_size'");
    assert_eq!(from / size as u64, to / size as u64, "the damage lies in two files");
    let path = bed.postgres.data_dir().join("pg_wal").join(file_of(client, from));
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; (to - from) as usize], from % size as u64).unwrap();
}

/// A record that matters to nobody, of so many bytes and some.
fn write_other(client: &mut Client, bytes: usize) {
    run(client, &format!("SELECT pg_logical_emit_message(false, 'other', repeat('x', {bytes}))"));
}

/// Has all that was written leave the pages that are still being written.
fn write_pages(client: &mut Client) {
    write_other(client, 20_000);
    run(client, "BEGIN; INSERT INTO blog_articles VALUES (-1); ROLLBACK; SELECT pg_switch_wal()");
}

fn freeze(client: &mut Client) -> u32 {
    let worker = worker_pid(client);
    send_signal(worker, "STOP");
    worker
}

fn published(client: &mut Client) -> i64 {
    ask(client, "SELECT events_published FROM amqp.status")
}

/// Waits until the worker says that it cannot read on, and what the operator would set to pass that.
#[track_caller]
fn wait_until_stuck(client: &mut Client) -> String {
    let reason = wait_for_reason(client, "WAL cannot be read at");
    let state: String = ask(client, "SELECT state FROM amqp.status");
    assert_eq!(state, "stuck", "{reason}");
    let (_, order) = reason.split_once("amqp.skip_wal = '").expect("it says how to pass it");
    order.trim_end_matches('\'').to_owned()
}

#[test]
fn what_is_intact_before_damage_is_sent_once_and_what_is_behind_it_when_it_is_passed() {
    const ROWS: i64 = 300;
    let bed = testbed();
    let (mut fixture, mut client) = fixture(&bed, "damaged");
    let worker = freeze(&mut client);
    for id in 1..=ROWS {
        run(&mut client, &format!("INSERT INTO blog_articles VALUES ({id})"));
    }
    let from = insert_lsn(&mut client);
    write_other(&mut client, 100);
    let to = insert_lsn(&mut client);
    // On the same page: only a record whose length is right can be passed by itself.
    run(&mut client, "INSERT INTO blog_articles VALUES (1000)");
    write_pages(&mut client);
    damage(&bed, &mut client, from + 60, from + 70);
    send_signal(worker, "CONT");

    let events = fixture.consumer.wait_for_events(ROWS as usize);
    assert_eq!(ids(&events), (1..=ROWS).collect::<Vec<_>>());
    let order = wait_until_stuck(&mut client);
    let reason: String = ask(&mut client, "SELECT reason FROM amqp.status");
    assert!(
        reason.contains(&file_of(&mut client, from)) && reason.contains(&lsn_text(from)),
        "{reason}"
    );
    wait_until_saved(&mut client, events.last().unwrap());
    // Neither this life nor the next one sends any of it again.
    replace_worker(&mut client);
    wait_until_stuck(&mut client);
    assert_eq!(published(&mut client), ROWS + 1);

    // Another record's name does nothing.
    bed.postgres.set("amqp.skip_wal", &order.replace(&lsn_text(from), &lsn_text(from + 8)));
    replace_worker(&mut client);
    assert_eq!(wait_until_stuck(&mut client), order);
    bed.postgres.set("amqp.skip_wal", &order);
    let rest = fixture.consumer.wait_for_events(2);
    assert_eq!(rest[0].routing_key, "amqp_cdc.gap");
    let gap = rest[0].json();
    assert_eq!((lsn(gap["from"].as_str().unwrap()), lsn(gap["to"].as_str().unwrap())), (from, to));
    assert_eq!(ids(&rest[1..]), [1000]);
    wait_until_streaming(&mut client);
    wait_until_saved(&mut client, &rest[1]);
    // Nor is the gap told again.
    let before = published(&mut client);
    replace_worker(&mut client);
    fixture.consume_again();
    run(&mut client, "INSERT INTO blog_articles VALUES (1001)");
    assert_eq!(ids(&fixture.consumer.wait_for_events(1)), [1001]);
    assert_eq!(published(&mut client), before + 1);
}

/// A transaction may have ended in the damaged part, one way or the other.
#[test]
fn what_was_open_at_the_damage_is_not_taken_for_dead() {
    let bed = testbed();
    let (fixture, mut client) = fixture(&bed, "doubtful");
    let worker = freeze(&mut client);
    let open = |id: i64| {
        let mut session = fixture.client();
        run(&mut session, &format!("BEGIN; INSERT INTO blog_articles VALUES ({id})"));
        session
    };
    let (mut committed, mut with_savepoint) = (open(1), open(2));
    let (mut rolled_back, mut prepared, mut goes_on) = (open(3), open(4), open(5));
    run(&mut with_savepoint, "SAVEPOINT s; INSERT INTO blog_articles VALUES (20); RELEASE s");
    let lost_xid: String = ask(&mut rolled_back, "SELECT pg_current_xact_id()::text");
    let from = insert_lsn(&mut client);
    run(&mut committed, "COMMIT");
    run(&mut with_savepoint, "COMMIT");
    run(&mut rolled_back, "ROLLBACK");
    run(&mut prepared, "PREPARE TRANSACTION 'p'");
    let to = insert_lsn(&mut client);
    // PostgreSQL itself reads what was prepared from the WAL until a checkpoint has moved it to a file.
    run(&mut client, "CHECKPOINT");
    // Where a record's length is damaged, reading goes on with the first record that begins on another page.
    write_other(&mut client, 9000);
    run(&mut goes_on, "INSERT INTO blog_articles VALUES (50)");
    write_pages(&mut client);
    damage(&bed, &mut client, from, to);
    send_signal(worker, "CONT");
    let order = wait_until_stuck(&mut client);
    bed.postgres.set("amqp.skip_wal", &order);
    wait_until("the damage is passed", DEADLINE, || {
        ask::<bool>(&mut client, "SELECT gap_to IS NOT NULL FROM amqp.status").then_some(())
    });
    run(&mut goes_on, "COMMIT");
    // That writes which transactions run: all but the prepared one have ended.
    run(&mut client, "CHECKPOINT");
    run(&mut client, "COMMIT PREPARED 'p'");
    run(&mut client, "CHECKPOINT");
    run(&mut client, "INSERT INTO blog_articles VALUES (100)");

    // Both exchanges are told of the gap.
    let events = fixture.consumer.wait_for_events(9);
    assert!(events[..2].iter().all(|event| event.routing_key == "amqp_cdc.gap"), "{events:?}");
    let is_truncated: Vec<_> = events[2..]
        .iter()
        .map(|event| (ids(std::slice::from_ref(event))[0], event.headers.contains_key("truncated")))
        .collect();
    let mut sorted = is_truncated.clone();
    sorted.sort();
    let expected =
        [(1, true), (2, true), (4, true), (5, true), (20, true), (50, true), (100, false)];
    assert_eq!(sorted, expected, "{is_truncated:?}");
    assert_eq!(is_truncated.last(), Some(&(100, false)));
    wait_until_confirmed(&mut client);
    // It was rolled back: nothing is to be said of it.
    assert!(!bed.postgres.log().contains(&format!("transactions {lost_xid} ended")));
    assert_eq!(fixture.consumer.next_within(std::time::Duration::ZERO), None);
}

/// Where a restart has to look for the position, too.
#[test]
fn damage_does_not_stand_in_the_way_of_finding_the_position() {
    let bed = testbed();
    let (fixture, mut client) = fixture(&bed, "lost_slot");
    let from = insert_lsn(&mut client);
    write_other(&mut client, 100);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    let event = fixture.consumer.wait_for_events(1);
    wait_until_saved(&mut client, &event[0]);
    write_pages(&mut client);
    run(&mut client, "CHECKPOINT");
    bed.postgres.stop(Shutdown::Fast);
    // The checkpoint at the end is behind it: recovery does not read it.
    let name = "pg_replslot/amqp_cdc";
    fs::remove_dir_all(bed.postgres.data_dir().join(name)).unwrap();
    bed.postgres.start();
    let mut client = fixture.client();
    wait_until_streaming(&mut client);
    damage(&bed, &mut client, from + 60, from + 70);
    bed.postgres.stop(Shutdown::Fast);
    fs::remove_dir_all(bed.postgres.data_dir().join(name)).unwrap();
    bed.postgres.start();
    let mut client = fixture.client();
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    let rest = fixture.consumer.wait_for_events(1);
    assert_eq!(ids(&rest), [2], "{}", bed.postgres.log());
}

/// A slot that cannot be written: the position stays where it is, on disk and in memory.
#[test]
fn a_position_that_cannot_be_saved_stays_where_it_was_and_nothing_is_lost() {
    let bed = testbed();
    let (fixture, mut client) = fixture(&bed, "unsaved");
    let slot = bed.postgres.data_dir().join("pg_replslot/amqp_cdc");
    let permit = |mode| fs::set_permissions(&slot, fs::Permissions::from_mode(mode)).unwrap();
    let worker = freeze(&mut client);
    permit(0o500);
    send_signal(worker, "CONT");
    let shown = "SELECT restart_lsn::text || ' ' || confirmed_flush_lsn FROM pg_replication_slots";
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    let event = fixture.consumer.wait_for_events(1);
    wait_until("it is said", DEADLINE, || {
        bed.postgres.log().contains("position could not be saved").then_some(())
    });
    let stays: String = ask(&mut client, shown);
    assert!(saved_confirmed(&mut client) < commit_lsn(&event[0]));
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    permit(0o700);
    let confirmed = lsn(stays.split_once(' ').unwrap().1);
    assert!(confirmed < commit_lsn(&event[0]), "{stays}");
    let mut events = event;
    wait_until("all came", DEADLINE, || {
        events.extend(fixture.consumer.next_within(std::time::Duration::from_millis(100)));
        (first_deliveries(&events) == [1, 2]).then_some(())
    });
    wait_until_saved(&mut client, events.last().unwrap());
}

/// Whatever ends the worker, what is confirmed by then is not sent again.
#[test]
fn an_error_ends_the_worker_but_not_without_saving_its_position() {
    let bed = Testbed::private_with(
        &["--wal-segsize=1"],
        &["checkpoint_timeout = '1d'", "max_wal_size = '1GB'", "amqp.exchange = 'operations'"],
    );
    let (fixture, mut client) = fixture(&bed, "error");
    let worker = freeze(&mut client);
    for id in 1..=100 {
        run(&mut client, &format!("INSERT INTO blog_articles VALUES ({id})"));
    }
    run(&mut client, "SELECT pg_switch_wal()");
    run(&mut client, "INSERT INTO blog_articles VALUES (101)");
    let place = insert_lsn(&mut client);
    let gone = bed.postgres.data_dir().join("pg_wal").join(file_of(&mut client, place));
    run(&mut client, "SELECT pg_switch_wal()");
    run(&mut client, "CREATE TABLE other (); SELECT pg_switch_wal()");
    let aside = bed.postgres.folder().join("aside");
    fs::rename(&gone, &aside).unwrap();
    send_signal(worker, "CONT");
    let events = fixture.consumer.wait_for_events(100);
    assert_eq!(ids(&events), (1..=100).collect::<Vec<_>>());
    wait_until("the worker fails", DEADLINE, || {
        bed.postgres.log().contains("has already been removed").then_some(())
    });
    fs::rename(&aside, &gone).unwrap();
    assert_eq!(first_deliveries(&fixture.consumer.wait_for_events(1)), [101]);
}
