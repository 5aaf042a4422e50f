//! What cannot be sent is an error of the statement, which names table and column; what can never be sent is one of
//! CREATE TRIGGER.

use postgres::Client;
use postgres::error::{DbError, SqlState};

use super::{bodies, letters};
use crate::helpers::{ask, blog, published_so_far, refusal, run};

const INVALID: SqlState = SqlState::INVALID_PARAMETER_VALUE;
const LONG: SqlState = SqlState::STRING_DATA_RIGHT_TRUNCATION;
const LARGE: SqlState = SqlState::PROGRAM_LIMIT_EXCEEDED;

#[test]
fn what_a_broker_would_refuse_fails_the_statement_and_names_table_and_column() {
    let (fixture, mut client) = letters("outbox_refused");
    run(&mut client, "SET amqp.max_message_size = '64kB'; SET amqp.oversize = keys");
    let (body, headers, kind) = ("body", "headers", "type");
    for (column, value, state, message) in [
        (body, "repeat('x', 65537)", LARGE, "message is too large to be published"),
        (headers, "'[1]'", INVALID, "headers must be a JSON object"),
        (headers, "'null'", INVALID, "headers must be a JSON object"),
        (headers, "'{\"published\": false}'", INVALID, "header \"published\" is reserved"),
        (headers, "'{\"user\": \"root\"}'", INVALID, "header \"user\" is reserved"),
        (headers, "'{\"x-death\": []}'", INVALID, "header \"x-death\" is reserved"),
        (headers, "'{\"CC\": \"x\"}'", INVALID, "header \"CC\" must be an array of texts"),
        (
            headers,
            "'{\"CC\": [\"amqp_cdc.gap\"]}'",
            INVALID,
            "routing key \"amqp_cdc.gap\" is reserved",
        ),
        (
            headers,
            "jsonb_build_object('x', repeat('y', 16384))",
            LARGE,
            "properties and headers are too large",
        ),
        (
            headers,
            "(repeat('{\"a\":', 5000) || '1' || repeat('}', 5000))::jsonb",
            INVALID,
            "headers are nested more than 16 deep",
        ),
        // Some of what would be gigabytes as text.
        (
            headers,
            "(SELECT jsonb_build_object('x', jsonb_agg(('1e131071')::numeric)) FROM generate_series(1, 100000))",
            LARGE,
            "properties and headers are too large",
        ),
        (
            headers,
            "jsonb_build_object('x', (SELECT jsonb_agg(0) FROM generate_series(1, 100000)))",
            LARGE,
            "properties and headers are too large",
        ),
        (kind, "'gap'", INVALID, "type \"gap\" is reserved"),
        (kind, "'Snapshot-Begin'", INVALID, "type \"Snapshot-Begin\" is reserved"),
        (kind, "repeat('x', 256)", LONG, "type is longer than 255 bytes"),
        (kind, "repeat('ü', 128)", LONG, "type is longer than 255 bytes"),
    ] {
        let insert = format!("INSERT INTO letters (id, {column}) VALUES (1, {value})");
        let error = refusal(&mut client, &insert);
        assert_eq!((error.code(), error.message()), (&state, message), "{insert}");
        let named = format!(
            "Column \"{column}\" of table public.letters holds the {column} of the message. "
        );
        let detail = error.detail().unwrap_or_default();
        assert!(detail.starts_with(&named) || detail == named.trim_end(), "{insert}: {detail}");
    }
    // To the last byte, and behind an error all goes on.
    run(
        &mut client,
        "INSERT INTO letters (id, body, type) VALUES (1, repeat('x', 65536), repeat('y', 255))",
    );
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].body.len(), 65536);
    assert_eq!(ask::<i64>(&mut client, "SELECT count(*) FROM letters"), 1);
    assert_eq!(ask::<Option<String>>(&mut client, "SELECT held_message FROM amqp.status"), None);
}

