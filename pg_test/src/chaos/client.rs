//! One client: a session that runs one random transaction after the other, survives whatever happens
//! to it, and writes down how each transaction ended.

use std::io::Write;
use std::time::{Duration, Instant};

use ::postgres::error::{Severity, SqlState};
use ::postgres::{Client, Error, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::clients::{Account, Clients, Prepared, SENDER, WRITER_OF_GIANTS};
use super::deaths::Commit;
use super::ledger::{Autonomous, Change, Outcome, Transaction};
use super::messages::{Sending, is_autonomous};
use super::planned_transaction::{Ending, PlannedTransaction, Step};
use super::statements;
use super::tables::{BULK, JOURNAL, SIGNATURES, SMALL};
use super::triggers::{Before, Returned, Statement, truncate};
use crate::dice::Dice;

/// So many clients hold transactions open for seconds.
const PATIENT: u64 = 2;

/// Longest time between two transactions of a client, in milliseconds.
const LONGEST_REST: u64 = 700;

/// The same of the client that writes enormous values: it does so all the time.
const LONGEST_REST_OF_GIANTS: u64 = 60;

/// The rows that a client copies have keys between its number times this and the next one's.
const KEYS_OF_A_CLIENT: u64 = 1_000_000_000;

/// After a connection could not be made.
const RETRY: Duration = Duration::from_millis(200);

/// What every session sets: nothing may hang, and deadlocks are worth finding soon.
const SESSION: &str = "SET lock_timeout = '1s'; SET deadlock_timeout = '100ms'";

/// Ends the session that says it.
const LEAVE: &str = "SELECT pg_terminate_backend(pg_backend_pid())";

/// Works as client number `number` until the run ends.
pub(super) fn work(clients: &Clients<'_>, number: u64) -> Account {
    let mut client = RandomClient {
        clients,
        number,
        dice: Dice::new(clients.seed, number),
        session: None,
        transactions: 0,
        statements: 0,
        copied: 0,
        account: Account::default(),
    };
    let longest_rest =
        if number == WRITER_OF_GIANTS { LONGEST_REST_OF_GIANTS } else { LONGEST_REST };
    loop {
        let rest = client.dice.time(0, longest_rest);
        if clients.end_signal.comes_within(rest) {
            return client.account;
        }
        client.turn();
    }
}

/// Why a transaction did not get to its end.
enum Broken {
    /// The server said so; the session goes on.
    Refused(Error),
    /// The session has ended.
    CutOff(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Broken {
        let severity = error.as_db_error().and_then(|error| error.parsed_severity());
        match severity {
            Some(Severity::Error) => Broken::Refused(error),
            _ => Broken::CutOff(error),
        }
    }
}

/// One client at work.
struct RandomClient<'a> {
    clients: &'a Clients<'a>,
    number: u64,
    dice: Dice,
    session: Option<Client>,
    transactions: u64,
    /// Numbers the stamps: not even what a savepoint rolled back has the stamp of another change.
    statements: u64,
    /// Rows copied into the bulk table: the next one has a new key.
    copied: u64,
    account: Account,
}

impl RandomClient<'_> {
    /// One transaction, if a session can be had.
    fn turn(&mut self) {
        let Some(mut session) = self.session.take().or_else(|| self.connect()) else {
            self.clients.end_signal.comes_within(RETRY);
            return;
        };
        let is_alive = self.end_prepared(&mut session) && self.transact(&mut session);
        self.session = is_alive.then_some(session);
    }

    fn connect(&mut self) -> Option<Client> {
        let mut session = Client::connect(&self.clients.connection_string, NoTls).ok()?;
        session.batch_execute(SESSION).ok()?;
        // Who is tired of waiting for a synchronous standby would be told of a commit that this one may not have.
        if !self.clients.waits_for_standby {
            session.batch_execute("SET statement_timeout = '20s'").ok()?;
        }
        Some(session)
    }

    /// Commits or rolls back what another session prepared. False if the session has ended.
    fn end_prepared(&mut self, session: &mut Client) -> bool {
        let Some(mut prepared) = self.clients.take_prepared(self.number) else { return true };
        let verb = if prepared.commit { "COMMIT" } else { "ROLLBACK" };
        let statement = format!("{verb} PREPARED '{}'", prepared.transaction.tag);
        let asked = Instant::now();
        match session.batch_execute(&statement).map_err(Broken::from) {
            Ok(()) => {
                prepared.transaction.outcome =
                    if prepared.commit { Outcome::Committed } else { Outcome::RolledBack };
                prepared.transaction.commit =
                    prepared.commit.then(|| Commit { asked, told: Instant::now() });
                self.account.transactions.push(prepared.transaction);
                true
            }
            Err(Broken::Refused(error)) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => {
                // It never was prepared, or somebody's answer was cut off.
                prepared.transaction.outcome = Outcome::Unknown;
                self.account.transactions.push(prepared.transaction);
                true
            }
            Err(broken) => {
                self.clients.keep_prepared(prepared);
                self.note(broken)
            }
        }
    }

    /// Runs a transaction and writes down how it ended. False if the session has ended.
    fn transact(&mut self, session: &mut Client) -> bool {
        self.transactions += 1;
        let planned = match self.number {
            WRITER_OF_GIANTS => PlannedTransaction::roll_giants(&mut self.dice),
            SENDER => PlannedTransaction::roll_messages(&mut self.dice),
            number => PlannedTransaction::roll(&mut self.dice, number < PATIENT),
        };
        let mut transaction = Transaction {
            tag: format!("c{}-{}", self.number, self.transactions),
            changes: Vec::new(),
            midway: 0,
            outcome: Outcome::RolledBack,
            commit: None,
        };
        let begin = format!("BEGIN ISOLATION LEVEL {}", planned.isolation);
        let begun = session.batch_execute(&begin).map_err(Broken::from);
        let performed = begun
            .and_then(|()| self.perform(session, &mut transaction, &planned.steps))
            .and_then(|()| self.sign(session, &mut transaction));
        let is_alive = match performed {
            Err(broken) => self.note(broken) && session.batch_execute("ROLLBACK").is_ok(),
            Ok(()) => return self.end(session, transaction, planned.ending),
        };
        self.account.transactions.push(transaction);
        is_alive
    }

    fn end(&mut self, session: &mut Client, mut transaction: Transaction, ending: Ending) -> bool {
        let statement = match ending {
            Ending::Commit => "COMMIT".to_owned(),
            Ending::Rollback => "ROLLBACK".to_owned(),
            Ending::CutOff { commit: true } => format!("COMMIT; {LEAVE}"),
            Ending::CutOff { commit: false } => format!("{LEAVE}; COMMIT"),
            Ending::Prepare { .. } => format!("PREPARE TRANSACTION '{}'", transaction.tag),
        };
        let asked = Instant::now();
        let ended = session.batch_execute(&statement).map_err(Broken::from);
        let commit = Commit { asked, told: Instant::now() };
        transaction.outcome = match (&ended, ending) {
            (Ok(()), Ending::Commit) => Outcome::Committed,
            (_, Ending::Rollback) | (Err(Broken::Refused(_)), _) => Outcome::RolledBack,
            (_, Ending::Prepare { commit, after }) => {
                let due = Instant::now() + after;
                let prepared = Prepared { transaction, by: self.number, commit, due };
                self.clients.keep_prepared(prepared);
                return ended.map_or_else(|broken| self.note(broken), |()| true);
            }
            (Err(Broken::CutOff(_)), Ending::Commit) | (_, Ending::CutOff { .. }) => {
                Outcome::Unknown
            }
        };
        transaction.commit = (transaction.outcome == Outcome::Committed).then_some(commit);
        self.account.transactions.push(transaction);
        ended.map_or_else(|broken| self.note(broken), |()| true)
    }

    fn perform(
        &mut self,
        session: &mut Client,
        transaction: &mut Transaction,
        steps: &[Step],
    ) -> Result<(), Broken> {
        for step in steps {
            match step {
                Step::Hold(time) => drop(self.clients.end_signal.comes_within(*time)),
                Step::Fail => session.batch_execute("SELECT 1 / 0")?,
                Step::Copy { table, rows, bytes } => {
                    self.copy(session, transaction, table, *rows, *bytes)?;
                }
                Step::Truncate => self.truncate(session, transaction)?,
                Step::Send { sending, count } => {
                    self.send(session, transaction, *sending, *count)?;
                }
                Step::Savepoint { steps, released } => {
                    self.perform_in_savepoint(session, transaction, steps, *released)?;
                }
                step => self.change(session, transaction, step)?,
            }
        }
        Ok(())
    }

    fn perform_in_savepoint(
        &mut self,
        session: &mut Client,
        transaction: &mut Transaction,
        steps: &[Step],
        released: bool,
    ) -> Result<(), Broken> {
        let (before, midway_before) = (transaction.changes.len(), transaction.midway);
        session.batch_execute("SAVEPOINT s")?;
        match self.perform(session, transaction, steps) {
            Ok(()) if released => return Ok(session.batch_execute("RELEASE s")?),
            Ok(()) => {}
            Err(Broken::Refused(error)) if is_final(&error) => return Err(Broken::Refused(error)),
            Err(Broken::Refused(error)) => drop(self.note(Broken::Refused(error))),
            Err(cut_off) => return Err(cut_off),
        }
        session.batch_execute("ROLLBACK TO s; RELEASE s")?;
        transaction.changes.truncate(before);
        transaction.midway = midway_before;
        Ok(())
    }

    fn copy(
        &mut self,
        session: &mut Client,
        transaction: &mut Transaction,
        table: &'static str,
        rows: u64,
        bytes: u64,
    ) -> Result<(), Broken> {
        let mut first = self.number * KEYS_OF_A_CLIENT + 1;
        if table == BULK {
            first += self.copied;
            self.copied += rows;
        }
        let stamp = self.stamp(transaction);
        let mut text = String::new();
        for key in first..first + rows {
            let payload = "p".repeat(bytes as usize);
            text += &format!("{key}\t{stamp}i\t{bytes}\t{payload}\n");
        }
        session.batch_execute(&announcement(&stamp))?;
        let statement = format!("COPY {table} (key, stamp, amount, payload) FROM STDIN");
        let mut copy = session.copy_in(&statement)?;
        let written = copy.write_all(text.as_bytes());
        // What went wrong while writing, the end of it tells better.
        copy.finish()?;
        written.expect("a COPY that ended well was written");
        // A COPY returns nothing.
        let copied = session.simple_query(&format!(
            "SELECT key, stamp, first FROM {table}
             WHERE key BETWEEN {first} AND {} ORDER BY key",
            first + rows - 1
        ))?;
        let before = Before::Nothing;
        let statement =
            Statement { table, stamp: &stamp, is_delete: false, before, returning: None };
        let copied = returned(&copied);
        transaction.extend(statement.changes(&copied), copied.len());
        Ok(())
    }

    fn truncate(
        &mut self,
        session: &mut Client,
        transaction: &mut Transaction,
    ) -> Result<(), Broken> {
        let stamp = self.stamp(transaction);
        session.batch_execute(&format!("{}; TRUNCATE {SMALL}", announcement(&stamp)))?;
        transaction.extend(truncate(&stamp), 1);
        Ok(())
    }

    /// Makes the changes of one statement, and writes down which they were.
    fn change(
        &mut self,
        session: &mut Client,
        transaction: &mut Transaction,
        step: &Step,
    ) -> Result<(), Broken> {
        let stamp = self.stamp(transaction);
        let own_keys = self.number * KEYS_OF_A_CLIENT..(self.number + 1) * KEYS_OF_A_CLIENT;
        let Some((statement, sql)) = statements::of(step, &stamp, own_keys) else { return Ok(()) };
        let changed = session.simple_query(&format!("{}; {sql}", announcement(&stamp)))?;
        let changed = returned(&changed);
        transaction.extend(statement.changes(&changed), changed.len());
        Ok(())
    }

    /// Sends messages, and writes down what it was told of them.
    fn send(
        &mut self,
        session: &mut Client,
        transaction: &mut Transaction,
        sending: Sending,
        count: u64,
    ) -> Result<(), Broken> {
        let stamp = self.stamp(transaction);
        let messages = (1..=count).map(|number| sending.change(format!("sent {number}"), &stamp));
        let messages: Vec<Change> = messages.collect();
        let call = sending.call("'sent ' || number", &format!("'{stamp}'"));
        let asked = Instant::now();
        let answer = session
            .simple_query(&format!("SELECT {call} FROM generate_series(1, {count}) AS number"));
        let told = Instant::now();
        if let Ok(answer) = &answer {
            let message_ids = rows(answer).filter_map(|row| row.get(0)).map(str::to_owned);
            self.account.message_ids.extend(messages.iter().cloned().zip(message_ids));
        }
        if is_autonomous(sending.routing_key) {
            let sent = answer.is_ok().then_some(Commit { asked, told });
            let autonomous = messages.into_iter().map(|change| Autonomous { change, sent });
            self.account.autonomous.extend(autonomous);
            answer?;
        } else {
            answer?;
            transaction.extend(messages, count as usize);
        }
        Ok(())
    }

    /// The last change of each transaction: into the journal goes its tag.
    fn sign(&mut self, session: &mut Client, transaction: &mut Transaction) -> Result<(), Broken> {
        let tag = transaction.tag.clone();
        if self.number == SENDER {
            session.batch_execute(&format!("INSERT INTO {SIGNATURES} VALUES ('{tag}')"))?;
            return self.send(session, transaction, Sending::small(), 1);
        }
        let stamp = format!("{tag}#end");
        session.batch_execute(&format!("INSERT INTO {JOURNAL} VALUES ('{tag}', '{stamp}')"))?;
        let (table, operation) = (JOURNAL.to_owned(), "insert".to_owned());
        transaction.changes.push(Change { table, operation, key: tag, stamp });
        Ok(())
    }

    /// What the next statement writes into the rows that it changes.
    fn stamp(&mut self, transaction: &Transaction) -> String {
        self.statements += 1;
        format!("{}#{}", transaction.tag, self.statements)
    }

    /// Counts an error. Whether the session goes on.
    fn note(&mut self, broken: Broken) -> bool {
        let (Broken::Refused(error) | Broken::CutOff(error)) = &broken;
        let code = error.code().map_or("connection", SqlState::code);
        *self.account.errors.entry(code.to_owned()).or_default() += 1;
        matches!(broken, Broken::Refused(_))
    }
}

/// Whether a transaction in which this happened cannot go on, whatever its savepoints.
fn is_final(error: &Error) -> bool {
    error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE)
}

/// Tells triggers and functions the stamp of the next statement.
fn announcement(stamp: &str) -> String {
    format!("SET LOCAL chaos.stamp = '{stamp}'")
}

fn rows(answer: &[SimpleQueryMessage]) -> impl Iterator<Item = &SimpleQueryRow> {
    answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })
}

/// The rows of an answer with the columns key, stamp and first.
fn returned(answer: &[SimpleQueryMessage]) -> Vec<Returned> {
    let returned = rows(answer).map(|row| {
        let [key, stamp, first] =
            [0, 1, 2].map(|column| row.get(column).unwrap_or_default().to_owned());
        Returned { key, stamp, first }
    });
    returned.collect()
}
