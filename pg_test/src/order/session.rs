//! Runs planned transactions: a session that does what is planned, rolls back what failed and goes on. What
//! failed is counted by its SQLSTATE; only what happens in the database tells how it ended.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use ::postgres::{Client, Error};

use super::planned_transaction::{End, PlannedTransaction, Step};
use super::world::Session;

/// What statements may fail with, by SQLSTATE: rows that collide, or that refer to none; a row that was
/// changed in the middle of its own statement; COPY FREEZE and TRUNCATE of a table in use.
const EXPECTED: [&str; 6] = ["21000", "23503", "23505", "27000", "55000", "55006"];

/// What PostgreSQL says when a deferred trigger, whichever, looks for a row of a table that a function
/// emptied in the meantime.
const ROW_IS_GONE: [&str; 2] = ["could not read block", "failed to fetch tuple1 for AFTER trigger"];

/// The statements that failed.
#[derive(Debug, Default)]
pub(super) struct Errors {
    /// How many, by SQLSTATE.
    pub counts: BTreeMap<String, usize>,
    /// Those that should not have.
    pub unexpected: Vec<String>,
}

impl Errors {
    /// Adds those of another session.
    pub fn add(&mut self, others: Errors) {
        for (code, times) in others.counts {
            *self.counts.entry(code).or_default() += times;
        }
        self.unexpected.extend(others.unexpected);
    }
}

/// Runs all transactions of a session, each behind a row in `tag` with its number, and says so of each.
///
/// # Panics
/// If the connection breaks.
pub(super) fn run(client: &mut Client, session: &Session, done: &Sender<()>) -> Errors {
    let mut runner = Runner { client, errors: Errors::default() };
    let path = format!("SET search_path = {}, public", session.schema);
    runner.run(&path).expect("a search path can be set");
    for (number, planned) in session.transactions.iter().enumerate() {
        let tag = format!("SELECT setval('spending', 1); INSERT INTO tag VALUES ({number})");
        runner.run(&tag).unwrap_or_else(|error| panic!("{tag}: {error:?}"));
        runner.transaction(planned, &format!("{}_{number}", session.schema));
        // Who listens may have failed; its panic tells.
        let _ = done.send(());
    }
    runner.errors
}

struct Runner<'a> {
    client: &'a mut Client,
    errors: Errors,
}

impl Runner<'_> {
    fn transaction(&mut self, planned: &PlannedTransaction, name: &str) {
        if planned.end == End::Alone {
            for step in &planned.steps {
                let _ = self.step(step);
            }
            return;
        }
        let done = self.run("BEGIN").and_then(|()| self.steps(&planned.steps));
        let done = done.and_then(|()| match planned.end {
            End::Prepare => self
                .run(&format!("PREPARE TRANSACTION '{name}'"))
                .and_then(|()| self.run(&format!("COMMIT PREPARED '{name}'"))),
            End::Rollback => self.run("ROLLBACK"),
            End::Alone | End::Commit => self.run("COMMIT"),
        });
        if done.is_err() {
            // Of a transaction that failed at its end nothing is left: a warning, no error.
            let _ = self.run("ROLLBACK");
        }
    }

    fn steps(&mut self, steps: &[Step]) -> Result<(), Error> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Run(statements) => self.run(statements),
            Step::Guarded(steps) => {
                self.run("SAVEPOINT s")?;
                if self.steps(steps).is_err() {
                    self.run("ROLLBACK TO s")?;
                }
                self.run("RELEASE s")
            }
            Step::Undone(steps) => {
                self.run("SAVEPOINT u")?;
                let _ = self.steps(steps);
                self.run("ROLLBACK TO u")
            }
        }
    }

    fn run(&mut self, statements: &str) -> Result<(), Error> {
        let done = self.client.batch_execute(statements);
        if let Err(error) = &done {
            assert!(!self.client.is_closed(), "the connection broke: {error:?}");
            let code = error.code().map_or("none", |code| code.code());
            let message = error.as_db_error().map_or("", |error| error.message());
            let row_is_gone = ROW_IS_GONE.iter().any(|words| message.starts_with(words));
            if !EXPECTED.contains(&code) && !row_is_gone {
                self.errors.unexpected.push(format!("{code}, {message}: {statements}"));
            }
            *self.errors.counts.entry(code.to_owned()).or_default() += 1;
        }
        done
    }
}
