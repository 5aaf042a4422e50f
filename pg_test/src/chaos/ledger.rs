//! What the clients know: each transaction with its changes and how it ended. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::deaths::{Commit, Deaths};

/// A row's table and key.
pub(super) type RowName = (String, String);

/// One row change or one message, as who made it and who hears of it name it alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Change {
    pub table: String,
    /// `insert`, `update`, `delete` or `truncate`, which has neither key nor stamp; or what [`super::messages`] are.
    pub operation: String,
    pub key: String,
    /// What the row carries in its column `stamp` after the change, or before a delete. Each
    /// change writes a stamp that no other ever wrote to that key.
    pub stamp: String,
}

impl Change {
    /// The row that changed.
    pub fn row_name(&self) -> RowName {
        (self.table.clone(), self.key.clone())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} [{}]", self.operation, self.table, self.key, self.stamp)
    }
}

/// How a transaction ended, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Committed,
    RolledBack,
    /// It committed, and is gone since the primary died: its standby did not have it.
    Undone,
    /// The answer to COMMIT did not come.
    Unknown,
}

/// One transaction, without what its savepoints rolled back.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub tag: String,
    /// In the order in which they were made.
    pub changes: Vec<Change>,
    /// How many of them triggers and functions made in the middle of a statement.
    pub midway: usize,
    pub outcome: Outcome,
    /// Of one that is known to have committed.
    pub commit: Option<Commit>,
}

impl Transaction {
    /// Adds what a statement changed, `own` of it itself.
    pub fn extend(&mut self, changes: Vec<Change>, own: usize) {
        self.midway += changes.len() - own;
        self.changes.extend(changes);
    }
}

/// A message that counts whatever becomes of the transaction that sends it.
#[derive(Clone, Debug)]
pub(super) struct Autonomous {
    pub change: Change,
    /// When it was asked for, and when the client was told that it is sent. None: it may have been, or not.
    pub sent: Option<Commit>,
}

/// All transactions of a run, by their tags.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    transactions: BTreeMap<String, Transaction>,
    /// Those that were asked for; whether they must have been sent.
    autonomous: BTreeMap<Change, Option<Commit>>,
    message_ids: BTreeMap<Change, String>,
    /// Those that [`Ledger::resolve`] settled.
    resolved: BTreeSet<String>,
}

impl Ledger {
    /// Enters a transaction.
    pub fn enter(&mut self, transaction: Transaction) {
        self.transactions.insert(transaction.tag.clone(), transaction);
    }

    /// Enters a message that was sent at once.
    pub fn enter_autonomous(&mut self, Autonomous { change, sent }: Autonomous) {
        self.autonomous.insert(change, sent);
    }

    /// Enters which message_id a client was told of a message.
    pub fn enter_message_id(&mut self, message: Change, message_id: String) {
        self.message_ids.insert(message, message_id);
    }

    /// Settles the unknown ones by the journal, the table into which every transaction writes its
    /// tag, and returns in how far the clients were told otherwise, but for what may be gone.
    pub fn resolve(&mut self, journal: &BTreeSet<String>, deaths: &Deaths) -> Vec<String> {
        let mut contradictions = Vec::new();
        let survivors = self.committed().filter(|transaction| journal.contains(&transaction.tag));
        let survivors: Vec<Commit> =
            survivors.filter_map(|transaction| transaction.commit).collect();
        let losses = deaths.survived_by(&survivors);
        for (tag, transaction) in &mut self.transactions {
            match (transaction.outcome, journal.contains(tag)) {
                (Outcome::Unknown, is_there) => {
                    self.resolved.insert(tag.clone());
                    transaction.outcome =
                        if is_there { Outcome::Committed } else { Outcome::RolledBack };
                }
                (Outcome::Committed, false)
                    if transaction.commit.is_some_and(|commit| losses.allow(commit)) =>
                {
                    transaction.outcome = Outcome::Undone;
                }
                (Outcome::Committed, false) => {
                    contradictions.push(format!("{tag} was committed and is not in the table"));
                }
                (Outcome::RolledBack, true) => {
                    contradictions.push(format!("{tag} was rolled back and is in the table"));
                }
                _ => {}
            }
        }
        // Nobody can look up which of these are there. One that was on disk before all that survived is.
        for sent in self.autonomous.values_mut() {
            *sent = sent.filter(|&sent| !losses.allow(sent));
        }
        contradictions
    }

    /// Of a message that was to be sent at once, whether it must have been; none if nobody asked for it.
    pub fn must_be_sent(&self, message: &Change) -> Option<bool> {
        self.autonomous.get(message).map(Option::is_some)
    }

