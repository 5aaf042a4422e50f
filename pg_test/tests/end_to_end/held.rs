//! Messages that are too large, that the broker refuses, or that no queue is bound for.

use std::collections::BTreeSet;
use std::time::Duration;

use pg_test::{DEADLINE, Fixture, Queue, Shutdown, Testbed, wait_until, wait_until_confirmed};
use postgres::Client;
use postgres::error::SqlState;
use serde_json::json;

use crate::helpers::{
    ask, blog, changes, first_deliveries, ids, make_blog, published_so_far, replace_worker, run,
    wait_for_reason, wait_until_streaming, worker_pid,
};

/// A text of this many bytes that does not compress.
fn noise(bytes: usize) -> String {
    format!(
        "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, {}))",
        bytes.div_ceil(32)
    )
}

#[test]
fn an_event_above_the_limit_is_published_with_the_keys_of_its_rows() {
    let (fixture, mut client) = blog("oversize");
    run(&mut client, "SET amqp.max_message_size = '64kB'");
    // The first is known to be too large before anything is rendered, the second only afterwards.
    let quotes = r#"repeat('"', 40000)"#;
    run(&mut client, &format!("INSERT INTO blog_articles VALUES (1, 'x', {})", noise(100_000)));
    run(&mut client, &format!("INSERT INTO blog_articles VALUES (2, 'x', {quotes})"));
    run(&mut client, "UPDATE blog_articles SET title = 'y' WHERE id = 1");
    run(&mut client, "UPDATE blog_articles SET id = 3, body = 'small' WHERE id = 2");
    run(&mut client, "DELETE FROM blog_articles WHERE id = 1");
    let events = published_so_far(&fixture, &mut client);
    let rows: Vec<_> = events.iter().map(|event| event.json()).collect();
    let seen: Vec<_> = rows.iter().map(|row| (&row["previous"], &row["current"])).collect();
    let (one, two, three) = (json!({"id": 1}), json!({"id": 2}), json!({"id": 3}));
    let none = json!(null);
    assert_eq!(seen, [(&none, &one), (&none, &two), (&one, &one), (&two, &three), (&one, &none)]);
    assert_eq!(rows[2]["targets"], json!(["title"]));
    assert_eq!(rows[3]["targets"], json!(["id", "body"]));
    let sizes: Vec<_> = events.iter().map(|event| event.headers["oversize"].as_i64()).collect();
    assert!(sizes.iter().all(|size| size.is_some_and(|size| size > 80_000)), "{sizes:?}");
    // What fits is whole.
    run(&mut client, "INSERT INTO blog_articles VALUES (4, 'x', repeat('x', 30000))");
    let event = &published_so_far(&fixture, &mut client)[0];
    assert_eq!(event.json()["current"]["body"].as_str().map(str::len), Some(30_000));
    assert_eq!(event.headers.get("oversize"), None);
}

#[test]
fn keys_are_all_columns_of_the_primary_key_and_none_without_one() {
    let (fixture, mut client) = blog("keys");
    run(
        &mut client,
        "SET amqp.max_message_size = '10kB';
         CREATE TABLE pairs (gone int, b text, payload text, a int, PRIMARY KEY (a, b));
         ALTER TABLE pairs DROP COLUMN gone;
         CREATE TRIGGER capture AFTER INSERT ON pairs
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture();
         CREATE TABLE late (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, payload text);
         CREATE TRIGGER capture AFTER INSERT ON late
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture();
         CREATE TABLE heap (payload text);
         CREATE TRIGGER capture AFTER INSERT ON heap
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture();
         INSERT INTO pairs VALUES ('é', repeat('x', 20000), 7);
         INSERT INTO heap VALUES (repeat('x', 20000));
         INSERT INTO late VALUES (3, repeat('x', 20000))",
    );
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(events[0].json()["current"], json!({"b": "é", "a": 7}));
    assert_eq!(events[0].json()["targets"], json!(["b", "payload", "a"]));
    assert_eq!(events[1].json()["current"], json!({}));
    assert_eq!(events[2].json()["current"], json!({"id": 3}));
}

