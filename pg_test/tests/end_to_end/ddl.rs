//! DDL that would make every later write to a captured table fail is refused where it is given, with what to run
//! instead; all other DDL passes.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use pg_test::{Fixture, Postgres, testbed};
use postgres::error::DbError;
use postgres::{Client, Config, NoTls};
use serde_json::json;

use crate::helpers::{ask, blog, get_past_ddl, published_so_far, refusal, run};

/// Makes a capture trigger with this option.
fn capture(client: &mut Client, name: &str, table: &str, option: &str) {
    run(
        client,
        &format!(
            "CREATE TRIGGER {name} AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW
             EXECUTE FUNCTION amqp_change_data_capture('{table}', 'cdc', '{option}')"
        ),
    );
}

/// A table whose trigger has this option.
fn account(client: &mut Client, option: &str) {
    run(client, "CREATE TABLE acc (id int PRIMARY KEY, nr int, pw text)");
    capture(client, "cdc", "acc", option);
    run(client, "INSERT INTO acc VALUES (1, 1, 's')");
}

#[track_caller]
fn assert_names_it(error: &DbError, what: &str, column: &str, table: &str, trigger: &str) {
    assert_eq!(error.code().code(), "2BP01", "{error:?}");
    assert_eq!(
        error.message(),
        format!("cannot {what} column \"{column}\" of table {table}: a capture trigger names it")
    );
    let detail = error.detail().unwrap_or_default();
    assert!(detail.contains(&format!("of trigger \"{trigger}\" names the column")), "{error:?}");
}

/// The statements of a hint, which stand behind its first colon.
fn statements(error: &DbError) -> String {
    let hint = error.hint().unwrap_or_default();
    hint.split_once(": ").map(|(_, statements)| statements.to_owned()).unwrap_or_default()
}

/// A session, and what the server tells it beside its answers.
fn listening(fixture: &Fixture<'_>) -> (Client, Arc<Mutex<Vec<DbError>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let conf = fixture.testbed.postgres.connection_string(&fixture.database);
    let mut config: Config = conf.parse().expect("the harness's own connection string");
    let ear = Arc::clone(&told);
    config.notice_callback(move |notice| ear.lock().unwrap().push(notice));
    (config.connect(NoTls).expect("a session"), told)
}

#[test]
fn a_column_that_an_option_names_is_not_dropped_and_the_hint_says_what_to_run_first() {
    for (option, with) in [
        ("exclude=pw", "('acc', 'cdc');"),
        ("exclude=nr, pw", "('acc', 'cdc', 'exclude=nr');"),
        ("only=id,pw", "('acc', 'cdc', 'only=id');"),
        ("key=pw", "('acc', 'cdc');"),
    ] {
        let (fixture, mut client) = blog("drop_named");
        account(&mut client, option);
        let drop = "ALTER TABLE acc DROP COLUMN pw";
        let error = refusal(&mut client, drop);
        assert_names_it(&error, "drop", "pw", "public.acc", "cdc");
        let name = option.split('=').next().unwrap();
        assert!(error.detail().unwrap().starts_with(&format!("Option \"{name}\" of trigger")));
        let first = statements(&error);
        assert!(first.starts_with(
            "CREATE OR REPLACE TRIGGER cdc AFTER INSERT OR DELETE OR UPDATE ON public.acc"
        ));
        assert!(first.ends_with(with), "{first}");
        // The table is as it was, and so is the trigger.
        run(&mut client, "UPDATE acc SET nr = 2");
        run(&mut client, &first);
        run(&mut client, &format!("{drop}; UPDATE acc SET nr = 3; INSERT INTO acc VALUES (2, 4)"));
        let events = published_so_far(&fixture, &mut client);
        assert_eq!(events.last().unwrap().json()["current"]["id"], json!(2), "{option}");
    }
}

#[test]
fn where_only_would_be_left_without_a_column_the_hint_does_not_lift_it() {
    let (_fixture, mut client) = blog("drop_only");
    account(&mut client, "only=pw");
    let error = refusal(&mut client, "ALTER TABLE acc DROP COLUMN pw");
    assert_names_it(&error, "drop", "pw", "public.acc", "cdc");
    assert!(error.hint().unwrap().contains("whose option \"only\" names other columns"));
}

