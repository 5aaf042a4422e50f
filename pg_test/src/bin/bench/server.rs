//! The servers under measurement: one broker for all, a PostgreSQL for each subject, a database with
//! the extension in it whose events go to one exchange, and the session that asks and orders. `fsync`
//! is off unless told otherwise, as the harness has it, so that no disk hides what else takes time.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use pg_test::{
    Broker, QUIET, Queue, RabbitMq, Shutdown, Testbed, wait_until, wait_until_confirmed_within,
};
use postgres::Client;
use postgres::types::FromSqlOwned;

const DATABASE: &str = "bench";

/// The exchange of events, unless set otherwise.
const EXCHANGE: &str = "pg-messaging";

/// Messages wait here to be measured.
const QUEUE: &str = "bench";

/// Nobody listens there (IANA: tcpmux), so that a connection is refused at once.
const NO_BROKER: &str = "127.0.0.1:1";

const CONF: &[&str] = &["shared_buffers = '512MB'"];

/// A million events leave at some ten thousand per second, on a machine that others use, too.
const PATIENCE: Duration = Duration::from_secs(900);

/// Servers and session.
pub struct Server {
    // Dropped in this order: the servers last.
    pub client: Client,
    pub bed: Testbed,
}

impl Server {
    /// `conf` holds further lines of postgresql.conf.
    pub fn start(conf: &[&str]) -> Server {
        static RABBITMQ: LazyLock<Arc<RabbitMq>> = LazyLock::new(|| Arc::new(RabbitMq::create()));
        Server::start_beside(&RABBITMQ, conf)
    }

    /// With a broker that is not the one of all others.
    pub fn start_beside(rabbitmq: &Arc<RabbitMq>, conf: &[&str]) -> Server {
        // What the subject before has left is not to take the broker's time.
        rabbitmq.broker().delete_queue(QUEUE);
        rabbitmq.broker().declare_exchange(EXCHANGE, "topic");
        let bed = Testbed::beside(rabbitmq, &[QUIET, CONF, conf].concat());
        let client = bed.make_database(DATABASE);
        Server { client, bed }
    }

    /// Another database with the extension, and a session in it.
    pub fn make_database(&self, name: &str) -> Client {
        self.bed.make_database(name)
    }

    /// A further session in the first database.
    pub fn connect(&self) -> Client {
        self.connect_to(DATABASE)
    }

    /// A session in any database.
    pub fn connect_to(&self, database: &str) -> Client {
        self.bed.postgres.connect(database)
    }

    pub fn database(&self) -> &'static str {
        DATABASE
    }

    pub fn broker(&self) -> Broker {
        self.bed.rabbitmq.broker()
    }

    pub fn exchange(&self) -> &'static str {
        EXCHANGE
    }

    /// The queue that [`Server::bind`] binds.
    pub fn queue(&self) -> &'static str {
        QUEUE
    }

    /// Binds an empty durable queue of this type that gets every event.
    pub fn bind(&self, queue_type: &str) -> Queue {
        self.unbind();
        let queue = Queue::durable(QUEUE).with_text("x-queue-type", queue_type);
        let queue = queue.bound_to(EXCHANGE, "#");
        self.broker().declare_queue(&queue);
        queue
    }

    /// Deletes that queue: whatever is published is returned.
    pub fn unbind(&self) {
        self.broker().delete_queue(QUEUE);
    }

    #[track_caller]
    pub fn run(&mut self, statements: &str) {
        run(&mut self.client, statements);
    }

    /// The one value of the one row that a query gives.
    #[track_caller]
    pub fn ask<T: FromSqlOwned>(&mut self, query: &str) -> T {
        match self.client.query_one(query, &[]) {
            Ok(row) => row.get(0),
            Err(error) => panic!("{query}: {error:?}"),
        }
    }

    /// The end of the WAL that is on disk: as far as the worker can read.
    pub fn end_of_wal(&mut self) -> u64 {
        self.ask::<i64>("SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint") as u64
    }

    /// Returns when the worker has read the WAL up to `end`.
    #[track_caller]
    pub fn wait_until_read(&mut self, end: u64) {
        const LSN: &str = "SELECT coalesce(read_lsn - '0/0', 0)::bigint FROM amqp.status";
        wait_until("the worker has read the WAL", PATIENCE, || {
            (self.ask::<i64>(LSN) as u64 >= end).then_some(())
        });
    }

    /// Has the worker look at the WAL now: what others write into it wakes nobody, but a reload does.
    pub fn wake_worker(&self) {
        self.bed.postgres.reload();
    }

    /// WAL from here on is retained for the worker.
    pub fn restart_lsn(&mut self) -> u64 {
        const LSN: &str = "SELECT (restart_lsn - '0/0')::bigint FROM pg_replication_slots \
             WHERE slot_name = 'amqp_cdc'";
        self.ask::<i64>(LSN) as u64
    }

    /// Events confirmed since the server started.
    pub fn confirmed(&mut self) -> u64 {
        self.ask::<i64>("SELECT events_confirmed FROM amqp.status") as u64
    }

    /// Returns when everything that was captured so far is published.
    #[track_caller]
    pub fn settle(&mut self) {
        wait_until_confirmed_within(&mut self.client, PATIENCE);
    }

    /// Takes the broker from the worker, and returns when the worker knows.
    pub fn part(&mut self) {
        self.bed.postgres.set("amqp.host", NO_BROKER);
        wait_until("the stream stands still", PATIENCE, || {
            let state: String = self.ask("SELECT state FROM amqp.status");
            (state == "standing still").then_some(())
        });
    }

    /// Takes [`Server::part`] back. The server is started again, so that the worker begins anew:
    /// nothing is read yet, nothing counted.
    pub fn rejoin(&mut self) {
        self.run("ALTER SYSTEM RESET amqp.host");
        self.bed.postgres.restart(Shutdown::Fast);
        self.client = self.connect();
    }

    /// How long anything may take.
    pub fn patience(&self) -> Duration {
        PATIENCE
    }
}

/// Runs statements, none of which may fail.
#[track_caller]
pub fn run(client: &mut Client, statements: &str) {
    client.batch_execute(statements).unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}
