//! Nothing that would make the broker close the channel gets into the stream: the caller is told instead.

use pg_test::{DEADLINE, wait_until};
use postgres::error::SqlState;

use super::bodies;
use crate::helpers::{ask, blog, published_so_far, refusal, run};

const INVALID: SqlState = SqlState::INVALID_PARAMETER_VALUE;
const RANGE: SqlState = SqlState::NUMERIC_VALUE_OUT_OF_RANGE;
const LONG: SqlState = SqlState::STRING_DATA_RIGHT_TRUNCATION;
const LARGE: SqlState = SqlState::PROGRAM_LIMIT_EXCEEDED;
const NULL: SqlState = SqlState::NULL_VALUE_NOT_ALLOWED;

/// Arguments, with what is said of them.
fn refused() -> Vec<(&'static str, SqlState, &'static str)> {
    vec![
        ("NULL, 'b'", NULL, "routing_key of a message must not be null"),
        ("'k', NULL::text", NULL, "body of a message must not be null"),
        ("'k', NULL::jsonb", NULL, "body of a message must not be null"),
        ("repeat('k', 256), 'b'", LONG, "routing key is longer than 255 bytes"),
        ("repeat('ü', 128), 'b'", LONG, "routing key is longer than 255 bytes"),
        ("'k', 'b', repeat('x', 256)", LONG, "exchange is longer than 255 bytes"),
        (
            "'k', 'b', content_type => repeat('x', 256)",
            LONG,
            "content_type is longer than 255 bytes",
        ),
        (
            "'k', 'b', content_encoding => repeat('x', 256)",
            LONG,
            "content_encoding is longer than 255 bytes",
        ),
        (
            "'k', 'b', correlation_id => repeat('x', 256)",
            LONG,
            "correlation_id is longer than 255 bytes",
        ),
        ("'k', 'b', reply_to => repeat('x', 256)", LONG, "reply_to is longer than 255 bytes"),
        ("'k', 'b', type => repeat('x', 256)", LONG, "type is longer than 255 bytes"),
        ("'k', 'b', expiration => '-1 ms'", RANGE, "expiration must be from 0 to 49 days"),
        ("'k', 'b', expiration => '50 days'", RANGE, "expiration must be from 0 to 49 days"),
        ("'k', 'b', expiration => '100000 years'", RANGE, "expiration must be from 0 to 49 days"),
        ("'k', 'b', priority => (-1)::smallint", RANGE, "priority must be from 0 to 255"),
        ("'k', 'b', priority => 256::smallint", RANGE, "priority must be from 0 to 255"),
        ("'k', 'b', delivery_mode => 0::smallint", RANGE, "delivery_mode must be from 1 to 2"),
        ("'k', 'b', delivery_mode => 3::smallint", RANGE, "delivery_mode must be from 1 to 2"),
        ("'k', 'b', type => 'gap'", INVALID, "type \"gap\" is reserved"),
        ("'k', 'b', type => 'Snapshot-Begin'", INVALID, "type \"Snapshot-Begin\" is reserved"),
        ("'k', 'b', type => 'DDL'", INVALID, "type \"DDL\" is reserved"),
        ("'amqp_cdc.gap', 'b'", INVALID, "routing key \"amqp_cdc.gap\" is reserved"),
        (
            "'k', 'b', reply_to => 'amq.rabbitmq.reply-to'",
            INVALID,
            "reply_to \"amq.rabbitmq.reply-to\" cannot be used",
        ),
        (
            "'amq.rabbitmq.reply-to.x', 'b'",
            INVALID,
            "routing key \"amq.rabbitmq.reply-to.x\" is reserved",
        ),
        ("'k', 'b', headers => '[1]'", INVALID, "headers must be a JSON object"),
        ("'k', 'b', headers => '\"x\"'", INVALID, "headers must be a JSON object"),
        (
            "'k', 'b', headers => '{\"published\": false}'",
            INVALID,
            "header \"published\" is reserved",
        ),
        ("'k', 'b', headers => '{\"user\": \"root\"}'", INVALID, "header \"user\" is reserved"),
        ("'k', 'b', headers => '{\"x-death\": []}'", INVALID, "header \"x-death\" is reserved"),
        (
            "'k', 'b', headers => '{\"x-first-death-queue\": \"q\"}'",
            INVALID,
            "header \"x-first-death-queue\" is reserved",
        ),
        (
            "'k', 'b', headers => '{\"CC\": \"x\"}'",
            INVALID,
            "header \"CC\" must be an array of texts",
        ),
        (
            "'k', 'b', headers => '{\"BCC\": [1]}'",
            INVALID,
            "header \"BCC\" must be an array of texts",
        ),
        (
            "'k', 'b', headers => '{\"CC\": [\"amqp_cdc.gap\"]}'",
            INVALID,
            "routing key \"amqp_cdc.gap\" is reserved",
        ),
        (
            "'k', 'b', headers => jsonb_build_object(repeat('x', 256), 1)",
            LONG,
            "the name of a header is longer than 255 bytes",
        ),
        (
            "'k', 'b', headers => jsonb_build_object('x', repeat('9', 400)::numeric)",
            INVALID,
            "a number in the headers is too large for AMQP",
        ),
        (
            "'k', 'b', headers => (repeat('{\"a\":', 17) || '1' || repeat('}', 17))::jsonb",
            INVALID,
            "headers are nested more than 16 deep",
        ),
        (
            "'k', 'b', headers => (repeat('{\"a\":', 5000) || '1' || repeat('}', 5000))::jsonb",
            INVALID,
            "headers are nested more than 16 deep",
        ),
        (
            "'k', 'b', headers => jsonb_build_object('x', repeat('y', 16384))",
            LARGE,
            "properties and headers are too large",
        ),
        ("'k', repeat('x', 70000)", LARGE, "message is too large to be published"),
        ("'k', repeat('x', 70000)::bytea", LARGE, "message is too large to be published"),
        ("'k', to_jsonb(repeat('x', 70000))", LARGE, "message is too large to be published"),
    ]
}

