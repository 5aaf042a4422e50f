//! A first start is one only where nothing was captured before; and where nobody would publish, nothing is
//! captured.

use std::fs;

use pg_test::{DEADLINE, Postgres, Shutdown, Testbed, send_signal, wait_until};
use postgres::Client;

use crate::helpers::{
    ask, ids, make_blog, make_c_function, published_so_far, run, wait_until_streaming, worker_pid,
};
use crate::other_versions;

const BEGINS: &str = "stream begins at";
const LOST: &str = "events are lost";

/// What a worker says in its first moments.
#[track_caller]
fn first_words(postgres: &Postgres) -> &'static str {
    wait_until("the worker has found where to begin", DEADLINE, || {
        let log = postgres.log();
        [LOST, BEGINS].into_iter().find(|words| log.contains(words))
    })
}

/// A server that has no room for the worker: PostgreSQL's own, which starts replication, takes it.
const NO_ROOM: &str = "max_worker_processes = 1";

#[test]
fn where_no_worker_is_registered_nothing_is_captured_and_nothing_gets_lost() {
    let bed = Testbed::private(&[NO_ROOM]);
    let fixture = bed.scene("unregistered");
    let mut client = fixture.client();
    make_blog(&mut client);
    // Also after a crash, when the shared memory is made anew by the same postmaster.
    let backend: i32 = ask(&mut client, "SELECT pg_backend_pid()");
    for crash in [false, true] {
        if crash {
            send_signal(backend as u32, "KILL");
            wait_until("the shared memory is made anew", DEADLINE, || {
                bed.postgres
                    .log()
                    .contains("all server processes terminated; reinitializing")
                    .then_some(())
            });
            client = wait_until("the server is there again", DEADLINE, || {
                let database = bed.postgres.connection_string(&fixture.database);
                Client::connect(&database, postgres::NoTls).ok()
            });
        }
        let error = client.batch_execute("INSERT INTO blog_articles VALUES (1)").unwrap_err();
        let error = error.as_db_error().expect("an error of the server");
        assert_eq!(
            (error.code().code(), error.message()),
            ("55000", "change data capture has no background worker")
        );
        assert_eq!(error.hint(), Some("Raise max_worker_processes and restart the server."));
        let query = "SELECT state || ': ' || reason FROM amqp.status";
        let reason: String = ask(&mut client, query);
        assert!(reason.starts_with("stopped: no background worker"), "{reason}");
    }
    run(&mut client, "SET amqp.capture = off; INSERT INTO blog_articles VALUES (2)");
    assert!(bed.postgres.log().contains("amqp_cdc worker could not be registered"));
    // Nothing was captured: what comes now is a first start like others.
    bed.postgres.set("max_worker_processes", "8");
    bed.postgres.restart(Shutdown::Fast);
    let mut client = fixture.client();
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [3]);
    assert_eq!(first_words(&bed.postgres), BEGINS);
}

/// As soon as there is one to be expected: it may not have begun when the first client writes.
#[test]
fn where_a_worker_is_registered_writes_are_taken_before_it_runs() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("registered");
    let mut client = fixture.client();
    make_blog(&mut client);
    wait_until_streaming(&mut client);
    let worker = worker_pid(&mut client);
    send_signal(worker, "TERM");
    wait_until("the worker is gone", DEADLINE, || {
        ask::<bool>(&mut client, "SELECT worker_pid IS NULL FROM amqp.status").then_some(())
    });
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [1]);
}

/// Writes far more WAL than is kept, and has checkpoints remove it.
fn outgrow(client: &mut Client) {
    let before: String = ask(client, "SELECT pg_walfile_name(pg_current_wal_lsn())");
    wait_until("the WAL is gone", DEADLINE, || {
        run(client, "SELECT pg_switch_wal(); CHECKPOINT");
        let oldest = "SELECT min(name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'";
        (ask::<String>(client, oldest) > before).then_some(())
    });
}

/// A server in which the extension is to be preloaded only later, with small segments of WAL.
fn before_the_first_start() -> (Postgres, Client) {
    let conf = ["max_wal_size = 2MB", "min_wal_size = 2MB", "amqp.port = 1"];
    let postgres = Postgres::create_with(&["--wal-segsize=1"], &conf);
    let client = postgres.connect("postgres");
    (postgres, client)
}

/// The trigger function as version 0.1.0 installs it, which wrote no file where it had no worker.
const FUNCTION: &str = "CREATE FUNCTION amqp_change_data_capture() RETURNS trigger
    LANGUAGE c AS 'amqp_cdc', 'amqp_change_data_capture'";

fn preload(postgres: &Postgres) {
    postgres.set("shared_preload_libraries", "amqp_cdc");
    postgres.restart(Shutdown::Fast);
}

#[test]
fn what_an_older_version_captured_without_a_worker_is_announced_as_lost() {
    let (postgres, mut client) = before_the_first_start();
    run(&mut client, FUNCTION);
    outgrow(&mut client);
    preload(&postgres);
    assert_eq!(first_words(&postgres), LOST);
}

