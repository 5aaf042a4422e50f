//! What the slot retains, what it lets go, and where the stream goes on when it is not there.

use pg_test::{DEADLINE, Shutdown, Testbed, send_signal, wait_until, wait_until_confirmed};
use serde_json::json;

use crate::helpers::{
    ask, blog, ids, make_blog, published_so_far, replace_worker, run, wait_until_saved, worker_pid,
};

#[test]
fn wal_level_replica_suffices_and_the_slot_is_physical() {
    let (fixture, mut client) = blog("slot");
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    fixture.consumer.wait_for_events(1);
    let row = client
        .query_one(
            "SELECT slot_type, active, catalog_xmin IS NULL AND xmin IS NULL,
                    current_setting('wal_level') FROM pg_replication_slots",
            &[],
        )
        .unwrap();
    let seen: (String, bool, bool, String) = (row.get(0), row.get(1), row.get(2), row.get(3));
    assert_eq!(seen, ("physical".to_owned(), true, true, "replica".to_owned()));
}

/// Confirms move the position, the position releases WAL, and none of it by way of events alone.
#[test]
fn wal_is_released_once_its_events_are_confirmed() {
    let bed = Testbed::private(&["min_wal_size = 32MB", "max_wal_size = 32MB"]);
    let fixture = bed.scene("released");
    let mut client = fixture.client();
    make_blog(&mut client);
    let restart = |client: &mut postgres::Client| -> i64 {
        ask(client, "SELECT (restart_lsn - '0/0')::bigint FROM pg_replication_slots")
    };
    let before = restart(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_until("the position was saved", DEADLINE, || {
        (restart(&mut client) > before).then_some(())
    });
    // Not captured: other tables' WAL is not retained either.
    let before = restart(&mut client);
    run(
        &mut client,
        "CREATE TABLE plain AS SELECT repeat('x', 1000) FROM generate_series(1, 60000)",
    );
    wait_until("foreign WAL is let go", DEADLINE, || {
        (restart(&mut client) > before + 32 * 1024 * 1024).then_some(())
    });
}

#[test]
fn an_open_transaction_keeps_its_wal_and_is_published_whole() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("open");
    let mut client = fixture.client();
    make_blog(&mut client);
    let mut open = fixture.client();
    run(&mut open, "BEGIN; INSERT INTO blog_articles VALUES (1)");
    let first: String = ask(&mut open, "SELECT pg_current_wal_insert_lsn()::text");
    for n in 0..3 {
        run(
            &mut client,
            &format!(
                "INSERT INTO blog_articles VALUES (10 + {n}); SELECT pg_switch_wal(); CHECKPOINT"
            ),
        );
    }
    wait_until_confirmed(&mut client);
    wait_until("the position is past the others", DEADLINE, || {
        let query = format!(
            "SELECT coalesce(confirmed_lsn > '{first}' AND restart_lsn <= '{first}', false)
               FROM amqp.status"
        );
        ask::<bool>(&mut client, &query).then_some(())
    });
    replace_worker(&mut client);
    run(&mut open, "INSERT INTO blog_articles VALUES (2); COMMIT");
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(ids(&events), [10, 11, 12, 1, 2]);
    assert_eq!(events[4].headers["tx_size"], json!(2));
}

#[test]
fn a_prepared_transaction_survives_a_crash_and_is_published() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("prepared_crash");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "BEGIN; INSERT INTO blog_articles VALUES (1); PREPARE TRANSACTION 'p'");
    run(&mut client, "INSERT INTO blog_articles VALUES (2); CHECKPOINT");
    assert_eq!(ids(&fixture.consumer.wait_for_events(1)), [2]);
    bed.postgres.restart(Shutdown::Immediate);
    let mut client = fixture.client();
    run(&mut client, "COMMIT PREPARED 'p'");
    // What was confirmed in the last second before the crash may come once more.
    let mut events = ids(&published_so_far(&fixture, &mut client));
    events.retain(|&id| id != 2);
    assert_eq!(events, [1]);
}

/// The slot is gone, the WAL is not: the last position record says where to go on.
#[test]
fn a_dropped_slot_is_made_anew_without_loss() {
    lose_the_slot("dropped_slot", "SELECT pg_drop_replication_slot('amqp_cdc')");
}

/// A slot that only reserves WAL holds no position, whoever made it.
#[test]
fn a_slot_that_somebody_else_made_is_used_without_loss() {
    lose_the_slot(
        "replaced_slot",
        "SELECT pg_drop_replication_slot('amqp_cdc');
         SELECT pg_create_physical_replication_slot('amqp_cdc', true)",
    );
}

fn lose_the_slot(name: &str, statements: &str) {
    let bed = Testbed::private(&[]);
    let mut fixture = bed.scene(name);
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    bed.rabbitmq.stop();
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    let pid = worker_pid(&mut client);
    send_signal(pid, "TERM");
    wait_until("the slot can be dropped", DEADLINE, || client.batch_execute(statements).ok());
    run(&mut client, "INSERT INTO blog_articles VALUES (3); CHECKPOINT");
    bed.rabbitmq.start();
    fixture.consume_again();
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [2, 3]);
    assert!(bed.postgres.log().contains("goes on from the last recorded position"));
}
