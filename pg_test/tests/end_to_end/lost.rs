//! WAL that is gone before its events were published: nothing is passed over in silence.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use pg_test::{DEADLINE, Fixture, Message, Queue, Shutdown, Testbed, send_signal, wait_until};
use postgres::Client;
use serde_json::{Value, json};

use crate::helpers::{
    ask, blog_and_operations, commit_lsn, ids, lsn, published_so_far, run, shown_restart,
    wait_for_reason, wait_for_successor, wait_until_saved, worker_pid,
};

/// Bytes of WAL that an outage may retain in these tests.
const KEEP: &str = "max_slot_wal_keep_size = 32MB";

fn testbed() -> Testbed {
    Testbed::private(&[
        KEEP,
        "min_wal_size = 32MB",
        "max_wal_size = 32MB",
        // The exchange of the event that announces a gap: the worker's own.
        "amqp.exchange = 'operations'",
    ])
}

/// Writes far more WAL than may be retained, and has a checkpoint remove it.
fn outgrow(client: &mut Client) {
    run(client, "CREATE TABLE IF NOT EXISTS plain (filler text)");
    for _ in 0..4 {
        run(
            client,
            "INSERT INTO plain SELECT repeat('x', 1000) FROM generate_series(1, 20000);
             TRUNCATE plain; SELECT pg_switch_wal()",
        );
    }
    run(client, "CHECKPOINT");
}

fn wait_until_lost(client: &mut Client) {
    wait_until("the status says that events are lost", DEADLINE, || {
        let query = "SELECT gap_to IS NOT NULL AND last_error IS NOT NULL FROM amqp.status";
        ask::<bool>(client, query).then_some(())
    });
}

/// The event that announces a gap, and what comes after it up to the marker but for the same to another exchange.
fn gap_and_rest(fixture: &Fixture<'_>, client: &mut Client) -> (Message, Vec<Message>) {
    run(client, "INSERT INTO markers VALUES (1)");
    let mut events = fixture.consumer.wait_for_marker("cdc.marker.insert");
    assert!(!events.is_empty(), "nothing came before the marker");
    let gap = events.remove(0);
    events.retain(|event| (&event.message_id, &event.body) != (&gap.message_id, &gap.body));
    (gap, events)
}

#[test]
fn a_slot_invalidated_in_an_outage_makes_a_gap_that_everybody_is_told_of() {
    let bed = testbed();
    let (mut fixture, mut client) = blog_and_operations(&bed, "invalidated");
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    let first = fixture.consumer.wait_for_events(1).remove(0);
    wait_until_saved(&mut client, &first);
    bed.rabbitmq.stop();
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    let mut open = fixture.client();
    run(&mut open, "BEGIN; INSERT INTO blog_articles VALUES (3)");
    let worker = worker_pid(&mut client);
    outgrow(&mut client);
    wait_for_successor(&mut client, worker);
    wait_until_lost(&mut client);
    assert_eq!(ask::<String>(&mut client, "SELECT state FROM amqp.status"), "lost");
    wait_for_reason(&mut client, "broker cannot be reached");
    assert_eq!(ask::<String>(&mut client, "SELECT state FROM amqp.status"), "lost");
    run(&mut open, "INSERT INTO blog_articles VALUES (4); COMMIT");
    run(&mut client, "INSERT INTO blog_articles VALUES (5)");

    bed.rabbitmq.start();
    fixture.consume_again();
    let (gap, rest) = gap_and_rest(&fixture, &mut client);
    assert_eq!((gap.routing_key.as_str(), gap.kind.as_deref()), ("amqp_cdc.gap", Some("gap")));
    let body = gap.json();
    // Everything before the gap was confirmed.
    let from = body["from"].as_str().unwrap_or_default();
    let commit = first.headers["commit_lsn"].as_str().unwrap_or_default();
    let query = format!(
        "SELECT '{from}'::pg_lsn >= '{commit}' AND '{from}'::pg_lsn < gap_to FROM amqp.status"
    );
    assert!(ask::<bool>(&mut client, &query), "{body}");
    let message_id = gap.message_id.unwrap_or_default();
    let to = body["to"].as_str().unwrap_or("?");
    assert!(message_id.ends_with(&format!("/{to}/gap")), "{message_id}");
    assert_eq!(ids(&rest), [4, 5]);
    // The transaction of row 4 has lost its first event, which was row 3.
    let truncated: Vec<_> = rest.iter().map(|event| event.headers.get("truncated")).collect();
    assert_eq!(truncated, [Some(&Value::Bool(true)), None]);
    assert_eq!(rest[0].headers["tx_size"], json!(1));

    wait_until("the stream goes on", DEADLINE, || {
        (ask::<String>(&mut client, "SELECT state FROM amqp.status") == "streaming").then_some(())
    });
    let query = "SELECT gap_at > now() - interval '1 hour' FROM amqp.status";
    assert!(ask::<bool>(&mut client, query));
    let log = bed.postgres.log();
    assert_eq!(log.matches("events are lost").count(), 1, "{log}");
    assert!(log.contains("was invalidated and is made anew"));
}

