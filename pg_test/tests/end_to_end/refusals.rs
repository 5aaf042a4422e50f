//! Wrong definitions and servers that would lose events are refused, and the error says what to do.

use pg_test::{Postgres, Shutdown};
use postgres::Client;

use crate::helpers::{blog, get_past_ddl, refusal, run};

#[track_caller]
fn assert_refused(client: &mut Client, statement: &str, expected: (&str, &str, &str, &str)) {
    let error = refusal(client, statement);
    let (sqlstate, message, detail, hint) = expected;
    assert_eq!(error.code().code(), sqlstate, "{error:?}");
    assert_eq!(error.message(), message);
    assert!(error.detail().unwrap_or_default().contains(detail), "{error:?}");
    assert!(error.hint().unwrap_or_default().contains(hint), "{error:?}");
}

#[test]
fn a_trigger_that_fires_at_the_wrong_time_is_refused() {
    let (fixture, mut client) = blog("timing");
    let expected = "amqp_change_data_capture() must be an AFTER ... FOR EACH ROW trigger";
    for (table, definition, detail) in [
        ("t1", "BEFORE INSERT ON t1 FOR EACH ROW", "\"wrong\" fires BEFORE the change"),
        ("t2", "AFTER INSERT ON t2 FOR EACH STATEMENT", "fires FOR EACH STATEMENT"),
        ("v", "INSTEAD OF INSERT ON v FOR EACH ROW", "fires INSTEAD OF the change"),
    ] {
        run(
            &mut client,
            &format!(
                "CREATE TABLE IF NOT EXISTS {base} (id int); {view}",
                base = if table == "v" { "t3" } else { table },
                view = if table == "v" { "CREATE VIEW v AS SELECT * FROM t3;" } else { "" },
            ),
        );
        let create = format!(
            "CREATE TRIGGER wrong {definition} EXECUTE FUNCTION amqp_change_data_capture()"
        );
        let expected = ("39P01", expected, detail, "AFTER INSERT OR UPDATE");
        assert_refused(&mut client, &create, expected);
        run(&mut client, "BEGIN");
        get_past_ddl(&mut client);
        run(&mut client, &format!("{create}; COMMIT"));
        run(&mut client, "ALTER EVENT TRIGGER amqp_cdc_ddl_command_end ENABLE ALWAYS");
        assert_refused(&mut client, &format!("INSERT INTO {table} VALUES (1)"), expected);
    }
    drop(fixture);
}

#[test]
fn an_unknown_option_is_refused_with_the_valid_ones() {
    let (fixture, mut client) = blog("options");
    run(&mut client, "CREATE TABLE t (id int)");
    let create = "CREATE TRIGGER wrong AFTER INSERT ON t FOR EACH ROW
        EXECUTE FUNCTION amqp_change_data_capture('a', 'b', 'colour=red')";
    let expected = ("22023", "unknown capture option \"colour\"", "colour=red", "Valid options:");
    assert_refused(&mut client, create, expected);
    get_past_ddl(&mut client);
    run(&mut client, create);
    assert_refused(&mut client, "INSERT INTO t VALUES (1)", expected);
    drop(fixture);
}

#[test]
fn a_routing_key_that_amqp_cannot_carry_is_refused() {
    let (fixture, mut client) = blog("long_key");
    let resource = "ü".repeat(123);
    run(&mut client, "CREATE TABLE t (id int)");
    let create = format!(
        "CREATE TRIGGER t AFTER INSERT ON t FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture('{resource}')"
    );
    let expected = ("42622", "routing key is longer than 255 bytes", "has 257 bytes", "Shorten");
    assert_refused(&mut client, &create, expected);
    get_past_ddl(&mut client);
    run(&mut client, &create);
    assert_refused(&mut client, "INSERT INTO t VALUES (1)", expected);
    run(
        &mut client,
        &format!(
            "CREATE OR REPLACE TRIGGER t AFTER INSERT ON t FOR EACH ROW
               EXECUTE FUNCTION amqp_change_data_capture('{}')",
            "ü".repeat(122)
        ),
    );
    run(&mut client, "INSERT INTO t VALUES (1)");
    assert_eq!(fixture.consumer.wait_for_events(1)[0].routing_key.len(), 255);
}

