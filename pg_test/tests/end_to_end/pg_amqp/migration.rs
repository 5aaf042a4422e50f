//! From pg_amqp, installed and used, to this extension in one transaction, as docs/coming-from-pg_amqp.md has it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pg_test::Fixture;
use postgres::Client;

use super::trigger::{CHANGES, EXPECTED, assert_sent, make_articles};
use super::{is_installed, testbed_with_pg_amqp, use_pg_amqp};
use crate::helpers::{ask, refusal, run};

const PAGE: &str = include_str!("../../../../docs/coming-from-pg_amqp.md");

/// The first block of SQL on the page that has these words.
#[track_caller]
fn sql_with(words: &str) -> &'static str {
    let blocks = PAGE.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.into_iter().find(|block| block.contains(words)).unwrap_or_else(|| panic!("{words}"))
}

/// The migration, as the page has it, but for the name of the role.
fn migration(role: &str) -> String {
    sql_with("CREATE EXTENSION amqp_cdc").replace(" app;", &format!(" {role};"))
}

/// A database in which pg_amqp is installed, used and about to be left, and a role that may use it.
#[track_caller]
fn database_with_pg_amqp(client: &mut Client, fixture: &Fixture<'_>) -> String {
    let role = format!("{}_app", fixture.database);
    use_pg_amqp(client, fixture);
    make_articles(client, fixture);
    run(
        client,
        &format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA amqp TO {role}; GRANT SELECT ON amqp.broker TO {role};
             GRANT ALL ON articles TO {role}; {CHANGES}"
        ),
    );
    if is_installed() {
        assert_sent(&fixture.consumer.wait_for_events(EXPECTED.len()));
    }
    role
}

#[test]
fn one_transaction_leads_from_it_and_triggers_and_functions_go_on_unchanged() {
    let bed = testbed_with_pg_amqp(&[]);
    let fixture = bed.scene("migration");
    let mut client = fixture.client();
    let role = database_with_pg_amqp(&mut client, &fixture);
    let exchange = &fixture.exchange;
    run(
        &mut client,
        &format!(
            "CREATE FUNCTION place(message text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
               RETURN amqp.publish(1, '{exchange}', 'order.placed', message); END $$;
             SELECT amqp.exchange_declare(1, '{exchange}', 'topic', false, true)"
        ),
    );
    // Sessions that have called pg_amqp, and planned that, stay connected.
    let mut other = fixture.client();
    run(&mut other, &format!("SET ROLE {role}"));
    let place = "SELECT place('here')";
    assert!(ask::<bool>(&mut other, place));
    if is_installed() {
        assert_eq!(fixture.consumer.wait_for_events(1)[0].text(), "here");
    }

    // One has sent something by it, and has not committed yet.
    let mut open = fixture.client();
    assert!(ask::<bool>(
        &mut open,
        "SELECT amqp.exchange_declare(1, 'amq.topic', 'topic', false, true)"
    ));
    run(&mut open, "BEGIN; SELECT place('by pg_amqp')");

    run(&mut client, &migration(&role));
    // Until its transaction ends, it may not have heard that there is another function by that name.
    run(&mut open, "SELECT place('by either'); COMMIT; SELECT place('from here')");
    let sent = fixture.consumer.wait_for("the last", |message| message.text() == "from here");
    if is_installed() {
        let sent: BTreeSet<&str> = sent.iter().map(|message| message.text()).collect();
        assert_eq!(sent, BTreeSet::from(["by either", "by pg_amqp"]));
    }
    run(&mut other, CHANGES);
    assert_sent(&fixture.consumer.wait_for_events(EXPECTED.len()));
    assert!(ask::<bool>(&mut other, place));
    let message = &fixture.consumer.wait_for_events(1)[0];
    assert_eq!((message.routing_key.as_str(), message.text()), ("order.placed", "here"));
    run(&mut client, CHANGES);
    assert_sent(&fixture.consumer.wait_for_events(EXPECTED.len()));

    // And back, for who wants to.
    run(
        &mut client,
        "BEGIN; DROP EXTENSION amqp_cdc; CREATE EXTENSION amqp; COMMIT;
         SELECT pg_typeof(amqp.publish(NULL::integer, 'ex', 'rk', 'm'))",
    );
    run(&mut client, &format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}"));
}

