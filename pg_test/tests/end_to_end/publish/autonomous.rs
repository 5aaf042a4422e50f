//! `amqp.autonomous_publish`: at once, whatever becomes of the transaction.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

use pg_test::{DEADLINE, Shutdown, Testbed, wait_until};
use postgres::error::SqlState;
use serde_json::json;

use super::bodies;
use crate::helpers::{
    OnDrop, ask, blog, lsn, make_blog, published_so_far, refusal, run, wait_until_streaming,
};

#[test]
fn it_is_sent_ahead_of_its_own_transaction_and_if_that_is_rolled_back() {
    let (fixture, mut client) = blog("autonomous");
    let mut other = fixture.client();
    run(&mut client, "BEGIN; INSERT INTO blog_articles VALUES (1)");
    let id: String = ask(&mut client, "SELECT amqp.autonomous_publish('k', 'now')");
    // Its transaction is open still.
    let now = published_so_far(&fixture, &mut other);
    assert_eq!(bodies(&now), ["now"]);
    run(&mut client, "INSERT INTO blog_articles VALUES (2); COMMIT");
    run(&mut client, "BEGIN; SELECT amqp.autonomous_publish('k', 'all the same'); ROLLBACK");
    assert!(
        client
            .batch_execute(
                "SELECT 1 / length(amqp.autonomous_publish('k', 'failed')) - 1 / (SELECT 0)"
            )
            .is_err()
    );
    let later = published_so_far(&fixture, &mut client);
    let keys: Vec<_> = later.iter().map(|message| message.routing_key.as_str()).collect();
    assert_eq!(keys, ["cdc.article.insert", "cdc.article.insert", "k", "k"]);
    assert_eq!(bodies(&later[2..]), ["all the same", "failed"]);

    let message = &now[0];
    assert_eq!(message.message_id.as_ref(), Some(&id));
    assert_eq!((message.kind.as_deref(), message.delivery_mode), (Some("message"), Some(2)));
    assert_eq!((&message.headers["tx_seq"], &message.headers["tx_size"]), (&json!(1), &json!(1)));
    assert_eq!(message.headers["published"], json!(true));
    assert_eq!(message.headers["database"], json!(fixture.database));
    assert!(!message.headers.contains_key("xid") && !message.headers.contains_key("truncated"));
    // It counts from the end of its record on, and when it was written.
    let committed = message.headers["commit_lsn"].as_str().unwrap_or_default();
    let own = id.split('/').skip(2).collect::<Vec<_>>().join("/");
    assert!(lsn(&own) < lsn(committed) && lsn(committed) < lsn(&own) + 8192, "{own} {committed}");
    let query = format!(
        "SELECT abs(extract(epoch FROM now() - '{0}'::timestamptz)) < 600
            AND floor(extract(epoch FROM '{0}'::timestamptz)) = {1}",
        message.headers["commit_ts"].as_str().unwrap_or_default(),
        message.timestamp.unwrap_or_default(),
    );
    assert!(ask::<bool>(&mut client, &query), "{query}");
}