#[test]
fn what_a_broker_would_refuse_is_refused_in_the_session_with_what_to_do() {
    let (fixture, mut client) = blog("publish_refused");
    run(&mut client, "SET amqp.max_message_size = '64kB'; SET amqp.oversize = keys");
    for function in ["publish", "autonomous_publish"] {
        for (arguments, state, message) in refused() {
            let error = refusal(&mut client, &format!("SELECT amqp.{function}({arguments})"));
            assert_eq!((error.code(), error.message()), (&state, message), "{arguments}");
            assert!(
                error.detail().is_some() || error.hint().is_some() || state == NULL,
                "{arguments}"
            );
        }
    }
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), [""; 0]);
}

/// What is just allowed must be taken by a real broker: the stream must not stand still.
#[test]
fn what_is_allowed_to_the_last_byte_passes_a_real_broker() {
    let (fixture, mut client) = blog("publish_allowed");
    let allowed = [
        "repeat('k', 255), 'b'",
        "'', ''",
        "'k', 'b', content_type => '', correlation_id => '', reply_to => '', type => ''",
        "'k', 'b', content_type => repeat('x', 255), content_encoding => repeat('x', 255),
            correlation_id => repeat('x', 255), reply_to => repeat('x', 255), type => repeat('x', 255)",
        "'k', 'b', expiration => '0'",
        "'k', 'b', expiration => '0.4 ms'",
        "'k', 'b', expiration => '4294967295 ms'",
        "'k', 'b', priority => 0::smallint",
        "'k', 'b', priority => 255::smallint",
        "'k', 'b', reply_to => 'amq.rabbitmq.reply-to.g2dkABdyYWJi'",
        "'k', 'b', headers => '{}'",
        "'k', 'b', headers => '{\"\": 1}'",
        "'k', 'b', headers => '{\"CC\": [], \"BCC\": [\"\"]}'",
        "'k', 'b', headers => jsonb_build_object('CC', jsonb_build_array(repeat('k', 255)))",
        "'k', 'b', headers => jsonb_build_object(repeat('x', 255), 1)",
        "'k', 'b', headers => (repeat('{\"a\":', 16) || '1' || repeat('}', 16))::jsonb",
        "'k', 'b', headers => ('{\"a\":' || repeat('[', 15) || repeat(']', 15) || '}')::jsonb",
        "'k', 'b', headers => jsonb_build_object('x', repeat('y', 16384 - 7 - 10))",
        "'k', 'b', headers => '{\"x-delivery-count\": \"x\", \"x-delay\": \"x\", \"x-match\": {}, \"x-opt\": [null]}'",
        "'k', 'b', headers => '{\"x-received-from\": 1, \"x-routing-key\": 2, \"x-message-ttl\": -1, \"x-priority\": \"\"}'",
    ];
    for arguments in allowed {
        run(&mut client, &format!("SELECT amqp.publish({arguments})"));
    }
    // Of a message with expiration 0 a consumer may get nothing.
    let messages = published_so_far(&fixture, &mut client);
    assert!(messages.len() >= allowed.len() - 2, "{}", messages.len());
    let last_error: Option<String> = ask(&mut client, "SELECT held_message FROM amqp.status");
    assert_eq!(last_error, None);
}

