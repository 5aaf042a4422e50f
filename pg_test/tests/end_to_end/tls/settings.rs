//! The settings themselves: which values there are, which port is meant, what they show.

use pg_test::{CertificateFiles, DEADLINE, Subject, Testbed, wait_until};

use super::ground::{
    USER, arrive, bed, fixture, ground, insert, line, set, stands_still, streams_at,
};
use crate::helpers::{ask, refusal};

const SETTINGS: [&str; 6] =
    ["amqp.sslmode", "amqp.sslrootcert", "amqp.sslcert", "amqp.sslkey", "amqp.sslcrl", "amqp.auth"];

/// With a password in it, nothing should fall back to plain text.
#[test]
fn modes_that_fall_back_to_plain_text_are_refused() {
    let bed = Testbed::beside(&ground().rabbitmq, &[]);
    let mut client = bed.postgres.connect("postgres");
    for (setting, wrong, right) in [
        ("amqp.sslmode", "prefer", "verify-full"),
        ("amqp.sslmode", "allow", "verify-full"),
        ("amqp.sslmode", "on", "verify-full"),
        ("amqp.auth", "cert", "certificate"),
    ] {
        let error = refusal(&mut client, &format!("ALTER SYSTEM SET {setting} = '{wrong}'"));
        assert_eq!(error.code().code(), "22023", "{error:?}");
        assert!(error.hint().unwrap_or_default().contains(right), "{error:?}");
    }
    for setting in SETTINGS {
        let error = refusal(&mut client, &format!("SET {setting} = 'verify-full'"));
        assert_eq!(error.code().code(), "55P02", "{setting}: {error:?}");
    }
}

#[test]
fn without_settings_there_is_no_tls_and_the_password_is_the_login() {
    let bed = Testbed::beside(&ground().rabbitmq, &[]);
    let mut client = bed.make_database("tls_defaults");
    let shown = SETTINGS.map(|name| ask::<String>(&mut client, &format!("SHOW {name}")));
    assert_eq!(shown, ["disable", "", "", "", "", "password"]);
    assert_eq!(
        ask::<String>(&mut client, "SELECT boot_val FROM pg_settings WHERE name = 'amqp.port'"),
        "0"
    );
    streams_at(&mut client, ground().rabbitmq.port());
}

#[test]
fn a_port_that_is_not_said_is_the_usual_one_with_tls_and_without() {
    let bed = bed(0, &[line("amqp.host", "127.0.0.1")]);
    let mut client = bed.make_database("tls_port");
    assert_eq!(ask::<String>(&mut client, "SHOW amqp.port"), "0");
    let mut is_tried = |port: u16| {
        // Whether or not somebody listens there.
        let query = format!(
            "SELECT coalesce(broker, '') || ' ' || coalesce(reason, '') LIKE '%127.0.0.1:{port}%' FROM amqp.status"
        );
        wait_until(&format!("port {port} is tried"), DEADLINE, || {
            ask::<bool>(&mut client, &query).then_some(())
        });
    };
    is_tried(5671);
    set(&bed, &[("amqp.sslmode", "disable")]);
    is_tried(5672);
    // One that is said goes for all hosts that say none.
    set(&bed, &[("amqp.port", "1"), ("amqp.sslmode", "verify-full")]);
    is_tried(1);
    set(&bed, &[("amqp.host", "127.0.0.1:2")]);
    is_tried(2);
}

#[test]
fn what_is_shown_of_them_is_names_of_files() {
    let files = CertificateFiles::new();
    let user = ground().authority.issue(Subject::user(USER));
    let [certificate, key] = [("client.pem", &user.certificate), ("client.key", &user.key)]
        .map(|(name, text)| files.put(name, text).display().to_string());
    let conf = [line("amqp.sslcert", &certificate), line("amqp.sslkey", &key)];
    let bed = bed(ground().ports.demanding, &conf);
    let (fixture, mut client) = fixture(&bed, "tls_shown");
    insert(&mut client, 1);
    arrive(&fixture, &mut client, &[1]);
    let shown = |client: &mut postgres::Client, name: &str| -> String {
        ask(client, &format!("SHOW {name}"))
    };
    assert_eq!(shown(&mut client, "amqp.sslcert"), certificate);
    assert_eq!(shown(&mut client, "amqp.sslkey"), key);
    // Of a line that is in no certificate, and in no other key.
    let secret = user.key.lines().nth(1).expect("a key has lines").to_owned();
    let mut everything = bed.postgres.log();
    for query in [
        "SHOW ALL",
        "SELECT name, setting FROM pg_settings",
        "SELECT status::text, '' FROM amqp.status",
    ] {
        for row in client.query(query, &[]).unwrap() {
            everything += row.get::<_, Option<&str>>(0).unwrap_or_default();
            everything += row.get::<_, Option<&str>>(1).unwrap_or_default();
        }
    }
    assert!(!everything.contains(&secret) && !everything.contains("PRIVATE KEY"));
}

#[test]
fn a_reload_takes_the_stream_from_plain_text_to_tls_and_back() {
    let ports = &ground().ports;
    let plain = ground().rabbitmq.port();
    let bed = bed(plain, &[line("amqp.sslmode", "disable")]);
    let (fixture, mut client) = fixture(&bed, "tls_and_back");
    for (id, port, mode) in [
        (1, plain, "disable"),
        (2, ports.right, "verify-full"),
        (3, ports.right, "verify-ca"),
        (4, ports.strange, "disable"),
        (5, plain, "disable"),
    ] {
        set(&bed, &[("amqp.port", &port.to_string()), ("amqp.sslmode", mode)]);
        if port == ports.strange {
            // Mended by the next reload.
            stands_still(&mut client, id, &["amqp.sslmode"]);
        } else {
            streams_at(&mut client, port);
            insert(&mut client, id);
        }
    }
    arrive(&fixture, &mut client, &[1, 2, 3, 4, 5]);
}