/// A json may say what no jsonb can.
#[test]
fn headers_that_are_no_jsonb_are_refused_in_words_of_their_own() {
    let (fixture, mut client) = blog("outbox_json");
    run(
        &mut client,
        "CREATE SCHEMA \"Mail Box\"; CREATE TABLE \"Mail Box\".\"Letters\" (\"The Headers\" json, body text);
         CREATE TRIGGER send AFTER INSERT ON \"Mail Box\".\"Letters\" FOR EACH ROW EXECUTE FUNCTION
           amqp_change_data_capture('l', '', 'body=body', 'headers=The Headers')",
    );
    for (value, message) in [
        (r#"{"a": "\ud800"}"#, "a text in the headers stands for no characters".to_owned()),
        (r#"{"xid": 1, "xid": 2}"#, "header \"xid\" is reserved".to_owned()),
        (
            &format!("{{\"n\": 1{}}}", "0".repeat(400)),
            "a number in the headers is too large for AMQP".to_owned(),
        ),
    ] {
        let insert = format!("INSERT INTO \"Mail Box\".\"Letters\" VALUES ('{value}')");
        let error = refusal(&mut client, &insert);
        assert_eq!(error.message(), message);
        let detail = error.detail().unwrap_or_default();
        let named = "Column \"The Headers\" of table \"Mail Box\".\"Letters\" holds the headers of the message.";
        assert!(detail.starts_with(named), "{detail}");
    }
    run(
        &mut client,
        r#"INSERT INTO "Mail Box"."Letters" VALUES (E'{"nul": "\\u0000", "pair": "\\ud83d\\ude00"}')"#,
    );
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!(messages[0].headers["nul"], serde_json::json!("\0"));
    assert_eq!(messages[0].headers["pair"], serde_json::json!("\u{1F600}"));
}

/// Makes the trigger in spite of what is said about it, and returns what is said: when it is made, and at two writes.
#[track_caller]
fn said_of(client: &mut Client, create: &str, write: &str) -> [DbError; 3] {
    let at_creation = refusal(client, create);
    run(
        client,
        &format!(
            "SET session_replication_role = replica; {create}; RESET session_replication_role"
        ),
    );
    [at_creation, refusal(client, write), refusal(client, write)]
}

#[test]
fn a_trigger_for_anything_but_insert_is_refused() {
    let (fixture, mut client) = blog("outbox_events");
    run(&mut client, "CREATE TABLE t (id int, body text); INSERT INTO t VALUES (0)");
    for (events, write) in [
        ("UPDATE", "UPDATE t SET id = 1"),
        ("DELETE", "DELETE FROM t"),
        ("INSERT OR UPDATE", "INSERT INTO t VALUES (1)"),
        ("INSERT OR DELETE", "DELETE FROM t"),
        ("INSERT OR UPDATE OF id OR DELETE", "INSERT INTO t VALUES (1)"),
    ] {
        let create = format!(
            "CREATE OR REPLACE TRIGGER send AFTER {events} ON t FOR EACH ROW EXECUTE FUNCTION
               amqp_change_data_capture('t', '', 'body=body')"
        );
        for error in said_of(&mut client, &create, write) {
            assert_eq!(error.code().code(), "39P01");
            assert_eq!(
                error.message(),
                "a row that is a message is sent when it is inserted, and never again"
            );
            assert_eq!(
                error.detail(),
                Some(
                    "Trigger \"send\" has capture option \"body\", and does not fire for INSERT alone."
                )
            );
            assert_eq!(
                error.hint(),
                Some(
                    "Define it AFTER INSERT ... FOR EACH ROW: to update or delete such a row sends nothing."
                )
            );
        }
    }
    run(&mut client, "DROP TRIGGER send ON t");
    let create = "CREATE TRIGGER send AFTER TRUNCATE ON t FOR EACH STATEMENT EXECUTE FUNCTION
        amqp_change_data_capture('t', '', 'body=body')";
    for error in said_of(&mut client, create, "TRUNCATE t") {
        assert_eq!(error.code().code(), "39P01");
    }
    run(&mut client, "DROP TRIGGER send ON t");
    // What is refused of any capture trigger is refused of this one in the same words.
    for (when, of) in [("BEFORE INSERT", "ROW"), ("AFTER INSERT", "STATEMENT")] {
        let create = format!(
            "CREATE TRIGGER send {when} ON t FOR EACH {of} EXECUTE FUNCTION
               amqp_change_data_capture('t', '', 'body=body')"
        );
        let error = refusal(&mut client, &create);
        assert_eq!(
            error.message(),
            "amqp_change_data_capture() must be an AFTER ... FOR EACH ROW trigger"
        );
    }
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), [""; 0]);
}

