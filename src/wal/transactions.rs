//! The transaction assembler: collects events by xid until the WAL says how their transaction
//! ended. Pure; it never looks at the clock, the server or the broker, and no sequence of calls
//! makes it panic.
//!
//! A commit record names the transaction and those of its subtransactions that were not rolled
//! back, at every wal_level (xact.c: `XactLogCommitRecord`); whatever was collected under another
//! xid is not part of it. Transactions that died in a crash have no end in the WAL: they are
//! retired when the WAL says that nothing that old runs any more.
//!
//! Past a limit in bytes the events' payloads are forgotten and only their places in the WAL kept:
//! whoever publishes them reads them again from there.

use std::collections::HashMap;

use super::event_list::{Entry, EventList};
use super::numbers::NumberList;
use super::order::{Order, is_in_order};
use crate::event::ChangeKey;
use crate::lsn::Lsn;
use crate::memory;

/// What an event in memory takes beside its payload.
const OVERHEAD: usize = 64;

/// One event as it was found in the WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// First byte of its WAL record.
    pub lsn: Lsn,
    /// The event's bytes; see [`crate::event::Event::decode`].
    pub payload: Vec<u8>,
}

impl RecordedEvent {
    /// Bytes of memory.
    fn bytes(&self) -> usize {
        self.payload.len() + OVERHEAD
    }

    fn entry(&self) -> Entry {
        Entry { lsn: self.lsn, key: ChangeKey::of(&self.payload) }
    }
}

/// A committed transaction that has events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedTransaction<Events = OrderedEvents> {
    /// Top-level transaction id.
    pub xid: u32,
    /// First byte after the commit record.
    pub commit_lsn: Lsn,
    /// Microseconds since 2000-01-01 UTC.
    pub commit_time: i64,
    /// LSN of the earliest of its events: WAL from here on rebuilds it whole.
    pub first_lsn: Lsn,
    /// Never empty.
    pub events: Events,
}

/// The events of a transaction, in the order of its changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderedEvents {
    /// All in memory.
    Kept(Vec<RecordedEvent>),
    /// All to be read again from the WAL, where their records begin at these LSNs.
    Spilled(NumberList<1>),
}

impl OrderedEvents {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            OrderedEvents::Kept(events) => events.len(),
            OrderedEvents::Spilled(lsns) => lsns.len(),
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        match self {
            OrderedEvents::Kept(events) => events.iter().map(RecordedEvent::bytes).sum(),
            OrderedEvents::Spilled(lsns) => lsns.bytes(),
        }
    }
}

/// The events of a transaction, in the order of the WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// All in memory.
    Kept(Vec<RecordedEvent>),
    /// All to be read again from the WAL.
    Spilled(EventList),
}

impl Default for Found {
    fn default() -> Self {
        Found::Kept(Vec::new())
    }
}

impl Found {
    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        match self {
            Found::Kept(events) => events.iter().map(RecordedEvent::bytes).sum(),
            Found::Spilled(list) => list.bytes(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Found::Kept(events) => events.len(),
            Found::Spilled(list) => list.len(),
        }
    }

    /// Bytes that spilling would free.
    fn kept_bytes(&self) -> usize {
        match self {
            Found::Kept(_) => self.bytes(),
            Found::Spilled(_) => 0,
        }
    }

    fn spill(self) -> EventList {
        match self {
            Found::Kept(events) => events.iter().map(RecordedEvent::entry).collect(),
            Found::Spilled(list) => list,
        }
    }

    /// The events of several xids as those of one transaction. If one part has been spilled, all are.
    fn merge(mut parts: Vec<Found>) -> Found {
        if parts.len() == 1 {
            return parts.remove(0);
        }
        if parts.iter().all(|part| matches!(part, Found::Kept(_))) {
            let mut events = memory::with_room(parts.iter().map(Found::len).sum());
            events.extend(parts.into_iter().flat_map(|part| match part {
                Found::Kept(events) => events,
                Found::Spilled(_) => Vec::new(),
            }));
            events.sort_unstable_by_key(|event| event.lsn);
            return Found::Kept(events);
        }
        Found::Spilled(EventList::merge(memory::collect(parts.into_iter().map(Found::spill))))
    }

    /// The order of the changes; none if that is the order of the WAL.
    pub fn order(&self) -> Option<Order> {
        match self {
            Found::Kept(events) => {
                let entries = || events.iter().map(RecordedEvent::entry);
                (!is_in_order(entries())).then(|| Order::of(entries()))
            }
            Found::Spilled(list) => (!is_in_order(list.iter())).then(|| Order::of(list.iter())),
        }
    }

