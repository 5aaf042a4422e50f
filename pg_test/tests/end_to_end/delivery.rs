//! Nothing that committed is lost, whatever stops and starts again.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use pg_test::{
    DEADLINE, Message, Proxy, RabbitMq, Shutdown, Testbed, send_signal, wait_until,
    wait_until_confirmed,
};
use postgres::Client;
use serde_json::json;

use crate::helpers::{
    ask, blog, first_deliveries, ids, make_blog, published_so_far, run, wait_for_reason,
    wait_until_streaming, worker_pid,
};

/// The worker leaves within a second; what it must not wait for takes ten (`connect_timeout`).
/// The time between is for machines that are slow at times.
const LEAVING: Duration = Duration::from_secs(5);

/// Inserts rows 1 to `rows`, each in a transaction of its own.
fn insert_one_by_one(client: &mut Client, rows: i32) {
    let insert = client.prepare("INSERT INTO blog_articles VALUES ($1)").unwrap();
    for id in 1..=rows {
        client.execute(&insert, &[&id]).unwrap();
    }
}

/// The status shows, now, that nothing is in the way.
#[track_caller]
fn assert_streams(client: &mut Client) {
    let row = client.query_one("SELECT state, reason FROM amqp.status", &[]).unwrap();
    let seen: (String, Option<String>) = (row.get(0), row.get(1));
    assert_eq!(seen, ("streaming".to_owned(), None));
}

#[test]
fn while_the_broker_is_down_writers_go_on_and_everything_arrives_afterwards() {
    let bed = Testbed::private(&[]);
    let mut fixture = bed.scene("outage");
    let mut client = fixture.client();
    make_blog(&mut client);
    bed.rabbitmq.stop();
    insert_one_by_one(&mut client, 1000);
    let reason = wait_until("the status says why", DEADLINE, || {
        let row =
            client.query_one("SELECT state, reason, lag_bytes FROM amqp.status", &[]).unwrap();
        let lag: i64 = row.get(2);
        (row.get::<_, String>(0) == "standing still" && lag > 100_000)
            .then(|| row.get::<_, String>(1))
    });
    assert!(reason.contains("broker cannot be reached"), "{reason}");
    bed.rabbitmq.start();
    fixture.consume_again();
    assert_eq!(ids(&fixture.consumer.wait_for_events(1000)), (1..=1000).collect::<Vec<_>>());
    wait_until_confirmed(&mut client);
}

/// Whatever was confirmed before: one confirm after an outage says that it is over.
#[test]
fn an_outage_is_over_with_the_first_confirm() {
    let bed = Testbed::private(&[]);
    let mut fixture = bed.scene("over");
    let mut client = fixture.client();
    make_blog(&mut client);
    insert_one_by_one(&mut client, 100);
    wait_until_confirmed(&mut client);
    bed.rabbitmq.stop();
    run(&mut client, "INSERT INTO blog_articles VALUES (101)");
    wait_for_reason(&mut client, "broker cannot be reached");
    bed.rabbitmq.start();
    fixture.consume_again();
    wait_until_confirmed(&mut client);
    assert_streams(&mut client);
}

/// A broker that does not read says nothing any more to who has gone to another one.
#[test]
fn what_blocked_a_connection_is_over_with_it() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("blocked");
    let mut client = fixture.client();
    make_blog(&mut client);
    wait_until_streaming(&mut client);
    bed.rabbitmq.ctl(&["set_vm_memory_high_watermark", "0.000001"]);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_for_reason(&mut client, "broker blocked the connection");
    let other = RabbitMq::create();
    bed.postgres.set("amqp.port", &other.port().to_string());
    wait_until_confirmed(&mut client);
    assert_streams(&mut client);
}

/// A worker that could not look for longer than the broker may take, as while a disk is slow, is to blame
/// nobody but itself: what the broker said in time counts.
#[test]
fn a_confirm_that_came_in_time_counts_however_late_the_worker_looks() {
    const STALL: Duration = Duration::from_secs(7);
    let bed = Testbed::private(&["amqp.confirm_timeout = 5", "amqp.heartbeat = 3600"]);
    let fixture = bed.scene("stall");
    let mut client = fixture.client();
    make_blog(&mut client);
    // The exchange is declared then.
    run(&mut client, "INSERT INTO blog_articles VALUES (0)");
    fixture.consumer.wait_for_events(1);
    wait_until_confirmed(&mut client);
    let worker = worker_pid(&mut client);
    // The worker is to have sent the message, and not to have seen its confirm.
    send_signal(bed.rabbitmq.pid(), "STOP");
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_until("it is sent", DEADLINE, || {
        ask::<bool>(&mut client, "SELECT events_published = 2 FROM amqp.status").then_some(())
    });
    send_signal(worker, "STOP");
    send_signal(bed.rabbitmq.pid(), "CONT");
    assert_eq!(ids(&fixture.consumer.wait_for_events(1)), [1]);
    // Nothing else comes; the time passes.
    assert_eq!(fixture.consumer.next_within(STALL), None);
    send_signal(worker, "CONT");
    wait_until_confirmed(&mut client);
    let sent: i64 = ask(&mut client, "SELECT events_published FROM amqp.status");
    assert_eq!(sent, 2);
    assert!(!bed.postgres.log().contains("confirmed nothing"), "{}", bed.postgres.log());
}

