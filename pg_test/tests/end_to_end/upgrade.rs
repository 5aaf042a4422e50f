//! From a version to the next: the library with a restart, the SQL by ALTER EXTENSION, whenever that comes.

use pg_test::{Shutdown, Testbed, installation};
use postgres::Client;

use crate::helpers::{ask, ids, make_blog, published_so_far, refusal, run, wait_until_streaming};

/// What 0.1.0 installed (`cargo pgrx schema` of its last commit).
const SQL_OF_0_1_0: &str = include_str!("amqp_cdc--0.1.0.sql");

/// Servers that can install 0.1.0's SQL, too.
fn testbed() -> Testbed {
    let bed = Testbed::private(&[]);
    bed.postgres.stop(Shutdown::Fast);
    let folder = bed.postgres.folder().join("installation");
    let programs =
        installation::with_extension_files(&folder, &[("amqp_cdc--0.1.0.sql", SQL_OF_0_1_0)]);
    bed.postgres.start_from(&programs);
    bed
}

/// All that the catalogs say of the extension's members: definitions, privileges, comments, dependencies.
fn catalog(client: &mut Client) -> Vec<String> {
    const OF_MEMBERS: &str = r#"
        WITH members AS (
            SELECT classid, objid FROM pg_depend JOIN pg_extension e ON refobjid = e.oid
             WHERE refclassid = 'pg_extension'::regclass AND extname = 'amqp_cdc' AND deptype = 'e'),
        named AS (SELECT *, pg_describe_object(classid, objid, 0) AS name FROM members),
        privileges AS (
            SELECT name, acl, kind FROM named JOIN (
                SELECT 'pg_proc'::regclass::oid AS classid, oid AS objid, proacl AS acl, 'is' AS kind FROM pg_proc
                UNION ALL SELECT 'pg_class'::regclass::oid, oid, relacl, 'is' FROM pg_class
                UNION ALL SELECT 'pg_namespace'::regclass::oid, oid, nspacl, 'is' FROM pg_namespace
                UNION ALL SELECT classoid, objoid, initprivs, 'was' FROM pg_init_privs) acls
            USING (classid, objid))
        SELECT 'version ' || extversion || coalesce(obj_description(oid, 'pg_extension'), '')
          FROM pg_extension WHERE extname = 'amqp_cdc'
        UNION ALL SELECT 'member ' || name || ': ' || coalesce(obj_description(objid, classid::regclass::name), '-')
          FROM named
        UNION ALL SELECT pg_get_functiondef(objid) FROM named WHERE classid = 'pg_proc'::regclass
        UNION ALL SELECT name || ': ' || pg_get_viewdef(objid) FROM named WHERE classid = 'pg_class'::regclass
        UNION ALL SELECT name || ' has ' || attnum || ' ' || attname || ' ' || format_type(atttypid, atttypmod)
          FROM named JOIN pg_attribute ON attrelid = objid WHERE classid = 'pg_class'::regclass
        UNION ALL SELECT concat_ws(' ', name, evtevent, evtfoid::regprocedure, evtenabled, evttags, evtowner::regrole)
          FROM named JOIN pg_event_trigger t ON t.oid = objid WHERE classid = 'pg_event_trigger'::regclass
        UNION ALL SELECT concat_ws(' ', name, kind, grantee::regrole, privilege_type, is_grantable)
          FROM privileges, aclexplode(acl)
        UNION ALL SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) || ' needs '
                 || pg_describe_object(refclassid, refobjid, refobjsubid) || ' ' || deptype::text
          FROM pg_depend d, members m
         WHERE (d.classid, d.objid) = (m.classid, m.objid) OR (refclassid, refobjid) = (m.classid, m.objid)
        ORDER BY 1"#;
    client.query(OF_MEMBERS, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

#[test]
fn an_upgrade_makes_what_a_new_installation_makes_and_keeps_what_users_built_on_it() {
    let bed = testbed();
    let version = env!("CARGO_PKG_VERSION");
    let mut new = bed.make_database("new");
    let expected = catalog(&mut new);
    assert!(
        expected.iter().any(|line| line
            == &format!(
                "version {version}publishes every committed row change to RabbitMQ (AMQP 0-9-1)"
            )),
        "{expected:#?}"
    );
    assert!(expected.iter().any(|line| line.contains("amqp_cdc_ddl_command_end ddl_command_end")));

    let mut old = bed.postgres.connect("postgres");
    run(
        &mut old,
        "CREATE ROLE watcher; CREATE EXTENSION amqp_cdc VERSION '0.1.0';
         GRANT USAGE ON SCHEMA amqp TO watcher; GRANT SELECT ON amqp.status TO watcher;
         CREATE VIEW mine AS SELECT state, gap_at FROM amqp.status;
         CREATE VIEW all_of_it AS SELECT * FROM amqp.status",
    );
    assert_ne!(catalog(&mut old), expected);
    run(&mut old, "ALTER EXTENSION amqp_cdc UPDATE");
    run(&mut old, "SELECT * FROM mine; SELECT * FROM all_of_it");
    let may = "SELECT has_table_privilege('watcher', 'amqp.status', 'SELECT')";
    assert!(ask::<bool>(&mut old, may));
    run(
        &mut old,
        "DROP VIEW mine, all_of_it; REVOKE USAGE ON SCHEMA amqp FROM watcher;
         REVOKE SELECT ON amqp.status FROM watcher",
    );
    let upgraded = catalog(&mut old);
    let missing: Vec<_> = expected.iter().filter(|line| !upgraded.contains(line)).collect();
    let more: Vec<_> = upgraded.iter().filter(|line| !expected.contains(line)).collect();
    assert_eq!((missing, more), (vec![], vec![]));
}

#[test]
fn the_sql_of_the_version_before_works_with_this_library_and_the_log_says_what_to_do() {
    let bed = testbed();
    let fixture = bed.scene("old_sql");
    let mut client = fixture.client();
    run(&mut client, "DROP EXTENSION amqp_cdc; CREATE EXTENSION amqp_cdc VERSION '0.1.0'");
    let words = format!(
        "database \"{}\" has the SQL of amqp_cdc 0.1.0, and the library is {}",
        fixture.database,
        env!("CARGO_PKG_VERSION")
    );
    let said = || bed.postgres.log().matches(&words).count();
    make_blog(&mut client);
    wait_until_streaming(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1); UPDATE blog_articles SET id = 2");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [1, 2]);
    // Once in the life of a session.
    assert_eq!(said(), 1);
    let hint = "HINT:  Run ALTER EXTENSION amqp_cdc UPDATE in this database.";
    assert!(bed.postgres.log().contains(hint));

    run(&mut client, "ALTER EXTENSION amqp_cdc UPDATE");
    let mut client = fixture.client();
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [3]);
    assert_eq!(said(), 1);
    // The triggers from before are among those that DDL is checked for.
    run(
        &mut client,
        "CREATE OR REPLACE TRIGGER article_change_data_capture_trig AFTER INSERT ON blog_articles
         FOR EACH ROW EXECUTE PROCEDURE AMQP_CHANGE_DATA_CAPTURE('article', 'cdc', 'exclude=body')",
    );
    let error = refusal(&mut client, "ALTER TABLE blog_articles DROP COLUMN body");
    assert_eq!(error.code().code(), "2BP01");
}
