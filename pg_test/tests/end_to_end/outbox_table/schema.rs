//! Columns that a message is made of can neither be dropped nor renamed, nor get a type that cannot be sent.

use postgres::Client;
use postgres::error::DbError;

use super::{OUTBOX, bodies, letters};
use crate::helpers::{ask, blog, get_past_ddl, published_so_far, refusal, run};

/// Runs what the hint of an error says.
#[track_caller]
fn run_hint(client: &mut Client, error: &DbError, begins: &str) {
    let hint = error.hint().unwrap_or_default();
    let statements = hint.strip_prefix(begins).unwrap_or_else(|| panic!("{hint}"));
    run(client, statements);
}

#[test]
fn a_column_that_is_renamed_takes_its_option_with_it_by_the_statements_of_the_hint() {
    let (fixture, mut client) = letters("outbox_rename");
    for (option, column) in [("body", "body"), ("headers", "headers"), ("type", "type")] {
        let error = refusal(
            &mut client,
            &format!("ALTER TABLE letters RENAME {column} TO \"a, {column}\""),
        );
        assert_eq!(error.code().code(), "2BP01");
        assert_eq!(
            error.message(),
            format!(
                "cannot rename column \"{column}\" of table public.letters: a capture trigger names it"
            )
        );
        let named = format!("Option \"{option}\" of trigger \"send\" names the column;");
        assert!(error.detail().unwrap_or_default().starts_with(&named), "{error:?}");
        run_hint(
            &mut client,
            &error,
            "Run this instead, in one transaction, so that no change is missed: ",
        );
    }
    run(&mut client, "INSERT INTO letters VALUES (1, 'a', '{\"h\": 1}', 'kind')");
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!((messages[0].text(), messages[0].kind.as_deref()), ("a", Some("kind")));
    assert_eq!(messages[0].headers["h"], serde_json::json!(1));
}

#[test]
fn a_column_that_is_dropped_takes_its_option_with_it_but_a_message_has_a_body() {
    let (fixture, mut client) = letters("outbox_drop");
    for column in ["headers", "type"] {
        let drop = format!("ALTER TABLE letters DROP {column}");
        let error = refusal(&mut client, &drop);
        assert_eq!(
            error.message(),
            format!(
                "cannot drop column \"{column}\" of table public.letters: a capture trigger names it"
            )
        );
        run_hint(&mut client, &error, "Run this first, then this command again: ");
        run(&mut client, &drop);
    }
    let error = refusal(&mut client, "ALTER TABLE letters DROP body");
    let hint = error.hint().unwrap_or_default();
    assert!(
        hint.starts_with(
            "First replace the trigger by one whose option \"body\" names other columns"
        ),
        "{hint}"
    );
    run(&mut client, "INSERT INTO letters VALUES (1, 'a')");
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), ["a"]);
    run(&mut client, "DROP TRIGGER send ON letters; ALTER TABLE letters DROP body");
}

#[test]
fn a_type_that_cannot_be_sent_is_refused_and_any_other_is_not() {
    let (fixture, mut client) = letters("outbox_type");
    run(&mut client, "CREATE DOMAIN number AS int; CREATE DOMAIN words AS varchar");
    for (column, change, types) in [
        ("body", "ALTER body TYPE int USING 1", "text, varchar, json, jsonb or bytea"),
        ("body", "ALTER body TYPE number USING 1", "text, varchar, json, jsonb or bytea"),
        ("body", "DROP body, ADD body int", "text, varchar, json, jsonb or bytea"),
        ("headers", "ALTER headers TYPE text", "jsonb or json"),
        ("type", "ALTER type TYPE name", "text or varchar"),
    ] {
        let error = refusal(&mut client, &format!("ALTER TABLE letters {change}"));
        assert_eq!(error.code().code(), "2BP01");
        assert_eq!(
            error.message(),
            format!(
                "cannot change the type of column \"{column}\" of table public.letters: a capture trigger names it"
            )
        );
        let hint = format!("It must be of type {types}, or of a domain over it.");
        assert_eq!(error.hint(), Some(&*hint));
        assert!(error.detail().unwrap_or_default().starts_with("Option \""), "{error:?}");
    }
    run(
        &mut client,
        "INSERT INTO letters VALUES (1, 'a', '{}', 'k');
         ALTER TABLE letters ALTER id TYPE bigint, ALTER headers TYPE json, ALTER type TYPE words;
         INSERT INTO letters VALUES (2, 'b', '{}', 'k');
         ALTER TABLE letters ALTER body TYPE bytea USING convert_to(body, 'UTF8');
         INSERT INTO letters VALUES (3, '\\x63', '{}', 'k')",
    );
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!(bodies(&messages), ["a", "b", "c"]);
    let kinds: Vec<_> = messages.iter().map(|message| message.content_type.as_deref()).collect();
    let text = Some("text/plain");
    assert_eq!(kinds, [text, text, Some("application/octet-stream")]);
}

/// Where the check was off, the write fails, also in a session that knows the trigger already; no row is sent as
/// what it is not.
#[test]
fn what_came_past_the_check_fails_the_write() {
    let (fixture, mut client) = letters("outbox_past");
    run(&mut client, "INSERT INTO letters VALUES (1, 'before')");
    get_past_ddl(&mut client);
    for (change, message, back) in [
        (
            "ALTER body TYPE int USING 1",
            "column \"body\" of capture option \"body\" is of another type",
            "ALTER body TYPE text",
        ),
        (
            "RENAME body TO text",
            "column \"body\" of capture option \"body\" does not exist",
            "RENAME text TO body",
        ),
        (
            "DROP headers",
            "column \"headers\" of capture option \"headers\" does not exist",
            "ADD headers jsonb",
        ),
    ] {
        run(&mut client, &format!("ALTER TABLE letters {change}"));
        for client in [&mut client, &mut fixture.client()] {
            let error = refusal(client, "INSERT INTO letters (id) VALUES (2)");
            assert_eq!(error.message(), message);
        }
        run(&mut client, &format!("ALTER TABLE letters {back}"));
    }
    run(&mut client, "INSERT INTO letters VALUES (3, 'behind')");
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), ["before", "behind"]);
    // What is wrong already is in nobody's way.
    run(&mut client, "ALTER TABLE letters ALTER type TYPE int USING 1");
    run(&mut client, "ALTER EVENT TRIGGER amqp_cdc_ddl_command_end ENABLE ALWAYS");
    for change in ["ADD x int", "ALTER type TYPE bigint", "ALTER type TYPE text"] {
        run(&mut client, &format!("ALTER TABLE letters {change}"));
    }
    run(&mut client, "INSERT INTO letters VALUES (4, 'again')");
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), ["again"]);
}

#[test]
fn the_trigger_survives_a_dump_and_follows_its_table() {
    let (fixture, mut client) = blog("outbox_renamed_table");
    run(&mut client, OUTBOX);
    run(
        &mut client,
        "ALTER TABLE outbox RENAME TO events; CREATE SCHEMA s; ALTER TABLE events SET SCHEMA s;
         INSERT INTO s.events (aggregatetype, aggregateid, type, payload) VALUES ('a', '1', 't', '{}')",
    );
    let definition: String = ask(
        &mut client,
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 's.events'::regclass",
    );
    run(&mut client, &format!("DROP TRIGGER send ON s.events; {definition}"));
    run(
        &mut client,
        "INSERT INTO s.events (aggregatetype, aggregateid, type, payload) VALUES ('a', '1', 't', '[]')",
    );
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), ["{}", "[]"]);
}