/// Nothing is on its way, so that only heartbeats can tell.
#[test]
fn a_network_that_dies_without_a_word_is_noticed_on_an_idle_stream() {
    let bed = Testbed::private(&["amqp.heartbeat = 1"]);
    let proxy = Proxy::start(bed.rabbitmq.port());
    let fixture = bed.scene("silence");
    let mut client = fixture.client();
    make_blog(&mut client);
    bed.postgres.set("amqp.port", &proxy.port().to_string());
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_until_confirmed(&mut client);
    let connected = format!("connected to broker 127.0.0.1:{}", proxy.port());
    wait_until("the stream goes through the proxy", DEADLINE, || {
        bed.postgres.log().contains(&connected).then_some(())
    });
    proxy.silence();
    wait_until("the silence is noticed", DEADLINE, || {
        bed.postgres.log().contains("broker was silent for 2s").then_some(())
    });
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    wait_until_confirmed(&mut client);
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [1, 2]);
}

#[test]
fn frames_are_as_small_as_the_broker_wants_them() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("frames");
    let mut client = fixture.client();
    make_blog(&mut client);
    wait_until_streaming(&mut client);
    bed.rabbitmq.ctl(&["eval", "application:set_env(rabbit, frame_max, 8192)."]);
    bed.postgres.set("amqp.heartbeat", "31");
    wait_until("there is a new connection", DEADLINE, || {
        (bed.postgres.log().matches("connected to broker").count() == 2).then_some(())
    });
    let text = "x".repeat(100_000);
    run(&mut client, &format!("INSERT INTO blog_articles VALUES (1, '{text}')"));
    wait_until_confirmed(&mut client);
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(events[0].json()["current"]["title"], json!(text));
}

#[test]
fn an_immediate_shutdown_while_the_broker_is_down_loses_nothing() {
    let bed = Testbed::private(&[]);
    let mut fixture = bed.scene("crash");
    let mut client = fixture.client();
    make_blog(&mut client);
    bed.rabbitmq.kill();
    insert_one_by_one(&mut client, 1000);
    // Open at the crash: never published.
    run(&mut client, "BEGIN; INSERT INTO blog_articles VALUES (0)");
    bed.postgres.stop(Shutdown::Immediate);
    bed.rabbitmq.start();
    bed.postgres.start();
    fixture.consume_again();
    let mut client = fixture.client();
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(ids(&events), (1..=1000).collect::<Vec<_>>());
}

#[test]
fn a_broker_killed_under_load_gets_everything_in_order() {
    const ROWS: i32 = 3000;
    // RabbitMQ has been seen to take messages for a moment after such a start without knowing the queue.
    let bed = Testbed::private(&["amqp.unroutable = hold"]);
    let mut fixture = bed.scene("broker_killed");
    let mut client = fixture.client();
    make_blog(&mut client);
    thread::scope(|scope| {
        let mut writer = fixture.client();
        scope.spawn(move || insert_one_by_one(&mut writer, ROWS));
        for _ in 0..2 {
            let before: i64 = ask(&mut client, "SELECT events_confirmed FROM amqp.status");
            wait_until("some events are confirmed", DEADLINE, || {
                let now: i64 = ask(&mut client, "SELECT events_confirmed FROM amqp.status");
                (now > before + 50).then_some(())
            });
            bed.rabbitmq.kill();
            bed.rabbitmq.start();
        }
    });
    // The consumer took some before the first kill; what it acknowledged is not in the queue again.
    let mut all = Vec::new();
    while let Ok(Some(message)) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        fixture.consumer.next_within(Duration::ZERO)
    })) {
        all.push(message);
    }
    fixture.consume_again();
    all.extend(published_so_far(&fixture, &mut client));
    let mut first = first_deliveries(&all);
    let is_in_order = first.is_sorted();
    first.sort_unstable();
    assert_eq!(first, (1..=i64::from(ROWS)).collect::<Vec<_>>());
    // What it has not confirmed, a broker that is killed may lose piecemeal.
    assert!(is_in_order || late_ones_were_sent_before(&all));
    assert_same_message_for_the_same_id(&all);
    wait_until_confirmed(&mut client);
    let resent: i64 = ask(&mut client, "SELECT events_resent FROM amqp.status");
    let marked =
        all.iter().filter(|message| message.headers.get("resent") == Some(&json!("reconnect")));
    assert!(marked.count() as i64 <= resent);
}