/// Wherever the database lies, and however often its catalog was rewritten.
#[test]
fn it_is_found_in_every_database() {
    let (postgres, mut client) = before_the_first_start();
    let place = postgres.folder().join("place");
    fs::create_dir(&place).unwrap();
    let owner = fs::metadata(postgres.data_dir()).unwrap();
    std::os::unix::fs::chown(
        &place,
        Some(std::os::unix::fs::MetadataExt::uid(&owner)),
        Some(std::os::unix::fs::MetadataExt::gid(&owner)),
    )
    .unwrap();
    run(&mut client, &format!("CREATE TABLESPACE place LOCATION '{}'", place.display()));
    run(&mut client, "CREATE DATABASE there TABLESPACE place");
    let mut there = postgres.connect("there");
    run(&mut there, FUNCTION);
    run(&mut there, "VACUUM FULL pg_proc");
    outgrow(&mut client);
    preload(&postgres);
    assert_eq!(first_words(&postgres), LOST);
}

/// The article that started this has one.
#[test]
fn a_function_of_the_users_own_with_that_name_is_no_reason_for_a_gap() {
    let (postgres, mut client) = before_the_first_start();
    run(
        &mut client,
        "CREATE FUNCTION amqp_change_data_capture() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN RETURN amqp_change_data_capture(); END'",
    );
    outgrow(&mut client);
    preload(&postgres);
    assert_eq!(first_words(&postgres), BEGINS);
    // In one line, what becomes of that which no queue wants.
    let log = postgres.log();
    let line = log.lines().find(|line| line.contains(BEGINS)).unwrap_or_default();
    assert!(
        line.contains("LOG:") && line.contains("drops") && line.contains("amqp.unroutable"),
        "{line}"
    );
}

/// Nothing but the WAL tells of them, and there it is not known what came before.
#[test]
fn events_that_nobody_noted_are_published_after_a_gap() {
    let (postgres, mut client) = before_the_first_start();
    let code = include_str!("other_versions.c");
    make_c_function(&mut client, &postgres, "write_event(bytea)", code);
    run(&mut client, "SELECT write_event('\\x0100010000000000')");
    preload(&postgres);
    assert_eq!(first_words(&postgres), LOST);
}

/// What was captured before a worker could have its slot, in an earlier life of the server even.
#[test]
fn as_long_as_all_wal_since_the_installation_is_there_nothing_is_lost() {
    let bed = Testbed::private(&["max_replication_slots = 0"]);
    let (fixture, mut client) = other_versions::fixture(&bed);
    let mut taken = 0;
    wait_until("the trigger refuses", DEADLINE, || {
        let insert = format!("INSERT INTO blog_articles VALUES ({})", taken + 1);
        let is_refused = client.batch_execute(&insert).is_err();
        taken += usize::from(!is_refused);
        is_refused.then_some(())
    });
    run(&mut client, &other_versions::write(&other_versions::event_of_0_1_0(&fixture, 0, 41)));
    bed.postgres.set("max_replication_slots", "4");
    bed.postgres.restart(Shutdown::Immediate);
    let mut client = fixture.client();
    assert_eq!(first_words(&bed.postgres), BEGINS);
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(events.len(), taken + 1);
    assert_eq!(events[taken].text(), "41");
}

#[test]
fn once_the_wal_since_the_installation_is_gone_events_may_be() {
    let bed = Testbed::private_with(
        &["--wal-segsize=1"],
        &["max_wal_size = 2MB", "min_wal_size = 2MB", "max_replication_slots = 0"],
    );
    let fixture = bed.scene("gone");
    let mut client = fixture.client();
    outgrow(&mut client);
    bed.postgres.set("max_replication_slots", "4");
    bed.postgres.restart(Shutdown::Fast);
    assert_eq!(first_words(&bed.postgres), LOST);
    drop(fixture);
}

/// Day one must not be lost in silence, whatever is to become of such messages.
#[test]
fn the_first_message_that_no_queue_wants_is_warned_of() {
    for (unroutable, words) in
        [("drop", "because no queue is bound"), ("hold", "no queue is bound for it")]
    {
        let bed = Testbed::private(&[&format!("amqp.unroutable = '{unroutable}'")]);
        let fixture = bed.scene("day_one");
        let mut client = fixture.client();
        make_blog(&mut client);
        fixture.broker().unbind(fixture.queue().name(), &fixture.exchange, "#");
        run(&mut client, "INSERT INTO blog_articles VALUES (1)");
        let log = wait_until("it was returned", DEADLINE, || {
            let log = bed.postgres.log();
            log.contains(words).then_some(log)
        });
        let line = log.lines().find(|line| line.contains(words)).unwrap_or_default();
        assert!(line.contains("WARNING:"), "{unroutable}: {line}");
    }
}