#[test]
fn an_event_above_the_limit_fails_its_statement_where_that_is_wanted() {
    let (fixture, mut client) = blog("oversize_error");
    run(&mut client, "SET amqp.max_message_size = '64kB'; SET amqp.oversize = 'error'");
    let insert = format!("INSERT INTO blog_articles VALUES (1, 'x', {})", noise(100_000));
    let error = client.batch_execute(&insert).unwrap_err();
    let error = error.as_db_error().expect("an error of the server");
    assert_eq!(error.code(), &SqlState::PROGRAM_LIMIT_EXCEEDED);
    let detail = error.detail().unwrap_or_default();
    assert!(detail.contains("\"blog_articles\"") && detail.contains("65536"), "{detail}");
    assert!(error.hint().unwrap_or_default().contains("amqp.oversize"), "{error:?}");
    assert_eq!(ask::<i64>(&mut client, "SELECT count(*) FROM blog_articles"), 0);
    assert_eq!(published_so_far(&fixture, &mut client), []);
}

/// Their text would not fit into the gigabyte that PostgreSQL's functions can allocate.
#[test]
fn values_that_postgresql_could_not_render_fail_no_statement() {
    let (fixture, mut client) = blog("enormous");
    run(
        &mut client,
        "CREATE DOMAIN blob AS bytea;
         CREATE TABLE blobs (id int PRIMARY KEY, content blob, list text[]);
         CREATE TRIGGER capture AFTER INSERT ON blobs
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture();
         INSERT INTO blobs VALUES (1, convert_to(repeat('x', 560000000), 'UTF8'));
         INSERT INTO blobs VALUES (2, NULL, ARRAY[repeat('\"', 560000000)])",
    );
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(events[0].json()["current"], json!({"id": 1}));
    assert_eq!(events[1].json()["current"], json!({"id": 2}));
    assert!(events.iter().all(|event| event.headers["oversize"].as_i64() >= Some(500_000_000)));
}

/// Largest message that the broker of these tests takes.
const BROKER_LIMIT: usize = 100_000;

/// A broker that refuses large messages, a stream that stands still at one of them (row 2), and
/// committed rows behind it.
fn stand_still_at_a_large_message(bed: &Testbed) -> (Fixture<'_>, Client, String) {
    set_broker_limit(bed, BROKER_LIMIT);
    // The broker reads its limit when a channel is opened.
    bed.rabbitmq.ctl(&["close_all_connections", "test"]);
    let fixture = bed.scene("poison");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    fixture.consumer.wait_for_events(1);
    // Else a channel that closes brings it once more.
    wait_until_confirmed(&mut client);
    run(
        &mut client,
        &format!(
            "BEGIN;
             INSERT INTO blog_articles VALUES (2, 'large', {});
             INSERT INTO blog_articles VALUES (3);
             COMMIT;
             INSERT INTO blog_articles VALUES (4)",
            noise(2 * BROKER_LIMIT)
        ),
    );
    let held = wait_until("the stream stands still at a message", DEADLINE, || {
        ask::<Option<String>>(&mut client, "SELECT held_message FROM amqp.status")
    });
    (fixture, client, held)
}

fn set_broker_limit(bed: &Testbed, bytes: usize) {
    let set = format!("application:set_env(rabbit, max_message_size, {bytes}).");
    bed.rabbitmq.ctl(&["eval", &set]);
}

fn skip(client: &mut Client, message_id: &str) -> Result<(), postgres::Error> {
    client.execute("SELECT amqp.skip($1)", &[&message_id]).map(|_| ())
}

