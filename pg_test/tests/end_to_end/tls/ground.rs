//! What these tests share: a RabbitMQ with many TLS listeners, the authorities behind its certificates, and the few
//! words of every test.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use pg_test::{
    Authority, CertificateFiles, DEADLINE, Fixture, Identity, RabbitMq, Subject, Testbed,
    TlsListener, wait_until, wait_until_confirmed,
};
use postgres::Client;

use crate::helpers::{ask, first_deliveries, make_blog, published_so_far, run};

/// The broker's user that a client certificate stands for.
pub const USER: &str = "cdc";

/// The broker, and who signed what it shows.
pub struct Ground {
    pub rabbitmq: Arc<RabbitMq>,
    pub files: CertificateFiles,
    /// Whom the worker trusts, if a test does not say otherwise.
    pub authority: Authority,
    /// Of whom it has not heard.
    pub stranger: Authority,
    /// Below the one whom it trusts.
    pub intermediate: Authority,
    /// Shown at the port `revoked`.
    pub revoked: Identity,
    pub ports: Ports,
}

/// Where the broker shows which certificate; for the host `localhost` where nothing else is said.
pub struct Ports {
    pub right: u16,
    /// For 127.0.0.1 alone.
    pub address: u16,
    pub other_name: u16,
    /// Signed by the stranger.
    pub strange: u16,
    pub expired: u16,
    pub early: u16,
    pub revoked: u16,
    /// Signed by an intermediate, which is shown, too.
    pub chained: u16,
    /// Signed by an intermediate, which is not shown.
    pub unchained: u16,
    /// Its name is the common name alone.
    pub common_name: u16,
    /// Signed by itself, as an authority.
    pub own_root: u16,
    /// The same, and out of date.
    pub own_root_expired: u16,
    /// The same, for another name.
    pub own_root_other_name: u16,
    /// Shows the right one to who asks for `localhost`, and a strange one to others.
    pub by_name: u16,
    pub only_1_2: u16,
    pub only_1_3: u16,
    /// Takes new keys all the time.
    pub new_keys: u16,
    /// Asks for a client certificate, and lets in who has none.
    pub asking: u16,
    /// Refuses who has none.
    pub demanding: u16,
    /// Its certificate is renewed by a test.
    pub renewed: u16,
}

/// The one ground.
pub fn ground() -> &'static Ground {
    static GROUND: LazyLock<Ground> = LazyLock::new(Ground::prepare);
    &GROUND
}

impl Ground {
    fn prepare() -> Ground {
        let files = CertificateFiles::new();
        let [authority, stranger] = ["trusted", "stranger"].map(Authority::new);
        let intermediate = authority.intermediate("between");
        let server = || Subject::server(&["localhost"]);
        let elsewhere = || Subject::server(&["elsewhere.example"]);
        let revoked = authority.issue(server());

        let root = files.put("root.pem", authority.certificate());
        files.put("stranger.pem", stranger.certificate());
        files.put("crl.pem", &authority.revocations(&[&revoked]));
        let listener = |name: &str, identity: &Identity| TlsListener::new(&files, name, identity);
        let own = |name: &str, subject: Subject| listener(name, &subject.sign_itself());

        let right = authority.issue(server());
        let rabbitmq = RabbitMq::create_with_tls(&listener("right", &right).asking_for(&root));
        rabbitmq.ctl(&["add_user", USER, "is-let-in-by-its-certificate"]);
        rabbitmq.ctl(&["set_permissions", USER, ".*", ".*", ".*"]);
        let by_name = listener("by_name", &stranger.issue(elsewhere()));
        let [address, other_name, strange, expired, early, revoked_port] =
            rabbitmq.listen_for_tls([
                &listener("address", &authority.issue(Subject::server(&["127.0.0.1"]))),
                &listener("other_name", &authority.issue(elsewhere())),
                &listener("strange", &stranger.issue(server())),
                &listener("expired", &authority.issue(server().valid_in(2020..2021))),
                &listener("early", &authority.issue(server().valid_in(2110..2120))),
                &listener("revoked", &revoked),
            ]);
        let [chained, unchained, common_name, own_root, own_root_expired, own_root_other_name] =
            rabbitmq.listen_for_tls([
                &listener("chained", &intermediate.issue(server()).behind(&intermediate)),
                &listener("unchained", &intermediate.issue(server())),
                &listener(
                    "common_name",
                    &authority.issue(Subject::server_by_common_name("localhost")),
                ),
                &own("own_root", server()),
                &own("own_root_expired", server().valid_in(2020..2021)),
                &own("own_root_other_name", elsewhere()),
            ]);
        let [by_name, only_1_2, only_1_3, new_keys, asking, demanding, renewed] = rabbitmq
            .listen_for_tls([
                &by_name.showing_for("localhost", &files, &right),
                &listener("only_1_2", &right).speaking("tlsv1.2"),
                &listener("only_1_3", &right).speaking("tlsv1.3"),
                &listener("new_keys", &right).speaking("tlsv1.3").with_new_keys_after(10_000),
                &listener("asking", &right).asking_for(&root),
                &listener("demanding", &right).demanding(&root),
                &listener("renewed", &right),
            ]);
        let ports = Ports {
            right: rabbitmq.tls_port(),
            address,
            other_name,
            strange,
            expired,
            early,
            revoked: revoked_port,
            chained,
            unchained,
            common_name,
            own_root,
            own_root_expired,
            own_root_other_name,
            by_name,
            only_1_2,
            only_1_3,
            new_keys,
            asking,
            demanding,
            renewed,
        };
        Ground {
            rabbitmq: Arc::new(rabbitmq),
            files,
            authority,
            stranger,
            intermediate,
            revoked,
            ports,
        }
    }
}

