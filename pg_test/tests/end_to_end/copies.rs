//! Copies of a server: which of them publishes, what it says before it does, and what keeps it from it.

use std::fs;

use pg_test::{DEADLINE, Fixture, Postgres, Shutdown, Testbed, testbed, wait_until};
use postgres::Client;

use crate::helpers::{
    ask, ids, make_blog, published_so_far, run, wait_for_reason, wait_until_saved,
    wait_until_streaming,
};

const OFF: &str = "amqp.publish_after_restore = off";
const RESTORED: &str = "this server was restored from";

/// A server that has published row 1.
fn fixture<'bed>(bed: &'bed Testbed, name: &str) -> (Fixture<'bed>, Client) {
    let fixture = bed.scene(name);
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    (fixture, client)
}

/// How often the log says it.
fn count(server: &Postgres, words: &str) -> usize {
    server.log().matches(words).count()
}

fn insert(server: &Postgres, fixture: &Fixture<'_>, id: i64) {
    let mut client = server.connect(&fixture.database);
    run(&mut client, &format!("INSERT INTO blog_articles VALUES ({id})"));
}

/// The server publishes, having said nothing of a backup.
#[track_caller]
fn assert_goes_on(server: &Postgres, fixture: &Fixture<'_>, id: i64) {
    insert(server, fixture, id);
    let events = published_so_far(fixture, &mut server.connect(&fixture.database));
    assert!(ids(&events).contains(&id), "{events:?}");
    assert_eq!(count(server, RESTORED), 0, "{}", server.log());
}

#[test]
fn a_restored_server_says_once_where_it_is_going_to_publish() {
    let bed = Testbed::private(&[]);
    let (fixture, _) = fixture(&bed, "restored");
    let copy = bed.postgres.backup(&[]);
    copy.start();
    insert(&copy, &fixture, 2);
    let mut client = copy.connect(&fixture.database);
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [2]);
    let log = copy.log();
    let line = log.lines().find(|line| line.contains(RESTORED)).expect("it says so");
    let place = format!(
        "backup \"pg_basebackup base backup\" of 20{}",
        line.split(" of 20").nth(1).unwrap_or_default()
    );
    assert!(line.contains(&place), "{line}");
    let broker = format!(
        "it is going to publish to broker 127.0.0.1:{}, virtual host \"/\", as user \"guest\"",
        bed.rabbitmq.port()
    );
    assert!(line.contains(&broker), "{line}");
    let folder = copy.data_dir();
    let server = format!("Server: port {}, data directory \"{}\"", copy.port(), folder.display());
    assert!(log.contains(&server), "{log}");
    assert!(log.find(RESTORED) < log.find("connected to broker"), "{log}");
    copy.restart(Shutdown::Fast);
    wait_until_streaming(&mut copy.connect(&fixture.database));
    assert_eq!(count(&copy, RESTORED), 1);
    // The original has said nothing of the kind, and a backup of the copy is one again.
    assert_eq!(count(&bed.postgres, RESTORED), 0);
    let second = copy.backup(&[]);
    second.start();
    wait_until_streaming(&mut second.connect(&fixture.database));
    assert_eq!(count(&second, RESTORED), 1);
}

#[test]
fn a_restored_server_publishes_nothing_until_it_is_let() {
    let bed = Testbed::private(&[OFF]);
    let (fixture, mut original) = fixture(&bed, "silent");
    let copy = bed.postgres.backup(&[]);
    for start in 1..=2 {
        copy.start();
        let mut client = copy.connect(&fixture.database);
        let reason = wait_for_reason(&mut client, "amqp.publish_after_restore is off");
        assert!(reason.contains("to broker 127.0.0.1"), "{reason}");
        insert(&copy, &fixture, 10 + start);
        copy.stop(Shutdown::Fast);
    }
    run(&mut original, "INSERT INTO blog_articles VALUES (2)");
    assert_eq!(ids(&published_so_far(&fixture, &mut original)), [2]);
    bed.postgres.restart(Shutdown::Fast);
    assert_goes_on(&bed.postgres, &fixture, 3);
    copy.start();
    copy.set("amqp.publish_after_restore", "on");
    let mut client = copy.connect(&fixture.database);
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [11, 12]);
    assert_eq!(count(&copy, "it is going to publish to broker"), 1);
    // It may now, whatever the setting says later.
    copy.reset("amqp.publish_after_restore");
    copy.restart(Shutdown::Fast);
    insert(&copy, &fixture, 13);
    assert_eq!(ids(&published_so_far(&fixture, &mut copy.connect(&fixture.database))), [13]);
}

