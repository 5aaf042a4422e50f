//! Events that the broker refuses at one exchange do not hold up those of the others, where that is wanted; and
//! who should have had them is told so.

use pg_test::{
    DEADLINE, Fixture, Message, Queue, Shutdown, Testbed, wait_until, wait_until_confirmed,
};
use postgres::Client;
use serde_json::{Value, json};

use crate::helpers::{
    ask, blog, commit_lsn, first_deliveries, ids, lsn, make_blog, published_so_far, run,
    saved_confirmed, wait_for_reason, wait_until_streaming,
};

/// A bed on which no exchange is declared but by the tests.
fn testbed(policy: &str) -> Testbed {
    let policy = format!("amqp.exchange_policy = '{policy}'");
    Testbed::private(&["amqp.exchange_type = ''", "amqp.dead_letter_exchange = 'dead'", &policy])
}

fn fixture<'bed>(bed: &'bed Testbed, name: &str) -> (Fixture<'bed>, Client) {
    let fixture = bed.scene(name);
    let mut client = fixture.client();
    make_blog(&mut client);
    wait_until_streaming(&mut client);
    (fixture, client)
}

/// Inserts these rows, whose events go to this exchange.
fn insert_to(client: &mut Client, exchange: &str, rows: std::ops::RangeInclusive<i64>) {
    let (first, last) = rows.into_inner();
    run(
        client,
        &format!(
            "BEGIN;
             SET LOCAL amqp.exchange = '{exchange}';
             INSERT INTO blog_articles SELECT g FROM generate_series({first}, {last}) g;
             COMMIT"
        ),
    );
}

/// Rows before and behind those of an exchange, in transactions of their own.
fn insert_around(client: &mut Client, exchange: &str, rows: std::ops::RangeInclusive<i64>) {
    let (before, after) = (rows.start() - 1, rows.end() + 1);
    run(client, &format!("INSERT INTO blog_articles VALUES ({before})"));
    insert_to(client, exchange, rows);
    run(client, &format!("INSERT INTO blog_articles VALUES ({after})"));
}

fn count(client: &mut Client, column: &str) -> i64 {
    ask(client, &format!("SELECT {column} FROM amqp.status"))
}

#[track_caller]
fn wait_for_count(client: &mut Client, column: &str, expected: i64) {
    wait_until(column, DEADLINE, || (count(client, column) == expected).then_some(()));
}

#[track_caller]
fn skip_the_held_one(client: &mut Client) {
    let held = wait_until("the stream stands still at a message", DEADLINE, || {
        ask::<Option<String>>(client, "SELECT held_message FROM amqp.status")
    });
    run(client, &format!("SELECT amqp.skip('{held}')"));
}

/// Sets a setting of the broker's connection, and returns when the worker has made a new one.
#[track_caller]
fn set(bed: &Testbed, name: &str, value: &str) {
    let connections = || bed.postgres.log().matches("connected to broker").count();
    let before = connections();
    bed.postgres.set(name, value);
    wait_until("there is a new connection", DEADLINE, || (connections() > before).then_some(()));
}

/// A durable queue that everything goes to which is published to this topic exchange.
fn queue_of(exchange: &str) -> Queue {
    Queue::durable(&format!("{exchange}-queue")).bound_to(exchange, "#")
}

/// The gap event that tells of the events between these two.
#[track_caller]
fn assert_gap(gap: &Message, before: &Message, after: &Message) {
    assert_eq!((gap.routing_key.as_str(), gap.kind.as_deref()), ("amqp_cdc.gap", Some("gap")));
    let end = |name: &str| lsn(gap.json()[name].as_str().unwrap_or_default());
    let (from, to) = (end("from"), end("to"));
    assert!(commit_lsn(before) <= from && from < to && to < commit_lsn(after), "{}", gap.text());
    let id = gap.message_id.as_deref().unwrap_or_default();
    assert!(id.ends_with("/passed/gap"), "{id}");
}

/// The broker would close the channel that is to declare it, and log that.
#[test]
fn an_exchange_that_is_there_is_used_as_it_is() {
    let (fixture, mut client) = blog("as_it_is");
    let fanout = format!("{}-fanout", fixture.exchange);
    fixture.broker().declare_exchange(&fanout, "fanout");
    let consumer = fixture.broker().consume(&Queue::transient(&fanout).bound_to(&fanout, ""));
    insert_around(&mut client, &fanout, 2..=3);
    assert_eq!(ids(&consumer.wait_for_events(2)), [2, 3]);
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [1, 4]);
    // What the broker has to say of it is in its log once this is.
    let rabbitmq = &fixture.testbed.rabbitmq;
    let mark = format!("nothing was said of {fanout}");
    rabbitmq.ctl(&["eval", &format!("logger:notice(\"{mark}\").")]);
    wait_until("the log is written", DEADLINE, || rabbitmq.log().contains(&mark).then_some(()));
    let log = rabbitmq.log();
    assert!(!log.contains(&format!("'type' for exchange '{fanout}'")), "{log}");
}