/// A line of postgresql.conf.
pub fn line(name: &str, value: impl std::fmt::Display) -> String {
    format!("{name} = '{value}'")
}

/// A server of its own that publishes to `localhost` at this port, whom it verifies in full, but for what these lines
/// of its configuration say.
#[track_caller]
pub fn bed(port: u16, conf: &[String]) -> Testbed {
    let ground = ground();
    let own = [
        line("amqp.host", "localhost"),
        line("amqp.port", port),
        line("amqp.sslmode", "verify-full"),
        line("amqp.sslrootcert", ground.files.path("root.pem").display()),
    ];
    let lines: Vec<&str> = own.iter().chain(conf).map(String::as_str).collect();
    Testbed::beside(&ground.rabbitmq, &lines)
}

/// A fixture with `blog_articles`.
#[track_caller]
pub fn fixture<'bed>(bed: &'bed Testbed, name: &str) -> (Fixture<'bed>, Client) {
    let fixture = bed.scene(name);
    let mut client = fixture.client();
    make_blog(&mut client);
    (fixture, client)
}

#[track_caller]
pub fn insert(client: &mut Client, id: i64) {
    run(client, &format!("INSERT INTO blog_articles VALUES ({id})"));
}

/// Sets parameters of the whole server, and reloads once.
#[track_caller]
pub fn set(bed: &Testbed, settings: &[(&str, &str)]) {
    let mut client = bed.postgres.connect("postgres");
    for (name, value) in settings {
        run(&mut client, &format!("ALTER SYSTEM SET {name} = '{value}'"));
    }
    bed.postgres.reload();
}

/// Writes a row, and waits until the stream stands still in front of it for a reason with these words, whatever
/// letters they are in. Returns the reason.
#[track_caller]
pub fn stands_still(client: &mut Client, id: i64, words: &[&str]) -> String {
    insert(client, id);
    let query = "SELECT reason FROM amqp.status WHERE state = 'standing still' AND lag_bytes > 0";
    let mut last = None;
    wait_until(&format!("the stream stands still for a reason with {words:?}"), DEADLINE, || {
        let row = client.query_opt(query, &[]).unwrap_or_else(|error| panic!("{error:?}"));
        let reason: Option<String> = row.and_then(|row| row.get(0));
        if reason != last {
            eprintln!("the reason is {reason:?}");
            last.clone_from(&reason);
        }
        reason.filter(|reason| {
            let reason = reason.to_lowercase();
            words.iter().all(|word| reason.contains(&word.to_lowercase()))
        })
    })
}

/// Waits until all that was committed is confirmed, and says that it was these rows, which come in this order.
#[track_caller]
pub fn arrive(fixture: &Fixture<'_>, client: &mut Client, ids: &[i64]) {
    let events = published_so_far(fixture, client);
    assert_eq!(first_deliveries(&events), ids);
    wait_until_confirmed(client);
}

/// Waits until the worker is connected to this port.
#[track_caller]
pub fn streams_at(client: &mut Client, port: u16) {
    let query = format!("SELECT state = 'streaming' AND broker LIKE '%:{port}' FROM amqp.status");
    wait_until(&format!("the worker streams at port {port}"), DEADLINE, || {
        ask::<Option<bool>>(client, &query).filter(|&streams| streams)
    });
}

/// A broker at this port gets nothing of a server with this configuration, for a reason with these words; the right
/// one then gets all of it.
#[track_caller]
pub fn assert_refused(name: &str, port: u16, conf: &[String], words: &[&str]) {
    let bed = bed(port, conf);
    let (fixture, mut client) = fixture(&bed, name);
    stands_still(&mut client, 1, words);
    set(&bed, &[("amqp.port", &ground().ports.right.to_string())]);
    arrive(&fixture, &mut client, &[1]);
}

/// A broker at this port gets everything of a server with this configuration.
#[track_caller]
pub fn assert_accepted(name: &str, port: u16, conf: &[String]) {
    let bed = bed(port, conf);
    let (fixture, mut client) = fixture(&bed, name);
    insert(&mut client, 1);
    arrive(&fixture, &mut client, &[1]);
    streams_at(&mut client, port);
    assert!(!was_interrupted(&bed), "{}", bed.postgres.log());
}

/// Whether the worker ever lost its connection, or did not get one.
pub fn was_interrupted(bed: &Testbed) -> bool {
    bed.postgres.log().contains("stream stands still")
}

/// The path of one of the ground's files.
pub fn file(name: &str) -> PathBuf {
    ground().files.path(name)
}