#[test]
fn a_column_that_an_option_names_is_renamed_in_one_transaction_with_its_trigger() {
    for (option, with) in [
        ("exclude=pw", "'exclude=\"the, \"\"pw\"\"\"');"),
        ("only=id,pw", "'only=id,\"the, \"\"pw\"\"\"');"),
        ("key=id,pw", "'key=id,\"the, \"\"pw\"\"\"');"),
    ] {
        let (fixture, mut client) = blog("rename_named");
        account(&mut client, option);
        let error = refusal(&mut client, r#"ALTER TABLE acc RENAME COLUMN pw TO "the, ""pw""""#);
        assert_names_it(&error, "rename", "pw", "public.acc", "cdc");
        let instead = statements(&error);
        assert!(
            instead.starts_with(
                "BEGIN; DROP TRIGGER cdc ON public.acc; ALTER TABLE public.acc RENAME COLUMN pw TO "
            ),
            "{instead}"
        );
        assert!(instead.contains(with) && instead.ends_with("; COMMIT;"), "{instead}");
        run(&mut client, &instead);
        run(&mut client, "UPDATE acc SET nr = 2, id = 2");
        let events = published_so_far(&fixture, &mut client);
        let last = events.last().unwrap().json();
        assert_eq!(last["current"]["id"], json!(2));
        let is_there = last["current"].get("the, \"pw\"").is_some();
        assert_eq!(is_there, !option.starts_with("exclude"), "{last}");
    }
}

#[test]
fn it_is_refused_wherever_the_column_is_lost() {
    let (_fixture, mut client) = blog("everywhere");
    run(
        &mut client,
        "CREATE SCHEMA s1; CREATE TYPE s1.secret AS ENUM ('a'); CREATE DOMAIN word AS text;
         CREATE TABLE acc (id int PRIMARY KEY, pw s1.secret, other word);
         CREATE TABLE root (id int, pw text, x word) PARTITION BY RANGE (id);
         CREATE TABLE middle PARTITION OF root FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
         CREATE TABLE leaf PARTITION OF middle DEFAULT;
         CREATE TABLE root2 (id int, pw text) PARTITION BY RANGE (id);
         CREATE TABLE leaf2 PARTITION OF root2 DEFAULT;
         CREATE TABLE parent (id int, pw text);
         CREATE TABLE child (extra text) INHERITS (parent);
         CREATE TYPE row_type AS (id int, pw text);
         CREATE TABLE typed OF row_type;
         CREATE FUNCTION drop_it() RETURNS void LANGUAGE plpgsql AS
           $$ BEGIN ALTER TABLE acc DROP COLUMN pw; END $$",
    );
    capture(&mut client, "cdc", "acc", "exclude=pw,other");
    capture(&mut client, "on_root", "root", "exclude=pw,x");
    capture(&mut client, "on_leaf", "leaf2", "exclude=pw");
    capture(&mut client, "on_child", "child", "exclude=pw");
    capture(&mut client, "on_typed", "typed", "exclude=pw");
    for (statement, what, column, table, trigger) in [
        ("SELECT drop_it()", "drop", "pw", "public.acc", "cdc"),
        ("DO $$ BEGIN ALTER TABLE acc RENAME pw TO b; END $$", "rename", "pw", "public.acc", "cdc"),
        ("DROP TYPE s1.secret CASCADE", "drop", "pw", "public.acc", "cdc"),
        ("DROP SCHEMA s1 CASCADE", "drop", "pw", "public.acc", "cdc"),
        ("ALTER VIEW acc RENAME COLUMN pw TO b", "rename", "pw", "public.acc", "cdc"),
        ("ALTER TABLE acc ADD y int, DROP COLUMN pw CASCADE", "drop", "pw", "public.acc", "cdc"),
        ("ALTER TABLE root DROP COLUMN pw", "drop", "pw", "public.root", "on_root"),
        ("ALTER TABLE root RENAME COLUMN pw TO b", "rename", "pw", "public.root", "on_root"),
        ("ALTER TABLE root2 DROP COLUMN pw", "drop", "pw", "public.leaf2", "on_leaf"),
        ("ALTER TABLE root2 RENAME COLUMN pw TO b", "rename", "pw", "public.leaf2", "on_leaf"),
        ("ALTER TABLE parent DROP COLUMN pw", "drop", "pw", "public.child", "on_child"),
        ("ALTER TABLE parent RENAME COLUMN pw TO b", "rename", "pw", "public.child", "on_child"),
        (
            "ALTER TYPE row_type RENAME ATTRIBUTE pw TO b CASCADE",
            "rename",
            "pw",
            "public.typed",
            "on_typed",
        ),
        ("ALTER TYPE row_type DROP ATTRIBUTE pw CASCADE", "drop", "pw", "public.typed", "on_typed"),
    ] {
        let error = refusal(&mut client, statement);
        assert_names_it(&error, what, column, table, trigger);
        // The hint works: of a child's trigger, too, whose column is the parent's to rename.
        if what == "rename" {
            let instead = statements(&error).replace("COMMIT;", "ROLLBACK;");
            run(&mut client, &instead);
        } else {
            run(&mut client, &format!("BEGIN; {} {statement}; ROLLBACK", statements(&error)));
        }
    }
    let error = refusal(&mut client, "DROP DOMAIN word CASCADE");
    assert_eq!(error.code().code(), "2BP01", "{error:?}");
    // In the transaction that made the table, and after a savepoint that made nothing of it.
    for before in ["", "SAVEPOINT s; ALTER TABLE t DROP COLUMN b; ROLLBACK TO s;"] {
        let error = refusal(
            &mut client,
            &format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE TABLE t (a int, b int, c text);
                 CREATE TRIGGER t AFTER INSERT ON t FOR EACH ROW
                   EXECUTE FUNCTION amqp_change_data_capture('t', 'cdc', 'exclude=c');
                 {before} ALTER TABLE t ADD d int, DROP b; ALTER TABLE t RENAME c TO e"
            ),
        );
        assert_names_it(&error, "rename", "c", "public.t", "t");
        run(&mut client, "ROLLBACK");
    }
}

