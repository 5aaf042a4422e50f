//! Which function a call finds: pg_amqp's stand beside four of ours by the same name.

use postgres::Client;

use crate::helpers::{blog, refusal, run};

/// What the call returns: `text`, a message_id, if it is a function of ours, or `boolean` if it is pg_amqp's.
#[track_caller]
fn result_of(client: &mut Client, call: &str) -> String {
    let statement = client.prepare(&format!("SELECT {call} FROM given"));
    let statement = statement.unwrap_or_else(|error| panic!("{call}: {error:?}"));
    statement.columns()[0].type_().name().to_owned()
}

/// Columns of all types that arguments come as.
const GIVEN: &str = "CREATE DOMAIN code AS text; CREATE TYPE colour AS ENUM ('red');
    CREATE TABLE given (t text, v varchar(10), c char(5), n name, d code, i integer, s smallint, b bigint,
        j json, jb jsonb, y bytea, e colour, ts timestamptz, l boolean)";

#[test]
fn calls_with_a_routing_key_and_a_body_find_ours() {
    let (_fixture, mut client) = blog("calls_ours");
    run(&mut client, GIVEN);
    for arguments in [
        "'rk', 'body'",
        "'rk', 'body', 'ex'",
        "'rk', 'body', 'ex', 'text/plain'",
        "'rk', 'body', 'ex', 'text/plain', headers => '{}'",
        "'rk', 'body', 'ex', 'text/plain', '{}'::jsonb",
        "'rk', 'body', 'ex', 'text/plain', '{}', 'c', 'r', 't', '1 s', 1::smallint, 2::smallint, 'gzip'",
        "'rk', 'body', 'ex', 'text/plain', jb, 'c', 'r', 't'",
        "t, t, t, t, NULL",
        "'rk', t",
        "'rk', v",
        "v, v, v, v",
        "t, t, t, t",
        "'rk', c",
        "n, n, n, n",
        "d, d, d, d",
        "'rk', j",
        "'rk', jb",
        "'rk', y",
        "'rk', jsonb_build_object('a', 1)",
        "'rk', jsonb_build_object('a', 1), 'ex', 'application/json'",
        "'rk', row_to_json(given)",
        "'rk', row_to_json(given), 'ex'",
        "'rk', to_jsonb(given), 'ex', 'ct', jb",
        "t || 'x', t || 'y'",
        "format('%s.x', t), format('%s', v)",
        "'rk', i::text",
        "'rk', e::text",
        "'rk', NULL::text",
        "NULL, 'body'",
        "NULL, NULL, NULL, NULL",
        "routing_key => 'rk', body => 'body'",
        "body => 'body', routing_key => 'rk', exchange => 'ex'",
        "'rk', body => jb, type => 'x'",
        "'rk', 'body', correlation_id => 'c', reply_to => 'r'",
        "$1, $2",
        "$1, $2, $3",
        "$1, $2, $3, $4",
    ] {
        for function in ["publish", "autonomous_publish"] {
            let result = result_of(&mut client, &format!("amqp.{function}({arguments})"));
            assert_eq!(result, "text", "{function}({arguments})");
        }
    }
}