/// Nobody may ask about the default exchange; each queue is bound to it under its own name.
#[test]
fn the_default_exchange_is_not_asked_about() {
    let bed = testbed("");
    let (fixture, mut client) = fixture(&bed, "default");
    let consumer = fixture.broker().consume(&Queue::transient("cdc.article.insert"));
    insert_around(&mut client, "", 2..=2);
    assert_eq!(ids(&consumer.wait_for_events(1)), [2]);
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [1, 3]);
    assert!(!bed.rabbitmq.log().contains("default exchange"), "{}", bed.rabbitmq.log());
}

#[test]
fn events_for_a_missing_exchange_are_passed_over_and_announced_once_it_is_there() {
    let bed = testbed("gone: skip");
    let (fixture, mut client) = fixture(&bed, "skip");
    insert_around(&mut client, "gone", 2..=10_001);
    let around = published_so_far(&fixture, &mut client);
    assert_eq!(ids(&around), [1, 10_002]);
    wait_for_count(&mut client, "events_passed_over", 10_000);
    wait_until_confirmed(&mut client);
    let reason: String = ask(&mut client, "SELECT refusing_exchanges FROM amqp.status");
    assert!(reason.contains("\"gone\"") && reason.contains("NOT_FOUND"), "{reason}");
    // None of them was sent, and the others once: the two, and the marker.
    assert_eq!(count(&mut client, "events_published"), 3);
    assert_eq!(count(&mut client, "events_confirmed"), 3);
    assert_eq!(count(&mut client, "gaps_owed"), 1);
    assert_eq!(ask::<String>(&mut client, "SELECT state FROM amqp.status"), "streaming");
    let log = bed.postgres.log();
    assert_eq!(log.matches("events for exchange \"gone\" were passed over").count(), 1, "{log}");

    fixture.broker().declare_exchange("gone", "topic");
    let consumer = fixture.broker().consume(&queue_of("gone"));
    bed.postgres.reload();
    insert_around(&mut client, "gone", 10_004..=10_004);
    let events = consumer.wait_for_events(2);
    assert_gap(&events[0], &around[0], &around[1]);
    assert_eq!(ids(&events[1..]), [10_004]);
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [10_003, 10_005]);
    wait_for_count(&mut client, "gaps_owed", 0);
    assert_eq!(
        ask::<Option<String>>(&mut client, "SELECT refusing_exchanges FROM amqp.status"),
        None
    );
    assert_eq!(count(&mut client, "events_passed_over"), 10_000);
}

/// What only publishing shows, which costs the connection, costs nobody's events twice but at first.
#[test]
fn events_for_a_forbidden_exchange_are_passed_over_and_asking_again_disturbs_nobody() {
    let bed = testbed("forbidden: skip");
    let (fixture, mut client) = fixture(&bed, "forbidden");
    fixture.broker().declare_exchange("forbidden", "topic");
    let consumer = fixture.broker().consume(&queue_of("forbidden"));
    let allow = |exchanges: &str| {
        bed.rabbitmq.ctl(&["set_permissions", "cdc", "^$", exchanges, "^$"]);
    };
    bed.rabbitmq.ctl(&["add_user", "cdc", "of-the-test"]);
    allow(&format!("^{}$", fixture.exchange));
    bed.postgres.set("amqp.password", "of-the-test");
    wait_for_reason(&mut client, "ACCESS_REFUSED");
    bed.postgres.set("amqp.username", "cdc");
    wait_until_streaming(&mut client);
    let refusals = || bed.rabbitmq.log().matches("access to exchange 'forbidden'").count();

    insert_around(&mut client, "forbidden", 2..=501);
    let around = published_so_far(&fixture, &mut client);
    assert_eq!(first_deliveries(&around), [1, 502]);
    wait_for_count(&mut client, "events_passed_over", 500);
    wait_until_confirmed(&mut client);
    let (asked, resent) = (refusals(), count(&mut client, "events_resent"));

    bed.postgres.reload();
    wait_until("it is asked again", DEADLINE, || (refusals() > asked).then_some(()));
    insert_around(&mut client, "forbidden", 504..=600);
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [503, 601]);
    wait_for_count(&mut client, "events_passed_over", 597);
    assert_eq!(count(&mut client, "events_resent"), resent);

    allow(".*");
    bed.postgres.reload();
    let gap = consumer.wait_for_events(1).remove(0);
    assert_eq!(gap.kind.as_deref(), Some("gap"));
    insert_to(&mut client, "forbidden", 700..=700);
    assert_eq!(ids(&consumer.wait_for_events(1)), [700]);
    let to = lsn(gap.json()["to"].as_str().unwrap_or_default());
    assert!(to > commit_lsn(&around[around.len() - 1]), "{}", gap.text());
    wait_for_count(&mut client, "gaps_owed", 0);
}

