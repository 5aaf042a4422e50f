//! Who changes the tables: writers that commit at a moderate pace for as long as the run lasts, and keep a ledger.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use pg_test::Postgres;
use pg_test::dice::Dice;
use postgres::Client;

use super::ledger::Ledger;

/// How many there are.
pub const WRITERS: usize = 4;

/// Rows that a transaction inserts at most.
const MOST_ROWS: u64 = 12;

/// Between two transactions of a writer, in milliseconds.
const REST: (u64, u64) = (10, 40);

/// Of a hundred transactions so many are rolled back.
const ROLLED_BACK: u64 = 5;

/// Makes the tables.
pub fn make_tables(client: &mut Client) {
    let statements = format!(
        "CREATE TABLE events (writer int, number bigint, PRIMARY KEY (writer, number));
         CREATE TABLE counters (writer int PRIMARY KEY, rows bigint);
         INSERT INTO counters SELECT writer, 0 FROM generate_series(0, {WRITERS} - 1) writer;
         CREATE TRIGGER capture AFTER INSERT ON events
             FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('event');
         CREATE TRIGGER capture AFTER UPDATE ON counters
             FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('counter')"
    );
    client.batch_execute(&statements).unwrap_or_else(|error| panic!("tables: {error:?}"));
}

/// The writers.
#[derive(Debug)]
pub struct Load {
    ledger: Mutex<Ledger>,
    is_over: AtomicBool,
    is_paused: AtomicBool,
}

impl Load {
    /// Nothing written yet.
    pub fn new() -> Load {
        Load {
            ledger: Mutex::new(vec![Vec::new(); WRITERS]),
            is_over: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
        }
    }

    /// A writer's life.
    pub fn write(&self, postgres: &Postgres, database: &str, writer: usize, seed: u64) {
        let mut client = postgres.connect(database);
        let mut dice = Dice::new(seed, writer as u64);
        let mut written = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            if !self.is_paused.load(Ordering::Relaxed) {
                let rows = dice.between(1, MOST_ROWS);
                let is_committed = !dice.chance(ROLLED_BACK);
                let end = if is_committed { "COMMIT" } else { "ROLLBACK" };
                let statements = format!(
                    "BEGIN;
                     INSERT INTO events SELECT {writer}, number
                         FROM generate_series({}, {}) number;
                     UPDATE counters SET rows = {} WHERE writer = {writer};
                     {end}",
                    written + 1,
                    written + rows,
                    written + rows
                );
                client.batch_execute(&statements).expect("PostgreSQL does not fail here");
                if is_committed {
                    written += rows;
                    let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
                    ledger[writer].push(rows);
                }
            }
            thread::park_timeout(dice.time(REST.0, REST.1));
        }
    }

    /// Whether writers rest.
    pub fn pause(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::Relaxed);
        if is_paused {
            // Who is in the middle of a transaction ends it.
            thread::park_timeout(Duration::from_millis(200));
        }
    }

    /// Writers end.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// What was committed.
    pub fn ledger(&self) -> Ledger {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
