//! Who changes the tables: sessions that look for the server that takes writes, whatever happens to it, and write down
//! what they were told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pg_test::dice::Dice;
use pg_test::end_signal::EndSignal;
use pg_test::history::Commit;
use pg_test::{lsn, wait_until};
use postgres::{Client, Error, NoTls, SimpleQueryMessage};

use super::ledger::{Ledger, Outcome, Transaction};

/// The keys that everybody changes.
const KEYS: u64 = 40;

/// Longest time between two transactions of a writer, in milliseconds.
const LONGEST_REST: u64 = 40;

/// For the last statement of each.
const PATIENCE: Duration = Duration::from_secs(60);

/// After a session could not be had.
const RETRY: Duration = Duration::from_millis(200);

/// What every session sets: nothing may hang for long.
const SESSION: &str = "SET lock_timeout = '1s'; SET statement_timeout = '20s'";

/// After the COMMIT: on which timeline that was, and before which place.
const WHERE: &str = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int, \
     pg_current_wal_insert_lsn()";

/// The tables: rows that everybody changes, and the journal.
pub const TABLES: &str = "CREATE TABLE rows (key text PRIMARY KEY, stamp text NOT NULL);
     CREATE TABLE journal (key text PRIMARY KEY, stamp text NOT NULL);
     CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON rows
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture();
     CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON journal
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()";

/// Those of one trial.
#[derive(Debug)]
pub struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    trial: String,
    seed: u64,
}

#[derive(Debug, Default)]
struct Shared {
    end_signal: EndSignal,
    ledger: Mutex<Ledger>,
}

impl Writers {
    /// Nobody yet. The tags begin with the name of the trial.
    pub fn new(trial: &str, seed: u64) -> Writers {
        Writers { shared: Arc::default(), threads: Vec::new(), trial: trial.to_owned(), seed }
    }

    /// One more, who connects so.
    pub fn add(&mut self, connection_string: String) {
        let (shared, number) = (Arc::clone(&self.shared), self.threads.len() as u64);
        let writer = Writer {
            connection_string,
            name: format!("{}-{number}", self.trial),
            dice: Dice::new(self.seed, number),
            session: None,
            made: 0,
        };
        self.threads.push(thread::spawn(move || writer.work(&shared)));
    }

    /// How many transactions were acknowledged so far on this timeline.
    pub fn acknowledged_on(&self, timeline: u64) -> usize {
        self.shared
            .ledger()
            .acknowledged()
            .filter(|(_, commit)| commit.timeline == timeline)
            .count()
    }

    /// Has them end, and returns what they know.
    pub fn end(mut self) -> Ledger {
        self.shared.end_signal.give();
        for thread in self.threads.drain(..) {
            // One that hangs hangs at a server that should not be there any more, or waits for one that does not come.
            wait_until("a writer ends", PATIENCE, || thread.is_finished().then_some(()));
            thread.join().expect("a writer failed");
        }
        self.shared.ledger().clone()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        // Who panics does not wait for them.
        self.shared.end_signal.give();
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer {
    connection_string: String,
    name: String,
    dice: Dice,
    session: Option<Client>,
    made: u64,
}

impl Writer {
    fn work(mut self, shared: &Shared) {
        loop {
            let rest = self.dice.time(0, LONGEST_REST);
            if shared.end_signal.comes_within(rest) {
                return;
            }
            let Some(mut session) = self.session.take().or_else(|| self.connect()) else {
                shared.end_signal.comes_within(RETRY);
                continue;
            };
            let transaction = self.transact(&mut session);
            let is_known = transaction.outcome != Outcome::Unknown;
            shared.ledger().enter(transaction);
            self.session = is_known.then_some(session);
        }
    }

    fn connect(&mut self) -> Option<Client> {
        let mut session = Client::connect(&self.connection_string, NoTls).ok()?;
        session.batch_execute(SESSION).ok()?;
        self.commit_prepared(&mut session).ok()?;
        Some(session)
    }

    /// What an earlier session of this writer had prepared, and this server knows of.
    fn commit_prepared(&self, session: &mut Client) -> Result<(), Error> {
        let own = format!("{}-%", self.name);
        for row in session.query("SELECT gid FROM pg_prepared_xacts WHERE gid LIKE $1", &[&own])? {
            session.batch_execute(&format!("COMMIT PREPARED '{}'", row.get::<_, &str>(0)))?;
        }
        Ok(())
    }

    fn transact(&mut self, session: &mut Client) -> Transaction {
        self.made += 1;
        let tag = format!("{}-{}", self.name, self.made);
        let mut keys: Vec<String> =
            (0..self.dice.between(1, 3)).map(|_| self.dice.between(1, KEYS).to_string()).collect();
        // In one order, so that nobody meets another in a deadlock.
        keys.sort();
        keys.dedup();
        let mut statements = "BEGIN;".to_owned();
        for key in &keys {
            statements += &match self.dice.chance(20) {
                true => format!("DELETE FROM rows WHERE key = '{key}';"),
                false => format!(
                    "INSERT INTO rows VALUES ('{key}', '{tag}')
                     ON CONFLICT (key) DO UPDATE SET stamp = excluded.stamp;"
                ),
            };
        }
        statements += &format!("INSERT INTO journal VALUES ('{tag}', '{tag}')");
        let is_prepared = self.dice.chance(15);
        let outcome = match session.batch_execute(&statements) {
            Ok(()) => end(session, &tag, is_prepared),
            Err(error) if is_refusal(&error) => match session.batch_execute("ROLLBACK") {
                Ok(()) => Outcome::RolledBack,
                // It was not committed; but the session is of no use any more.
                Err(_) => Outcome::Unknown,
            },
            Err(_) => Outcome::Unknown,
        };
        Transaction { tag, keys, outcome }
    }
}

fn end(session: &mut Client, tag: &str, is_prepared: bool) -> Outcome {
    let commit = match is_prepared {
        true => {
            if session.batch_execute(&format!("PREPARE TRANSACTION '{tag}'")).is_err() {
                return Outcome::Unknown;
            }
            format!("COMMIT PREPARED '{tag}'")
        }
        false => "COMMIT".to_owned(),
    };
    match session.simple_query(&commit).and_then(|_| session.simple_query(WHERE)) {
        Ok(answer) => place(&answer).map_or(Outcome::Unknown, Outcome::Acknowledged),
        Err(_) => Outcome::Unknown,
    }
}

fn place(answer: &[SimpleQueryMessage]) -> Option<Commit> {
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })?;
    Some(Commit { timeline: row.get(0)?.parse().ok()?, lsn: lsn::parse(row.get(1)?)? })
}

/// Whether the server refused a statement, and the session goes on.
fn is_refusal(error: &Error) -> bool {
    let severity = error.as_db_error().and_then(|error| error.parsed_severity());
    severity == Some(postgres::error::Severity::Error)
}
