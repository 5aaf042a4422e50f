//! The servers, and the one session in which everything is written. The broker runs and the worker
//! publishes, to an exchange that no queue is bound to; each statement is published before the next
//! begins, so that the worker rests while there is nothing of its own to read, and the server can
//! use its WAL files again.

use std::time::Duration;

use pg_test::machine::Apart;
use pg_test::{Postgres, QUIET, Testbed, wait_until_confirmed_within};
use postgres::Client;

const DATABASE: &str = "bench";

const CONF: &[&str] = &[
    "shared_buffers = '1GB'",
    // A transaction that touches 1,000 tables and their indexes.
    "max_locks_per_transaction = 256",
];

/// A broker without queues returns what it gets, some ten thousand messages per second.
const PATIENCE: Duration = Duration::from_secs(600);

/// Servers and session.
pub struct Servers {
    // Dropped in this order: the servers last.
    pub client: Client,
    pub bed: Testbed,
}

impl Servers {
    pub fn start() -> Servers {
        let bed = Testbed::private(&[QUIET, CONF].concat());
        Servers { client: bed.make_database(DATABASE), bed }
    }

    pub fn postgres(&self) -> &Postgres {
        &self.bed.postgres
    }

    pub fn database(&self) -> &'static str {
        DATABASE
    }

    /// Runs statements, none of which may fail.
    #[track_caller]
    pub fn run(&mut self, statements: &str) {
        let done = self.client.batch_execute(statements);
        done.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    /// Returns when everything that was captured so far is published.
    pub fn settle(&mut self) {
        wait_until_confirmed_within(&mut self.client, PATIENCE);
    }

    /// Gives worker and broker a core of their own.
    pub fn part(&mut self) -> Apart {
        let row = self.client.query_one("SELECT worker_pid FROM amqp.status", &[]);
        let worker: i32 = row.expect("could not ask for the worker").get(0);
        Apart::set(self.postgres().pid(), worker as u32, self.bed.rabbitmq.pid())
    }
}