#[test]
fn calls_with_the_number_of_a_broker_find_pg_amqps() {
    let (_fixture, mut client) = blog("calls_theirs");
    run(&mut client, GIVEN);
    for arguments in [
        "1, 'ex', 'rk', 'm'",
        "1, 'ex', 'rk', 'm', 2",
        "1, 'ex', 'rk', 'm', 2, 'text/plain'",
        "1, 'ex', 'rk', 'm', 2, 'text/plain', 'r'",
        "1, 'ex', 'rk', 'm', 2, 'text/plain', 'r', 'c'",
        "1, NULL, NULL, NULL",
        "NULL::integer, 'ex', 'rk', 'm'",
        "i, 'ex', 'rk', 'm'",
        "s, 'ex', 'rk', 'm', s",
        "i, t, t, t, i, t, t, t",
        "i, v, v, v, i, v, v, v",
        "i, d, d, d",
        "i, c, c, c",
        "1, 'ex', 'rk', row_to_json(given)::text",
        "1, 'ex', 'rk', jb::text",
        "1, 'ex', 'rk', jb::varchar",
        "1, 'ex', 'rk.' || t, format('%s', t)",
        "broker_id => 1, exchange => 'ex', routing_key => 'rk', message => 'm'",
        "message => t, routing_key => 'rk', exchange => 'ex', broker_id => i",
        "1, 'ex', routing_key => 'rk', message => 'm'",
        "1, 'ex', 'rk', 'm', content_type => 'text/plain', correlation_id => 'c'",
        "1, 'ex', 'rk', 'm', reply_to := 'r', delivery_mode := 1",
        "$1::integer, $2, $3, $4",
        "$1, $2, $3, $4, 2",
        "'1', 'ex', 'rk', 'm', 2",
    ] {
        for function in ["publish", "autonomous_publish"] {
            let result = result_of(&mut client, &format!("amqp.{function}({arguments})"));
            assert_eq!(result, "bool", "{function}({arguments})");
        }
    }
    for (call, result) in [
        ("exchange_declare(1, 'ex', 'topic', false, true)", "bool"),
        ("exchange_declare(i, t, v, l, l, l)", "bool"),
        ("exchange_declare('1', 'ex', 'topic', 'f', 't', 'f')", "bool"),
        ("disconnect(1)", "void"),
        ("disconnect(i)", "void"),
    ] {
        assert_eq!(result_of(&mut client, &format!("amqp.{call}")), result, "{call}");
    }
}

/// The types of parameters that PL/pgSQL, SQL functions and PREPARE give.
#[test]
fn calls_from_functions_find_what_their_variables_say() {
    let (_fixture, mut client) = blog("calls_functions");
    run(
        &mut client,
        "CREATE FUNCTION theirs(broker int, ex text, message json) RETURNS boolean LANGUAGE plpgsql AS $$
         DECLARE is_sent boolean; BEGIN
           is_sent := amqp.publish(broker, ex, 'rk', message::text);
           PERFORM amqp.publish(broker, ex, 'rk', 'm');
           RETURN amqp.publish(1, ex, 'rk', message::varchar, 2, 'application/json'); END $$;
         CREATE FUNCTION ours(key text, message json) RETURNS text LANGUAGE plpgsql AS $$
         BEGIN PERFORM amqp.publish(key, message); RETURN amqp.publish('rk', message::text); END $$;
         CREATE FUNCTION in_sql(ex text) RETURNS boolean LANGUAGE sql AS
           $$ SELECT amqp.publish(1, ex, 'rk', 'm') $$;
         PREPARE theirs(int, text, text, text) AS SELECT amqp.publish($1, $2, $3, $4);
         PREPARE ours(text, text, text, text) AS SELECT amqp.publish($1, $2, $3, $4)",
    );
    let mut is = |call: &str| {
        let row = client.query_one(&format!("SELECT pg_typeof({call})::text"), &[]);
        row.unwrap_or_else(|error| panic!("{call}: {error:?}")).get::<_, String>(0)
    };
    assert_eq!(is("theirs(1, current_setting('amqp.exchange'), '{}')"), "boolean");
    assert_eq!(is("in_sql(current_setting('amqp.exchange'))"), "boolean");
    assert_eq!(is("ours('k', '{}')"), "text");
}

/// Where the fifth of so many literals may be headers or a delivery_mode, it has to be said which.
#[test]
fn five_literals_without_a_type_or_a_name_are_asked_about() {
    let (_fixture, mut client) = blog("calls_five");
    let error = refusal(&mut client, "SELECT amqp.publish('rk', 'body', 'ex', 'text/plain', '{}')");
    assert_eq!(error.code().code(), "42725");
    assert!(error.hint().unwrap().contains("explicit type casts"), "{error:?}");
}

/// Nothing is taken for something else: these fail with pg_amqp, too.
#[test]
fn calls_with_other_types_find_nothing() {
    let (_fixture, mut client) = blog("calls_neither");
    run(&mut client, GIVEN);
    for arguments in [
        "1, 'ex', 'rk', row_to_json(given)",
        "1, 'ex', 'rk', jb",
        "1, n, 'rk', 'm'",
        "b, 'ex', 'rk', 'm'",
        "1, 'ex', 'rk'",
        "1, 'ex', 'rk', ts",
        "'rk', i",
        "'rk', e",
        "1, 'body'",
    ] {
        let error = refusal(&mut client, &format!("SELECT amqp.publish({arguments}) FROM given"));
        assert_eq!(error.code().code(), "42883", "{arguments}: {error:?}");
    }
}
