//! `amqp.uninstall`: nothing retains WAL any more, on no server, and a later installation begins anew.

use pg_test::{DEADLINE, Fixture, Shutdown, Testbed, insert_lsn, send_signal, wait_until};
use postgres::Client;

use crate::helpers::{
    TRIGGER, ask, capture_blog, ids, make_blog, published_so_far, refusal, replace_worker, run,
    wait_until_replayed, wait_until_streaming, worker_pid,
};
use crate::takeover::wait_until_it_says;

const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots";
const REMOVED: &str = "amqp_cdc was removed from this server by amqp.uninstall()";

fn fixture(bed: &Testbed) -> (Fixture<'_>, Client) {
    let fixture = bed.scene("removal");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [1]);
    (fixture, client)
}

fn drop_triggers(client: &mut Client) {
    run(client, "DROP TRIGGER capture ON markers");
    run(client, "DROP TRIGGER article_change_data_capture_trig ON blog_articles");
}

/// Begins anew in the fixture's database.
fn install_again(client: &mut Client) {
    run(client, "DROP EXTENSION amqp_cdc; CREATE EXTENSION amqp_cdc");
    wait_until_streaming(client);
    capture_blog(client);
}

#[test]
fn it_is_refused_while_something_is_captured() {
    let bed = Testbed::private(&[]);
    let (fixture, mut client) = fixture(&bed);
    run(&mut client, "CREATE SCHEMA \"Odd\"; CREATE TABLE \"Odd\".\"Name\" (id int)");
    run(
        &mut client,
        "CREATE TRIGGER capture AFTER INSERT ON \"Odd\".\"Name\"
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()",
    );
    run(&mut client, "ALTER TABLE \"Odd\".\"Name\" DISABLE TRIGGER ALL");
    let error = refusal(&mut client, "SELECT amqp.uninstall()");
    assert_eq!(error.code().code(), "2BP01");
    let tables = "Captured: \"Odd\".\"Name\", public.blog_articles, public.markers.";
    assert_eq!(error.detail(), Some(tables));
    let error = refusal(&mut client, "SELECT amqp.uninstall(true)");
    assert_eq!(error.code().code(), "2BP01");
    run(&mut client, "CREATE ROLE nobody; GRANT USAGE ON SCHEMA amqp TO nobody; SET ROLE nobody");
    assert_eq!(refusal(&mut client, "SELECT amqp.uninstall()").code().code(), "42501");
    run(&mut client, "RESET ROLE; INSERT INTO blog_articles VALUES (2)");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [2]);
}

#[test]
fn what_is_not_confirmed_is_waited_for_or_discarded() {
    let bed = Testbed::private(&["max_prepared_transactions = 1"]);
    let (_fixture, mut client) = fixture(&bed);
    let prepared = "BEGIN; INSERT INTO blog_articles VALUES (2); PREPARE TRANSACTION 'open'";
    run(&mut client, prepared);
    run(&mut client, "DROP TRIGGER capture ON markers");
    send_signal(bed.rabbitmq.pid(), "STOP");
    run(&mut client, "COMMIT PREPARED 'open'");
    run(&mut client, "DROP TRIGGER article_change_data_capture_trig ON blog_articles");
    let error = refusal(&mut client, "SELECT amqp.uninstall()");
    assert_eq!(error.code().code(), "55006");
    run(&mut client, "SET statement_timeout = '500ms'");
    assert_eq!(refusal(&mut client, "SELECT amqp.uninstall()").code().code(), "57014");
    run(&mut client, "RESET statement_timeout");
    // Neither counts any more: it is not removed once it could be.
    send_signal(bed.rabbitmq.pid(), "CONT");
    wait_until_streaming(&mut client);
    wait_until("all is confirmed", DEADLINE, || {
        ask::<bool>(&mut client, "SELECT lag_seconds IS NULL OR lag_seconds = 0 FROM amqp.status")
            .then_some(())
    });
    assert_eq!(ask::<i64>(&mut client, SLOTS), 1);
    send_signal(bed.rabbitmq.pid(), "STOP");
    run(&mut client, TRIGGER);
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    run(&mut client, "DROP TRIGGER article_change_data_capture_trig ON blog_articles");
    run(&mut client, "SELECT amqp.uninstall(discard_unconfirmed => true)");
    assert_eq!(ask::<i64>(&mut client, SLOTS), 0);
    send_signal(bed.rabbitmq.pid(), "CONT");
}