#[test]
fn a_constraint_trigger_is_dropped_and_made_again() {
    let (_fixture, mut client) = blog("constraint");
    run(
        &mut client,
        "CREATE TABLE acc (id int, pw text);
         CREATE CONSTRAINT TRIGGER cdc AFTER INSERT ON acc DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture('acc', 'cdc', 'exclude=pw')",
    );
    let error = refusal(&mut client, "ALTER TABLE acc DROP COLUMN pw");
    let instead = statements(&error).replace("(this command)", "ALTER TABLE acc DROP COLUMN pw");
    assert!(instead.contains("CREATE CONSTRAINT TRIGGER cdc"), "{instead}");
    run(&mut client, &instead);
}

#[test]
fn what_leaves_no_trigger_without_its_columns_passes() {
    let (fixture, mut client) = blog("passes");
    run(
        &mut client,
        "CREATE SCHEMA s1; CREATE SCHEMA s2; CREATE TYPE s1.secret AS ENUM ('a');
         CREATE TABLE s2.t (id int, pw s1.secret);
         CREATE TABLE root (id int, pw text, x int) PARTITION BY RANGE (id);
         CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10);
         CREATE TABLE leaf2 PARTITION OF root DEFAULT;
         CREATE TABLE root3 (id int, pw text) PARTITION BY RANGE (id);
         CREATE TABLE leaf4 PARTITION OF root3 FOR VALUES FROM (0) TO (10);
         CREATE TABLE parent (id int, pw text);
         CREATE TABLE child (extra text) INHERITS (parent)",
    );
    capture(&mut client, "cdc", "root3", "exclude=pw");
    account(&mut client, "exclude=pw");
    capture(&mut client, "cdc", "s2.t", "exclude=pw");
    capture(&mut client, "cdc", "root", "exclude=pw");
    capture(&mut client, "own", "leaf", "exclude=pw");
    capture(&mut client, "cdc", "child", "exclude=pw");
    for statement in [
        // Columns that no option names, and the table's own name.
        "ALTER TABLE acc RENAME nr TO number; ALTER TABLE acc DROP number; ALTER INDEX acc RENAME TO acc2",
        "ALTER TABLE acc2 RENAME TO acc",
        // The column by that name stays excluded, whatever it is.
        "ALTER TABLE acc DROP COLUMN pw, ADD COLUMN pw int",
        "ALTER TABLE acc ALTER pw TYPE text",
        "ALTER TABLE root ALTER pw TYPE varchar(100); ALTER TABLE root DROP x",
        "ALTER TABLE root DETACH PARTITION leaf; ALTER TABLE root ATTACH PARTITION leaf FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE leaf3 PARTITION OF root FOR VALUES FROM (10) TO (20)",
        // The child has the column of its own then.
        "ALTER TABLE ONLY parent DROP COLUMN pw",
        "ALTER TABLE acc DISABLE TRIGGER cdc; ALTER TABLE acc ENABLE TRIGGER cdc",
        "INSERT INTO acc VALUES (2, 'secret'); INSERT INTO root VALUES (3, 'secret'); INSERT INTO child VALUES (4, 'secret')",
        "CREATE INDEX CONCURRENTLY i ON acc (id)",
        "REINDEX TABLE CONCURRENTLY acc",
        "ALTER TABLE root3 DETACH PARTITION leaf4 CONCURRENTLY",
        "VACUUM FULL acc",
        "DROP TABLE leaf; DROP TABLE root; DROP TABLE child, parent",
        // Drops the column of the type in the first schema, and then its table.
        "DROP SCHEMA s1, s2 CASCADE",
        "BEGIN; DROP TRIGGER cdc ON acc; ALTER TABLE acc DROP pw; COMMIT",
        "GRANT SELECT ON acc TO pg_monitor; COMMENT ON TABLE acc IS 'x'; CREATE INDEX ON acc (id)",
        "CREATE TEMP TABLE temporary (id int) ON COMMIT DROP; DROP TABLE IF EXISTS nowhere",
        "CREATE SCHEMA s3 CREATE TABLE t (id int) CREATE VIEW v AS SELECT * FROM t; DROP SCHEMA s3 CASCADE",
        "CREATE EXTENSION hstore; DROP EXTENSION hstore",
    ] {
        run(&mut client, statement);
    }
    let events = published_so_far(&fixture, &mut client);
    // The row of the leaf is captured by its parent's trigger and by its own.
    assert_eq!(events.len(), 5);
    assert!(events.iter().all(|event| !event.text().contains("secret")), "{events:?}");
}

