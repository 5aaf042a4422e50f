//! What a run plays on: a testbed whose worker reaches the broker through the proxy, as a user of
//! its own; the exchange that it publishes to; and behind it, through a second exchange, the
//! queues. That one binding between the exchanges is what faults take away: both queues always
//! get the same.

use std::time::Duration;

use ::postgres::{Client, NoTls};

use super::tables;
use crate::broker::{Broker, Queue};
use crate::proxy::Proxy;
use crate::testbed::Testbed;
use crate::wait::{DEADLINE, wait_until};

/// What the worker publishes to.
pub(super) const EXCHANGE: &str = "chaos";

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
pub(super) struct Stage {
    pub bed: Testbed,
    pub proxy: Proxy,
    /// Whether the worker holds what no queue is bound for: else faults that unbind lose messages,
    /// as they are documented to.
    pub holds_unroutable: bool,
}

impl Stage {
    /// Starts everything.
    pub fn set() -> Stage {
        let bed = Testbed::private(CONF);
        let proxy = Proxy::start(bed.rabbitmq.port());
        bed.rabbitmq.ctl(&["add_user", USER, PASSWORD]);
        bed.rabbitmq.ctl(&["set_permissions", USER, ".*", ".*", ".*"]);
        let mut stage = Stage { bed, proxy, holds_unroutable: false };
        let broker = stage.broker();
        broker.declare_exchange(EXCHANGE, "topic");
        broker.declare_exchange(FAN, "fanout");
        for queue in Stage::queues() {
            broker.declare_queue(&queue);
        }
        stage.bind();
        stage.configure();
        stage
    }

    /// The queues that are drained.
    pub fn queues() -> [Queue; 2] {
        ["classic", "quorum"]
            .map(|kind| Queue::durable(kind).bound_to(FAN, "#").with_text("x-queue-type", kind))
    }

    /// The broker, not by way of the proxy.
    pub fn broker(&self) -> Broker {
        self.bed.rabbitmq.broker()
    }

    /// Makes the exchange if it is not there, and gives the queues what comes to it.
    pub fn bind(&self) {
        self.broker().declare_exchange(EXCHANGE, "topic");
        self.broker().bind_exchange(EXCHANGE, FAN);
    }

    /// Takes the only way to the queues away.
    pub fn unbind(&self) {
        self.broker().unbind_exchange(EXCHANGE, FAN);
    }

    /// How sessions connect.
    pub fn connection_string(&self) -> String {
        self.bed.postgres.connection_string(DATABASE)
    }

    /// A session, if the server takes one.
    pub fn try_connect(&self) -> Option<Client> {
        Client::connect(&self.connection_string(), NoTls).ok()
    }

    /// A session, once the server takes one again.
    #[track_caller]
    pub fn connect(&self) -> Client {
        wait_until("PostgreSQL takes connections", DEADLINE, || self.try_connect())
    }

    /// Waits until everything committed is confirmed, over restarts of the worker.
    #[track_caller]
    pub fn wait_until_confirmed(&self, deadline: Duration) {
        const QUERY: &str = "SELECT state || coalesce(': ' || reason, ''), \
             worker_pid IS NOT NULL AND lag_bytes = 0 AND lag_seconds IS NULL FROM amqp.status";
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
        tables::make(&mut client).unwrap_or_else(|error| panic!("tables: {error:?}"));
        let known = client.query_one("SELECT current_setting('amqp.unroutable', true)", &[]);
        let known = known.unwrap_or_else(|error| panic!("amqp.unroutable: {error:?}"));
        self.holds_unroutable = known.get::<_, Option<String>>(0).is_some();

        for (name, value) in [
            ("amqp.exchange", EXCHANGE),
            ("amqp.username", USER),
            ("amqp.password", PASSWORD),
            ("amqp.port", &self.proxy.port().to_string()),
        ] {
            postgres.set(name, value);
        }
        if self.holds_unroutable {
            postgres.set("amqp.unroutable", "hold");
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.bed.print_logs_once();
        }
    }
}