#[test]
fn the_trigger_function_is_granted_to_nobody() {
    let (fixture, mut client) = blog("grants");
    let role = format!("{}_role", fixture.database);
    run(
        &mut client,
        &format!(
            "CREATE ROLE {role}; CREATE SCHEMA theirs AUTHORIZATION {role};
             CREATE ROLE {role}_m IN ROLE pg_monitor;
             SET ROLE {role}; CREATE TABLE theirs.t (id int)"
        ),
    );
    let create = "CREATE TRIGGER t AFTER INSERT ON theirs.t FOR EACH ROW
                  EXECUTE FUNCTION amqp_change_data_capture()";
    for statement in [create, "SELECT * FROM amqp.status", "SELECT amqp.check_server()"] {
        assert_eq!(refusal(&mut client, statement).code().code(), "42501", "{statement}");
    }
    run(&mut client, &format!("RESET ROLE; SET ROLE {role}_m; SELECT * FROM amqp.status"));
    run(
        &mut client,
        &format!(
            "RESET ROLE; GRANT EXECUTE ON FUNCTION amqp_change_data_capture() TO {role};
             SET ROLE {role}; {create}; INSERT INTO theirs.t VALUES (1)"
        ),
    );
    assert_eq!(fixture.consumer.wait_for_events(1)[0].headers["schema"], "theirs");
}

#[test]
fn an_unprivileged_user_cannot_forge_an_event() {
    let (fixture, mut client) = blog("forgery");
    let role = format!("{}_role", fixture.database);
    run(&mut client, &format!("CREATE ROLE {role}; SET ROLE {role}"));
    for transactional in [true, false] {
        for prefix in ["amqp_cdc", "amqp_cdcevent", "amqp_cdc event "] {
            run(
                &mut client,
                &format!(
                    "SELECT pg_logical_emit_message({transactional}, '{prefix}',
                       decode('01000100000000000000000000000000', 'hex'))"
                ),
            );
        }
    }
    run(&mut client, "RESET ROLE");
    assert_eq!(crate::helpers::published_so_far(&fixture, &mut client), []);
}

#[test]
fn without_preload_nothing_is_captured_and_the_error_says_why() {
    let postgres = Postgres::create(&[]);
    let mut client = postgres.connect("postgres");
    let expected = (
        "55000",
        "amqp_cdc must be loaded via shared_preload_libraries",
        "The worker",
        "restart the server",
    );
    assert_refused(&mut client, "CREATE EXTENSION amqp_cdc", expected);
    // As after a restore, or when somebody has removed it from shared_preload_libraries again.
    run(
        &mut client,
        "CREATE FUNCTION capture() RETURNS trigger LANGUAGE c
           AS '$libdir/amqp_cdc', 'amqp_change_data_capture';
         CREATE TABLE t (id int);
         CREATE TRIGGER t AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION capture()",
    );
    assert_refused(&mut client, "INSERT INTO t VALUES (1)", expected);
    run(&mut client, "LOAD 'amqp_cdc'");
}

/// A session in a database with the extension and a captured table `t`.
fn captured_table(postgres: &Postgres) -> Client {
    let mut client = postgres.connect("postgres");
    run(
        &mut client,
        "CREATE EXTENSION amqp_cdc; CREATE TABLE t (id int);
         CREATE TRIGGER t AFTER INSERT ON t FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture()",
    );
    client
}