/// Its transaction is one: what fails in it leaves pg_amqp where it was.
#[test]
fn a_migration_that_is_rolled_back_leaves_pg_amqp_as_it_was() {
    let bed = testbed_with_pg_amqp(&[]);
    let fixture = bed.scene("migration_back");
    let mut client = fixture.client();
    let role = database_with_pg_amqp(&mut client, &fixture);
    run(&mut client, &migration(&role).replace("COMMIT", "ROLLBACK"));
    let broker: i32 = ask(&mut client, "SELECT port FROM amqp.broker");
    assert_eq!(broker, i32::from(bed.rabbitmq.port()));
    run(&mut client, &format!("SET ROLE {role}; {CHANGES}"));
    if is_installed() {
        assert_sent(&fixture.consumer.wait_for_events(EXPECTED.len()));
    }
    run(&mut client, &format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_function_with_the_name_of_ours_is_renamed_first_and_the_error_says_so() {
    let bed = testbed_with_pg_amqp(&[]);
    let fixture = bed.scene("migration_name");
    let mut client = fixture.client();
    let role = database_with_pg_amqp(&mut client, &fixture);
    run(&mut client, "ALTER FUNCTION send_row_change() RENAME TO amqp_change_data_capture");
    let error = refusal(&mut client, "CREATE EXTENSION amqp_cdc");
    assert_eq!(error.detail(), Some("Extension \"amqp\" is in it."));
    assert!(error.hint().unwrap().starts_with("DROP EXTENSION amqp first"), "{error:?}");
    let error = refusal(&mut client, &migration(&role));
    assert_eq!(error.code().code(), "42723");
    assert!(
        error
            .hint()
            .unwrap()
            .starts_with("ALTER FUNCTION public.amqp_change_data_capture() RENAME TO")
    );
    run(&mut client, "ROLLBACK");
    run(&mut client, sql_with("ALTER FUNCTION"));
    run(&mut client, &migration(&role));
    run(&mut client, CHANGES);
    assert_sent(&fixture.consumer.wait_for_events(EXPECTED.len()));
    run(&mut client, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

/// In a schema of their own making people keep things of their own.
#[test]
fn what_is_left_of_the_schema_is_only_dropped_if_nothing_is_in_it() {
    let bed = testbed_with_pg_amqp(&[]);
    let fixture = bed.scene("migration_schema");
    let mut client = fixture.client();
    let role = database_with_pg_amqp(&mut client, &fixture);
    run(&mut client, "CREATE TABLE amqp.mine (id int)");
    let error = refusal(&mut client, &migration(&role));
    assert_eq!(error.code().code(), "42P06");
    assert!(error.hint().unwrap().contains("ALTER SCHEMA amqp RENAME TO"), "{error:?}");
    run(&mut client, "ROLLBACK; DROP TABLE amqp.mine");
    // Somebody else's, who is no superuser, is left alone.
    run(&mut client, "DROP EXTENSION amqp");
    run(&mut client, &format!("ALTER SCHEMA amqp OWNER TO {role}"));
    let error = refusal(&mut client, "CREATE EXTENSION amqp_cdc");
    let expected = format!("It is owned by \"{role}\".");
    assert_eq!(error.detail(), Some(expected.as_str()));
    // What was granted on it is granted no more.
    run(
        &mut client,
        &format!(
            "ALTER SCHEMA amqp OWNER TO postgres; GRANT ALL ON SCHEMA amqp TO {role}, PUBLIC;
             CREATE EXTENSION amqp_cdc"
        ),
    );
    let may = format!("SELECT has_schema_privilege('{role}', 'amqp', 'USAGE')");
    assert!(!ask::<bool>(&mut client, &may));
    let left =
        "SELECT count(*) FROM pg_depend WHERE classid = 'pg_namespace'::regclass AND deptype = 'e'
        AND objid = 'amqp'::regnamespace";
    assert_eq!(ask::<i64>(&mut client, left), 1);
    run(&mut client, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

/// What uses pg_amqp's objects by more than their names is told by DROP EXTENSION.
#[test]
fn the_page_finds_what_needs_to_be_done_first() {
    let bed = testbed_with_pg_amqp(&[]);
    let fixture = bed.scene("migration_first");
    let mut client = fixture.client();
    let role = database_with_pg_amqp(&mut client, &fixture);
    run(
        &mut client,
        "INSERT INTO amqp.broker (broker_id, host, port, vhost, username) SELECT broker_id, '10.0.0.2', port, vhost, username
           FROM amqp.broker;
         CREATE TABLE t (id int, sent boolean DEFAULT amqp.publish(1, 'ex', 'rk', 'm'));
         CREATE VIEW v AS SELECT host FROM amqp.broker",
    );
    let rows = client.query(sql_with("amqp.host"), &[]).unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let port = bed.rabbitmq.port();
    let expected = format!("amqp.host = '127.0.0.1:{port},10.0.0.2:{port}'");
    assert_eq!(lines, [expected.as_str(), "amqp.vhost = '/'", "amqp.username = 'guest'"]);
    let error = refusal(&mut client, sql_with("ROLLBACK"));
    let dependents: BTreeSet<&str> = error.detail().unwrap().lines().collect();
    assert_eq!(dependents.len(), 2, "{dependents:?}");
    assert!(
        dependents.iter().any(|line| line.starts_with("default value for column sent of table t "))
    );
    assert!(dependents.iter().any(|line| line.starts_with("view v depends on table amqp.broker")));
    run(&mut client, "ROLLBACK");
    let rows = client.query(sql_with("aclexplode"), &[]).unwrap();
    let grantees: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(grantees.contains(&role), "{grantees:?}");
    run(&mut client, "DROP VIEW v; DROP TABLE t");
    run(&mut client, &migration(&role));
    run(&mut client, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

/// Writers that go on while it is made fail at most once each, and nothing of theirs is lost or sent twice.
#[test]
fn writers_go_on_meanwhile() {
    const WRITERS: usize = 3;
    let bed = testbed_with_pg_amqp(&[]);
    let fixture = bed.scene("migration_writers");
    let mut client = fixture.client();
    let role = database_with_pg_amqp(&mut client, &fixture);
    run(
        &mut client,
        &format!(
            "DROP TABLE articles; CREATE TABLE written (writer int, number int);
             CREATE FUNCTION send() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               PERFORM amqp.publish(1, '{}', 'rk', NEW.writer || ':' || NEW.number); RETURN NULL; END $$;
             CREATE TRIGGER send AFTER INSERT ON written FOR EACH ROW EXECUTE FUNCTION send()",
            fixture.exchange
        ),
    );
    let is_done = AtomicBool::new(false);
    let failures = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (fixture, is_done) = (&fixture, &is_done);
                scope.spawn(move || {
                    let mut session = fixture.client();
                    let (mut number, mut failures) = (0, 0);
                    while !is_done.load(Ordering::Relaxed) {
                        let write = format!("INSERT INTO written VALUES ({writer}, {number})");
                        failures += usize::from(session.batch_execute(&write).is_err());
                        number += 1;
                    }
                    failures
                })
            })
            .collect();
        let wait_for = |client: &mut Client, more: i64| {
            let before: i64 = ask(client, "SELECT count(*) FROM written");
            pg_test::wait_until("writers have written", pg_test::DEADLINE, || {
                (ask::<i64>(client, "SELECT count(*) FROM written") > before + more).then_some(())
            });
        };
        wait_for(&mut client, 100);
        run(&mut client, &migration(&role));
        wait_for(&mut client, 100);
        is_done.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    println!("writes that failed: {failures:?}");
    assert!(failures.iter().all(|&failures| failures <= 1), "{failures:?}");
    run(&mut client, &format!("SELECT amqp.publish(1, '{}', 'last', 'last')", fixture.exchange));
    let sent = fixture.consumer.wait_for_marker("last");
    let mut bodies: Vec<_> = sent.iter().map(|message| message.text().to_owned()).collect();
    bodies.sort();
    let query = "SELECT writer || ':' || number FROM written";
    let mut written: Vec<String> =
        client.query(query, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    written.sort();
    if is_installed() {
        assert_eq!(bodies, written);
    } else {
        // What stands in for pg_amqp has sent nothing.
        let mut once = bodies.clone();
        once.dedup();
        assert_eq!(once, bodies);
        assert!(bodies.iter().all(|body| written.contains(body)));
    }
    run(&mut client, &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