/// The default exchange takes what no other one does; what it says of unknown queues closes nothing.
#[test]
fn the_brokers_own_exchanges_take_messages_too() {
    let (fixture, mut client) = blog("publish_default");
    let queue = fixture.queue();
    run(
        &mut client,
        &format!(
            "SELECT amqp.publish('{}', 'by name', exchange => '');
             SELECT amqp.publish('no such queue', 'x', exchange => '');
             SELECT amqp.publish('k', 'x', exchange => 'amq.direct')",
            queue.name()
        ),
    );
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), ["by name"]);
}

#[test]
fn a_read_only_transaction_sends_nothing() {
    let (fixture, mut client) = blog("publish_read_only");
    for function in ["publish", "autonomous_publish"] {
        run(&mut client, "BEGIN READ ONLY");
        let error = refusal(&mut client, &format!("SELECT amqp.{function}('k', 'b')"));
        assert_eq!(error.code(), &SqlState::READ_ONLY_SQL_TRANSACTION);
        let expected = format!("cannot execute amqp.{function}() in a read-only transaction");
        assert_eq!(error.message(), expected);
        run(&mut client, "ROLLBACK");
    }
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), [""; 0]);
}

/// A wrong label of a function must not break a session: the command counter cannot move in parallel mode.
#[test]
fn a_function_that_is_wrongly_called_parallel_safe_is_refused() {
    let (fixture, mut client) = blog("publish_parallel");
    run(
        &mut client,
        "CREATE TABLE many AS SELECT g AS id FROM generate_series(1, 10000) g; ANALYZE many;
         CREATE FUNCTION wrong(int) RETURNS text PARALLEL SAFE LANGUAGE plpgsql AS
           $$ BEGIN RETURN amqp.publish('k', 'b'); END $$;
         SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
         SET max_parallel_workers_per_gather = 2",
    );
    for leader in ["on", "off"] {
        run(&mut client, &format!("SET parallel_leader_participation = {leader}"));
        let error = refusal(&mut client, "SELECT count(wrong(id)) FROM many WHERE id > 0");
        assert_eq!(error.code(), &SqlState::INVALID_TRANSACTION_STATE);
        assert_eq!(error.message(), "cannot execute amqp.publish() during a parallel operation");
    }
    // Rightly labelled, the query is not run in parallel.
    run(
        &mut client,
        "ALTER FUNCTION wrong PARALLEL UNSAFE; SELECT count(wrong(id)) FROM many WHERE id < 4",
    );
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), ["b"; 3]);
}

#[test]
fn index_expressions_and_generated_columns_cannot_send() {
    let (_fixture, mut client) = blog("publish_immutable");
    run(&mut client, "CREATE TABLE t (v text)");
    for statement in [
        "CREATE INDEX ON t (amqp.publish('k', v))",
        "ALTER TABLE t ADD COLUMN sent text GENERATED ALWAYS AS (amqp.publish('k', v)) STORED",
    ] {
        assert_eq!(refusal(&mut client, statement).code(), &SqlState::INVALID_OBJECT_DEFINITION);
    }
}

/// Nobody can write what only the worker reads, by PostgreSQL's own function.
#[test]
fn a_logical_message_of_postgresql_is_none_of_ours() {
    let (fixture, mut client) = blog("publish_forged");
    run(
        &mut client,
        "SELECT pg_logical_emit_message(transactional, prefix, 'x')
           FROM unnest('{t,f}'::bool[]) transactional, unnest('{amqp_cdc,amqp_cdc event}'::text[]) prefix",
    );
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), [""; 0]);
    wait_until("the worker streams", DEADLINE, || {
        let state: String = ask(&mut client, "SELECT state FROM amqp.status");
        (state == "streaming").then_some(())
    });
}
