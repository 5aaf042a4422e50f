//! The servers: a database whose events go to one exchange, and the queues that are bound to it.
//! `fsync` is off, as the harness has it, so that no disk hides what else takes time.

use std::time::Duration;

use pg_test::{Broker, Queue, Shutdown, Testbed, wait_until, wait_until_confirmed_within};
use postgres::Client;

const DATABASE: &str = "bench";
const EXCHANGE: &str = "bench";

/// Messages wait here to be measured.
const QUEUE: &str = "bench";

/// No checkpoint, no vacuum and no compilation that nobody asked for.
const CONF: &[&str] = &[
    "shared_buffers = '512MB'",
    "min_wal_size = '1GB'",
    "max_wal_size = '64GB'",
    "checkpoint_timeout = '1d'",
    "autovacuum = off",
    "jit = off",
];

/// For everything that the slowest queue has to take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Nobody listens there (IANA: tcpmux), so that a connection is refused at once.
const NO_BROKER: &str = "127.0.0.1:1";

/// Servers and session.
pub struct Stage {
    // Dropped in this order: the servers last.
    pub client: Client,
    pub bed: Testbed,
}

impl Stage {
    /// With these tables and triggers.
    pub fn set(tables: &str) -> Stage {
        let bed = Testbed::private(CONF);
        bed.rabbitmq.broker().declare_exchange(EXCHANGE, "topic");
        let mut server = bed.postgres.connect("postgres");
        let create = format!("CREATE DATABASE {DATABASE}");
        server.batch_execute(&create).expect("could not make a database");
        let mut stage = Stage { client: bed.postgres.connect(DATABASE), bed };
        stage.run("CREATE EXTENSION amqp_cdc");
        stage.run(&format!("ALTER DATABASE {DATABASE} SET amqp.exchange = '{EXCHANGE}'"));
        stage.client = stage.connect();
        stage.run(tables);
        stage
    }

    /// One more session.
    pub fn connect(&self) -> Client {
        self.bed.postgres.connect(DATABASE)
    }

    /// The way to the database, for other processes.
    pub fn connection_string(&self) -> String {
        self.bed.postgres.connection_string(DATABASE)
    }

    pub fn broker(&self) -> Broker {
        self.bed.rabbitmq.broker()
    }

    pub fn exchange(&self) -> &'static str {
        EXCHANGE
    }

    /// The queue that [`Stage::bind`] binds.
    pub fn queue(&self) -> &'static str {
        QUEUE
    }

    /// Runs statements, none of which may fail.
    #[track_caller]
    pub fn run(&mut self, statements: &str) {
        let done = self.client.batch_execute(statements);
        done.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    /// Binds an empty queue of this type; none: whatever is published is returned.
    pub fn bind(&self, queue_type: Option<&str>) {
        let broker = self.broker();
        broker.delete_queue(QUEUE);
        if let Some(queue_type) = queue_type {
            let queue = Queue::durable(QUEUE).with_text("x-queue-type", queue_type);
            broker.declare_queue(&queue.bound_to(EXCHANGE, "#"));
        }
    }

    /// Returns when everything that was captured so far is published.
    pub fn settle(&mut self) {
        wait_until_confirmed_within(&mut self.client, PATIENCE);
    }

    /// Takes the broker from the worker, and returns when the worker knows.
    pub fn part(&mut self) {
        self.bed.postgres.set("amqp.host", NO_BROKER);
        wait_until("the stream stands still", PATIENCE, || {
            let row = self.client.query_one("SELECT state FROM amqp.status", &[]);
            let state: String = row.expect("could not read amqp.status").get(0);
            (state == "standing still").then_some(())
        });
    }

    /// Takes [`Stage::part`] back. The server is started again, so that the worker begins anew:
    /// nothing is read yet, nothing counted.
    pub fn rejoin(&mut self) {
        self.run("ALTER SYSTEM RESET amqp.host");
        self.bed.postgres.restart(Shutdown::Fast);
        self.client = self.connect();
    }
}
