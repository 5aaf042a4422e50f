//! Settings take effect on reload, without a restart, and keep their secrets.

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::{fs, io, thread};

use pg_test::{DEADLINE, Queue, Testbed, wait_until, wait_until_confirmed};
use postgres::error::SqlState;

use crate::helpers::{
    ask, blog, make_blog, published_so_far, replace_worker, run, wait_for_reason,
    wait_until_streaming, worker_pid,
};

const PASSWORD: &str = "s3cret-of-the-test";

/// Every way that SQL has to a setting's value, but for the configuration file itself.
#[test]
fn the_password_is_shown_to_nobody() {
    let bed = Testbed::private(&[&format!("amqp.password = '{PASSWORD}'")]);
    let mut client = bed.make_database("password");
    run(
        &mut client,
        "CREATE TABLE many AS SELECT g FROM generate_series(1, 1000) g;
         SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
         SET min_parallel_table_scan_size = 0;
         CREATE FUNCTION shown() RETURNS text PARALLEL SAFE LANGUAGE sql
           RETURN current_setting('amqp.password');
         CREATE ROLE monitor IN ROLE pg_monitor; GRANT SELECT ON many TO monitor; CREATE ROLE nobody",
    );
    for role in ["postgres", "monitor"] {
        run(&mut client, &format!("SET ROLE {role}"));
        for query in [
            "SHOW amqp.password",
            "SELECT current_setting('amqp.password')",
            // In parallel workers, which are handed the leader's settings.
            "SELECT min(shown()) FROM many WHERE shown() <> ''",
        ] {
            let shown: String = ask(&mut client, query);
            assert_eq!(shown, "********", "{role}: {query}");
        }
        let listed: i64 =
            ask(&mut client, "SELECT count(*) FROM pg_settings WHERE name = 'amqp.password'");
        assert_eq!(listed, 0, "{role}");
        let all = client.query("SHOW ALL", &[]).unwrap();
        assert!(all.iter().any(|row| row.get::<_, &str>(0) == "amqp.username"), "{role}");
        assert!(all.iter().all(|row| row.get::<_, &str>(0) != "amqp.password"), "{role}");
    }
    let error = client.batch_execute("RESET ROLE; SET amqp.password = 'mine'").unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::CANT_CHANGE_RUNTIME_PARAM));
    run(&mut client, "SET ROLE nobody");
    for query in ["SHOW amqp.password", "SHOW amqp.password_file"] {
        assert!(client.batch_execute(query).is_err(), "{query}");
    }
    run(&mut client, "RESET ROLE");
    let plan =
        client.query("EXPLAIN SELECT min(shown()) FROM many WHERE shown() <> ''", &[]).unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    assert!(plan.iter().any(|line| line.contains("Gather")), "{plan:?}");
    // As the documentation says.
    let file = "SELECT setting FROM pg_file_settings WHERE name = 'amqp.password'";
    assert_eq!(ask::<String>(&mut client, file), PASSWORD);
    // The worker has it as it is, and the broker knows another one.
    wait_for_reason(&mut client, "ACCESS_REFUSED");
    assert!(!bed.postgres.log().contains(PASSWORD));
}

#[test]
fn the_status_says_where_the_password_comes_from() {
    let bed = Testbed::private(&[]);
    let mut client = bed.make_database("source");
    let source = || -> String {
        let mut client = bed.postgres.connect("source");
        ask(&mut client, "SELECT password_source FROM amqp.status")
    };
    assert_eq!(source(), "default");
    wait_until_streaming(&mut client);
    // Set, if to the same as without.
    bed.postgres.set("amqp.password", "guest");
    assert_eq!(source(), "setting");
    bed.postgres.set("amqp.password", "wrong");
    wait_for_reason(&mut client, "ACCESS_REFUSED");
    bed.postgres.set("amqp.password_file", "/nowhere");
    assert_eq!(source(), "file");
    bed.postgres.reset("amqp.password_file");
    bed.postgres.reset("amqp.password");
    assert_eq!(source(), "default");
    wait_until_streaming(&mut client);
}