/// Whether each message that comes for the first time after later ones says that it was sent before.
fn late_ones_were_sent_before(messages: &[Message]) -> bool {
    let mut seen = BTreeSet::new();
    let mut first = messages.iter().zip(ids(messages)).filter(|(_, id)| seen.insert(*id));
    let mut highest = 0;
    first.all(|(message, id)| {
        let is_late = id < highest;
        highest = highest.max(id);
        !is_late || message.headers.contains_key("resent")
    })
}

#[test]
fn reloads_under_load_lose_nothing() {
    const ROWS: i64 = 20_000;
    let bed = Testbed::private(&["amqp.max_in_flight = 200"]);
    let fixture = bed.scene("reloads");
    let mut client = fixture.client();
    make_blog(&mut client);
    wait_until_streaming(&mut client);
    run(
        &mut client,
        &format!("INSERT INTO blog_articles SELECT g FROM generate_series(1, {ROWS}) g"),
    );
    for n in 0..5 {
        let before: i64 = ask(&mut client, "SELECT events_confirmed FROM amqp.status");
        // Each new value makes a new connection.
        bed.postgres.set("amqp.heartbeat", &format!("{}", 31 + n));
        wait_until("the stream goes on", DEADLINE, || {
            let now: i64 = ask(&mut client, "SELECT events_confirmed FROM amqp.status");
            (now > before + 500 || now >= ROWS).then_some(())
        });
    }
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(first_deliveries(&events), (1..=ROWS).collect::<Vec<_>>());
    assert_same_message_for_the_same_id(&events);
    wait_until_confirmed(&mut client);
    let confirmed: i64 = ask(&mut client, "SELECT events_confirmed FROM amqp.status");
    assert_eq!(confirmed, ROWS + 1);
}

/// A frozen broker answers nothing, not even the declaration of a new exchange.
#[test]
fn a_worker_that_waits_for_a_frozen_broker_leaves_at_once_too() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("frozen");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_until_confirmed(&mut client);
    send_signal(bed.rabbitmq.pid(), "STOP");
    run(&mut client, "SET amqp.exchange = 'a-new-one'; INSERT INTO blog_articles VALUES (2)");
    wait_until("the event was read", DEADLINE, || {
        let query = "SELECT coalesce(lag_seconds, 0) > 0 FROM amqp.status";
        ask::<bool>(&mut client, query).then_some(())
    });
    terminate_worker(&mut client);
    send_signal(bed.rabbitmq.pid(), "CONT");
}

/// Terminates the worker, and returns its process id when it has left its slot.
#[track_caller]
fn terminate_worker(client: &mut Client) -> u32 {
    let pid = worker_pid(client);
    run(client, &format!("SELECT pg_terminate_backend({pid})"));
    wait_until("the worker has left its slot", LEAVING, || {
        let query = "SELECT active FROM pg_replication_slots WHERE slot_name = 'amqp_cdc'";
        (!ask::<bool>(client, query)).then_some(())
    });
    pid
}

fn assert_same_message_for_the_same_id(messages: &[Message]) {
    let mut bodies = std::collections::BTreeMap::new();
    for message in messages {
        let id = message.message_id.clone().unwrap_or_default();
        let body = bodies.entry(id.clone()).or_insert_with(|| message.body.clone());
        assert_eq!(body, &message.body, "{id}");
    }
}

#[test]
fn a_terminated_worker_leaves_at_once_and_sends_nothing_twice() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("terminated");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles SELECT g FROM generate_series(1, 500) g");
    let before = fixture.consumer.wait_for_events(500);
    wait_until_confirmed(&mut client);
    let pid = terminate_worker(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (501)");
    let after = published_so_far(&fixture, &mut client);
    assert_eq!(ids(&after), [501]);
    assert_ne!(worker_pid(&mut client), pid);
    assert_eq!(before.len(), 500);
}

#[test]
fn a_fast_restart_in_the_middle_of_a_transaction_goes_on_at_the_next_event() {
    let bed = Testbed::private(&["amqp.max_in_flight = 10"]);
    let fixture = bed.scene("middle");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles SELECT g FROM generate_series(1, 20000) g");
    wait_until("some of the transaction is confirmed", DEADLINE, || {
        let confirmed: i64 = ask(&mut client, "SELECT events_confirmed FROM amqp.status");
        (confirmed > 100).then_some(())
    });
    bed.postgres.restart(Shutdown::Fast);
    let mut client = fixture.client();
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(first_deliveries(&events), (1..=20_000).collect::<Vec<_>>());
    assert!(ids(&events).len() <= 20_000 + 10, "{} were sent", events.len());
    for event in &events {
        assert_eq!(event.headers["tx_seq"], event.json()["current"]["id"]);
        assert_eq!(event.headers["tx_size"], json!(20_000));
    }
}

