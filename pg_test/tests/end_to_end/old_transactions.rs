//! What committed billions of transactions ago is published like anything else.

use pg_test::{DEADLINE, Fixture, Testbed, send_signal, wait_until, wait_until_confirmed};
use postgres::Client;

use crate::helpers::{
    ask, first_deliveries, make_blog, make_c_function, published_so_far, replace_worker, run,
    wait_for_successor, wait_until_streaming, worker_pid,
};

/// Xids on a page of pg_xact.
const PAGE: i64 = 32_768;

/// A third of all there are with the same epoch, in whole pages: more would not be allowed at once.
const JUMP: i64 = (1 << 32) / 3 / PAGE * PAGE;

/// A server whose counter can jump, and which makes a checkpoint only when it is asked to.
fn bed() -> Testbed {
    Testbed::private(&[
        "autovacuum = off",
        "autovacuum_freeze_max_age = 2000000000",
        "checkpoint_timeout = '1h'",
        "max_wal_size = '4GB'",
    ])
}

fn fixture(bed: &Testbed) -> (Fixture<'_>, Client) {
    let fixture = bed.scene("old_transactions");
    let mut client = fixture.client();
    make_blog(&mut client);
    let code = include_str!("old_transactions.c");
    make_c_function(&mut client, &bed.postgres, "jump_to(bigint)", code);
    run(&mut client, "UPDATE pg_database SET datallowconn = true");
    wait_until_streaming(&mut client);
    wait_until_confirmed(&mut client);
    (fixture, client)
}

/// Assigns an xid, with its epoch.
fn assign(client: &mut Client) -> i64 {
    ask(client, "SELECT pg_current_xact_id()::text::bigint")
}

/// Has the counter jump to a page's first xid, and all databases forget what was before.
fn jump(fixture: &Fixture<'_>, client: &mut Client, xid: i64) {
    run(client, &format!("SELECT jump_to({xid})"));
    assert_eq!(assign(client), xid);
    for database in ["template0", "template1", "postgres", &fixture.database] {
        run(&mut fixture.testbed.postgres.connect(database), "VACUUM (FREEZE)");
    }
    let age = "SELECT max(age(datfrozenxid)) FROM pg_database";
    assert!(ask::<i32>(client, age) < 1000);
}

/// The worker, which does nothing from now on, and nothing when it is ended at last.
fn stop_worker(client: &mut Client) -> u32 {
    let worker = worker_pid(client);
    send_signal(worker, "STOP");
    worker
}

fn start_another_worker(client: &mut Client, stopped: u32) {
    run(client, &format!("SELECT pg_terminate_backend({stopped})"));
    send_signal(stopped, "CONT");
    wait_for_successor(client, stopped);
}

#[test]
fn a_commit_that_is_billions_of_transactions_old_is_published() {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let worker = stop_worker(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    let first = assign(&mut client);
    // The others lie in both halves of the counter's circle, as it is seen from the end, and on all sides
    // of what is running there.
    for number in 1..=5 {
        jump(&fixture, &mut client, (first / PAGE) * PAGE + number * JUMP / 2 / PAGE * PAGE);
        run(&mut client, &format!("INSERT INTO blog_articles VALUES (1 + {number})"));
    }
    run(&mut client, "BEGIN; INSERT INTO blog_articles VALUES (7); PREPARE TRANSACTION 'p'");
    run(&mut client, "INSERT INTO blog_articles VALUES (8)");
    start_another_worker(&mut client, worker);
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(first_deliveries(&events), [1, 2, 3, 4, 5, 6, 8]);
    // The next worker begins where the prepared transaction does.
    replace_worker(&mut client);
    run(&mut client, "COMMIT PREPARED 'p'");
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(first_deliveries(&events).last(), Some(&7));
}

/// A transaction that runs has the same 32 bits as one that committed 2^32 transactions ago.
fn a_number_that_is_used_again(make_checkpoint: bool, events_between: u32) {
    let bed = bed();
    let (fixture, mut client) = fixture(&bed);
    let worker = stop_worker(&mut client);
    // Soon after a page's first.
    let page = (assign(&mut client) / PAGE + 1) * PAGE;
    jump(&fixture, &mut client, page);
    (0..100).for_each(|_| _ = assign(&mut client));
    run(&mut client, "BEGIN");
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    let old = assign(&mut client);
    run(&mut client, "COMMIT");
    for id in 1..=events_between {
        let row = format!("({}, repeat('x', 1000000))", id + 1);
        run(&mut client, &format!("INSERT INTO blog_articles VALUES {row}"));
    }
    for number in 1..=3 {
        jump(&fixture, &mut client, (page + number * JUMP) / PAGE * PAGE);
    }
    if make_checkpoint {
        run(&mut client, "CHECKPOINT");
    }
    jump(&fixture, &mut client, page + (1 << 32));
    while assign(&mut client) + 1 < old + (1 << 32) {}
    run(&mut client, "BEGIN; INSERT INTO blog_articles VALUES (0)");
    assert_eq!(assign(&mut client), old + (1 << 32));
    run(&mut client, "PREPARE TRANSACTION 'p'");
    start_another_worker(&mut client, worker);
    let events = published_so_far(&fixture, &mut client);
    let expected: Vec<_> = (1..=i64::from(events_between) + 1).collect();
    assert_eq!(first_deliveries(&events), expected);
    run(&mut client, "COMMIT PREPARED 'p'");
    wait_until("it is published, too", DEADLINE, || {
        let events = published_so_far(&fixture, &mut client);
        (first_deliveries(&events) == [0]).then_some(())
    });
}

#[test]
fn who_has_the_number_of_an_old_transaction_now_does_not_keep_it_back() {
    a_number_that_is_used_again(false, 0);
}

/// More than the worker reads ahead of what it hands out: it has to look further.
#[test]
fn nor_does_he_if_the_worker_reads_much_before_it_knows_how_old_it_is() {
    a_number_that_is_used_again(true, 60);
}