/// Whoever had events is told, whichever exchange they went to, and one that is not there any more holds nobody up.
#[test]
fn a_gap_is_announced_to_every_exchange_that_events_went_to() {
    let bed = testbed();
    let (fixture, mut client) = blog_and_operations(&bed, "everybody");
    for name in ["side", "gone"] {
        fixture.broker().declare_exchange(name, "topic");
    }
    let side = fixture.broker().consume(&Queue::durable("side-queue").bound_to("side", "#"));
    // An open transaction needs WAL that will be gone, the records of the position lie behind it.
    let mut open = fixture.client();
    run(&mut open, "BEGIN; INSERT INTO blog_articles VALUES (1)");
    run(
        &mut client,
        "CREATE TABLE plain AS SELECT repeat('x', 1000) FROM generate_series(1, 18000)",
    );
    run(&mut client, "SELECT pg_switch_wal()");
    for (id, exchange) in ["gone", "side", &fixture.exchange].iter().enumerate() {
        let insert = format!("SET amqp.exchange = '{exchange}'; INSERT INTO markers VALUES ({id})");
        run(&mut client, &insert);
    }
    wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    fixture.broker().delete_exchange("gone");
    assert_eq!(side.wait_for_events(1)[0].exchange, "side");
    run(&mut client, "CHECKPOINT");
    let data = bed.postgres.data_dir().join("pg_wal");
    let first = ask::<String>(&mut client, "SELECT pg_walfile_name(restart_lsn) FROM amqp.status");
    bed.postgres.stop(Shutdown::Immediate);
    fs::remove_file(bed.postgres.data_dir().join("pg_replslot/amqp_cdc/state")).unwrap();
    fs::remove_dir(bed.postgres.data_dir().join("pg_replslot/amqp_cdc")).unwrap();
    fs::remove_file(data.join(first)).unwrap();
    bed.postgres.start();
    let mut client = fixture.client();
    wait_until_lost(&mut client);
    let told = [&side, &fixture.consumer, &fixture.consumer].map(|consumer| {
        let gap = consumer.wait_for_events(1).remove(0);
        assert_eq!(gap.kind.as_deref(), Some("gap"));
        gap.exchange
    });
    assert_eq!(told, ["side", &fixture.exchange, "operations"]);
    assert!(!fixture.broker().has_exchange("gone"));
    wait_until("the one that is gone is owed it", DEADLINE, || {
        ask::<bool>(&mut client, "SELECT gaps_owed = 1 FROM amqp.status").then_some(())
    });
}

