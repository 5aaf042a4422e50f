//! The servers of a run: a testbed whose worker reaches the broker through the proxy, as a user of
//! its own; the exchanges that it publishes to; and behind them, through one more exchange, the
//! queues. These bindings between exchanges are what faults take away: both queues always
//! get the same.

use std::sync::Arc;
use std::time::Duration;

use ::postgres::{Client, NoTls};

use super::exchanges::{self, DEAD, EXCHANGE, LETTERING, SKIPPING};
use super::pair::{self, Pair, Replication};
use super::schema;
use crate::broker::{Broker, Queue};
use crate::certificates::{Authority, CertificateFiles, Subject};
use crate::postgres::Postgres;
use crate::proxy::Proxy;
use crate::rabbitmq::RabbitMq;
use crate::testbed::Testbed;
use crate::tls_listener::TlsListener;
use crate::wait::{DEADLINE, wait_until};

/// What passes everything on to the queues.
const FAN: &str = "chaos-fan";

/// The broker's user that the worker is.
pub(super) const USER: &str = "cdc";
/// Its password, when it is right.
pub(super) const PASSWORD: &str = "right";

const DATABASE: &str = "chaos";

const CONF: &[&str] = &[
    // A dead network must be noticed several times within a run.
    "amqp.connect_timeout = 3",
    "amqp.heartbeat = 4",
    "amqp.confirm_timeout = 4",
    "log_min_error_statement = panic",
    "log_min_messages = log",
    // Checkpoints while it runs: WAL that is needed must survive them.
    "checkpoint_timeout = 30s",
    "min_wal_size = 32MB",
    "max_wal_size = 64MB",
];

/// The servers and the network between them.
#[derive(Debug)]
pub(super) struct Servers {
    pub bed: Testbed,
    /// Both servers, if the testbed's has a standby.
    pub pair: Option<Pair>,
    pub replication: Replication,
    pub proxy: Proxy,
    /// Whether the worker holds what no queue is bound for: else faults that unbind lose messages,
    /// as they are documented to.
    pub holds_unroutable: bool,
    /// What worker and broker know each other by, if they speak TLS.
    _certificates: Option<CertificateFiles>,
}

impl Servers {
    /// Starts everything. `tls`: the worker speaks TLS to the broker, and verifies it in full.
    pub fn start(tls: bool, replication: Replication) -> Servers {
        let certificates = tls.then(CertificateFiles::new);
        let conf = match replication {
            Replication::None => CONF.to_vec(),
            _ => [CONF, pair::CONF].concat(),
        };
        let bed = match &certificates {
            Some(files) => testbed_with_tls(files, &conf),
            None => Testbed::private(&conf),
        };
        let port = if tls { bed.rabbitmq.tls_port() } else { bed.rabbitmq.port() };
        let proxy = Proxy::start(port);
        bed.rabbitmq.ctl(&["add_user", USER, PASSWORD]);
        // Exchanges that are gone it does not make anew where what it does without them is to be seen.
        let configure = format!("^(?!({SKIPPING}|{LETTERING})$)");
        bed.rabbitmq.ctl(&["set_permissions", USER, &configure, ".*", ".*"]);
        let mut servers = Servers {
            bed,
            pair: None,
            replication,
            proxy,
            holds_unroutable: false,
            _certificates: certificates,
        };
        let broker = servers.broker();
        broker.declare_exchange(FAN, "fanout");
        for queue in Servers::queues() {
            broker.declare_queue(&queue);
        }
        exchanges::ALL.iter().for_each(|exchange| servers.bind(exchange));
        servers.configure();
        servers.pair = Pair::make(&servers.bed.postgres, replication);
        servers
    }

    /// The server that writes.
    pub fn primary(&self) -> &Postgres {
        self.pair.as_ref().map_or(&self.bed.postgres, |pair| pair.primary(&self.bed.postgres))
    }

    /// The one that follows it.
    pub fn standby(&self) -> Option<&Postgres> {
        self.pair.as_ref().map(|pair| pair.standby(&self.bed.postgres))
    }

    /// The queues that are drained.
    pub fn queues() -> [Queue; 2] {
        ["classic", "quorum"].map(|kind| {
            let queue = Queue::durable(kind).bound_to(FAN, "#");
            queue.with_text("x-queue-type", kind).with_single_active_consumer()
        })
    }

    /// The broker, not by way of the proxy.
    pub fn broker(&self) -> Broker {
        self.bed.rabbitmq.broker()
    }