#[test]
fn a_missing_exchange_is_waited_for_and_a_refused_login_too() {
    let bed = Testbed::private(&["amqp.exchange_type = ''"]);
    let mut fixture = bed.scene("missing");
    let mut client = fixture.client();
    make_blog(&mut client);
    fixture.broker().delete_exchange(&fixture.exchange);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_for_reason(&mut client, "NOT_FOUND");
    wait_until("it was tried again some times", DEADLINE, || {
        ask::<bool>(&mut client, "SELECT events_published >= 4 FROM amqp.status").then_some(())
    });
    wait_for_reason(&mut client, "NOT_FOUND");
    // The log is not filled with it.
    assert_eq!(bed.postgres.log().matches("stream stands still").count(), 1);
    fixture.broker().declare_exchange(&fixture.exchange, "topic");
    fixture.consume_again();
    assert_eq!(ids(&fixture.consumer.wait_for_events(1)), [1]);
    // A session that ends before would send it again.
    wait_until_confirmed(&mut client);

    bed.postgres.set("amqp.password", "wrong");
    let reason = wait_for_reason(&mut client, "ACCESS_REFUSED");
    assert!(!reason.contains("wrong"), "{reason}");
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    bed.postgres.reset("amqp.password");
    assert_eq!(ids(&fixture.consumer.wait_for_events(1)), [2]);
}

#[test]
fn a_refused_message_is_sent_again_and_says_so() {
    let (fixture, mut client) = blog("nack");
    let queue = pg_test::Queue::durable(&format!("{}-full", fixture.database))
        .bound_to(&fixture.exchange, "#")
        .with_number("x-max-length", 1)
        .with_text("x-overflow", "reject-publish");
    fixture.broker().declare_queue(&queue);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    fixture.consumer.wait_for_events(1);
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    wait_for_reason(&mut client, "nack");
    fixture.broker().delete_queue(queue.name());
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(first_deliveries(&events), [2]);
    let last = events.last().expect("at least one");
    assert_eq!(last.headers.get("resent"), Some(&json!("nack")));
}

#[test]
fn two_databases_are_served_by_one_worker_and_dropping_one_is_not_blocked() {
    let (first, mut client) = blog("one_of_two");
    let (second, mut other) = blog("two_of_two");
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    run(&mut other, "INSERT INTO blog_articles VALUES (2)");
    let (one, two) = (first.consumer.wait_for_events(1), second.consumer.wait_for_events(1));
    assert_eq!((ids(&one), ids(&two)), (vec![1], vec![2]));
    assert_eq!(one[0].headers["database"], json!(first.database));
    assert_eq!(two[0].headers["database"], json!(second.database));
    let workers: i64 = ask(
        &mut client,
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'amqp_cdc worker'",
    );
    assert_eq!(workers, 1);

    drop(other);
    let mut server = first.testbed.postgres.connect("postgres");
    run(&mut server, "SET statement_timeout = '10s'");
    // A session that has just ended may be leaving still.
    wait_until("DROP DATABASE succeeds", DEADLINE, || {
        server.batch_execute(&format!("DROP DATABASE {}", second.database)).ok()
    });
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    assert_eq!(ids(&first.consumer.wait_for_events(1)), [3]);
}

/// Sessions come and go with the connection; their threads must go, too.
#[test]
fn connections_that_failed_leave_no_threads_behind() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("threads");
    let mut client = fixture.client();
    make_blog(&mut client);
    let pid = worker_pid(&mut client);
    let threads =
        || std::fs::read_dir(format!("/proc/{pid}/task")).map(Iterator::count).unwrap_or_default();
    wait_until_streaming(&mut client);
    let before = threads();
    for n in 0..12 {
        // Each new value makes a new connection.
        bed.postgres.set("amqp.heartbeat", &format!("{}", 31 + n));
        wait_until_streaming(&mut client);
    }
    bed.rabbitmq.kill();
    let tried = Instant::now();
    wait_until("some attempts have failed", DEADLINE, || {
        (tried.elapsed() > Duration::from_secs(3)).then_some(())
    });
    bed.rabbitmq.start();
    wait_until_streaming(&mut client);
    wait_until("as few threads as before", DEADLINE, || (threads() <= before).then_some(()));
    assert_eq!(worker_pid(&mut client), pid);
}