#[test]
fn events_for_a_missing_exchange_go_to_the_dead_letter_exchange_in_order() {
    let bed = testbed("gone: dead_letter");
    let (fixture, mut client) = fixture(&bed, "dead_letter");
    fixture.broker().declare_exchange("dead", "topic");
    let dead = fixture.broker().consume(&queue_of("dead"));
    insert_around(&mut client, "gone", 2..=301);
    let around = published_so_far(&fixture, &mut client);
    assert_eq!(ids(&around), [1, 302]);
    let letters = dead.wait_for_events(300);
    assert_eq!(ids(&letters), (2..=301).collect::<Vec<_>>());
    assert_eq!(letters[0].routing_key, "cdc.article.insert");
    let refused = letters[0].headers["refused"].as_str().unwrap_or_default();
    assert!(refused.starts_with("exchange \"gone\": NOT_FOUND"), "{refused}");
    assert_eq!(letters[0].headers["table"], json!("blog_articles"));
    assert_eq!(letters[0].json()["current"], json!({"id": 2, "title": null, "body": null}));
    wait_for_count(&mut client, "events_dead_lettered", 300);
    assert_eq!(count(&mut client, "events_passed_over"), 0);

    fixture.broker().declare_exchange("gone", "topic");
    let consumer = fixture.broker().consume(&queue_of("gone"));
    bed.postgres.reload();
    assert_gap(&consumer.wait_for_events(1)[0], &around[0], &around[1]);
    insert_to(&mut client, "gone", 400..=400);
    assert_eq!(ids(&consumer.wait_for_events(1)), [400]);
}

/// It is the last that is done for an event.
#[test]
fn a_dead_letter_that_is_refused_or_returned_holds_the_stream() {
    let bed = testbed("gone: dead_letter");
    let (fixture, mut client) = fixture(&bed, "undeliverable");
    // There is no dead-letter exchange.
    insert_around(&mut client, "gone", 2..=2);
    wait_for_reason(&mut client, "no exchange 'dead'");
    skip_the_held_one(&mut client);
    assert_eq!(first_deliveries(&published_so_far(&fixture, &mut client)), [1, 3]);
    // There is one, but no queue.
    fixture.broker().declare_exchange("dead", "topic");
    insert_around(&mut client, "gone", 5..=5);
    wait_for_reason(&mut client, "no queue is bound");
    let dead = fixture.broker().consume(&queue_of("dead"));
    assert_eq!(ids(&dead.wait_for_events(1)), [5]);
    assert_eq!(first_deliveries(&published_so_far(&fixture, &mut client)), [4, 6]);
    // Who mends the exchange instead gets what belonged there.
    fixture.broker().delete_queue(queue_of("dead").name());
    insert_around(&mut client, "gone", 8..=8);
    wait_for_reason(&mut client, "no queue is bound");
    fixture.broker().declare_exchange("gone", "topic");
    let consumer = fixture.broker().consume(&queue_of("gone"));
    bed.postgres.reload();
    let events = consumer.wait_for_events(2);
    assert_eq!(ids(&events), [8]);
    assert!(events.iter().all(|event| !event.headers.contains_key("refused")));
    assert_eq!(first_deliveries(&published_so_far(&fixture, &mut client)), [7, 9]);
}

/// Bytes of the largest message that the broker takes.
const BROKER_LIMIT: usize = 100_000;