    /// The events in this order.
    pub fn in_order(self, order: Option<Order>) -> OrderedEvents {
        let count = self.len();
        let events = self.put_in_order(order);
        assert_eq!(
            events.len(),
            count,
            "an event was lost or came twice in its transaction's order"
        );
        events
    }

    fn put_in_order(self, order: Option<Order>) -> OrderedEvents {
        match (self, order) {
            (Found::Kept(events), None) => OrderedEvents::Kept(events),
            (Found::Kept(mut events), Some(order)) => {
                let mut ordered = memory::with_room(events.len());
                let mut take = |lsn| {
                    let number = events.binary_search_by_key(&lsn, |event| event.lsn).ok()?;
                    Some(RecordedEvent {
                        lsn,
                        payload: std::mem::take(&mut events[number].payload),
                    })
                };
                ordered.extend(order.lsns().filter_map(&mut take));
                OrderedEvents::Kept(ordered)
            }
            (Found::Spilled(list), None) => {
                OrderedEvents::Spilled(list.iter().map(|entry| [entry.lsn.0]).collect())
            }
            (Found::Spilled(list), Some(order)) => {
                drop(list);
                OrderedEvents::Spilled(order.lsns().map(|lsn| [lsn.0]).collect())
            }
        }
    }
}

/// Transactions whose end was not read yet.
#[derive(Debug, Default)]
pub struct Transactions {
    open: HashMap<u32, Open>,
    /// Bytes of the events that are in memory.
    kept_bytes: usize,
    /// Bytes above which nothing is kept.
    memory_limit: usize,
}

/// What one xid, of a transaction or a subtransaction, has written so far.
#[derive(Debug, Default)]
struct Open {
    events: Found,
    /// LSN of the earliest event.
    first_lsn: Lsn,
    prepared: bool,
}

impl Transactions {
    /// None yet. `memory_limit` is in bytes.
    pub fn new(memory_limit: usize) -> Transactions {
        Transactions { memory_limit, ..Transactions::default() }
    }

    /// Sets the bytes above which the payloads of the events so far are forgotten. They are in the
    /// WAL, which is kept until they are confirmed: it is the spill file.
    pub fn set_memory_limit(&mut self, memory_limit: usize) {
        self.memory_limit = memory_limit;
    }

    /// An event of `xid`, a transaction or subtransaction.
    pub fn event(&mut self, xid: u32, lsn: Lsn, payload: &[u8]) {
        let size = payload.len() + OVERHEAD;
        memory::reserve_entry(&mut self.open);
        let open =
            self.open.entry(xid).or_insert_with(|| Open { first_lsn: lsn, ..Open::default() });
        open.first_lsn = open.first_lsn.min(lsn);
        match &mut open.events {
            Found::Spilled(list) => list.push(Entry { lsn, key: ChangeKey::of(payload) }),
            Found::Kept(events) => {
                let fits = self.kept_bytes + size <= self.memory_limit;
                match fits.then(|| memory::try_copy(payload)).flatten() {
                    Some(payload) => {
                        memory::push(events, RecordedEvent { lsn, payload });
                        self.kept_bytes += size;
                    }
                    None => {
                        self.spill();
                        // Now it is among the spilled.
                        self.event(xid, lsn, payload);
                    }
                }
            }
        }
    }

    /// Forgets every payload. Small transactions that happen to be open pay with reading theirs
    /// again, too; that is rare, and cheap.
    fn spill(&mut self) {
        for open in self.open.values_mut() {
            open.events = Found::Spilled(std::mem::take(&mut open.events).spill());
        }
        self.kept_bytes = 0;
    }

    /// `xid` and its `subxids` committed. None if they had no events.
    pub fn commit(
        &mut self,
        xid: u32,
        subxids: &[u32],
        commit_lsn: Lsn,
        commit_time: i64,
    ) -> Option<CommittedTransaction<Found>> {
        let mut parts: Vec<Open> = Vec::new();
        for part in std::iter::once(&xid).chain(subxids).filter_map(|&xid| self.take(xid)) {
            memory::push(&mut parts, part);
        }
        let first_lsn = parts.iter().map(|part| part.first_lsn).min()?;
        let events = Found::merge(memory::collect(parts.into_iter().map(|part| part.events)));
        Some(CommittedTransaction { xid, commit_lsn, commit_time, first_lsn, events })
    }