/// What a client is told is PostgreSQL's error, also where it passed through Rust on its way: here from a
/// cast to json, in a server whose environment asks Rust for backtraces.
#[test]
fn no_backtrace_reaches_a_client() {
    let postgres = Postgres::create(&["shared_preload_libraries = 'amqp_cdc'"]);
    postgres.stop(Shutdown::Fast);
    let environment = ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"].map(|name| (name, "full".as_ref()));
    postgres.start_with(&environment);
    let mut client = postgres.connect("postgres");
    run(
        &mut client,
        "CREATE EXTENSION amqp_cdc;
         CREATE TYPE shy AS ENUM ('x');
         CREATE FUNCTION shy_to_json(shy) RETURNS json LANGUAGE plpgsql AS $$
           BEGIN RAISE EXCEPTION 'not with me'; END $$;
         CREATE CAST (shy AS json) WITH FUNCTION shy_to_json(shy);
         CREATE TABLE t (id int, s shy);
         CREATE TRIGGER t AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture();
         CREATE TABLE wrong (id int)",
    );
    let error = refusal(&mut client, "INSERT INTO t VALUES (1, 'x')");
    assert_eq!((error.message(), error.detail()), ("not with me", None));
    let error = refusal(
        &mut client,
        "CREATE TRIGGER wrong AFTER INSERT ON wrong FOR EACH ROW
         EXECUTE FUNCTION amqp_change_data_capture('a', 'b', 'colour=red')",
    );
    assert_eq!(error.detail(), Some("Trigger \"wrong\" has argument \"colour=red\"."));
    let error = refusal(&mut client, "SELECT amqp.skip('x')");
    assert_eq!(error.detail(), Some("It does not stand still at a message."));
    // What the server starts finds its environment as it was.
    run(
        &mut client,
        "COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; test \"$RUST_LIB_BACKTRACE$RUST_BACKTRACE\" = fullfull'",
    );
}

#[test]
fn at_wal_level_minimal_the_trigger_refuses() {
    let postgres = Postgres::create(&[
        "shared_preload_libraries = 'amqp_cdc'",
        "wal_level = minimal",
        "max_wal_senders = 0",
    ]);
    let mut client = captured_table(&postgres);
    assert_refused(
        &mut client,
        "INSERT INTO t VALUES (1)",
        (
            "55000",
            "change data capture needs a wal_level of replica or logical",
            "wal_level is minimal",
            "Set wal_level = replica",
        ),
    );
    run(&mut client, "SET amqp.capture = off; INSERT INTO t VALUES (1)");
    pg_test::wait_until("the status says why", pg_test::DEADLINE, || {
        let reason: Option<String> =
            crate::helpers::ask(&mut client, "SELECT reason FROM amqp.status");
        (reason.as_deref() == Some("wal_level is minimal")).then_some(())
    });
}

#[test]
fn without_a_free_replication_slot_the_trigger_refuses() {
    let postgres =
        Postgres::create(&["shared_preload_libraries = 'amqp_cdc'", "max_replication_slots = 0"]);
    let mut client = captured_table(&postgres);
    let refused = pg_test::wait_until("the trigger refuses", pg_test::DEADLINE, || {
        client.batch_execute("INSERT INTO t VALUES (1)").err()
    });
    let error = refused.as_db_error().expect("an error of the server").clone();
    assert_eq!(error.code().code(), "55000");
    assert_eq!(error.message(), "change data capture has no replication slot");
    assert!(error.hint().unwrap_or_default().contains("max_replication_slots"));
    // The worker tries again and again.
    pg_test::wait_until("the status says why", pg_test::DEADLINE, || {
        let row = client.query_one("SELECT state, last_error FROM amqp.status", &[]).unwrap();
        let seen: (String, Option<String>) = (row.get(0), row.get(1));
        (seen == ("stuck".to_owned(), Some("all replication slots are in use".to_owned())))
            .then_some(())
    });
}

#[test]
fn capture_can_be_turned_off_by_superusers_only() {
    let (fixture, mut client) = blog("capture_off");
    run(&mut client, "SET amqp.capture = off; INSERT INTO blog_articles VALUES (1);");
    run(&mut client, "RESET amqp.capture; INSERT INTO blog_articles VALUES (2)");
    let events = fixture.consumer.wait_for_events(1);
    assert_eq!(events[0].json()["current"]["id"], 2);
    let role = format!("{}_role", fixture.database);
    run(&mut client, &format!("CREATE ROLE {role}; SET ROLE {role}"));
    assert_eq!(refusal(&mut client, "SET amqp.capture = off").code().code(), "42501");
    assert_eq!(refusal(&mut client, "SET amqp.exchange = 'x'").code().code(), "42501");
}