#[test]
fn options_that_make_no_sense_are_refused_when_the_trigger_is_made_and_when_it_fires() {
    let (fixture, mut client) = blog("outbox_options");
    run(
        &mut client,
        "CREATE TYPE mood AS ENUM ('sad'); CREATE DOMAIN whole AS int;
         CREATE TABLE t (id int, t text, c char(9), j json, b bytea, m mood, w whole, x xml, a text[])",
    );
    let types = "It must be of type text, varchar, json, jsonb or bytea, or of a domain over it.";
    let with = "With \"body\" go: headers, type, exchange, routing_key.";
    let mut cases = vec![
        (
            "body=t', 'headers=t",
            "column \"t\" of capture option \"headers\" is of another type".to_owned(),
            "It must be of type jsonb or json, or of a domain over it.",
        ),
        (
            "body=t', 'type=j",
            "column \"j\" of capture option \"type\" is of another type".to_owned(),
            "It must be of type text or varchar, or of a domain over it.",
        ),
        (
            "body=t', 'type=m",
            "column \"m\" of capture option \"type\" is of another type".to_owned(),
            "text or varchar",
        ),
        (
            "body=T",
            "column \"T\" of capture option \"body\" does not exist".to_owned(),
            "Columns of the table: id, t, c,",
        ),
        (
            "body=t', 'headers=h",
            "column \"h\" of capture option \"headers\" does not exist".to_owned(),
            "Columns of the table",
        ),
        (
            "body=t', 'type=tableoid",
            "column \"tableoid\" of capture option \"type\" does not exist".to_owned(),
            "Columns of the table",
        ),
        (
            "body=",
            "capture option \"body\" must be the name of a column".to_owned(),
            "double quotes",
        ),
        (
            "body=t,j",
            "capture option \"body\" must be the name of a column".to_owned(),
            "double quotes",
        ),
        ("body=t', 'body=t", "capture option \"body\" is given twice".to_owned(), "once"),
        (
            "headers=j",
            "capture option \"headers\" is for rows that are messages".to_owned(),
            "Say with option \"body\" which column holds their body.",
        ),
        (
            "exclude=id', 'type=t",
            "capture option \"type\" is for rows that are messages".to_owned(),
            "Say with option \"body\"",
        ),
    ];
    let columns = ["id", "c", "m", "w", "x", "a"];
    let bodies_of_wrong_types = columns.map(|column| format!("body={column}"));
    for (option, column) in bodies_of_wrong_types.iter().zip(columns) {
        let message = format!("column \"{column}\" of capture option \"body\" is of another type");
        cases.push((option, message, types));
    }
    let strangers =
        ["exclude=id", "only=t", "previous=off", "previous=on", "current=changed", "key=id"]
            .map(|stranger| (format!("body=t', '{stranger}"), stranger.split('=').next().unwrap()));
    for (option, stranger) in &strangers {
        let message = format!("capture options \"body\" and \"{stranger}\" contradict each other");
        cases.push((option, message, with));
    }
    for (option, message, hint) in cases {
        let create = format!(
            "CREATE OR REPLACE TRIGGER send AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION
               amqp_change_data_capture('a', 'b', '{option}')"
        );
        for error in said_of(&mut client, &create, "INSERT INTO t VALUES (1)") {
            assert_eq!((error.code(), error.message()), (&INVALID, &*message), "{option}");
            let detail = error.detail().unwrap_or_default();
            assert!(detail.contains("Trigger \"send\" has argument \""), "{detail}");
            assert!(error.hint().unwrap_or_default().contains(hint), "{error:?}");
        }
    }
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), [""; 0]);
}

#[test]
fn a_routing_key_that_nobody_may_send_with_is_refused() {
    let (fixture, mut client) = blog("outbox_key");
    run(&mut client, "CREATE TABLE t (body text)");
    let create = "CREATE TRIGGER send AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION
        amqp_change_data_capture('gap', 'amqp_cdc', 'body=body')";
    let [at_creation, at_write, _] = said_of(&mut client, create, "INSERT INTO t VALUES ('x')");
    for error in [&at_creation, &at_write] {
        assert_eq!(error.code(), &INVALID);
        assert_eq!(error.message(), "routing key \"amqp_cdc.gap.insert\" is reserved");
    }
    let named = "Trigger \"send\" of table public.t makes the routing key of the message.";
    assert!(at_write.detail().unwrap_or_default().starts_with(named), "{at_write:?}");
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), [""; 0]);
}

/// A megabyte that would be many gigabytes as text.
#[test]
fn enormous_numbers_fail_the_statement_and_not_the_server() {
    let (fixture, mut client) = blog("outbox_enormous");
    run(
        &mut client,
        "CREATE TABLE numbers (body jsonb);
         CREATE TRIGGER send AFTER INSERT ON numbers FOR EACH ROW
         EXECUTE FUNCTION amqp_change_data_capture('number', 'cdc', 'body=body')",
    );
    let enormous =
        "INSERT INTO numbers SELECT jsonb_agg('1e131071'::numeric) FROM generate_series(1, 100000)";
    let error = refusal(&mut client, enormous);
    assert_eq!((error.code(), error.message()), (&LARGE, "message is too large to be published"));
    run(&mut client, "INSERT INTO numbers VALUES ('1e100')");
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), [format!("1{}", "0".repeat(100))]);
}