#[test]
fn nothing_retains_wal_any_more_and_a_later_installation_begins_anew() {
    let bed = Testbed::private(&[]);
    let (fixture, mut client) = fixture(&bed);
    drop_triggers(&mut client);
    run(&mut client, "SELECT amqp.uninstall()");
    assert_eq!(ask::<i64>(&mut client, SLOTS), 0);
    wait_until_it_says(&bed.postgres, &fixture.database, &format!("stopped: {REMOVED}"));
    // Again, which changes nothing; and a worker that is started anew, after a crash of the server, too.
    run(&mut client, "SELECT amqp.uninstall()");
    let worker = worker_pid(&mut client);
    send_signal(worker, "TERM");
    wait_until("another worker runs", DEADLINE, || {
        let pid: Option<i32> = ask(&mut client, "SELECT worker_pid FROM amqp.status");
        pid.filter(|&pid| pid as u32 != worker).map(drop)
    });
    bed.postgres.restart(Shutdown::Immediate);
    let mut client = fixture.client();
    wait_until_it_says(&bed.postgres, &fixture.database, &format!("stopped: {REMOVED}"));
    assert_eq!(ask::<i64>(&mut client, SLOTS), 0);
    // Who captures something all the same is told at once.
    run(&mut client, TRIGGER);
    let error = refusal(&mut client, "INSERT INTO blog_articles VALUES (2)");
    assert_eq!(
        (error.code().code(), error.message()),
        ("55000", "amqp_cdc was removed from this server")
    );
    run(&mut client, "DROP TRIGGER article_change_data_capture_trig ON blog_articles");
    install_again(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [3]);
    let log = bed.postgres.log();
    assert!(!log.contains("events are lost"), "{log}");
}

/// What was discarded does not come back with it, though its WAL is still there.
#[test]
fn what_was_discarded_stays_so_in_a_later_installation() {
    let bed = Testbed::private(&[]);
    let (fixture, mut client) = fixture(&bed);
    bed.postgres.set("amqp.port", "1");
    wait_until_it_says(&bed.postgres, &fixture.database, "standing still");
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    drop_triggers(&mut client);
    run(&mut client, "SELECT amqp.uninstall(discard_unconfirmed => true)");
    bed.postgres.reset("amqp.port");
    install_again(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [3]);
}

/// A session that is terminated leaves no order behind.
#[test]
fn an_order_ends_with_its_session() {
    let bed = Testbed::private(&[]);
    let (fixture, mut client) = fixture(&bed);
    send_signal(bed.rabbitmq.pid(), "STOP");
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    drop_triggers(&mut client);
    let mut other = fixture.client();
    let waiting =
        std::thread::spawn(move || other.simple_query("SELECT amqp.uninstall()").is_err());
    // It naps once the order is given.
    const NAPPING: &str = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' \
         AND query LIKE 'SELECT amqp.uninstall%' AND wait_event = 'Extension'";
    let pid = wait_until("the order is given", DEADLINE, || {
        client.query_opt(NAPPING, &[]).unwrap().map(|row| row.get::<_, i32>(0))
    });
    assert!(ask::<bool>(&mut client, &format!("SELECT pg_terminate_backend({pid}, 60000)")));
    assert!(waiting.join().unwrap(), "it was terminated");
    send_signal(bed.rabbitmq.pid(), "CONT");
    capture_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)).last(), Some(&3));
    assert_eq!(ask::<i64>(&mut client, SLOTS), 1);
}

/// What cannot be noted is not done: the stream goes on.
#[test]
fn a_removal_that_cannot_be_noted_changes_nothing() {
    let bed = Testbed::private(&[]);
    let (fixture, mut client) = fixture(&bed);
    drop_triggers(&mut client);
    let file = bed.postgres.data_dir().join("amqp_cdc.started");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let error = refusal(&mut client, "SELECT amqp.uninstall()");
    assert_eq!(error.code().code(), "55006");
    std::fs::remove_dir(&file).unwrap();
    std::fs::write(&file, text).unwrap();
    wait_until_streaming(&mut client);
    capture_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    // What was confirmed may not be saved: it comes again.
    assert_eq!(ids(&published_so_far(&fixture, &mut client)).last(), Some(&2));
}

