//! Consuming and publishing over TLS: from a broker that is the right one, and from none that is not.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Instant;

use amqp::{Consume, Credentials, Error, Event, Login, Phase, Publish, QueueDeclare};
use pg_test::{Authority, CertificateFiles, Identity, RabbitMq, Subject, TlsListener};
use socket::{Roots, Tls, Trust, Verify};

use crate::client::Client;
use crate::scenario::login;

/// The broker's user that a certificate stands for.
const USER: &str = "consumer";

/// A broker that shows another certificate at each of its ports.
struct Broker {
    rabbitmq: RabbitMq,
    files: CertificateFiles,
    ports: Ports,
}

/// For the host `localhost` where nothing else is said.
struct Ports {
    other_name: u16,
    strange: u16,
    expired: u16,
    revoked: u16,
    common_name: u16,
    own_root: u16,
    demanding: u16,
    only_1_2: u16,
    only_1_3: u16,
}

fn broker() -> &'static Broker {
    static BROKER: LazyLock<Broker> = LazyLock::new(Broker::start);
    &BROKER
}

impl Broker {
    fn start() -> Broker {
        let files = CertificateFiles::new();
        let [ours, stranger] = ["ours", "stranger"].map(Authority::new);
        let subject = || Subject::server(&["localhost"]);
        let (right, revoked, own) =
            (ours.issue(subject()), ours.issue(subject()), subject().sign_itself());
        let root = files.put("root.pem", ours.certificate());
        files.put("crl.pem", &ours.revocations(&[&revoked]));
        files.put("own.pem", &own.certificate);
        for (name, user) in [("known", USER), ("unknown", "nobody")] {
            let identity = ours.issue(Subject::user(user));
            files.put(&format!("{name}.pem"), &identity.certificate);
            // It is this process that reads it, not a server.
            let key = format!("{name}.key");
            if !files.put_of_root(&key, &identity.key, 0o600) {
                files.put(&key, &identity.key);
            }
        }
        let listener = |name: &str, identity: &Identity| TlsListener::new(&files, name, identity);
        let rabbitmq = RabbitMq::create_with_tls(&listener("right", &right).asking_for(&root));
        rabbitmq.ctl(&["add_user", USER, "nobody-needs-it"]);
        rabbitmq.ctl(&["set_permissions", USER, ".*", ".*", ".*"]);
        let [other_name, strange, expired, revoked, common_name, own_root] = rabbitmq
            .listen_for_tls([
                &listener("other_name", &ours.issue(Subject::server(&["example.org"]))),
                &listener("strange", &stranger.issue(subject())),
                &listener("expired", &ours.issue(subject().valid_in(2020..2021))),
                &listener("revoked", &revoked),
                &listener("common", &ours.issue(Subject::server_by_common_name("localhost"))),
                &listener("own", &own),
            ]);
        let [demanding, only_1_2, only_1_3] = rabbitmq.listen_for_tls([
            &listener("demanding", &right).demanding(&root),
            &listener("only_1_2", &right).speaking("tlsv1.2"),
            &listener("only_1_3", &right).speaking("tlsv1.3"),
        ]);
        let ports = Ports {
            other_name,
            strange,
            expired,
            revoked,
            common_name,
            own_root,
            demanding,
            only_1_2,
            only_1_3,
        };
        Broker { rabbitmq, files, ports }
    }

    fn trust(&self, root: &str) -> Trust {
        Trust { roots: Roots::File(self.files.path(root)), revoked: None }
    }

    /// Who has been signed by this one, and for the name that is connected to.
    fn full(&self, root: &str) -> Tls {
        Tls { verify: Verify::SignerAndName(self.trust(root)), identity: None }
    }

    /// The same with a certificate of ours.
    fn with_identity(&self, name: &str) -> Tls {
        let path = |kind: &str| -> PathBuf { self.files.path(&format!("{name}.{kind}")) };
        let identity = socket::Identity { certificate: path("pem"), key: path("key") };
        Tls { identity: Some(identity), ..self.full("root.pem") }
    }
}

fn to(routing_key: &str) -> Publish<'_> {
    Publish { exchange: "", routing_key, is_mandatory: true, ..Publish::default() }
}

/// What comes of it: a consumer that got what it published, or why there is none.
fn consume(tls: &Tls, port: u16, login: Login) -> Result<Client, (Error, Option<String>)> {
    let mut client = Client::connect_over(Some(tls), "localhost", port, login).expect("it listens");
    let ready = client.wait_for(|event| matches!(event, Event::Ready).then_some(()));
    if let Err(error) = ready {
        return Err((error, client.failure.map(|error| error.to_string())));
    }
    client.amqp.open_channel(1).expect("it is free");
    client.until("ChannelOpened");
    let queue = QueueDeclare { is_exclusive: true, ..QueueDeclare::default() };
    client.amqp.declare_queue(1, &queue);
    let name = client.wait_for(|event| match event {
        Event::QueueDeclared { queue, .. } => Some(queue.to_string()),
        _ => None,
    });
    let name = name.expect("it is declared");
    client.amqp.consume(1, &Consume { queue: &name, ..Consume::default() });
    client.publish(&to(&name), b"hello");
    assert_eq!(client.message().expect("it comes").1, b"hello");
    client.amqp.ack(1, 1, false);
    Ok(client)
}