#[test]
fn a_confirm_just_before_a_refusal_does_not_hide_that_the_stream_stands_still() {
    let bed = Testbed::private(&[]);
    set_broker_limit(&bed, BROKER_LIMIT);
    bed.rabbitmq.ctl(&["close_all_connections", "test"]);
    let fixture = bed.scene("confirmed_and_refused");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(
        &mut client,
        &format!(
            "BEGIN;
             INSERT INTO blog_articles VALUES (1);
             INSERT INTO blog_articles VALUES (2, 'large', {});
             COMMIT",
            noise(2 * BROKER_LIMIT)
        ),
    );
    fixture.consumer.wait_for_events(1);
    let held = wait_until("the stream stands still at a message", DEADLINE, || {
        ask::<Option<String>>(&mut client, "SELECT held_message FROM amqp.status")
    });
    // Once the confirm of the first is told, too.
    wait_until("the first is confirmed", DEADLINE, || {
        ask::<bool>(&mut client, "SELECT events_confirmed = 1 FROM amqp.status").then_some(())
    });
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    skip(&mut client, &held).unwrap();
    // The first may come again: the channel that the broker closed took its confirm along.
    while fixture.consumer.wait_for_events(1)[0].json()["current"]["id"] != 3 {}
}

#[test]
fn a_message_that_the_broker_refuses_is_named_and_not_sent_over_and_over() {
    let bed = Testbed::private(&[]);
    let (fixture, mut client, held) = stand_still_at_a_large_message(&bed);
    let reason = wait_for_reason(&mut client, &held);
    for words in ["public.blog_articles", " bytes", "PRECONDITION_FAILED"] {
        assert!(reason.contains(words), "{reason}");
    }
    let published =
        |client: &mut Client| -> i64 { ask(client, "SELECT events_published FROM amqp.status") };
    let before = published(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (5)");
    // Longer than it takes to try anything again.
    assert_eq!(fixture.consumer.next_within(Duration::from_secs(4)), None);
    assert_eq!(published(&mut client), before);
    let state: String = ask(&mut client, "SELECT state FROM amqp.status");
    assert_eq!(state, "standing still");
}

#[test]
fn a_skipped_message_is_passed_over_for_good() {
    let bed = Testbed::private(&[]);
    let (fixture, mut client, held) = stand_still_at_a_large_message(&bed);
    let error = skip(&mut client, "another").unwrap_err();
    let detail = error.as_db_error().and_then(|error| error.detail()).unwrap_or_default();
    assert!(detail.contains(&held), "{error:?}");
    let role = "nobody_in_particular";
    run(&mut client, &format!("CREATE ROLE {role}; SET ROLE {role}"));
    assert!(skip(&mut client, &held).is_err());
    run(&mut client, "RESET ROLE");

    skip(&mut client, &held).unwrap();
    let events = published_so_far(&fixture, &mut client);
    // The exchange is told that one is missing, ahead of those that follow.
    assert_eq!(events[0].kind.as_deref(), Some("gap"));
    assert_eq!(ids(&events), [3, 4]);
    assert_eq!(events[1].headers["tx_seq"], json!(2));
    assert!(bed.postgres.log().contains(&format!("message {held} (table public.blog_articles")));
    assert!(bed.postgres.log().contains("is skipped by order of an operator"));
    wait_until_confirmed(&mut client);
    let row = client
        .query_one("SELECT events_skipped, held_message, state FROM amqp.status", &[])
        .unwrap();
    let seen: (i64, Option<String>, String) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(seen, (1, None, "streaming".to_owned()));
    assert!(skip(&mut client, &held).is_err());
    bed.postgres.restart(Shutdown::Fast);
    let mut client = fixture.client();
    assert_eq!(changes(&published_so_far(&fixture, &mut client)), [""; 0]);
}

#[test]
fn a_message_that_the_broker_takes_after_all_is_sent_after_a_reload() {
    let bed = Testbed::private(&[]);
    let (fixture, mut client, _held) = stand_still_at_a_large_message(&bed);
    set_broker_limit(&bed, 10 * BROKER_LIMIT);
    bed.postgres.reload();
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [2, 3, 4]);
}