    /// Makes an exchange if it is not there, and gives the queues what comes to it.
    pub fn bind(&self, exchange: &str) {
        self.broker().declare_exchange(exchange, "topic");
        self.broker().bind_exchange(exchange, FAN);
    }

    /// Takes its only way to the queues away.
    pub fn unbind(&self, exchange: &str) {
        self.broker().unbind_exchange(exchange, FAN);
    }

    /// How sessions connect: to whichever server writes.
    pub fn connection_string(&self) -> String {
        match &self.pair {
            Some(pair) => pair.connection_string(&self.bed.postgres, DATABASE),
            None => self.bed.postgres.connection_string(DATABASE),
        }
    }

    /// A session, if the server takes one.
    pub fn try_connect(&self) -> Option<Client> {
        Client::connect(&self.connection_string(), NoTls).ok()
    }

    /// A session with one of the servers, if it takes one.
    pub fn try_connect_to(&self, server: &Postgres) -> Option<Client> {
        Client::connect(&server.connection_string(DATABASE), NoTls).ok()
    }

    /// A session, once the server takes one again.
    #[track_caller]
    pub fn connect(&self) -> Client {
        wait_until("PostgreSQL takes connections", DEADLINE, || self.try_connect())
    }

    /// What the server's log has that only a worker says which lost its place.
    pub fn lost_places(&self) -> Vec<String> {
        let standby = self.standby().map(Postgres::log).unwrap_or_default();
        let log = self.primary().log() + &standby;
        let is_first = |line: &&str| line.contains("stream begins at");
        let first_starts = log.lines().filter(is_first).skip(1);
        let losses = log.lines().filter(|line| line.contains("events are lost: WAL of the time"));
        first_starts.chain(losses).map(str::to_owned).collect()
    }

    /// Waits until everything committed is confirmed, and exchanges are told what they lack, over restarts of the
    /// worker.
    #[track_caller]
    pub fn wait_until_confirmed(&self, deadline: Duration) {
        const QUERY: &str = "SELECT state || coalesce(': ' || reason, ''), \
             worker_pid IS NOT NULL AND lag_bytes = 0 AND lag_seconds IS NULL AND gaps_owed = 0 \
             FROM amqp.status";
        let mut last = String::new();
        wait_until("everything committed is confirmed", deadline, || {
            let row = self.try_connect()?.query_one(QUERY, &[]).ok()?;
            let state: String = row.get(0);
            if state != last {
                eprintln!("the stream is {state}");
                last = state;
            }
            row.get::<_, Option<bool>>(1)?.then_some(())
        });
    }

    fn configure(&mut self) {
        let postgres = &self.bed.postgres;
        let run = |client: &mut Client, statement: &str| {
            client
                .batch_execute(statement)
                .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        };
        run(&mut postgres.connect("postgres"), &format!("CREATE DATABASE {DATABASE}"));
        let mut client = self.connect();
        run(&mut client, "CREATE EXTENSION amqp_cdc");
        schema::make(&mut client).unwrap_or_else(|error| panic!("tables: {error:?}"));
        let known = client.query_one("SELECT current_setting('amqp.unroutable', true)", &[]);
        let known = known.unwrap_or_else(|error| panic!("amqp.unroutable: {error:?}"));
        self.holds_unroutable = known.get::<_, Option<String>>(0).is_some();

        for (name, value) in [
            ("amqp.exchange", EXCHANGE),
            ("amqp.username", USER),
            ("amqp.password", PASSWORD),
            ("amqp.port", &self.proxy.port().to_string()),
            ("amqp.dead_letter_exchange", DEAD),
            ("amqp.exchange_policy", &exchanges::policy()),
        ] {
            postgres.set(name, value);
        }
        if self.holds_unroutable {
            postgres.set("amqp.unroutable", "hold");
        }
    }
}

/// One whose broker shows a certificate for its address.
fn testbed_with_tls(files: &CertificateFiles, conf: &[&str]) -> Testbed {
    let authority = Authority::new("chaos");
    let broker = authority.issue(Subject::server(&["127.0.0.1"]));
    let root = files.put("root.pem", authority.certificate());
    let rabbitmq = RabbitMq::create_with_tls(&TlsListener::new(files, "broker", &broker));
    let port = format!("amqp.port = {}", rabbitmq.tls_port());
    let root = format!("amqp.sslrootcert = '{}'", root.display());
    let conf = [conf, &["amqp.sslmode = 'verify-full'", port.as_str(), root.as_str()]].concat();
    Testbed::beside(&Arc::new(rabbitmq), &conf)
}

impl Drop for Servers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.bed.print_logs_once();
        }
    }
}