#[test]
fn the_extension_is_dropped_with_and_without_its_triggers() {
    let (_fixture, mut client) = blog("dropped");
    assert_eq!(refusal(&mut client, "DROP EXTENSION amqp_cdc").code().code(), "2BP01");
    account(&mut client, "exclude=pw");
    run(&mut client, "DROP EXTENSION amqp_cdc CASCADE; ALTER TABLE acc DROP COLUMN pw");
    run(&mut client, "CREATE EXTENSION amqp_cdc; DROP EXTENSION amqp_cdc; CREATE TABLE t (id int)");
}

#[test]
fn a_replica_is_only_warned_and_what_came_past_the_check_fails_the_write() {
    for rename in [true, false] {
        let (fixture, _) = blog("replica");
        let (mut client, told) = listening(&fixture);
        account(&mut client, "exclude=pw");
        // The session has its plan of the trigger by now.
        run(&mut client, "UPDATE acc SET nr = 2; SET session_replication_role = replica");
        let (lose, what) = if rename {
            ("ALTER TABLE acc RENAME pw TO secret", "rename")
        } else {
            ("ALTER TABLE acc DROP COLUMN pw", "drop")
        };
        run(&mut client, lose);
        let warning = told.lock().unwrap().pop().expect("a warning");
        assert_eq!(warning.severity(), "WARNING");
        assert_names_it(&warning, what, "pw", "public.acc", "cdc");
        run(&mut client, "RESET session_replication_role");
        let published = published_so_far(&fixture, &mut client).len();
        for _ in 0..2 {
            let error = refusal(&mut client, "UPDATE acc SET nr = 3");
            assert_eq!(
                error.message(),
                "column \"pw\" of capture option \"exclude\" does not exist"
            );
        }
        // What is broken already is not in the way of the command that would help, nor of any other.
        run(&mut client, "ALTER TABLE acc ADD x int; CREATE TABLE other (id int)");
        let mend = if rename { "RENAME secret TO pw" } else { "ADD pw text" };
        run(&mut client, &format!("ALTER TABLE acc {mend}; UPDATE acc SET nr = 4, pw = 'x'"));
        let events = published_so_far(&fixture, &mut client);
        assert_eq!((published, events.len()), (2, 1));
        assert!(events[0].json()["current"].get("pw").is_none());
    }
}