fn bind(fixture: &Fixture<'_>, pattern: &str) {
    let queue = Queue::durable(fixture.queue().name()).bound_to(&fixture.exchange, pattern);
    fixture.broker().declare_queue(&queue);
}

#[test]
fn a_message_that_no_queue_is_bound_for_holds_the_stream_where_that_is_wanted() {
    let bed = Testbed::private(&["amqp.unroutable = 'hold'"]);
    let fixture = bed.scene("hold");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    fixture.consumer.wait_for_events(1);
    wait_until_confirmed(&mut client);
    fixture.broker().unbind(fixture.queue().name(), &fixture.exchange, "#");
    run(&mut client, "INSERT INTO blog_articles VALUES (2); INSERT INTO blog_articles VALUES (3)");
    wait_for_reason(&mut client, "routing key \"cdc.article.insert\"): no queue is bound");
    wait_until("it was tried again", DEADLINE, || {
        ask::<bool>(&mut client, "SELECT events_returned > 2 FROM amqp.status").then_some(())
    });
    assert_eq!(ask::<i64>(&mut client, "SELECT events_confirmed FROM amqp.status"), 1);
    bind(&fixture, "#");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [2, 3]);
    // Only then does the status show no held message any more.
    wait_until_confirmed(&mut client);

    fixture.broker().unbind(fixture.queue().name(), &fixture.exchange, "#");
    run(&mut client, "INSERT INTO blog_articles VALUES (4)");
    let held = wait_until("the stream stands still at a message", DEADLINE, || {
        ask::<Option<String>>(&mut client, "SELECT held_message FROM amqp.status")
    });
    skip(&mut client, &held).unwrap();
    wait_until_confirmed(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (5)");
    wait_for_reason(&mut client, "no queue is bound");
    bed.postgres.set("amqp.unroutable", "drop");
    wait_until_confirmed(&mut client);
    bind(&fixture, "#");
    assert_eq!(published_so_far(&fixture, &mut client), []);
}

/// The broker answers about the second exchange while the stream stands still at the first one's message.
#[test]
fn an_answer_that_comes_while_the_stream_stands_still_is_about_the_exchange_that_was_asked_about() {
    let bed = Testbed::private(&["amqp.unroutable = 'hold'"]);
    let fixture = bed.scene("declined");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_until_confirmed(&mut client);
    fixture.broker().unbind(fixture.queue().name(), &fixture.exchange, "#");
    let [fanout, fresh] = ["fanout", "fresh"].map(|name| format!("{}-{name}", fixture.exchange));
    fixture.broker().declare_exchange(&fanout, "fanout");
    let queue = Queue::transient("declined").bound_to(&fanout, "");
    let consumer = fixture.broker().consume(&queue);
    run(
        &mut client,
        &format!(
            "BEGIN;
             INSERT INTO blog_articles VALUES (2);
             SET LOCAL amqp.exchange = '{fanout}';
             INSERT INTO blog_articles VALUES (3);
             SET LOCAL amqp.exchange = '{fresh}';
             INSERT INTO blog_articles VALUES (4);
             COMMIT"
        ),
    );
    wait_for_reason(&mut client, "no queue is bound");
    bind(&fixture, "#");
    assert_eq!(ids(&consumer.wait_for_events(1)), [3]);
    wait_until("the third exchange is there", DEADLINE, || {
        fixture.broker().has_exchange(&fresh).then_some(())
    });
    fixture.broker().declare_queue(&queue.clone().bound_to(&fresh, "#"));
    // The third row comes again where it was under way when the second one was returned.
    while ids(&consumer.wait_for_events(1)) != [4] {}
    assert!(!bed.postgres.log().contains("was not declared"), "{}", bed.postgres.log());
}