/// An address of this machine that is not a loopback one, if it has any: the one that it would send from.
pub fn outside_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing. Reserved for documentation (RFC 5737).
    socket.connect("198.51.100.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// Carries bytes between a port at this address and the broker, for as long as the test process lives.
pub fn forward(address: IpAddr, broker: u16) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)) else { continue };
            for (mut from, mut to) in [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))]
                .map(|(a, b)| (a.unwrap(), b.unwrap()))
            {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    port
}

#[test]
fn the_log_warns_once_of_each_host_that_gets_the_password_in_clear() {
    let Some(address) = outside_address() else {
        eprintln!("not tested: this machine has no address but the loopback ones");
        return;
    };
    let bed = Testbed::private(&[]);
    let mut client = bed.make_database("clear");
    wait_until_streaming(&mut client);
    let warning = "amqp password goes unencrypted to broker host";
    assert!(!bed.postgres.log().contains(warning));
    let port = forward(address, bed.rabbitmq.port());
    for heartbeat in ["31s", "32s"] {
        let worker = worker_pid(&mut client);
        bed.postgres.set("amqp.host", &format!("{address}:{port}"));
        // Another connection to the same host.
        bed.postgres.set("amqp.heartbeat", heartbeat);
        wait_until("the worker streams there", DEADLINE, || {
            let query = format!(
                "SELECT state = 'streaming' AND broker = '{address}:{port}' FROM amqp.status"
            );
            ask::<Option<bool>>(&mut client, &query).filter(|&there| there)
        });
        assert_eq!(worker_pid(&mut client), worker);
    }
    bed.postgres.set("amqp.host", "127.0.0.1");
    wait_until_streaming(&mut client);
    let log = bed.postgres.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(warning)).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARNING") && lines[0].contains(&address.to_string()), "{lines:?}");
    assert!(!log.contains("guest"));
    // Each worker says it again.
    bed.postgres.set("amqp.host", &format!("{address}:{port}"));
    replace_worker(&mut client);
    wait_until("the next worker says so", DEADLINE, || {
        (bed.postgres.log().matches(warning).count() == 2).then_some(())
    });
}

#[test]
fn a_reload_moves_the_stream_to_another_vhost_with_another_user() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("reload");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    fixture.consumer.wait_for_events(1);

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
        there.has_exchange(&fixture.exchange).then_some(())
    });
    let consumer = there.consume(&Queue::durable("there").bound_to(&fixture.exchange, "#"));
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    let event = &consumer.wait_for_events(1)[0];
    assert!(event.json()["current"]["id"].as_i64() >= Some(2));
    assert!(!bed.postgres.log().contains("s3cret-of-the-test"));
}

#[test]
fn a_wrong_host_list_stands_still_with_a_reason_and_is_mended_by_a_reload() {
    let bed = Testbed::private(&["amqp.host = '127.0.0.1:nonsense'"]);
    let fixture = bed.scene("hosts");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_for_reason(&mut client, "127.0.0.1:nonsense");
    // The first host of the list refuses, the second one takes it.
    bed.postgres.set("amqp.host", &format!("127.0.0.1:1, 127.0.0.1:{}", bed.rabbitmq.port()));
    assert_eq!(published_so_far(&fixture, &mut client).len(), 1);
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
    assert_eq!(published_so_far(&fixture, &mut client).len(), 1);
}

#[test]
fn the_exchange_is_declared_on_first_use_and_an_existing_one_is_used_as_it_is() {
    let (fixture, mut client) = blog("declare");
    let fresh = format!("{}-fresh", fixture.exchange);
    run(
        &mut client,
        &format!("SET amqp.exchange = '{fresh}'; INSERT INTO blog_articles VALUES (1)"),
    );
    wait_until("the exchange is declared", DEADLINE, || {
        fixture.broker().has_exchange(&fresh).then_some(())
    });
    let other = format!("{}-fanout", fixture.exchange);
    fixture.broker().declare_exchange(&other, "fanout");
    let queue = Queue::transient(&other).bound_to(&other, "");
    let consumer = fixture.broker().consume(&queue);
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