#[test]
fn a_column_renamed_while_event_triggers_are_off_is_not_published() {
    let (fixture, mut client) = blog("unseen");
    account(&mut client, "exclude=pw");
    get_past_ddl(&mut client);
    run(&mut client, "ALTER TABLE acc RENAME pw TO secret");
    let error = refusal(&mut client, "UPDATE acc SET nr = 2");
    assert_eq!(error.code().code(), "22023");
    // Nor by a session that comes later.
    let error = refusal(&mut fixture.client(), "INSERT INTO acc VALUES (2, 2, 'secret')");
    assert!(error.hint().unwrap().contains("id, nr, secret"), "{error:?}");
    let events = published_so_far(&fixture, &mut client);
    assert!(events.iter().all(|event| !event.text().contains("secret")), "{events:?}");
}

#[test]
fn a_hostile_search_path_changes_nothing() {
    let (fixture, mut client) = blog("hostile");
    account(&mut client, "exclude=pw");
    run(
        &mut client,
        "CREATE SCHEMA evil;
         CREATE FUNCTION evil.boom(oid, oid) RETURNS boolean LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'boom'; END $$;
         CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.boom);
         CREATE FUNCTION evil.pg_event_trigger_ddl_commands(OUT classid oid, OUT objid oid, OUT command_tag text)
           RETURNS SETOF record LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'boom'; END $$",
    );
    let mut client = fixture.client();
    run(&mut client, "SET search_path = evil, pg_catalog");
    let error = refusal(&mut client, "ALTER TABLE public.acc DROP COLUMN pw");
    assert_names_it(&error, "drop", "pw", "public.acc", "cdc");
    run(&mut client, "SET search_path = ''; ALTER TABLE public.acc ADD x int");
}

#[test]
fn whoever_owns_a_partitioned_table_learns_what_partitions_will_need() {
    let (fixture, _) = blog("owner");
    let (mut client, told) = listening(&fixture);
    let app = format!("\"{} App\"", fixture.database);
    run(
        &mut client,
        &format!(
            "CREATE ROLE {app} LOGIN; CREATE SCHEMA app AUTHORIZATION {app}; SET ROLE {app};
             CREATE TABLE app.m (d date, v int) PARTITION BY RANGE (d); CREATE TABLE app.plain (v int);
             RESET ROLE"
        ),
    );
    let create = |table: &str| {
        format!(
            "CREATE OR REPLACE TRIGGER cdc AFTER INSERT ON app.{table} FOR EACH ROW
             EXECUTE FUNCTION amqp_change_data_capture('m')"
        )
    };
    // Of a table without partitions nobody else ever makes a trigger.
    run(&mut client, &create("plain"));
    // A dump gives privileges last.
    run(&mut client, &format!("SET check_function_bodies = off; {}", create("m")));
    assert_eq!(told.lock().unwrap().len(), 0);
    run(&mut client, &format!("RESET check_function_bodies; {}", create("m")));
    let warning = told.lock().unwrap().pop().expect("a warning");
    assert_eq!(
        warning.message(),
        "the owner of partitioned table app.m may not execute public.amqp_change_data_capture()"
    );
    assert!(warning.detail().unwrap().contains("CREATE TABLE ... PARTITION OF"), "{warning:?}");
    let hint = warning.hint().unwrap().to_owned();
    assert_eq!(
        hint,
        format!("GRANT EXECUTE ON FUNCTION public.amqp_change_data_capture() TO {app};")
    );

    let as_owner = |statement: &str| format!("BEGIN; SET LOCAL ROLE {app}; {statement}; COMMIT");
    let partition = as_owner(
        "CREATE TABLE app.m2 PARTITION OF app.m FOR VALUES FROM ('2024-02-01') TO ('2024-03-01')",
    );
    let error = refusal(&mut client, &partition);
    // PostgreSQL does not say which: to name the function is up to the warning, and to the README.
    assert_eq!(error.message(), "permission denied for function ");
    run(&mut client, &format!("ROLLBACK; {hint}"));
    run(&mut client, &format!("{}; {partition}", create("m")));
    assert_eq!(told.lock().unwrap().len(), 0);
    run(&mut client, &as_owner("INSERT INTO app.m VALUES ('2024-02-03', 1)"));
    assert_eq!(fixture.consumer.wait_for_events(1)[0].json()["tablename"], "m2");
}