/// The broker confirms many messages at once, and which of them it returned shows only later. A
/// transient queue has it confirm all sorts together, and soon.
#[test]
fn no_returned_message_hides_among_the_confirmed_ones() {
    const ROUNDS: i64 = 15;
    const ROWS: i64 = 600;
    let bed = Testbed::private(&["amqp.unroutable = 'hold'"]);
    let fixture = bed.scene("hidden");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(
        &mut client,
        "CREATE TABLE others (id int PRIMARY KEY);
         CREATE TRIGGER capture AFTER INSERT ON others
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()",
    );
    wait_until_streaming(&mut client);
    fixture.broker().unbind(fixture.queue().name(), &fixture.exchange, "#");
    let queue = Queue::transient("hidden").bound_to(&fixture.exchange, "cdc.article.insert");
    let consumer = fixture.broker().consume(&queue);
    let mut seen = BTreeSet::new();
    for round in 1..=ROUNDS {
        let (first, end) = (round * ROWS, (round + 1) * ROWS);
        run(
            &mut client,
            &format!(
                "DO $$ BEGIN FOR n IN {first} .. {end} - 1 LOOP
                     INSERT INTO blog_articles VALUES (n);
                     IF n % {ROWS} < 2 THEN INSERT INTO others VALUES (n); END IF;
                 END LOOP; END $$"
            ),
        );
        wait_for_reason(&mut client, "no queue is bound");
        let others = "cdc.others.insert";
        fixture.broker().declare_queue(&queue.clone().bound_to(&fixture.exchange, others));
        wait_until_confirmed(&mut client);
        fixture.broker().unbind(queue.name(), &fixture.exchange, others);
        wait_until("all have come", DEADLINE, || {
            while let Some(event) = consumer.next_within(Duration::ZERO) {
                seen.insert(event.message_id);
            }
            (seen.len() as i64 == round * (ROWS + 2)).then_some(())
        });
    }
}

/// What was written for an exchange that nobody may write to, or that is not there, must not hold up
/// everybody else's events for ever.
#[test]
fn a_message_for_a_missing_exchange_is_named_and_can_be_skipped() {
    let bed = Testbed::private(&["amqp.exchange_type = ''"]);
    let fixture = bed.scene("missing_exchange");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(
        &mut client,
        "BEGIN;
         INSERT INTO blog_articles VALUES (1);
         SET LOCAL amqp.exchange = 'not-there';
         INSERT INTO blog_articles VALUES (2);
         COMMIT;
         INSERT INTO blog_articles VALUES (3)",
    );
    let held = wait_until("the stream stands still at a message", DEADLINE, || {
        ask::<Option<String>>(&mut client, "SELECT held_message FROM amqp.status")
    });
    let reason = wait_for_reason(&mut client, &held);
    assert!(reason.contains("NOT_FOUND") && reason.contains("public.blog_articles"), "{reason}");
    // A new worker finds the same, and what an earlier one said is not shown meanwhile.
    replace_worker(&mut client);
    wait_for_reason(&mut client, &held);
    skip(&mut client, &held).unwrap();
    assert_eq!(first_deliveries(&published_so_far(&fixture, &mut client)), [1, 3]);
    wait_until_confirmed(&mut client);
    let held: Option<String> = ask(&mut client, "SELECT held_message FROM amqp.status");
    assert_eq!(held, None);
}

/// The status tells of nothing that is over, whoever it was that mended it.
#[test]
fn a_message_that_a_new_worker_could_send_is_not_shown_as_held_any_more() {
    let bed = Testbed::private(&[]);
    let (fixture, mut client, _held) = stand_still_at_a_large_message(&bed);
    set_broker_limit(&bed, 10 * BROKER_LIMIT);
    let worker = worker_pid(&mut client);
    run(&mut client, &format!("SELECT pg_terminate_backend({worker})"));
    assert_eq!(first_deliveries(&published_so_far(&fixture, &mut client)), [2, 3, 4]);
    wait_until_confirmed(&mut client);
    let held: Option<String> = ask(&mut client, "SELECT held_message FROM amqp.status");
    assert_eq!(held, None);
}