    /// Those that were to be sent at once, and whether they must have been.
    pub fn autonomous(&self) -> impl Iterator<Item = (&Change, bool)> {
        self.autonomous.iter().map(|(message, sent)| (message, sent.is_some()))
    }

    /// What a client was told of the message.
    pub fn message_id(&self, message: &Change) -> Option<&str> {
        self.message_ids.get(message).map(String::as_str)
    }

    /// The transaction with this tag.
    pub fn get(&self, tag: &str) -> Option<&Transaction> {
        self.transactions.get(tag)
    }

    /// Those that committed.
    pub fn committed(&self) -> impl Iterator<Item = &Transaction> {
        self.transactions.values().filter(|t| t.outcome == Outcome::Committed)
    }

    /// How many were rolled back.
    pub fn rolled_back(&self) -> usize {
        self.transactions.values().filter(|t| t.outcome == Outcome::RolledBack).count()
    }

    /// How many are gone, though they committed.
    pub fn undone(&self) -> usize {
        self.transactions.values().filter(|t| t.outcome == Outcome::Undone).count()
    }

    /// Whether its client knows that it never committed.
    pub fn never_committed(&self, tag: &str) -> bool {
        let is_known =
            |t: &Transaction| t.outcome == Outcome::RolledBack && !self.resolved.contains(tag);
        self.get(tag).is_none_or(is_known)
    }

    /// How many [`Ledger::resolve`] settled.
    pub fn resolved(&self) -> usize {
        self.resolved.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn ledger(outcomes: &[(&str, Outcome)]) -> Ledger {
        let mut ledger = Ledger::default();
        for &(tag, outcome) in outcomes {
            let (tag, changes) = (tag.to_owned(), Vec::new());
            ledger.enter(Transaction { tag, changes, midway: 0, outcome, commit: None });
        }
        ledger
    }

    #[test]
    fn what_was_cut_off_is_settled_by_the_table() {
        let mut ledger = ledger(&[("a", Outcome::Unknown), ("b", Outcome::Unknown)]);
        assert_eq!(ledger.resolve(&["a".to_owned()].into(), &Deaths::default()), [""; 0]);
        assert_eq!(ledger.committed().map(|t| t.tag.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!((ledger.rolled_back(), ledger.resolved()), (1, 2));
    }

    #[test]
    fn a_table_that_says_otherwise_than_the_server_did_is_noticed() {
        let mut ledger = ledger(&[("a", Outcome::Committed), ("b", Outcome::RolledBack)]);
        let contradictions = ledger.resolve(&["b".to_owned()].into(), &Deaths::default());
        assert_eq!(contradictions.len(), 2, "{contradictions:?}");
    }

    #[test]
    fn what_committed_right_before_a_primary_died_may_be_gone() {
        let mut ledger = ledger(&[("a", Outcome::Committed), ("b", Outcome::RolledBack)]);
        let now = Instant::now();
        let commit = Some(Commit { asked: now, told: now });
        ledger.transactions.values_mut().for_each(|transaction| transaction.commit = commit);
        assert_eq!(ledger.resolve(&BTreeSet::new(), &Deaths(vec![now])), [""; 0]);
        assert_eq!((ledger.undone(), ledger.rolled_back()), (1, 1));
        assert!(ledger.never_committed("b") && ledger.never_committed("c"));
        assert!(!ledger.never_committed("a"));
    }

    #[test]
    fn what_was_sent_at_once_right_before_a_primary_died_may_be_gone() {
        let mut ledger = Ledger::default();
        let now = Instant::now();
        let [early, late, unknown] = ["early", "late", "unknown"].map(|key| Change {
            table: "autonomous".to_owned(),
            operation: "send".to_owned(),
            key: key.to_owned(),
            stamp: String::new(),
        });
        let [first, second, third] = [1, 2, 3].map(|second| now + Duration::from_secs(second));
        let sent = |told| Some(Commit { asked: now, told });
        for (change, sent) in [(&early, sent(first)), (&late, sent(third)), (&unknown, None)] {
            ledger.enter_autonomous(Autonomous { change: change.clone(), sent });
        }
        // This one survived.
        ledger.enter(Transaction {
            tag: "a".to_owned(),
            changes: Vec::new(),
            midway: 0,
            outcome: Outcome::Committed,
            commit: Some(Commit { asked: second, told: second }),
        });
        ledger.resolve(&["a".to_owned()].into(), &Deaths(vec![third]));
        let must = [&early, &late, &unknown].map(|change| ledger.must_be_sent(change));
        assert_eq!(must, [Some(true), Some(false), Some(false)]);
    }
}