#[test]
fn a_server_that_recovers_from_an_archive_publishes_nothing_until_it_is_let() {
    let bed = Testbed::private(&[OFF, "restore_command = 'false'"]);
    let (fixture, client) = fixture(&bed, "archive");
    drop(client);
    bed.postgres.stop(Shutdown::Immediate);
    bed.postgres.start_from_archive();
    for start in 1..=2 {
        let mut client = fixture.client();
        let reason = wait_for_reason(&mut client, "amqp.publish_after_restore is off");
        assert!(reason.contains("this server was restored from an archive"), "{reason}");
        insert(&bed.postgres, &fixture, 10 + start);
        drop(client);
        bed.postgres.restart(Shutdown::Fast);
    }
    bed.postgres.set("amqp.publish_after_restore", "on");
    let events = published_so_far(&fixture, &mut fixture.client());
    assert_eq!(ids(&events), [11, 12]);
}

#[test]
fn a_standby_is_no_restored_server() {
    let bed = Testbed::private(&[OFF]);
    let (fixture, mut client) = fixture(&bed, "standby");
    let standby = bed.postgres.standby("follower", &[]);
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    drop(client);
    wait_until("the standby has noted that it streams", DEADLINE, || {
        let mark = fs::read_to_string(standby.data_dir().join("amqp_cdc.restored"));
        mark.is_ok_and(|mark| mark.contains("LABEL: pg_basebackup")).then_some(())
    });
    let mut client = standby.connect(&fixture.database);
    wait_for_reason(&mut client, "can take over: everything");
    drop(client);
    bed.postgres.stop(Shutdown::Immediate);
    // Restarted where there is nobody any more to stream from.
    standby.restart(Shutdown::Immediate);
    standby.promote();
    assert_goes_on(&standby, &fixture, 3);
    standby.restart(Shutdown::Fast);
    assert_goes_on(&standby, &fixture, 4);
}

/// A single one of these servers has the queue.
#[test]
fn of_a_server_and_its_copy_one_publishes() {
    let bed = Testbed::private(&["amqp.single_publisher = on"]);
    let (fixture, mut original) = fixture(&bed, "single");
    let copy = bed.postgres.backup(&[]);
    copy.start();
    insert(&copy, &fixture, 12);
    let mut client = copy.connect(&fixture.database);
    let reason = wait_for_reason(&mut client, "another server of this cluster publishes");
    let system: String =
        ask(&mut client, "SELECT system_identifier::text FROM pg_control_system()");
    assert!(reason.contains(&format!("queue 'amqp_cdc.{system}'")), "{reason}");
    run(&mut original, "INSERT INTO blog_articles VALUES (2)");
    assert_eq!(ids(&published_so_far(&fixture, &mut original)), [2]);
    drop(original);
    bed.postgres.stop(Shutdown::Fast);
    wait_until_streaming(&mut client);
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [12]);
    // The other way round, once the first one lets it go.
    bed.postgres.start();
    let mut original = bed.postgres.connect(&fixture.database);
    wait_for_reason(&mut original, "another server of this cluster publishes");
    copy.set("amqp.single_publisher", "off");
    wait_until_streaming(&mut original);
    wait_until_streaming(&mut client);
}

#[test]
fn who_may_not_have_the_queue_is_told_which_setting_wants_it() {
    let rabbitmq = &testbed().rabbitmq;
    rabbitmq.ctl(&["add_user", "narrow", "narrow"]);
    rabbitmq.ctl(&["set_permissions", "narrow", "^single-refused", ".*", ".*"]);
    let bed = Testbed::beside(
        rabbitmq,
        &["amqp.single_publisher = on", "amqp.username = narrow", "amqp.password = narrow"],
    );
    let fixture = bed.scene("single_refused");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    let reason = wait_for_reason(&mut client, "ACCESS_REFUSED");
    assert!(reason.starts_with("broker refuses queue \"amqp_cdc."), "{reason}");
    assert!(reason.contains("(amqp.single_publisher)"), "{reason}");
    bed.postgres.set("amqp.single_publisher", "off");
    assert_eq!(ids(&published_so_far(&fixture, &mut client)), [1]);
}