/// The worker is lost after it has noted that the extension is removed, and before it has done it.
#[test]
fn a_removal_that_was_broken_off_is_finished() {
    let bed = Testbed::private(&[]);
    let (fixture, mut client) = fixture(&bed);
    drop_triggers(&mut client);
    let file = bed.postgres.data_dir().join("amqp_cdc.started");
    let text = "amqp_cdc was removed from this cluster by amqp.uninstall(). CREATE EXTENSION begins anew.\n";
    std::fs::write(file, text).unwrap();
    assert_eq!(ask::<i64>(&mut client, SLOTS), 1);
    replace_worker(&mut client);
    wait_until_it_says(&bed.postgres, &fixture.database, &format!("stopped: {REMOVED}"));
    assert_eq!(ask::<i64>(&mut client, SLOTS), 0);
}

#[test]
fn standbys_hear_of_it() {
    let bed = Testbed::private(&[]);
    let (fixture, mut client) = fixture(&bed);
    let standby = bed.postgres.standby("follower", &[]);
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [2]);
    wait_until_it_says(&standby, &fixture.database, "can take over: everything");
    let mut reader = standby.connect(&fixture.database);
    let error = refusal(&mut reader, "SELECT amqp.uninstall()");
    assert_eq!(error.code().code(), "55000");
    assert_eq!(ask::<i64>(&mut reader, SLOTS), 1);
    drop_triggers(&mut client);
    run(&mut client, "SELECT amqp.uninstall()");
    wait_until_it_says(&standby, &fixture.database, "standby: amqp_cdc was removed upstream");
    assert_eq!(ask::<i64>(&mut reader, SLOTS), 0);
    standby.restart(Shutdown::Fast);
    wait_until_it_says(&standby, &fixture.database, "standby: amqp_cdc was removed upstream");
    let mut reader = standby.connect(&fixture.database);
    assert_eq!(ask::<i64>(&mut reader, SLOTS), 0);
    // They hear of a new beginning, too.
    install_again(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [3]);
    wait_until_it_says(&standby, &fixture.database, "can take over: everything");
    assert_eq!(ask::<i64>(&mut reader, SLOTS), 1);
    // And one that is promoted after the end of it publishes nothing.
    drop_triggers(&mut client);
    run(&mut client, "SELECT amqp.uninstall()");
    wait_until_replayed(&mut reader, insert_lsn(&mut client));
    wait_until_it_says(&standby, &fixture.database, "standby: amqp_cdc was removed upstream");
    drop((client, reader));
    bed.postgres.stop(Shutdown::Fast);
    standby.promote();
    wait_until_it_says(&standby, &fixture.database, &format!("stopped: {REMOVED}"));
    let mut client = standby.connect(&fixture.database);
    assert_eq!(ask::<i64>(&mut client, SLOTS), 0);
    install_again(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (4)");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [4]);
}

/// It did not listen, so that what it has noted is older than its WAL.
#[test]
fn a_standby_that_missed_the_new_beginning_publishes_once_it_is_promoted() {
    let bed = Testbed::private(&[]);
    let (fixture, mut client) = fixture(&bed);
    let standby = bed.postgres.standby("follower", &[]);
    wait_until_it_says(&standby, &fixture.database, "can take over: everything");
    drop_triggers(&mut client);
    run(&mut client, "SELECT amqp.uninstall()");
    wait_until_it_says(&standby, &fixture.database, "standby: amqp_cdc was removed upstream");
    standby.set("amqp.standby_slot", "off");
    wait_until_it_says(&standby, &fixture.database, "amqp.standby_slot is off");
    install_again(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [2]);
    let mut reader = standby.connect(&fixture.database);
    wait_until_replayed(&mut reader, insert_lsn(&mut client));
    drop(reader);
    // Its postmaster finds the removal noted, too.
    standby.restart(Shutdown::Fast);
    wait_until_it_says(&standby, &fixture.database, "amqp.standby_slot is off");
    drop(client);
    bed.postgres.stop(Shutdown::Fast);
    standby.promote();
    let mut client = standby.connect(&fixture.database);
    wait_until_streaming(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)).last(), Some(&3));
}
