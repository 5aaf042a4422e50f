//! What happens on the way: in the middle of a handshake, of a record, of a renewal; and what is seen on the way.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pg_test::{
    Authority, CertificateFiles, DEADLINE, Fixture, Proxy, Shutdown, Subject, TlsListener,
    send_signal, wait_until, wait_until_confirmed, wait_until_confirmed_within,
};
use postgres::Client;
use rustls::version::{TLS12, TLS13};
use serde_json::json;

use super::eavesdropper::Eavesdropper;
use super::ground::{
    arrive, assert_accepted, bed, file, fixture, ground, insert, line, set, stands_still,
    streams_at, was_interrupted,
};
use crate::helpers::{
    ask, first_deliveries, published_so_far, replace_worker, run, wait_until_read,
    wait_until_streaming, worker_pid,
};

/// Bytes of a long text.
const LONG: usize = 5_000_000;

#[test]
fn plain_text_to_a_tls_port_names_the_setting() {
    let bed = bed(ground().ports.right, &[line("amqp.sslmode", "disable")]);
    let (fixture, mut client) = fixture(&bed, "tls_plain_to_tls");
    stands_still(&mut client, 1, &["amqp.sslmode"]);
    set(&bed, &[("amqp.sslmode", "verify-full")]);
    arrive(&fixture, &mut client, &[1]);
}

#[test]
fn tls_to_a_plain_port_says_that_it_is_none() {
    let bed = bed(ground().rabbitmq.port(), &[]);
    let (fixture, mut client) = fixture(&bed, "tls_to_plain");
    stands_still(&mut client, 1, &["does not speak TLS on this port"]);
    set(&bed, &[("amqp.sslmode", "disable")]);
    arrive(&fixture, &mut client, &[1]);
}

#[test]
fn a_broker_may_speak_either_version() {
    for port in [ground().ports.only_1_2, ground().ports.only_1_3] {
        assert_accepted("tls_version", port, &[]);
    }
}

/// The broker asks for answers in the middle of everything else.
#[test]
fn a_broker_may_take_new_keys_at_any_time() {
    const ROWS: i64 = 5000;
    let bed = bed(ground().ports.new_keys, &[]);
    let (fixture, mut client) = fixture(&bed, "tls_new_keys");
    run(
        &mut client,
        &format!("INSERT INTO blog_articles SELECT g FROM generate_series(1, {ROWS}) g"),
    );
    arrive(&fixture, &mut client, &(1..=ROWS).collect::<Vec<_>>());
    assert!(!was_interrupted(&bed), "{}", bed.postgres.log());
}

fn long_text(id: i64) -> String {
    format!("{id}").repeat(LONG)
}

#[track_caller]
fn insert_long(client: &mut Client, id: i64) {
    run(client, &format!("INSERT INTO blog_articles VALUES ({id}, repeat('{id}', {LONG}))"));
}

#[track_caller]
fn assert_long_ones_arrive(fixture: &Fixture<'_>, client: &mut Client, ids: &[i64]) {
    wait_until_confirmed_within(client, 2 * DEADLINE);
    let events = published_so_far(fixture, client);
    assert_eq!(first_deliveries(&events), ids);
    for (event, &id) in events.iter().zip(ids) {
        assert!(event.json()["current"]["title"] == json!(long_text(id)), "row {id} differs");
    }
}

#[test]
fn long_messages_arrive_as_they_are() {
    let ports = &ground().ports;
    for port in [ports.only_1_2, ports.only_1_3] {
        let bed = bed(port, &[]);
        let (fixture, mut client) = fixture(&bed, "tls_long");
        (1..=4).for_each(|id| insert_long(&mut client, id));
        assert_long_ones_arrive(&fixture, &mut client, &[1, 2, 3, 4]);
        assert!(!was_interrupted(&bed), "{}", bed.postgres.log());
    }
}

/// Each is longer than what all sockets on the way hold: it is taken in parts, and TLS holds the last one of the
/// worker's while there is no room for it, and nothing else to say.
#[test]
fn long_messages_arrive_over_a_network_that_is_slow_at_times() {
    let proxy = Proxy::start(ground().ports.right);
    let conf = [line("amqp.heartbeat", 600), line("amqp.confirm_timeout", "10s")];
    let bed = bed(proxy.port(), &conf);
    let (fixture, mut client) = fixture(&bed, "tls_slow");
    streams_at(&mut client, proxy.port());
    for id in 1..=3 {
        proxy.set_slow(true);
        run(
            &mut client,
            &format!("INSERT INTO blog_articles VALUES ({id}, repeat('x', 3 * {LONG}))"),
        );
        wait_until_read(&mut client, "it is read");
        proxy.set_slow(false);
        wait_until_confirmed(&mut client);
    }
    arrive(&fixture, &mut client, &[1, 2, 3]);
    assert!(!was_interrupted(&bed), "{}", bed.postgres.log());
}