#[test]
fn of_what_is_too_large_the_keys_go_to_the_dead_letter_exchange() {
    let bed = testbed("");
    let limit = format!("application:set_env(rabbit, max_message_size, {BROKER_LIMIT}).");
    bed.rabbitmq.ctl(&["eval", &limit]);
    let (fixture, mut client) = fixture(&bed, "too_large");
    fixture.broker().declare_exchange("dead", "topic");
    let dead = fixture.broker().consume(&queue_of("dead"));
    // The broker reads its limit when a channel is opened: the reload makes a new connection.
    set(&bed, "amqp.exchange_policy", &format!("{}: dead_letter", fixture.exchange));
    // One value lies out of line, so that its writer renders it; one is rendered by the worker.
    run(
        &mut client,
        "INSERT INTO blog_articles VALUES (1);
         INSERT INTO blog_articles SELECT 2, 'x', string_agg(md5(random()::text), '')
           FROM generate_series(1, 8000);
         INSERT INTO blog_articles VALUES (3);
         INSERT INTO blog_articles VALUES (4, 'x', repeat('\"', 120000));
         UPDATE blog_articles SET title = 'y' WHERE id = 4;
         INSERT INTO blog_articles VALUES (5)",
    );
    let letters = dead.wait_for_events(3);
    let rows: Vec<_> = letters.iter().map(|letter| letter.json()).collect();
    let key = |id: i64| json!({ "id": id });
    let seen: Vec<_> = rows.iter().map(|row| (&row["previous"], &row["current"])).collect();
    let none = Value::Null;
    assert_eq!(seen, [(&none, &key(2)), (&none, &key(4)), (&key(4), &key(4))]);
    assert_eq!(rows[2]["targets"], json!(["title"]));
    for letter in &letters {
        assert!(letter.headers["oversize"].as_i64() > Some(BROKER_LIMIT as i64));
        let refused = letter.headers["refused"].as_str().unwrap_or_default();
        assert!(refused.contains("PRECONDITION_FAILED"), "{refused}");
    }
    // The exchange takes messages, so that it is told at once.
    let gap = |events: &[Message]| events.iter().any(|event| event.kind.as_deref() == Some("gap"));
    let mut events = published_so_far(&fixture, &mut client);
    while !gap(&events) {
        events.extend(fixture.consumer.wait_for_events(1));
    }
    assert_eq!(first_deliveries(&events), [1, 3, 5]);
}

#[test]
fn what_a_queue_refuses_or_no_queue_wants_has_the_policy_where_a_word_says_so() {
    let bed = testbed("");
    let (fixture, mut client) = fixture(&bed, "words");
    let policy = |words: &str| {
        set(&bed, "amqp.exchange_policy", &format!("{}: {words}", fixture.exchange));
    };
    let full = Queue::durable("full")
        .bound_to(&fixture.exchange, "cdc.article.#")
        .with_number("x-max-length", 1)
        .with_text("x-overflow", "reject-publish");
    fixture.broker().declare_queue(&full);
    policy("skip nack");
    run(&mut client, "INSERT INTO blog_articles SELECT generate_series(1, 500)");
    // The healthy queue beside it gets each once; what the full one refused counts as passed over.
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(ids(&events), (1..=500).collect::<Vec<_>>());
    wait_until_confirmed(&mut client);
    assert_eq!(count(&mut client, "events_passed_over"), 499);
    assert_eq!(count(&mut client, "events_resent"), 0);
    fixture.broker().delete_queue(full.name());

    fixture.broker().declare_exchange("dead", "topic");
    let dead = fixture.broker().consume(&queue_of("dead"));
    policy("dead_letter unroutable");
    fixture.broker().unbind(fixture.queue().name(), &fixture.exchange, "#");
    let others = fixture.queue().name().to_owned();
    fixture
        .broker()
        .declare_queue(&Queue::durable(&others).bound_to(&fixture.exchange, "cdc.marker.#"));
    run(&mut client, "INSERT INTO blog_articles SELECT generate_series(601, 900)");
    let letters = dead.wait_for_events(300);
    assert_eq!(ids(&letters), (601..=900).collect::<Vec<_>>());
    let refused = letters[0].headers["refused"].as_str().unwrap_or_default();
    assert!(refused.contains("no queue is bound"), "{refused}");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [0i64; 0]);
}

/// A message that an operator passes over is missing just as well.
#[test]
fn what_an_operator_passes_over_is_announced() {
    let bed = testbed("");
    let (fixture, mut client) = fixture(&bed, "skipped");
    insert_around(&mut client, "gone", 2..=2);
    skip_the_held_one(&mut client);
    let around = published_so_far(&fixture, &mut client);
    assert_eq!(first_deliveries(&around), [1, 3]);
    fixture.broker().declare_exchange("gone", "topic");
    let consumer = fixture.broker().consume(&queue_of("gone"));
    bed.postgres.reload();
    assert_gap(&consumer.wait_for_events(1)[0], &around[0], &around[around.len() - 1]);
}

