//! What the writers know: each transaction, how it ended for who made it, and where that was. Pure.

use std::collections::BTreeMap;

use pg_test::history::Commit;

/// How a transaction ended, as far as its writer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server said that it committed; its commit record ends at or before this place.
    Acknowledged(Commit),
    /// The answer did not come.
    Unknown,
    RolledBack,
}

/// One transaction.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Its key in the journal, the table into which each transaction writes one row.
    pub tag: String,
    /// The rows that it changed.
    pub keys: Vec<String>,
    pub outcome: Outcome,
}

/// All of them, by their tags.
#[derive(Clone, Debug, Default)]
pub struct Ledger(BTreeMap<String, Transaction>);

impl Ledger {
    pub fn enter(&mut self, transaction: Transaction) {
        self.0.insert(transaction.tag.clone(), transaction);
    }

    pub fn all(&self) -> impl Iterator<Item = &Transaction> {
        self.0.values()
    }

    /// Those whose writers were told that they committed, and where.
    pub fn acknowledged(&self) -> impl Iterator<Item = (&Transaction, Commit)> {
        self.all().filter_map(|transaction| match transaction.outcome {
            Outcome::Acknowledged(commit) => Some((transaction, commit)),
            _ => None,
        })
    }
}