    /// `xid` and its `subxids` were rolled back.
    pub fn abort(&mut self, xid: u32, subxids: &[u32]) {
        for &xid in std::iter::once(&xid).chain(subxids) {
            self.take(xid);
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
        self.kept_bytes = self.open.values().map(|open| open.events.kept_bytes()).sum();
    }

    fn take(&mut self, xid: u32) -> Option<Open> {
        let open = self.open.remove(&xid)?;
        self.kept_bytes -= open.events.kept_bytes();
        Some(open)
    }

    /// LSN of the earliest event of any open transaction: the WAL from here on is still needed.
    pub fn oldest_lsn(&self) -> Option<Lsn> {
        self.open.values().map(|open| open.first_lsn).min()
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
    use crate::event::{Event, EventHead, Names, Operation};

    fn payload(command_id: u32, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        EventHead { routing_key: name.into(), ..EventHead::new(Operation::Insert, command_id) }
            .encode_into(&mut bytes);
        bytes
    }

    fn ordered(transaction: &CommittedTransaction<Found>) -> OrderedEvents {
        transaction.events.clone().in_order(transaction.events.order())
    }

    fn names(transaction: &CommittedTransaction<Found>) -> Vec<String> {
        let OrderedEvents::Kept(events) = ordered(transaction) else { panic!("it was spilled") };
        let decode = |payload| Event::decode(payload, &mut Names::default()).unwrap();
        events.into_iter().map(|e| decode(e.payload).head.routing_key.to_string()).collect()
    }

    fn places(transaction: CommittedTransaction<Found>) -> Vec<u64> {
        let OrderedEvents::Spilled(list) = ordered(&transaction) else { panic!("it is in memory") };
        list.into_iter().map(|[lsn]| lsn).collect()
    }

    #[test]
    fn a_transaction_is_its_own_events_and_those_of_its_committed_subtransactions() {
        let mut open = Transactions::new(1 << 20);
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
        let mut open = Transactions::new(1 << 20);
        open.event(10, Lsn(100), &payload(5, "inner"));
        open.event(10, Lsn(110), &payload(4, "outer"));
        open.event(10, Lsn(120), &payload(4, "outer, next row"));
        let transaction = open.commit(10, &[], Lsn(200), 0).unwrap();
        assert_eq!(names(&transaction), ["outer", "outer, next row", "inner"]);
        assert_eq!(transaction.first_lsn, Lsn(100));
    }

    #[test]
    fn a_transaction_without_events_is_none() {
        let mut open = Transactions::new(1 << 20);
        assert_eq!(open.commit(10, &[11, 12], Lsn(200), 0), None);
        open.event(11, Lsn(1), &payload(1, "x"));
        open.abort(10, &[11]);
        assert_eq!(open.commit(10, &[11], Lsn(200), 0), None);
        assert_eq!(open.oldest_lsn(), None);
    }

    #[test]
    fn what_died_in_a_crash_is_retired_and_what_was_prepared_is_not() {
        let mut open = Transactions::new(1 << 20);
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
        let mut open = Transactions::new(1 << 20);
        open.event(u32::MAX - 1, Lsn(100), &payload(1, "old"));
        open.event(5, Lsn(110), &payload(1, "young"));
        open.retire_older_than(4);
        assert_eq!(open.oldest_lsn(), Some(Lsn(110)));
        open.retire_older_than(5);
        assert_eq!(open.oldest_lsn(), Some(Lsn(110)));
        open.retire_older_than(6);
        assert_eq!(open.oldest_lsn(), None);
    }

    #[test]
    fn past_the_limit_only_the_places_in_the_wal_are_kept() {
        let one = payload(1, "x");
        let mut open = Transactions::new(3 * (one.len() + OVERHEAD));
        for n in 0..3 {
            open.event(10, Lsn(100 + n), &one);
        }
        open.event(20, Lsn(150), &one);
        assert_eq!(open.kept_bytes, 0);
        open.event(10, Lsn(160), &payload(0, "earlier command"));
        // It began after that, and its subtransaction was there before.
        open.event(30, Lsn(170), &one);
        assert_eq!(open.kept_bytes, one.len() + OVERHEAD);
        assert_eq!(places(open.commit(10, &[], Lsn(200), 0).unwrap()), [160, 100, 101, 102]);
        let mixed = open.commit(30, &[20], Lsn(210), 0).unwrap();
        assert_eq!(mixed.first_lsn, Lsn(150));
        assert_eq!(places(mixed), [150, 170]);
        assert_eq!((open.kept_bytes, open.oldest_lsn()), (0, None));
    }

    #[test]
    fn what_ends_frees_its_memory() {
        let mut open = Transactions::new(1 << 20);
        for xid in 10..14 {
            open.event(xid, Lsn(u64::from(xid)), &payload(1, "x"));
        }
        open.prepare(13, &[]);
        open.abort(10, &[11]);
        open.retire_all();
        assert_eq!(open.kept_bytes, payload(1, "x").len() + OVERHEAD);
        assert!(open.commit(13, &[], Lsn(200), 0).is_some());
        assert_eq!(open.kept_bytes, 0);
    }
}