/// Runs a program of PostgreSQL against a database, and returns what it says.
#[track_caller]
fn program(name: &str, database: &str, arguments: &[&str], input: &[u8]) -> (Vec<u8>, String) {
    use std::io::Write;
    let port = testbed().postgres.port().to_string();
    let mut child = Postgres::program(name)
        .args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", database])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {errors}");
    (output.stdout, errors)
}

#[test]
fn a_dump_is_restored_without_a_word_and_checks_again_afterwards() {
    let (fixture, mut client) = blog("dump");
    account(&mut client, "exclude=pw");
    let role = format!("{}_owner", fixture.database);
    run(
        &mut client,
        &format!(
            "CREATE ROLE {role}; CREATE TABLE m (id int, pw text) PARTITION BY RANGE (id);
             CREATE TABLE m1 PARTITION OF m DEFAULT;
             GRANT EXECUTE ON FUNCTION amqp_change_data_capture() TO {role}; ALTER TABLE m OWNER TO {role}"
        ),
    );
    capture(&mut client, "cdc", "m", "exclude=pw");
    let (dump, _) = program("pg_dump", &fixture.database, &[], b"");
    // Only its own members are events' triggers.
    assert!(!String::from_utf8_lossy(&dump).contains("EVENT TRIGGER"));
    let copy = format!("{}_copy", fixture.database);
    run(&mut client, &format!("CREATE DATABASE {copy}"));
    let (_, errors) = program("psql", &copy, &["-qv", "ON_ERROR_STOP=1", "-f", "-"], &dump);
    assert_eq!(errors, "");
    let mut client = testbed().postgres.connect(&copy);
    let on =
        "SELECT count(*) FROM pg_event_trigger WHERE evtname LIKE 'amqp_cdc%' AND evtenabled = 'A'";
    assert_eq!(ask::<i64>(&mut client, on), 2);
    let error = refusal(&mut client, "ALTER TABLE m RENAME pw TO b");
    assert_names_it(&error, "rename", "pw", "public.m", "cdc");
}

