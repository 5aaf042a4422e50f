//! From a trigger that notifies and a relay that listens to the capture trigger, as docs/coming-from-notify.md has it.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use pg_test::{DEADLINE, Fixture, Message, Queue, wait_until};
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;

use crate::helpers::{ask, blog, published_so_far, refusal, run};

const PAGE: &str = include_str!("../../../docs/coming-from-notify.md");

/// The first block of SQL on the page that has these words.
#[track_caller]
fn sql_with(words: &str) -> &'static str {
    let blocks = PAGE.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.into_iter().find(|block| block.contains(words)).unwrap_or_else(|| panic!("{words}"))
}

const WRITERS: i64 = 3;

/// Transactions of each writer, of two rows each.
const TRANSACTIONS: i64 = 60;

/// Passes on what it hears, up to the last word; each is confirmed before the next is sent.
fn relay(mut session: Client, fixture: &Fixture<'_>, exchange: &str) {
    let broker = fixture.broker();
    let mut notifications = session.notifications();
    let mut heard = notifications.timeout_iter(DEADLINE);
    loop {
        let notification = heard.next().unwrap().expect("a last word comes");
        broker.publish(exchange, "order", notification.payload().as_bytes());
        if notification.payload() == "end" {
            return;
        }
    }
}

fn write(mut session: Client, writer: i64) {
    for number in 0..TRANSACTIONS {
        let first = (writer * TRANSACTIONS + number) * 2;
        let rows = format!(
            "BEGIN; INSERT INTO orders VALUES ({first}, 'first'); INSERT INTO orders VALUES ({}, 'second');
             SAVEPOINT a; INSERT INTO orders VALUES ({}, 'taken back'); ROLLBACK TO a; COMMIT",
            first + 1,
            first + 1_000_000
        );
        run(&mut session, &rows);
    }
}

fn id(row: &serde_json::Value) -> i64 {
    row["id"].as_i64().expect("an order has an id")
}

#[test]
fn the_change_over_loses_nothing_sends_nothing_twice_and_keeps_the_order() {
    let (fixture, mut client) = blog("notify");
    let old = format!("{}-old", fixture.database);
    let broker = fixture.broker();
    broker.declare_exchange(&old, "topic");
    let consumer = broker.consume(&Queue::durable(&old).bound_to(&old, "#"));
    run(&mut client, "CREATE TABLE orders (id bigint PRIMARY KEY, what text)");
    run(&mut client, sql_with("CREATE FUNCTION notify_order"));

    let mut listening = fixture.client();
    run(&mut listening, "LISTEN orders");
    thread::scope(|scope| {
        scope.spawn(|| relay(listening, &fixture, &old));
        for writer in 0..WRITERS {
            let session = fixture.client();
            scope.spawn(move || write(session, writer));
        }
        wait_until("a third is written", DEADLINE, || {
            let written: i64 = ask(&mut client, "SELECT count(*) FROM orders");
            (written >= WRITERS * TRANSACTIONS * 2 / 3).then_some(())
        });
        run(&mut client, sql_with("pg_notify('orders', 'end')"));
    });

    let before = consumer.wait_for("the last word", |message| message.text() == "end");
    assert!(consumer.next_within(Duration::ZERO).is_none());
    let before: Vec<i64> = before.iter().map(|message| id(&message.json())).collect();
    let after = published_so_far(&fixture, &mut client);
    let after: Vec<i64> = after.iter().map(|message| id(&message.json()["current"])).collect();
    println!("{} by the relay, {} from here", before.len(), after.len());
    assert!(!before.is_empty() && !after.is_empty());
    let all: Vec<i64> = before.iter().chain(&after).copied().collect();
    let once: BTreeSet<i64> = all.iter().copied().collect();
    assert_eq!(once.len(), all.len());
    let written = WRITERS * TRANSACTIONS * 2;
    assert_eq!(once, (0..written).collect());
    // Each writer's are in its order, and no transaction went both ways.
    for writer in 0..WRITERS {
        let own = all.iter().filter(|id| *id / (TRANSACTIONS * 2) == writer);
        assert!(own.is_sorted(), "{writer}");
    }
    let transactions = |ids: &[i64]| ids.iter().map(|id| id / 2).collect::<BTreeSet<_>>();
    assert!(transactions(&before).is_disjoint(&transactions(&after)));
}

#[test]
fn a_trigger_that_makes_its_own_message_sends_it() {
    let (fixture, mut client) = blog("notify_own");
    run(&mut client, "CREATE TABLE orders (id bigint PRIMARY KEY, what text)");
    run(&mut client, sql_with("CREATE FUNCTION send_order"));
    run(&mut client, "INSERT INTO orders VALUES (1, 'x'); UPDATE orders SET what = 'y'");
    let messages = published_so_far(&fixture, &mut client);
    let seen: Vec<_> =
        messages.iter().map(|message| (message.routing_key.as_str(), message.text())).collect();
    assert_eq!(
        seen,
        [("order.insert", r#"{"id":1,"what":"x"}"#), ("order.update", r#"{"id":1,"what":"y"}"#)]
    );
}

/// What the page says of NOTIFY, and of what takes its place.
#[test]
fn what_notify_does_not_take_is_taken() {
    let (fixture, mut client) = blog("notify_limits");
    let long = refusal(&mut client, "SELECT pg_notify('orders', repeat('x', 8000))");
    assert_eq!(long.message(), "payload string too long");
    run(&mut client, "BEGIN; NOTIFY orders");
    let transaction = format!("{}-tx", fixture.database);
    let prepared = refusal(&mut client, &format!("PREPARE TRANSACTION '{transaction}'"));
    assert!(prepared.message().contains("cannot PREPARE"), "{prepared:?}");
    let mut listening = fixture.client();
    run(&mut listening, "LISTEN orders");
    run(
        &mut client,
        "BEGIN; NOTIFY orders, 'same'; NOTIFY orders, 'same'; COMMIT; NOTIFY orders, 'end'",
    );
    let mut notifications = listening.notifications();
    let heard = notifications.timeout_iter(DEADLINE).take(2);
    let heard: Vec<_> = heard.map(|it| Ok(it.payload().to_owned())).collect().unwrap();
    assert_eq!(heard, ["same", "end"]);

    run(
        &mut client,
        "SELECT amqp.publish('orders', repeat('x', 8000));
         BEGIN; SELECT amqp.publish('orders', 'same'); SELECT amqp.publish('orders', 'same')",
    );
    run(&mut client, &format!("PREPARE TRANSACTION '{transaction}'"));
    run(&mut client, &format!("COMMIT PREPARED '{transaction}'"));
    let messages = published_so_far(&fixture, &mut client);
    let bodies: Vec<_> = messages.iter().map(Message::text).collect();
    assert_eq!(bodies, [&"x".repeat(8000), "same", "same"]);
}
