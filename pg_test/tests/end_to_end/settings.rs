//! Settings take effect on reload, without a restart, and keep their secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pg_test::{DEADLINE, Queue, Testbed, wait_until, wait_until_confirmed};

use crate::stage::{ask, blog, make_blog, published_so_far, run, wait_for_reason};

#[test]
fn the_password_is_shown_to_superusers_only_and_never_logged_by_the_worker() {
    let (scene, mut client) = blog("password");
    let role = format!("{}_role", scene.database);
    run(&mut client, &format!("CREATE ROLE {role}; SET ROLE {role}"));
    for query in ["SHOW amqp.password", "SHOW amqp.password_file"] {
        assert!(client.batch_execute(query).is_err(), "{query}");
    }
    let listed: i64 = ask(
        &mut client,
        "SELECT count(*) FROM pg_settings WHERE name IN ('amqp.password', 'amqp.password_file')",
    );
    assert_eq!(listed, 0);
}

#[test]
fn a_reload_moves_the_stream_to_another_vhost_with_another_user() {
    let bed = Testbed::private(&[]);
    let scene = bed.scene("reload");
    let mut client = scene.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    scene.consumer.wait_for_events(1);

    for arguments in [
        &["add_vhost", "other"][..],
        &["add_user", "cdc", "s3cret-of-the-test"],
        &["set_permissions", "-p", "other", "cdc", ".*", ".*", ".*"],
        &["set_permissions", "-p", "other", "guest", ".*", ".*", ".*"],
    ] {
        bed.rabbitmq.ctl(arguments);
    }
    let file = bed.postgres.folder().join("password");
    fs::write(&file, "s3cret-of-the-test\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let metadata = fs::metadata(bed.postgres.data_dir()).unwrap();
    std::os::unix::fs::chown(
        &file,
        Some(std::os::unix::fs::MetadataExt::uid(&metadata)),
        Some(std::os::unix::fs::MetadataExt::gid(&metadata)),
    )
    .unwrap();
    let file = format!("ALTER SYSTEM SET amqp.password_file = '{}'", file.display());
    for statement in
        ["ALTER SYSTEM SET amqp.vhost = 'other'", "ALTER SYSTEM SET amqp.username = 'cdc'", &file]
    {
        run(&mut client, statement);
    }
    bed.postgres.reload();
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    // The worker declares the exchange in the new vhost itself.
    let there = pg_test::Broker::at(bed.rabbitmq.url("other"));
    wait_until("the exchange is declared there", DEADLINE, || {
        there.has_exchange(&scene.exchange).then_some(())
    });
    let consumer = there.consume(&Queue::durable("there").bound_to(&scene.exchange, "#"));
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    let event = &consumer.wait_for_events(1)[0];
    assert!(event.json()["current"]["id"].as_i64() >= Some(2));
    assert!(!bed.postgres.log().contains("s3cret-of-the-test"));
}

#[test]
fn a_wrong_host_list_stands_still_with_a_reason_and_is_mended_by_a_reload() {
    let bed = Testbed::private(&["amqp.host = '127.0.0.1:nonsense'"]);
    let scene = bed.scene("hosts");
    let mut client = scene.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_for_reason(&mut client, "127.0.0.1:nonsense");
    // The first host of the list refuses, the second one takes it.
    bed.postgres.set("amqp.host", &format!("127.0.0.1:1, 127.0.0.1:{}", bed.rabbitmq.port()));
    assert_eq!(published_so_far(&scene, &mut client).len(), 1);
    wait_until_confirmed(&mut client);

    // While it streams, wrong settings are reported and the right ones stay in force.
    bed.postgres.set("amqp.host", "somewhere:else");
    let state = wait_until("the status names the entry", DEADLINE, || {
        let row = client.query_one("SELECT last_error, state FROM amqp.status", &[]).unwrap();
        let error: Option<String> = row.get(0);
        error.is_some_and(|e| e.contains("somewhere:else")).then(|| row.get::<_, String>(1))
    });
    assert_eq!(state, "streaming");
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    assert_eq!(published_so_far(&scene, &mut client).len(), 1);
}

#[test]
fn the_exchange_is_declared_on_first_use_and_an_existing_one_is_used_as_it_is() {
    let (scene, mut client) = blog("declare");
    let fresh = format!("{}-fresh", scene.exchange);
    run(
        &mut client,
        &format!("SET amqp.exchange = '{fresh}'; INSERT INTO blog_articles VALUES (1)"),
    );
    wait_until("the exchange is declared", DEADLINE, || {
        scene.broker().has_exchange(&fresh).then_some(())
    });
    let other = format!("{}-fanout", scene.exchange);
    scene.broker().declare_exchange(&other, "fanout");
    let queue = Queue::transient(&other).bound_to(&other, "");
    let consumer = scene.broker().consume(&queue);
    run(
        &mut client,
        &format!("SET amqp.exchange = '{other}'; INSERT INTO blog_articles VALUES (2)"),
    );
    assert_eq!(consumer.wait_for_events(1)[0].json()["current"]["id"], 2);
    // Once, and the stream goes on.
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    assert_eq!(consumer.wait_for_events(1)[0].json()["current"]["id"], 3);
}

#[test]
fn a_misspelt_setting_is_reported() {
    let bed = Testbed::private(&["amqp.hots = 'x'"]);
    assert!(bed.postgres.log().contains("invalid configuration parameter name \"amqp.hots\""));
    let mut client = bed.postgres.connect("postgres");
    assert!(client.batch_execute("SET amqp.hots = 'x'").is_err());
}
