//! The routing key of a row that is a message, made by option `routing_key=`: as `amqp.publish` takes it, or an error.

use postgres::error::SqlState;
use serde_json::json;

use super::{OUTBOX, bodies};
use crate::helpers::{blog, published_so_far, refusal, run};

/// As docs/outbox.md has it: Debezium's table, and the routing keys that its router gives to topics.
#[test]
fn debeziums_table_is_routed_by_its_columns() {
    let (fixture, mut client) = blog("outbox_routed");
    run(&mut client, OUTBOX);
    run(
        &mut client,
        "CREATE OR REPLACE TRIGGER send AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION
           amqp_change_data_capture('outbox', 'cdc', 'body=payload', 'type=type',
             'routing_key=outbox.event.{new.aggregatetype}');
         BEGIN;
         INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES
           ('order', '1', 'OrderCreated', '{}'), ('Customer', '2', 'Moved', '[]'), ('a.b', '3', 'x', NULL),
           ('order', '1', 'OrderPaid', '{}');
         DELETE FROM outbox; COMMIT",
    );
    let messages = published_so_far(&fixture, &mut client);
    let seen: Vec<_> = messages
        .iter()
        .map(|message| (message.routing_key.as_str(), message.kind.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!(
        seen,
        [
            ("outbox.event.order", "OrderCreated"),
            ("outbox.event.Customer", "Moved"),
            ("outbox.event.a%2Eb", "x"),
            ("outbox.event.order", "OrderPaid")
        ]
    );
    assert!(messages.iter().all(|message| message.headers["tx_size"] == json!(4)));
}

#[test]
fn any_column_can_be_the_key_and_one_alone_stands_as_it_is() {
    let (fixture, mut client) = blog("outbox_topic");
    let long = "x".repeat(255);
    run(
        &mut client,
        &format!(
            "CREATE TYPE mood AS ENUM ('sad', 'Happy.ish');
             CREATE TABLE t (gone int, topic text, mood mood, n numeric, body text); ALTER TABLE t DROP gone;
             CREATE TRIGGER a AFTER INSERT ON t FOR EACH ROW WHEN (NEW.topic IS NOT NULL) EXECUTE FUNCTION
               amqp_change_data_capture('t', '', 'body=body', 'routing_key={{new.topic}}');
             CREATE TRIGGER b AFTER INSERT ON t FOR EACH ROW WHEN (NEW.mood IS NOT NULL) EXECUTE FUNCTION
               amqp_change_data_capture('r', 'p', 'body=body',
                 'routing_key={{prefix}}.{{resource}}.{{operation}}.{{schema}}.{{table}}.{{new.mood}}.{{new.n}}');
             INSERT INTO t VALUES ('orders.placed', NULL, 1, 'a'), ('', NULL, 1, 'b'), ('{long}', NULL, 1, 'c'),
               ('Grüße *#%', NULL, 1, 'd'), (NULL, 'Happy.ish', 1.50, 'e'), ('null', NULL, NULL, 'f')"
        ),
    );
    let messages = published_so_far(&fixture, &mut client);
    let keys: Vec<_> = messages.iter().map(|message| message.routing_key.as_str()).collect();
    assert_eq!(
        keys,
        ["orders.placed", "", &long, "Grüße *#%", "p.r.insert.public.t.Happy%2Eish.1%2E50", "null"]
    );
    assert_eq!(bodies(&messages), ["a", "b", "c", "d", "e", "f"]);
}

#[test]
fn what_is_no_key_of_publishs_fails_the_statement() {
    let (fixture, mut client) = blog("outbox_no_key");
    run(
        &mut client,
        "CREATE TABLE t (topic text, body text);
         CREATE TRIGGER send AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION
           amqp_change_data_capture('t', '', 'body=body', 'routing_key={new.topic}')",
    );
    for (topic, state, message) in [
        ("NULL", SqlState::NULL_VALUE_NOT_ALLOWED, "routing key of a message must not be null"),
        (
            "repeat('x', 256)",
            SqlState::STRING_DATA_RIGHT_TRUNCATION,
            "routing key is longer than 255 bytes",
        ),
        (
            "'amqp_cdc.gap'",
            SqlState::INVALID_PARAMETER_VALUE,
            "routing key \"amqp_cdc.gap\" is reserved",
        ),
        ("'amqp_cdc'", SqlState::INVALID_PARAMETER_VALUE, "routing key \"amqp_cdc\" is reserved"),
        (
            "'amq.rabbitmq.reply-to.x'",
            SqlState::INVALID_PARAMETER_VALUE,
            "routing key \"amq.rabbitmq.reply-to.x\" is reserved",
        ),
    ] {
        let error = refusal(&mut client, &format!("INSERT INTO t VALUES ({topic}, 'b')"));
        assert_eq!((error.code(), error.message()), (&state, message));
        let named = "Trigger \"send\" of table public.t makes the routing key of the message.";
        assert!(error.detail().unwrap_or_default().starts_with(named), "{error:?}");
    }
    run(&mut client, "INSERT INTO t VALUES ('amqp_cdcs.gap', 'taken')");
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), ["taken"]);
}

#[test]
fn a_template_that_makes_no_key_of_any_row_is_refused_when_the_trigger_is_made() {
    let (fixture, mut client) = blog("outbox_template");
    run(&mut client, "CREATE TABLE t (topic text, body text)");
    let create = |template: &str| {
        format!(
            "CREATE OR REPLACE TRIGGER send AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION
               amqp_change_data_capture('gap', 'amqp_cdc', 'body=body', 'routing_key={template}')"
        )
    };
    for (template, message) in [
        ("x.{old.topic}", "routing key of a message must not be null"),
        ("amqp_cdc.{operation}", "routing key \"amqp_cdc.insert\" is reserved"),
        ("{prefix}.{resource}", "routing key \"amqp_cdc.gap\" is reserved"),
    ] {
        assert_eq!(refusal(&mut client, &create(template)).message(), message);
        run(
            &mut client,
            &format!(
                "SET session_replication_role = replica; {}; RESET session_replication_role",
                create(template)
            ),
        );
        assert_eq!(refusal(&mut client, "INSERT INTO t VALUES ('x', 'y')").message(), message);
    }
    run(&mut client, &create("{resource}.{new.topic}.{{}}"));
    run(&mut client, "INSERT INTO t VALUES ('x', 'y')");
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!((messages[0].routing_key.as_str(), messages.len()), ("gap.x.{}", 1));
}

/// A key that was replaced in part says so, as a body does.
#[test]
fn a_key_of_bytes_without_a_meaning_is_told() {
    let bed = pg_test::testbed();
    let fixture = bed.scene("outbox_lossy_key");
    let database = format!("{}_ascii", fixture.database);
    run(
        &mut bed.postgres.connect("postgres"),
        &format!("CREATE DATABASE {database} ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'"),
    );
    run(
        &mut bed.postgres.connect(&database),
        &format!(
            r"CREATE EXTENSION amqp_cdc; SET amqp.exchange = '{}'; CREATE TABLE t (topic text, body text);
              CREATE TRIGGER send AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION
                amqp_change_data_capture('t', '', 'body=body', 'routing_key={{new.topic}}');
              INSERT INTO t VALUES (E'caf\xe9', 'b')",
            fixture.exchange
        ),
    );
    let messages = fixture.consumer.wait_for_events(1);
    assert_eq!(messages[0].routing_key, "caf\u{FFFD}");
    assert_eq!(messages[0].headers["encoding"], json!("lossy"));
}
