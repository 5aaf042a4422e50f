//! One server under measurement: a testbed of its own, a database with the extension in it, and the
//! session that asks and orders. No checkpoint, no vacuum and no compilation that nobody asked for.

use std::time::Duration;

use pg_test::{Queue, Testbed, wait_until, wait_until_confirmed_within};
use postgres::Client;
use postgres::types::FromSqlOwned;

const DATABASE: &str = "bench";

/// The exchange of events, unless set otherwise.
const EXCHANGE: &str = "pg-messaging";

const CONF: &[&str] = &[
    "shared_buffers = '512MB'",
    "min_wal_size = '2GB'",
    "max_wal_size = '64GB'",
    "checkpoint_timeout = '1d'",
    "autovacuum = off",
    "jit = off",
];

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
        let bed = Testbed::private(&[CONF, conf].concat());
        bed.rabbitmq.broker().declare_exchange(EXCHANGE, "topic");
        let client = make_database(&bed, DATABASE);
        Server { client, bed }
    }

    /// Another database with the extension, and a session in it.
    pub fn make_database(&self, name: &str) -> Client {
        make_database(&self.bed, name)
    }

    /// A further session in the first database.
    pub fn connect(&self) -> Client {
        self.bed.postgres.connect(DATABASE)
    }

    pub fn database(&self) -> &'static str {
        DATABASE
    }

    /// Declares a durable classic queue that gets every event.
    pub fn bind_queue(&self, name: &str) -> Queue {
        let queue = Queue::durable(name).bound_to(EXCHANGE, "#");
        self.bed.rabbitmq.broker().declare_queue(&queue);
        queue
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

fn make_database(bed: &Testbed, name: &str) -> Client {
    run(&mut bed.postgres.connect("postgres"), &format!("CREATE DATABASE {name}"));
    let mut client = bed.postgres.connect(name);
    run(&mut client, "CREATE EXTENSION amqp_cdc");
    client
}
