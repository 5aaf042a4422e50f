//! A world: for each session a schema of its own with captured tables, triggers and functions that
//! write in the middle of statements, and its transactions. All of it follows from a
//! seed and the world's number, and no statement has more than one possible outcome, so that the same
//! world can be run again elsewhere.

use std::collections::BTreeMap;

use super::captured::{Captured, Promise};
use super::change::{Change, MESSAGE, Operation};
use super::planned_transaction::{self, PlannedTransaction};
use super::schema::Schema;
use super::tables::MADE;
use crate::dice::Dice;

/// Everything that happens in a world is decided here before it begins.
#[derive(Debug)]
pub(super) struct World {
    pub number: u64,
    pub sessions: Vec<Session>,
}

/// A session's schema and transactions.
#[derive(Debug)]
pub(super) struct Session {
    pub schema: String,
    /// Makes the schema.
    pub setup: String,
    pub transactions: Vec<PlannedTransaction>,
    captured: BTreeMap<String, Captured>,
}

impl World {
    /// The world of this number.
    pub fn new(seed: u64, number: u64) -> World {
        let mut dice = Dice::new(seed, number * 8);
        let sessions = dice.between(1, 2);
        let session = |place: u64| {
            let schema = format!("w{number}{}", if place == 0 { 'a' } else { 'b' });
            Session::new(schema, &mut Dice::new(seed, number * 8 + 1 + place))
        };
        World { number, sessions: (0..sessions).map(session).collect() }
    }

    /// The session with this schema.
    pub fn session(&self, schema: &str) -> Option<&Session> {
        self.sessions.iter().find(|session| session.schema == schema)
    }

    /// What is captured of a table, by its full name.
    pub fn captured(&self, table: &str) -> Option<Captured> {
        let (schema, name) = table.split_once('.')?;
        self.session(schema)?.captured(name)
    }

    /// Whether this change is one of those that together make up a table: in the order of the
    /// changes, and of the first capture trigger only.
    pub fn is_replayed(&self, change: &Change) -> bool {
        self.captured(&change.table).is_some_and(|captured| {
            let resources = match change.operation {
                Operation::Message => return false,
                Operation::Truncate => &captured.truncates,
                _ => &captured.rows,
            };
            captured.promise == Promise::Ordered && resources.first() == Some(&change.resource)
        })
    }
}

impl Session {
    fn new(schema: String, dice: &mut Dice) -> Session {
        let Schema { sql: setup, captured, .. } = Schema::new(&schema, dice);
        let transactions = planned_transaction::transactions(dice);
        Session { schema, setup, transactions, captured }
    }

    fn captured(&self, name: &str) -> Option<Captured> {
        // Tables that are made on the way all have the same triggers.
        let made = || {
            let resource = vec!["made".to_owned()];
            let (rows, truncates) = (resource.clone(), resource);
            Captured { promise: Promise::Ordered, rows, truncates }
        };
        match name {
            MESSAGE => {
                let rows = vec![MESSAGE.to_owned()];
                Some(Captured { promise: Promise::Ordered, rows, truncates: Vec::new() })
            }
            name if name.starts_with(MADE) => Some(made()),
            name => self.captured.get(name).cloned(),
        }
    }
}