/// Nothing is told twice, and nothing forgotten, if the server crashes before the gap is announced.
#[test]
fn a_gap_that_was_not_announced_before_a_crash_is_announced_after_it() {
    let bed = testbed();
    let (mut fixture, mut client) = blog_and_operations(&bed, "unannounced");
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    let first = fixture.consumer.wait_for_events(1).remove(0);
    wait_until_saved(&mut client, &first);
    bed.rabbitmq.stop();
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    outgrow(&mut client);
    wait_until_lost(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    bed.postgres.restart(Shutdown::Immediate);
    let mut client = fixture.client();
    run(&mut client, "INSERT INTO blog_articles VALUES (4)");
    bed.rabbitmq.start();
    fixture.consume_again();
    let (gap, rest) = gap_and_rest(&fixture, &mut client);
    assert_eq!(gap.routing_key, "amqp_cdc.gap");
    let from = gap.json()["from"].as_str().map_or(0, lsn);
    assert!(from >= commit_lsn(&first), "{:?}", gap.json());
    assert_eq!(ids(&rest), [3, 4]);

    wait_until_saved(&mut client, rest.last().expect("two of them"));
    bed.postgres.restart(Shutdown::Immediate);
    let mut client = fixture.client();
    run(&mut client, "INSERT INTO blog_articles VALUES (5); INSERT INTO markers VALUES (1)");
    let mut again = fixture.consumer.wait_for_marker("cdc.marker.insert");
    // The marker was confirmed after the last save.
    again.retain(|event| event.routing_key != "cdc.marker.insert");
    assert_eq!(ids(&again), [5], "{again:?}");
}

/// Ends the worker and, before it is started again, changes its slot.
fn change_the_slot(client: &mut Client, statement: &str) {
    send_signal(worker_pid(client), "TERM");
    wait_until("the slot is free", DEADLINE, || client.batch_execute(statement).ok());
}

#[test]
fn a_slot_dropped_in_an_outage_whose_wal_is_gone_makes_a_gap() {
    let bed = testbed();
    let (mut fixture, mut client) = blog_and_operations(&bed, "dropped_and_gone");
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    let first = fixture.consumer.wait_for_events(1).remove(0);
    wait_until_saved(&mut client, &first);
    bed.rabbitmq.stop();
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    // Another library, and so no worker that would make the slot anew at once.
    run(&mut client, "ALTER SYSTEM SET shared_preload_libraries = 'plpgsql'");
    bed.postgres.restart(Shutdown::Fast);
    let mut client = fixture.client();
    run(&mut client, "SELECT pg_drop_replication_slot('amqp_cdc')");
    outgrow(&mut client);
    run(&mut client, "ALTER SYSTEM RESET shared_preload_libraries");
    bed.postgres.restart(Shutdown::Fast);
    let mut client = fixture.client();
    wait_until_lost(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    bed.rabbitmq.start();
    fixture.consume_again();
    let (gap, rest) = gap_and_rest(&fixture, &mut client);
    assert_eq!(gap.routing_key, "amqp_cdc.gap");
    // No position record is left either: all that is known is that there was one.
    assert_eq!(gap.json()["from"], Value::Null);
    assert_eq!(ids(&rest), [3]);
}

#[test]
fn a_slot_that_somebody_advanced_loses_nothing() {
    let bed = testbed();
    let (mut fixture, mut client) = blog_and_operations(&bed, "advanced");
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    let first = fixture.consumer.wait_for_events(1).remove(0);
    wait_until_saved(&mut client, &first);
    bed.rabbitmq.stop();
    let mut open = fixture.client();
    run(&mut open, "BEGIN; INSERT INTO blog_articles VALUES (2)");
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    change_the_slot(
        &mut client,
        "SELECT pg_replication_slot_advance('amqp_cdc', pg_current_wal_flush_lsn())",
    );
    run(&mut open, "INSERT INTO blog_articles VALUES (4); COMMIT");
    bed.rabbitmq.start();
    fixture.consume_again();
    run(&mut client, "INSERT INTO markers VALUES (1)");
    let events = fixture.consumer.wait_for_marker("cdc.marker.insert");
    assert_eq!(ids(&events), [3, 2, 4]);
    assert!(events.iter().all(|event| !event.headers.contains_key("truncated")));
    assert!(bed.postgres.log().contains("was moved by somebody else"));
}

/// What a savepoint took back was no part of the transaction, wherever the worker began to read.
#[test]
fn a_transaction_whose_first_savepoint_was_rolled_back_is_not_called_truncated() {
    let bed = testbed();
    let (fixture, mut client) = blog_and_operations(&bed, "savepoint");
    let mut open = fixture.client();
    run(
        &mut open,
        "BEGIN;
         SAVEPOINT outer_one; SAVEPOINT inner_one;
         INSERT INTO blog_articles VALUES (1);
         RELEASE inner_one; ROLLBACK TO outer_one",
    );
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    // The position is past row 1 now; the next worker begins there.
    let before = shown_restart(&mut client);
    outgrow(&mut client);
    wait_until("the position moves on", DEADLINE, || {
        (shown_restart(&mut client) > before).then_some(())
    });
    let worker = worker_pid(&mut client);
    send_signal(worker, "TERM");
    wait_for_successor(&mut client, worker);
    run(&mut open, "SAVEPOINT kept; INSERT INTO blog_articles VALUES (3); RELEASE kept");
    run(&mut open, "INSERT INTO blog_articles VALUES (4); COMMIT");
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(ids(&events), [3, 4]);
    assert!(events.iter().all(|event| !event.headers.contains_key("truncated")), "{events:?}");
}

/// What cannot be seen is not gone: PostgreSQL would be told to remove it.
#[test]
fn a_directory_that_cannot_be_read_loses_nothing() {
    let bed = testbed();
    let (mut fixture, mut client) = blog_and_operations(&bed, "unreadable");
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    bed.rabbitmq.stop();
    run(&mut client, "INSERT INTO blog_articles VALUES (2); SELECT pg_switch_wal()");
    let before = shown_restart(&mut client);
    let directory = bed.postgres.data_dir().join("pg_wal");
    // Its files can be opened by name, but not listed.
    fs::set_permissions(&directory, Permissions::from_mode(0o300)).unwrap();
    send_signal(worker_pid(&mut client), "TERM");
    wait_until("the worker says what is wrong", DEADLINE, || {
        let query = "SELECT coalesce(last_error, '') FROM amqp.status";
        ask::<String>(&mut client, query).contains("cannot be read").then_some(())
    });
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(shown_restart(&mut client), before);
    bed.rabbitmq.start();
    fixture.consume_again();
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [2]);
    assert!(!bed.postgres.log().contains("events are lost"));
}

/// A backlog that nobody wants any more is given up in one order; its WAL goes while the broker is still away.
#[test]
fn a_backlog_can_be_given_up() {
    let bed = testbed();
    let (fixture, mut client) = blog_and_operations(&bed, "given_up");
    run(&mut client, "INSERT INTO blog_articles VALUES (0)");
    let first = fixture.consumer.wait_for_events(1);
    wait_until_saved(&mut client, &first[0]);
    bed.rabbitmq.stop();
    // Open at the place, and longer.
    let mut open = fixture.client();
    run(&mut open, "BEGIN; INSERT INTO blog_articles VALUES (500)");
    run(&mut client, "INSERT INTO blog_articles SELECT generate_series(1, 100)");
    let current = "SELECT current_lsn::text FROM amqp.status";
    let place: String = ask(&mut client, current);
    let refused = |client: &mut Client, lsn: &str| {
        let error = client.batch_execute(&format!("SELECT amqp.give_up_backlog('{lsn}')"));
        let error = error.unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("22023"), "{error:?}");
    };
    refused(&mut client, "0/1");
    refused(&mut client, "FFFF/0");
    run(&mut client, &format!("SELECT amqp.give_up_backlog('{place}')"));
    let is_given_up = format!("SELECT restart_lsn >= '{place}' FROM amqp.status");
    wait_until("it is given up", DEADLINE, || {
        ask::<Option<bool>>(&mut client, &is_given_up).unwrap_or(false).then_some(())
    });
    assert!(shown_restart(&mut client) >= lsn(&place));
    assert!(bed.postgres.log().contains("given up by order of an operator"));
    run(&mut open, "INSERT INTO blog_articles VALUES (501); COMMIT");
    // Neither a crash nor the WAL that is still there brings it back.
    bed.postgres.restart(Shutdown::Immediate);
    let mut client = fixture.client();
    run(&mut client, "INSERT INTO blog_articles VALUES (1000)");
    bed.rabbitmq.start();
    let mut fixture = fixture;
    fixture.consume_again();
    let (gap, rest) = gap_and_rest(&fixture, &mut client);
    assert_eq!(gap.routing_key, "amqp_cdc.gap");
    let (from, to) = (gap.json()["from"].clone(), gap.json()["to"].clone());
    assert!(lsn(from.as_str().unwrap()) >= commit_lsn(&first[0]), "{from}");
    assert!(lsn(to.as_str().unwrap()) >= lsn(&place), "{to}");
    assert_eq!(ids(&rest), [501, 1000]);
    // What is left of a transaction that was open says so.
    let is_truncated = |message: &Message| message.headers.contains_key("truncated");
    assert!(is_truncated(&rest[0]) && !is_truncated(&rest[1]));
    // And the gap is told once.
    wait_until_saved(&mut client, rest.last().unwrap());
    bed.postgres.restart(Shutdown::Fast);
    let mut client = fixture.client();
    assert!(
        published_so_far(&fixture, &mut client)
            .iter()
            .all(|message| message.routing_key != "amqp_cdc.gap")
    );
}