#[test]
fn names_that_are_taken_are_told_by_create_extension() {
    let bed = testbed();
    let fixture = bed.scene("names");
    let mut client = fixture.client();
    run(&mut client, "DROP EXTENSION amqp_cdc; CREATE SCHEMA amqp CREATE TABLE mine (id int)");
    let error = refusal(&mut client, "CREATE EXTENSION amqp_cdc");
    assert_eq!(error.code().code(), "42P06");
    assert_eq!(
        error.message(),
        "schema \"amqp\" already exists, and amqp_cdc needs one of its own by that name"
    );
    assert_eq!(error.detail(), Some("It is owned by \"postgres\"."));
    assert!(error.hint().unwrap().contains("ALTER SCHEMA amqp RENAME TO"), "{error:?}");
    run(&mut client, "CREATE EXTENSION hstore SCHEMA amqp");
    let error = refusal(&mut client, "CREATE EXTENSION amqp_cdc");
    assert_eq!(error.detail(), Some("Extension \"hstore\" is in it."));
    assert!(error.hint().unwrap().contains("DROP EXTENSION hstore"), "{error:?}");
    run(&mut client, "DROP EXTENSION hstore; DROP SCHEMA amqp CASCADE");
    // An empty one may be left over from pg_amqp. But it cannot be dropped for the extension that is to be in it.
    run(&mut client, "CREATE SCHEMA amqp; SET search_path = amqp, public");
    for create in ["CREATE EXTENSION amqp_cdc", "CREATE EXTENSION amqp_cdc SCHEMA amqp"] {
        let error = refusal(&mut client, create);
        assert_eq!(error.code().code(), "42P06");
        assert_eq!(
            error.detail(),
            Some("It is the schema that the extension is to be created in.")
        );
        assert!(error.hint().unwrap().starts_with("CREATE EXTENSION amqp_cdc SCHEMA public;"));
    }
    run(&mut client, "RESET search_path");

    // The article that started this has one.
    run(
        &mut client,
        "CREATE TABLE t (id int); CREATE TABLE said (id int);
         CREATE FUNCTION amqp_change_data_capture() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN INSERT INTO said VALUES (NEW.id); RETURN NEW; END $$;
         CREATE TRIGGER t AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()",
    );
    let error = refusal(&mut client, "CREATE EXTENSION amqp_cdc");
    assert_eq!(error.code().code(), "42723");
    assert_eq!(
        error.message(),
        "function public.amqp_change_data_capture() already exists, and amqp_cdc brings one by that name"
    );
    assert!(error.detail().unwrap().contains("keep calling it"), "{error:?}");
    let hint = error.hint().unwrap();
    run(&mut client, hint.split(';').next().unwrap());
    run(&mut client, "CREATE EXTENSION amqp_cdc; INSERT INTO t VALUES (1)");
    assert_eq!(ask::<i64>(&mut client, "SELECT count(*) FROM said"), 1);
    // Another schema for ours would have done, too.
    run(
        &mut client,
        "DROP EXTENSION amqp_cdc; CREATE SCHEMA cdc;
         ALTER FUNCTION amqp_change_data_capture_old() RENAME TO amqp_change_data_capture;
         CREATE EXTENSION amqp_cdc SCHEMA cdc",
    );
    let left = "SELECT count(*) FROM pg_proc WHERE proname = 'amqp_cdc_check_names'";
    assert_eq!(ask::<i64>(&mut client, left), 0);
}

#[test]
fn without_preload_ddl_is_checked_all_the_same() {
    let (_fixture, mut client) = blog("source");
    // As after somebody has removed it from shared_preload_libraries: the functions load it.
    let postgres = Postgres::create(&[]);
    let mut other = postgres.connect("postgres");
    let body: Vec<(String, String)> = client
        .query("SELECT proname, prosrc FROM pg_proc WHERE prorettype = 'event_trigger'::regtype AND probin LIKE '%amqp_cdc'", &[])
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(body.len(), 2);
    for (name, symbol) in body {
        let event = name.trim_start_matches("on_");
        run(
            &mut other,
            &format!(
                "CREATE FUNCTION {name}() RETURNS event_trigger LANGUAGE c AS '$libdir/amqp_cdc', '{symbol}';
                 CREATE EVENT TRIGGER {name} ON {event} EXECUTE FUNCTION {name}()"
            ),
        );
    }
    run(
        &mut other,
        "CREATE FUNCTION amqp_change_data_capture() RETURNS trigger LANGUAGE c
           AS '$libdir/amqp_cdc', 'amqp_change_data_capture'; CREATE TABLE acc (id int, pw text)",
    );
    capture(&mut other, "cdc", "acc", "exclude=pw");
    let mut other = postgres.connect("postgres");
    let error = refusal(&mut other, "ALTER TABLE acc DROP pw");
    assert_names_it(&error, "drop", "pw", "public.acc", "cdc");
    run(&mut other, "DROP TABLE acc");
}