/// Whoever asks for it in vain asks again, but what is owed outlives him.
#[test]
fn what_is_owed_is_announced_by_a_later_worker() {
    for how in [Shutdown::Fast, Shutdown::Immediate] {
        let bed = testbed("gone: skip, silent: skip");
        let (fixture, mut client) = fixture(&bed, "later");
        insert_around(&mut client, "gone", 2..=3);
        let around = published_so_far(&fixture, &mut client);
        let last = commit_lsn(&around[1]);
        wait_until("it is saved that they are done with", DEADLINE, || {
            (saved_confirmed(&mut client) >= last).then_some(())
        });
        bed.postgres.restart(how);
        // A life in which nothing happens that concerns it, and which records a position.
        let mut client = fixture.client();
        wait_for_count(&mut client, "gaps_owed", 1);
        insert_to(&mut client, "silent", 5..=5);
        wait_for_count(&mut client, "gaps_owed", 2);
        run(&mut client, "INSERT INTO blog_articles VALUES (6)");
        let after = published_so_far(&fixture, &mut client);
        wait_until("the position is saved", DEADLINE, || {
            (saved_confirmed(&mut client) >= commit_lsn(&after[after.len() - 1])).then_some(())
        });
        bed.postgres.stop(how);
        fixture.broker().declare_exchange("gone", "topic");
        let consumer = fixture.broker().consume(&queue_of("gone"));
        bed.postgres.start();
        let mut client = fixture.client();
        assert_gap(&consumer.wait_for_events(1)[0], &around[0], &around[1]);
        wait_for_count(&mut client, "gaps_owed", 1);
    }
}

#[test]
fn a_policy_that_makes_no_sense_is_named_and_the_one_before_stays() {
    let bed = testbed("gone: skip");
    let (fixture, mut client) = fixture(&bed, "nonsense");
    bed.postgres.set("amqp.exchange_policy", "*: skip");
    wait_until("the status says what is wrong", DEADLINE, || {
        let error: Option<String> = ask(&mut client, "SELECT last_error FROM amqp.status");
        error.is_some_and(|error| error.contains("*: skip")).then_some(())
    });
    insert_around(&mut client, "gone", 2..=2);
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [1, 3]);
}

/// Only who could set `amqp.exchange` himself may send a table's events elsewhere; what an earlier version let
/// through goes on.
#[test]
fn a_trigger_whose_owner_may_not_choose_the_exchange_writes_on_and_the_log_says_so() {
    let bed = testbed("gone: skip");
    let (fixture, mut client) = fixture(&bed, "owner");
    run(
        &mut client,
        "CREATE ROLE plain; CREATE ROLE trusted; CREATE ROLE \"of \"\"all\"\"\" SUPERUSER;
         GRANT SET ON PARAMETER \"amqp.exchange\" TO trusted",
    );
    for exchange in ["other-b", "other-c"] {
        fixture.broker().declare_exchange(exchange, "topic");
    }
    let mut lines = |owner: &str, table: &str, exchange: &str| {
        run(
            &mut client,
            &format!(
                "CREATE TABLE {table} (id int PRIMARY KEY);
                 CREATE TRIGGER capture AFTER INSERT ON {table} FOR EACH ROW
                 EXECUTE FUNCTION amqp_change_data_capture('t', 'cdc', 'exchange={exchange}');
                 ALTER TABLE {table} OWNER TO {owner};
                 INSERT INTO {table} VALUES (1), (2)"
            ),
        );
        wait_until_confirmed(&mut client);
        bed.postgres
            .log()
            .matches(&format!("may not have events sent to exchange \"{exchange}\""))
            .count()
    };
    assert_eq!(lines("plain", "a", "gone"), 1);
    assert_eq!(lines("trusted", "b", "other-b"), 0);
    assert_eq!(lines("\"of \"\"all\"\"\"", "c", "other-c"), 0);
    assert_eq!(lines("plain", "d", &fixture.exchange.clone()), 0);
    let log = bed.postgres.log();
    assert!(log.contains("GRANT SET ON PARAMETER \"amqp.exchange\" TO \"plain\""), "{log}");
    assert_eq!(count(&mut client, "events_passed_over"), 2);
}