/// That nobody is consumed from, and why, in words.
#[track_caller]
fn assert_refused(tls: &Tls, port: u16, words: &[&str]) {
    match consume(tls, port, login()) {
        Ok(_) => panic!("it is taken for the broker"),
        Err((_, said)) => {
            let said = said.expect("TLS says why");
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
    }
}

#[test]
fn only_a_broker_that_proves_who_it_is_is_consumed_from() {
    let broker = broker();
    let (ports, right) = (&broker.ports, broker.rabbitmq.tls_port());
    let full = broker.full("root.pem");
    let signer = Tls { verify: Verify::Signer(broker.trust("root.pem")), identity: None };
    let anybody = Tls { verify: Verify::Nothing, identity: None };
    let with_list =
        Trust { revoked: Some(broker.files.path("crl.pem")), ..broker.trust("root.pem") };
    let with_list = Tls { verify: Verify::SignerAndName(with_list), identity: None };
    let let_in = [
        (&full, right),
        (&with_list, right),
        (&signer, ports.other_name),
        (&signer, ports.common_name),
        (&broker.full("own.pem"), ports.own_root),
        (&anybody, ports.strange),
        (&anybody, ports.expired),
    ];
    for (number, (tls, port)) in let_in.into_iter().enumerate() {
        match consume(tls, port, login()) {
            Ok(client) => client.close(),
            Err(why) => panic!("number {number}: {why:?}"),
        }
    }
    assert_refused(&full, ports.other_name, &["localhost", "example.org"]);
    assert_refused(&full, ports.common_name, &["subjectAltName"]);
    for tls in [&full, &signer] {
        assert_refused(tls, ports.strange, &["not signed by a CA", "amqp.sslrootcert"]);
        assert_refused(tls, ports.own_root, &["amqp.sslrootcert"]);
        assert_refused(tls, ports.expired, &["expired"]);
    }
    assert_refused(&with_list, ports.revoked, &["revoked", "amqp.sslcrl"]);
    assert_refused(&broker.full("own.pem"), right, &["amqp.sslrootcert"]);
    // And what speaks no TLS.
    assert_refused(&full, broker.rabbitmq.port(), &["does not speak TLS on this port"]);
}

#[test]
fn a_certificate_lets_in_where_a_password_would() {
    let broker = broker();
    let (demanding, right) = (broker.ports.demanding, broker.rabbitmq.tls_port());
    let external = || Login { credentials: Credentials::External, ..login() };
    let known = broker.with_identity("known");
    for port in [demanding, right] {
        for login in [login(), external()] {
            consume(&known, port, login).expect("it is let in").close();
        }
    }
    // The broker wants one, whatever the login.
    assert_refused(&broker.full("root.pem"), demanding, &["amqp.sslcert"]);
    // A name that no user has; and no name.
    for tls in [broker.with_identity("unknown"), broker.full("root.pem")] {
        let Err((error, _)) = consume(&tls, right, external()) else { panic!("it is let in") };
        let is_refusal = matches!(
            error,
            Error::HungUp(Phase::LoggingIn) | Error::Closed { phase: Phase::LoggingIn, .. }
        );
        assert!(is_refusal, "{error:?}");
    }
}

/// Bytes that tell where they belong.
fn pattern(number: usize, size: usize) -> Vec<u8> {
    (0..size).map(|place| (place.wrapping_mul(2_654_435_761) >> 8) as u8 ^ number as u8).collect()
}

/// From a byte to five megabytes, twenty in all.
const SIZES: [usize; 24] = [
    1, 5_000_000, 2, 100, 16_383, 16_384, 16_385, 131_064, 131_065, 0, 1_000_000, 3, 4_000_000,
    65_536, 262_128, 5_000_000, 1, 1_000, 10_000, 100_000, 2_000_000, 7, 2_500_000, 1,
];

/// Publishes them all.
fn publish_all(tls: &Tls, port: u16, queue: &str) {
    let client = Client::connect_over(Some(tls), "localhost", port, login()).expect("it listens");
    let mut publisher = client.with_channel();
    publisher.amqp.turn_confirms_on(1);
    publisher.until("ConfirmsOn");
    for (number, size) in SIZES.into_iter().enumerate() {
        publisher.publish(&to(queue), &pattern(number, size));
    }
    let mut confirmed = 0;
    let all = publisher.wait_for(|event| {
        match *event {
            Event::Acked { tag, is_multiple: true, .. } => confirmed = tag,
            Event::Acked { .. } => confirmed += 1,
            _ => {}
        }
        (confirmed == SIZES.len() as u64).then_some(())
    });
    all.expect("they are confirmed");
    publisher.close();
}

#[test]
fn messages_of_every_size_come_as_they_were_also_to_who_takes_his_time() {
    let broker = broker();
    let tls = broker.full("root.pem");
    for (version, port) in [("TLSv1.2", broker.ports.only_1_2), ("TLSv1.3", broker.ports.only_1_3)]
    {
        for prefetch in [4, 0] {
            let client = Client::connect_over(Some(&tls), "localhost", port, login());
            let mut consumer = client.expect("it listens").with_channel();
            assert_eq!(consumer.socket.tls_version(), Some(version));
            let queue = format!("sizes.{version}.{prefetch}");
            let declare =
                QueueDeclare { queue: &queue, is_exclusive: true, ..QueueDeclare::default() };
            consumer.amqp.declare_queue(1, &declare);
            consumer.until("QueueDeclared");
            consumer.amqp.set_prefetch(1, prefetch);
            consumer.amqp.consume(1, &Consume { queue: &queue, ..Consume::default() });
            consumer.until("Consuming");
            // Meanwhile it does not read: the broker sends what it may, for as long as there is room.
            publish_all(&tls, port, &queue);
            consumer.amqp.excuse_silence(Instant::now());
            for (number, size) in SIZES.into_iter().enumerate() {
                let (_, body) = consumer.message().expect("it comes");
                assert!(body == pattern(number, size), "message {number} of {size} bytes");
                consumer.amqp.ack(1, number as u64 + 1, false);
                consumer.tee.clear();
            }
            consumer.close();
        }
    }
}
