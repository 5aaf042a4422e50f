//! The transaction assembler: collects events by xid until the WAL says how their transaction
//! ended. Pure; it never looks at the clock, the server or the broker, and no sequence of calls
//! makes it panic.
//!
//! A commit record names the transaction and those of its subtransactions that were not rolled
//! back, at every wal_level (xact.c: `XactLogCommitRecord`); whatever was collected under another
//! xid is not part of it. Transactions that died in a crash have no end in the WAL: they are
//! retired when the WAL says that nothing that old runs any more.

use std::collections::HashMap;

use crate::event;
use crate::lsn::Lsn;

/// One event as it was found in the WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Command of the transaction that made the change.
    pub command_id: u32,
    /// First byte of the WAL record.
    pub lsn: Lsn,
    /// The event's bytes; see [`crate::event::Event::decode`].
    pub payload: Vec<u8>,
}

/// A committed transaction that has events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedTransaction {
    /// Top-level transaction id.
    pub xid: u32,
    /// First byte after the commit record.
    pub commit_lsn: Lsn,
    /// Microseconds since 2000-01-01 UTC.
    pub commit_time: i64,
    /// LSN of the earliest of its events: WAL from here on rebuilds it whole.
    pub first_lsn: Lsn,
    /// In the order of the changes. Never empty.
    pub events: Vec<RecordedEvent>,
}

/// Transactions whose end was not read yet.
#[derive(Debug, Default)]
pub struct Transactions {
    open: HashMap<u32, Open>,
}

/// What one xid, of a transaction or a subtransaction, has written so far.
#[derive(Debug, Default)]
struct Open {
    events: Vec<RecordedEvent>,
    prepared: bool,
}

impl Transactions {
    /// An event of `xid`, a transaction or subtransaction.
    pub fn event(&mut self, xid: u32, lsn: Lsn, payload: &[u8]) {
        self.open.entry(xid).or_default().events.push(RecordedEvent {
            command_id: event::command_id(payload),
            lsn,
            payload: payload.to_vec(),
        });
    }

    /// `xid` and its `subxids` committed. None if they had no events.
    pub fn commit(
        &mut self,
        xid: u32,
        subxids: &[u32],
        commit_lsn: Lsn,
        commit_time: i64,
    ) -> Option<CommittedTransaction> {
        let mut events = self.take(xid);
        for &subxid in subxids {
            events.append(&mut self.take(subxid));
        }
        let first_lsn = events.iter().map(|event| event.lsn).min()?;
        events.sort_unstable_by_key(|event| (event.command_id, event.lsn));
        Some(CommittedTransaction { xid, commit_lsn, commit_time, first_lsn, events })
    }

    /// `xid` and its `subxids` were rolled back.
    pub fn abort(&mut self, xid: u32, subxids: &[u32]) {
        self.take(xid);
        for &subxid in subxids {
            self.take(subxid);
        }
    }

    /// `xid` and its `subxids` were prepared: they outlive sessions and crashes.
    pub fn prepare(&mut self, xid: u32, subxids: &[u32]) {
        for xid in std::iter::once(&xid).chain(subxids) {
            if let Some(open) = self.open.get_mut(xid) {
                open.prepared = true;
            }
        }
    }

    /// No transaction older than `oldest_running` runs any more.
    pub fn retire_older_than(&mut self, oldest_running: u32) {
        self.retire(|xid| precedes(xid, oldest_running));
    }

    /// No transaction runs any more.
    pub fn retire_all(&mut self) {
        self.retire(|_| true);
    }

    /// Drops what died in a crash. Prepared transactions did not.
    fn retire(&mut self, is_dead: impl Fn(u32) -> bool) {
        self.open.retain(|&xid, open| open.prepared || !is_dead(xid));
    }

    fn take(&mut self, xid: u32) -> Vec<RecordedEvent> {
        self.open.remove(&xid).unwrap_or_default().events
    }

    /// LSN of the earliest event of any open transaction: the WAL from here on is still needed.
    pub fn oldest_lsn(&self) -> Option<Lsn> {
        self.open.values().filter_map(|open| open.events.first()).map(|event| event.lsn).min()
    }