/// Whoever takes the first event of a transaction for lost says so of all others.
#[test]
fn it_is_no_event_of_its_transaction() {
    let (fixture, mut client) = blog("autonomous_none");
    run(
        &mut client,
        "BEGIN; SELECT amqp.autonomous_publish('k', 'now'); INSERT INTO blog_articles VALUES (1);
         SELECT amqp.autonomous_publish('k', 'more'); SELECT amqp.publish('k', 'with'); COMMIT",
    );
    let messages = published_so_far(&fixture, &mut client);
    let seen: Vec<_> = messages
        .iter()
        .map(|message| {
            (
                message.routing_key.as_str(),
                message.headers["tx_seq"].as_i64(),
                message.headers["tx_size"].as_i64(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("k", Some(1), Some(1)),
            ("k", Some(1), Some(1)),
            ("cdc.article.insert", Some(1), Some(2)),
            ("k", Some(2), Some(2)),
        ]
    );
}

/// A session that sends nothing else has no transaction id, and needs none.
#[test]
fn it_takes_no_transaction_id() {
    let (_fixture, mut client) = blog("autonomous_xid");
    run(&mut client, "BEGIN; SELECT amqp.autonomous_publish('k', 'x')");
    assert_eq!(
        ask::<Option<String>>(&mut client, "SELECT pg_current_xact_id_if_assigned()::text"),
        None
    );
    run(&mut client, "COMMIT");
}

#[test]
fn what_was_sent_is_there_after_a_crash_right_behind_it_and_comes_with_the_same_id() {
    let bed = Testbed::private(&[]);
    let mut fixture = bed.scene("autonomous_crash");
    let mut client = fixture.client();
    make_blog(&mut client);
    wait_until_streaming(&mut client);
    for round in 0..3 {
        bed.rabbitmq.stop();
        run(&mut client, "BEGIN; INSERT INTO blog_articles VALUES (1)");
        let id: String =
            ask(&mut client, &format!("SELECT amqp.autonomous_publish('k', 'round {round}')"));
        bed.postgres.stop(Shutdown::Immediate);
        bed.rabbitmq.start();
        fixture.consume_again();
        bed.postgres.start();
        client = fixture.client();
        // What was confirmed just before the crash may come again.
        let again = fixture.consumer.wait_for(&format!("round {round}"), |message| {
            message.message_id.as_ref() == Some(&id) && message.text() == format!("round {round}")
        });
        assert!(
            again.iter().all(|message| message.headers["resent"] == json!("restart")),
            "{again:?}"
        );
    }
    let rows = published_so_far(&fixture, &mut client);
    assert!(rows.iter().all(|message| message.routing_key == "k"), "{rows:?}");
}

/// Nobody commits afterwards, who would have the WAL written: the WAL writer does, and the worker waits for that.
#[test]
fn without_synchronous_commit_it_is_sent_as_soon_as_it_is_on_disk() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("autonomous_async");
    let mut client = fixture.client();
    wait_until_streaming(&mut client);
    run(&mut client, "SET synchronous_commit = off");
    for number in 0..20 {
        run(&mut client, &format!("SELECT amqp.autonomous_publish('k', '{number}')"));
        let messages = fixture.consumer.wait_for_events(1);
        assert_eq!(bodies(&messages), [number.to_string()]);
    }
}

/// Who was told that it is sent finds it there after a failover, as with a commit.
#[test]
fn its_caller_waits_for_a_synchronous_standby_as_at_a_commit() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("autonomous_synchronous");
    let mut client = fixture.client();
    wait_until_streaming(&mut client);
    // There is none, so the caller waits until it is told not to.
    bed.postgres.set("synchronous_standby_names", "nobody");
    let (sent, stop) = (AtomicI32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let mut caller = fixture.client();
        let pid: i32 = ask(&mut caller, "SELECT pg_backend_pid()");
        // Should the test fail meanwhile, the caller must not wait for ever.
        let _release = OnDrop(|| {
            stop.store(true, Ordering::Release);
            bed.postgres.reset("synchronous_standby_names");
        });
        scope.spawn(|| {
            let mut caller = caller;
            run(&mut caller, "BEGIN");
            // The first ones may not wait: only once the checkpointer has read the setting.
            while !stop.load(Ordering::Acquire) {
                run(&mut caller, "SELECT amqp.autonomous_publish('k', 'x')");
                sent.fetch_add(1, Ordering::AcqRel);
            }
            run(&mut caller, "ROLLBACK");
        });
        wait_until("the caller waits for a standby", DEADLINE, || {
            let query = format!(
                "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'SyncRep'"
            );
            ask::<bool>(&mut client, &query).then_some(())
        });
        run(
            &mut client,
            "SET synchronous_commit = local; SELECT amqp.autonomous_publish('k', 'local'); RESET synchronous_commit",
        );
        stop.store(true, Ordering::Release);
    });
    // It waited for nobody, but stands behind all of these.
    let others = fixture.consumer.wait_for("local", |message| message.text() == "local");
    assert_eq!(others.len(), sent.into_inner() as usize);
}

#[test]
fn a_message_that_is_too_large_for_the_workers_memory_passes() {
    let bed = Testbed::private(&["logical_decoding_work_mem = '64kB'"]);
    let fixture = bed.scene("autonomous_large");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(
        &mut client,
        "SELECT amqp.autonomous_publish('k', repeat('x', 5000000)), amqp.autonomous_publish('k', 'small')",
    );
    let messages = published_so_far(&fixture, &mut client);
    let sizes: Vec<_> = messages.iter().map(|message| message.body.len()).collect();
    assert_eq!(sizes, [5_000_000, 5]);
}

#[test]
fn a_standby_sends_nothing() {
    let bed = Testbed::private(&[]);
    bed.make_database("shop");
    let standby = bed.postgres.standby("follower", &[]);
    let mut client = standby.connect("shop");
    for function in ["publish", "autonomous_publish"] {
        let error = refusal(&mut client, &format!("SELECT amqp.{function}('k', 'b')"));
        assert_eq!(error.code(), &SqlState::READ_ONLY_SQL_TRANSACTION);
        assert_eq!(error.message(), format!("cannot execute amqp.{function}() during recovery"));
        assert_eq!(error.hint(), Some("Call it on the primary."));
    }
}