/// What comes back is as long, and nothing comes behind it that would have the worker look once more.
#[test]
fn long_messages_that_are_returned_are_read_to_their_end() {
    let bed = bed(ground().ports.right, &[line("amqp.heartbeat", 600)]);
    let (fixture, mut client) = fixture(&bed, "tls_returned");
    wait_until_streaming(&mut client);
    let nobody = format!("{}-nobody", fixture.exchange);
    for id in 1..=4 {
        run(&mut client, &format!("SET amqp.exchange = '{nobody}'"));
        insert_long(&mut client, id);
        wait_until_confirmed(&mut client);
        let returned: i64 = ask(&mut client, "SELECT events_returned FROM amqp.status");
        assert_eq!(returned, id);
    }
    run(&mut client, "RESET amqp.exchange");
    arrive(&fixture, &mut client, &[]);
    assert!(!was_interrupted(&bed), "{}", bed.postgres.log());
}

/// Before the first word, in the middle of the first one, in the middle of the certificate.
#[test]
fn a_broker_that_stops_in_the_middle_of_the_handshake_is_given_up_and_tried_again() {
    for bytes in [0, 60, 500] {
        let proxy = Proxy::start(ground().ports.right);
        proxy.stop_after(bytes);
        let bed = bed(proxy.port(), &[line("amqp.connect_timeout", "1s")]);
        let (fixture, mut client) = fixture(&bed, "tls_handshake");
        stands_still(&mut client, 1, &["did not answer within 1s"]);
        assert!(bed.postgres.log().contains("did not answer within 1s"));
        proxy.heal();
        arrive(&fixture, &mut client, &[1]);
    }
}

/// The kernel answers for it, and nobody else.
#[test]
fn a_frozen_broker_does_not_keep_the_worker_from_leaving() {
    let proxy = Proxy::start(ground().ports.right);
    proxy.stop_after(0);
    let bed = bed(proxy.port(), &[line("amqp.connect_timeout", "1h")]);
    let (fixture, mut client) = fixture(&bed, "tls_leaving");
    insert(&mut client, 1);
    let worker = worker_pid(&mut client);
    run(&mut client, &format!("SELECT pg_terminate_backend({worker})"));
    wait_until("the worker has left", DEADLINE, || {
        let lives = "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = ";
        (!ask::<bool>(&mut client, &format!("{lives}{worker}"))).then_some(())
    });
    proxy.heal();
    arrive(&fixture, &mut client, &[1]);
}

/// Inside a record, and without a word.
#[test]
fn a_connection_that_breaks_loses_nothing() {
    let proxy = Proxy::start(ground().ports.right);
    let conf = [line("amqp.heartbeat", 1), line("amqp.confirm_timeout", "4s")];
    let bed = bed(proxy.port(), &conf);
    let (fixture, mut client) = fixture(&bed, "tls_breaks");
    streams_at(&mut client, proxy.port());
    let rows = write_while(&fixture, || {
        for breaks in [Proxy::cut_mid_frame, Proxy::silence, Proxy::cut, Proxy::cut_mid_frame] {
            go_on(&mut client, 50);
            breaks(&proxy);
        }
    });
    arrive(&fixture, &mut client, &(1..=rows).collect::<Vec<_>>());
    assert!(was_interrupted(&bed), "{}", bed.postgres.log());
}

/// Writes rows from 1 on, one by one, until this is done, and says how many there are.
fn write_while(fixture: &Fixture<'_>, work: impl FnOnce()) -> i64 {
    let is_over = AtomicBool::new(false);
    /// Also when it is left by a panic: the scope waits for the writer.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let mut client = fixture.client();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut rows = 0;
            while !is_over.load(Ordering::Relaxed) {
                rows += 1;
                insert(&mut client, rows);
            }
            rows
        });
        let end = End(&is_over);
        work();
        drop(end);
        writer.join().expect("the writer fails")
    })
}

/// Waits until so many more events are confirmed.
#[track_caller]
fn go_on(client: &mut Client, more: i64) {
    let confirmed = "SELECT events_confirmed FROM amqp.status";
    let before: i64 = ask(client, confirmed);
    wait_until("the stream goes on", DEADLINE, || {
        (ask::<i64>(client, confirmed) >= before + more).then_some(())
    });
}