    /// Whether a prepared transaction has events: its end may come from any session.
    pub fn has_prepared(&self) -> bool {
        self.open.values().any(|open| open.prepared)
    }
}

/// Whether xid `a` is older than `b`, which wrap around at 2^32 (transam.c: `TransactionIdPrecedes`).
fn precedes(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventHead, Operation};

    fn payload(command_id: u32, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        EventHead {
            command_id,
            first_lsn: Lsn::INVALID,
            operation: Operation::Insert,
            exchange: String::new(),
            routing_key: name.to_owned(),
            database: String::new(),
            schema: String::new(),
            table: String::new(),
            lossy: false,
        }
        .encode_into(&mut bytes);
        bytes
    }

    fn names(transaction: &CommittedTransaction) -> Vec<String> {
        transaction
            .events
            .iter()
            .map(|e| event::Event::decode(&e.payload).unwrap().head.routing_key)
            .collect()
    }

    #[test]
    fn a_transaction_is_its_own_events_and_those_of_its_committed_subtransactions() {
        let mut open = Transactions::default();
        open.event(10, Lsn(100), &payload(1, "a"));
        open.event(11, Lsn(110), &payload(2, "b"));
        open.event(12, Lsn(120), &payload(3, "rolled back"));
        open.event(20, Lsn(130), &payload(1, "another"));
        open.abort(12, &[]);
        let transaction = open.commit(10, &[11], Lsn(200), 5).unwrap();
        assert_eq!(names(&transaction), ["a", "b"]);
        assert_eq!(
            (transaction.first_lsn, transaction.commit_lsn, transaction.commit_time),
            (Lsn(100), Lsn(200), 5)
        );
        assert_eq!(open.oldest_lsn(), Some(Lsn(130)));
    }

    #[test]
    fn events_are_in_the_order_of_the_changes_not_of_the_records() {
        let mut open = Transactions::default();
        open.event(10, Lsn(100), &payload(5, "inner"));
        open.event(10, Lsn(110), &payload(4, "outer"));
        open.event(10, Lsn(120), &payload(4, "outer, next row"));
        let transaction = open.commit(10, &[], Lsn(200), 0).unwrap();
        assert_eq!(names(&transaction), ["outer", "outer, next row", "inner"]);
        assert_eq!(transaction.first_lsn, Lsn(100));
    }

    #[test]
    fn a_transaction_without_events_is_none() {
        let mut open = Transactions::default();
        assert_eq!(open.commit(10, &[11, 12], Lsn(200), 0), None);
        open.event(11, Lsn(1), &payload(1, "x"));
        open.abort(10, &[11]);
        assert_eq!(open.commit(10, &[11], Lsn(200), 0), None);
        assert_eq!(open.oldest_lsn(), None);
    }

    #[test]
    fn what_died_in_a_crash_is_retired_and_what_was_prepared_is_not() {
        let mut open = Transactions::default();
        open.event(10, Lsn(100), &payload(1, "dead"));
        open.event(11, Lsn(110), &payload(1, "prepared"));
        open.event(12, Lsn(120), &payload(1, "its subtransaction"));
        open.prepare(11, &[12]);
        open.retire_all();
        assert!(open.has_prepared());
        assert_eq!(open.oldest_lsn(), Some(Lsn(110)));
        assert_eq!(open.commit(10, &[], Lsn(200), 0), None);
        let transaction = open.commit(11, &[12], Lsn(200), 0).unwrap();
        assert_eq!(names(&transaction), ["prepared", "its subtransaction"]);
        assert!(!open.has_prepared());
        assert_eq!(open.oldest_lsn(), None);
    }

    #[test]
    fn age_is_counted_across_the_wraparound() {
        let mut open = Transactions::default();
        open.event(u32::MAX - 1, Lsn(100), &payload(1, "old"));
        open.event(5, Lsn(110), &payload(1, "young"));
        open.retire_older_than(4);
        assert_eq!(open.oldest_lsn(), Some(Lsn(110)));
        open.retire_older_than(5);
        assert_eq!(open.oldest_lsn(), Some(Lsn(110)));
        open.retire_older_than(6);
        assert_eq!(open.oldest_lsn(), None);
    }
}