/// By another authority, each time: whoever kept an old file would be refused, and refuse.
#[test]
fn certificates_are_renewed_under_load_without_a_reload() {
    let (files, ground) = (CertificateFiles::new(), ground());
    let proxy = Proxy::start(ground.ports.renewed);
    let root = files.put("root.pem", ground.authority.certificate());
    let bed = bed(proxy.port(), &[line("amqp.sslrootcert", root.display())]);
    let (fixture, mut client) = fixture(&bed, "tls_renewed");
    let worker = worker_pid(&mut client);
    let rows = write_while(&fixture, || {
        for number in 0..3 {
            go_on(&mut client, 50);
            let authority = Authority::new(&format!("trusted since {number}"));
            let server = authority.issue(Subject::server(&["localhost"]));
            files.put("root.pem", authority.certificate());
            // The listener's files, by their name.
            TlsListener::new(&ground.files, "renewed", &server);
            ground.rabbitmq.read_certificates_again();
            proxy.cut();
        }
        go_on(&mut client, 50);
    });
    arrive(&fixture, &mut client, &(1..=rows).collect::<Vec<_>>());
    assert_eq!(worker_pid(&mut client), worker);
}

#[test]
fn a_restart_of_the_server_or_of_its_worker_loses_nothing() {
    let bed = bed(ground().ports.right, &[]);
    let (fixture, mut client) = fixture(&bed, "tls_restart");
    insert(&mut client, 1);
    bed.postgres.restart(Shutdown::Fast);
    let mut client_2 = fixture.client();
    insert(&mut client_2, 2);
    replace_worker(&mut client_2);
    insert(&mut client_2, 3);
    bed.postgres.restart(Shutdown::Immediate);
    client = fixture.client();
    insert(&mut client, 4);
    let worker = worker_pid(&mut client);
    send_signal(worker, "KILL");
    wait_until("the server starts anew", DEADLINE, || client.simple_query("").err());
    let mut client = wait_until("sessions are let in", DEADLINE, || {
        let connection = bed.postgres.connection_string(&fixture.database);
        Client::connect(&connection, postgres::NoTls).ok()
    });
    insert(&mut client, 5);
    arrive(&fixture, &mut client, &[1, 2, 3, 4, 5]);
}

/// The password is what a false broker is after.
#[test]
fn nothing_is_said_to_a_broker_that_is_not_trusted() {
    const PASSWORD: &str = "s3cret-of-the-test";
    let files = CertificateFiles::new();
    let own = Authority::new("of the eavesdropper");
    for (identity, mode, words) in [
        (own.issue(Subject::server(&["localhost"])), "verify-full", "amqp.sslrootcert"),
        (own.issue(Subject::server(&["localhost"])), "verify-ca", "amqp.sslrootcert"),
        (
            ground().authority.issue(Subject::server(&["elsewhere.example"])),
            "verify-full",
            "elsewhere",
        ),
        (Subject::server(&["localhost"]).sign_itself(), "verify-full", "amqp.sslrootcert"),
    ] {
        let root = files.put("root.pem", ground().authority.certificate());
        let eavesdropper = Eavesdropper::start(&identity);
        let conf = [
            line("amqp.sslmode", mode),
            line("amqp.sslrootcert", root.display()),
            line("amqp.password", PASSWORD),
        ];
        let bed = bed(eavesdropper.port(), &conf);
        let (fixture, mut client) = fixture(&bed, "tls_eavesdropper");
        stands_still(&mut client, 1, &[words]);
        eavesdropper.assert_has_heard_nothing_but_the_handshake(&[PASSWORD, "guest"]);
        // It does hear who trusts it.
        set(&bed, &[("amqp.sslmode", "require"), ("amqp.sslrootcert", "")]);
        wait_until("the eavesdropper is trusted", DEADLINE, || {
            eavesdropper.decrypted().starts_with(b"AMQP").then_some(())
        });
        let right = ground().ports.right.to_string();
        set(&bed, &[("amqp.port", &right), ("amqp.password", "guest")]);
        arrive(&fixture, &mut client, &[1]);
    }
}

/// Everybody gets to see the broker's certificate. Its key nobody has.
#[test]
fn nothing_is_said_to_who_has_the_certificate_and_not_the_key() {
    let [right, other] =
        [(); 2].map(|()| ground().authority.issue(Subject::server(&["localhost"])));
    let stolen = right.with_key_of(&other);
    for version in [&TLS12, &TLS13] {
        for (mode, root) in [("verify-full", file("root.pem")), ("require", PathBuf::new())] {
            let eavesdropper = Eavesdropper::speaking(&[version], &stolen);
            let conf = [line("amqp.sslmode", mode), line("amqp.sslrootcert", root.display())];
            let bed = bed(eavesdropper.port(), &conf);
            let (fixture, mut client) = fixture(&bed, "tls_stolen");
            stands_still(&mut client, 1, &["signature"]);
            eavesdropper.assert_has_heard_nothing_but_the_handshake(&["guest"]);
            set(&bed, &[("amqp.port", &ground().ports.right.to_string())]);
            arrive(&fixture, &mut client, &[1]);
        }
    }
}
