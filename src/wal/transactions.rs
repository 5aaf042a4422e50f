//! The transaction assembler: collects events by xid until the WAL says how their transaction
//! ended. Pure: it never looks at the clock, the server or the broker, and no sequence of calls
//! makes it panic.
//!
//! A commit record names the transaction and those of its subtransactions that were not rolled
//! back, at every wal_level (xact.c: `XactLogCommitRecord`). Events of other xids are not part of it.
//! Transactions that died in a crash have no end in the WAL: their events are dropped when the WAL says
//! that nothing that old runs any more.
//!
//! Above a limit in bytes the events' payloads are forgotten, and only their places in the WAL are kept.
//! They are read again from there when they are published.
//!
//! There may be millions of subtransactions. So nothing here walks through all that is open, except to end
//! it or, when the limit is reached, to spill it. All xids are those that [`super::xid_counter`] counted.

#[cfg(test)]
mod model_tests;
mod prepared;

use std::collections::{BTreeMap, BTreeSet};

use super::committed::{Assembled, CommittedTransaction, Found, OVERHEAD, RecordedEvent};
use super::event_list::Entry;
use super::family::{Family, FamilyCursor};
use super::spilled_events::SpilledEvents;
use crate::event::ChangeKey;
use crate::lsn::Lsn;
use crate::memory;
use prepared::PreparedTransactions;

/// Bytes that an open transaction or subtransaction takes beside its events: its share of two trees,
/// whose nodes are half full, and the room for the first event.
const XID_OVERHEAD: usize = 128;

/// Transactions whose end was not read yet.
#[derive(Debug, Default)]
pub struct Transactions {
    /// The events in memory, by the xid of the transaction or subtransaction that wrote them.
    kept: BTreeMap<u64, Vec<RecordedEvent>>,
    /// The xids by their first event in memory.
    kept_firsts: BTreeMap<Lsn, u64>,
    /// What is not in memory.
    spilled: SpilledEvents,
    /// Complete transactions whose end may come from any session.
    prepared: PreparedTransactions,
    /// Bytes of what is in memory.
    kept_bytes: usize,
    /// Bytes above which nothing is kept.
    memory_limit: usize,
}

impl Transactions {
    /// Begins with none. `memory_limit` is in bytes.
    pub fn new(memory_limit: usize) -> Transactions {
        Transactions { memory_limit, ..Transactions::default() }
    }

    /// Sets how many bytes may be kept. Above that, the payloads of all events so far are forgotten. The
    /// WAL is retained until they are confirmed, and so serves as the spill file.
    pub fn set_memory_limit(&mut self, memory_limit: usize) {
        self.memory_limit = memory_limit;
    }

    /// Takes an event of `xid`, a transaction or subtransaction. Events come in the order of the WAL.
    pub fn event(&mut self, xid: u64, lsn: Lsn, payload: &[u8]) {
        let size = payload.len() + OVERHEAD;
        // The trees below ask for small nodes, which the allocator's reserve covers.
        memory::check();
        if self.kept_bytes + size + XID_OVERHEAD > self.memory_limit {
            self.spill();
        }
        let fits = size + XID_OVERHEAD <= self.memory_limit;
        let Some(payload) = fits.then(|| memory::try_copy(payload)).flatten() else {
            // Everything in memory must be behind everything that is spilled.
            self.spill();
            let entry = Entry { lsn, key: ChangeKey::of(payload) };
            let group = (xid, std::iter::once(entry));
            self.spilled.push(std::iter::once(group), std::iter::once((lsn, xid)));
            return;
        };
        let events = self.kept.entry(xid).or_insert_with(|| {
            self.kept_firsts.insert(lsn, xid);
            self.kept_bytes += XID_OVERHEAD;
            // Most subtransactions have no more.
            memory::with_room(1)
        });
        memory::push(events, RecordedEvent { lsn, payload });
        self.kept_bytes += size;
    }

    /// Makes a transaction of an event that counts at once: it is no transaction's, and nothing else is in it.
    pub fn alone(
        &self,
        lsn: Lsn,
        payload: &[u8],
        commit_lsn: Lsn,
        commit_time: i64,
    ) -> CommittedTransaction<Found> {
        let fits = payload.len() + OVERHEAD <= self.memory_limit;
        let events = match fits.then(|| memory::try_copy(payload)).flatten() {
            Some(payload) => Found::Kept(vec![RecordedEvent { lsn, payload }]),
            None => {
                let entry = Entry { lsn, key: ChangeKey::of(payload) };
                Found::Spilled(std::iter::once(entry).collect())
            }
        };
        CommittedTransaction { xid: 0, commit_lsn, commit_time, first_lsn: lsn, events }
    }

    /// Forgets every payload. The events of small transactions that happen to be open must be read again,
    /// too; that is rare, and cheap.
    fn spill(&mut self) {
        let groups = std::mem::take(&mut self.kept).into_iter();
        let entries = |events: Vec<RecordedEvent>| {
            events.into_iter().map(|event: RecordedEvent| event.entry())
        };
        let firsts = std::mem::take(&mut self.kept_firsts).into_iter();
        self.spilled.push(groups.map(|(xid, events)| (xid, entries(events))), firsts);
        self.prepared.spill();
        self.kept_bytes = 0;
    }

    /// Takes out the events of `xid` and its `subxids`, which committed. Returns None if they had none.
    pub fn commit(
        &mut self,
        xid: u64,
        subxids: &[u32],
        commit_lsn: Lsn,
        commit_time: i64,
    ) -> Option<CommittedTransaction<Found>> {
        let Assembled { events, first_lsn } = match self.take_prepared(xid) {
            Some(prepared) => prepared,
            None => self.assemble(Family { xid, subxids })?,
        };
        Some(CommittedTransaction { xid, commit_lsn, commit_time, first_lsn, events })
    }

    /// Forgets the events of `xid` and its `subxids`, which were rolled back.
    pub fn abort(&mut self, xid: u64, subxids: &[u32]) {
        if self.take_prepared(xid).is_none() {
            let family = Family { xid, subxids };
            self.take_kept(family);
            self.spilled.forget(family);
        }
    }

    /// Puts the events of `xid` and its `subxids`, which were prepared, aside: they outlive sessions and crashes.
    pub fn prepare(&mut self, xid: u64, subxids: &[u32]) {
        if let Some(assembled) = self.assemble(Family { xid, subxids }) {
            self.kept_bytes += assembled.events.kept_bytes();
            self.prepared.insert(xid, assembled);
        }
    }

    fn take_prepared(&mut self, xid: u64) -> Option<Assembled> {
        let prepared = self.prepared.take(xid)?;
        self.kept_bytes -= prepared.events.kept_bytes();
        Some(prepared)
    }

    /// Takes out the events of a family. Returns None if there are none.
    fn assemble(&mut self, family: Family<'_>) -> Option<Assembled> {
        let mut kept = self.take_kept(family);
        kept.sort_unstable_by_key(|event| event.lsn);
        let events = match self.spilled.take(family) {
            None => Found::Kept(kept),
            Some(mut list) => {
                list.extend(kept.iter().map(RecordedEvent::entry));
                Found::Spilled(list)
            }
        };
        let first_lsn = events.first_lsn()?;
        Some(Assembled { events, first_lsn })
    }

    /// Takes out the events of a family that are in memory, sorted by xid.
    fn take_kept(&mut self, family: Family<'_>) -> Vec<RecordedEvent> {
        if self.kept.len() < family.len() {
            let mut open = Vec::new();
            for &xid in self.kept.range(family.xid..=family.last()).map(|(xid, _)| xid) {
                memory::push(&mut open, xid);
            }
            let mut members = FamilyCursor::new(family);
            let own = open.into_iter().filter(|&xid| members.seek(xid) == Some(xid));
            self.take_each(own)
        } else {
            self.take_each(family.iter())
        }
    }

    fn take_each(&mut self, xids: impl Iterator<Item = u64>) -> Vec<RecordedEvent> {
        let mut taken = Vec::new();
        for xid in xids {
            let Some(mut events) = self.kept.remove(&xid) else { continue };
            self.forget_kept(&events);
            if taken.is_empty() {
                taken = events;
            } else {
                memory::reserve(&mut taken, events.len());
                taken.append(&mut events);
            }
        }
        taken
    }

    /// Counts these as not kept any more.
    fn forget_kept(&mut self, events: &[RecordedEvent]) {
        if let Some(first) = events.first() {
            self.kept_firsts.remove(&first.lsn);
        }
        self.kept_bytes -= XID_OVERHEAD + events.iter().map(RecordedEvent::bytes).sum::<usize>();
    }

    /// Drops what died in a crash: no transaction older than `oldest_running` runs any more, but for those that
    /// are prepared.
    pub fn retire_older_than(&mut self, oldest_running: u64) {
        while let Some(oldest) = self.kept.first_entry().filter(|o| *o.key() < oldest_running) {
            let events = oldest.remove();
            self.forget_kept(&events);
        }
        self.spilled.forget_older_than(oldest_running);
    }

    /// Drops everything but what is prepared: no other transaction runs any more.
    pub fn retire_all(&mut self) {
        self.spilled.clear();
        self.retire_older_than(u64::MAX);
    }

    /// Returns the older xids that have events, those of subtransactions included, but not the prepared ones.
    pub fn older_than(&self, xid: u64) -> BTreeSet<u64> {
        let kept = self.kept.range(..xid).map(|(&xid, _)| xid);
        let mut xids = BTreeSet::new();
        for xid in kept.chain(self.spilled.older_than(xid)) {
            memory::check();
            xids.insert(xid);
        }
        xids
    }

    /// Returns the LSN of the earliest event of any open transaction: the WAL from here on is still needed.
    pub fn oldest_lsn(&self) -> Option<Lsn> {
        let kept = self.kept_firsts.keys().next().copied();
        [kept, self.spilled.oldest_lsn(), self.prepared.oldest_lsn()].into_iter().flatten().min()
    }

    /// Returns true if a prepared transaction has events: its end may come from any session.
    pub fn has_prepared(&self) -> bool {
        !self.prepared.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventHead, Names, Operation};
    use crate::wal::committed::OrderedEvents;

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
        let last = u64::from(u32::MAX);
        open.event(last - 1, Lsn(100), &payload(1, "old"));
        open.event(last + 6, Lsn(110), &payload(1, "young"));
        open.event(last + 7, Lsn(120), &payload(1, "its subtransaction"));
        open.retire_older_than(last + 5);
        assert_eq!(open.oldest_lsn(), Some(Lsn(110)));
        let transaction = open.commit(last + 6, &[6], Lsn(200), 0).unwrap();
        assert_eq!(names(&transaction), ["young", "its subtransaction"]);
        assert_eq!(open.oldest_lsn(), None);
    }

    #[test]
    fn past_the_limit_only_the_places_in_the_wal_are_kept() {
        let long = "x".repeat(XID_OVERHEAD);
        let one = payload(1, &long);
        let size = one.len() + OVERHEAD;
        let mut open = Transactions::new(4 * size + 2 * XID_OVERHEAD);
        for n in 0..3 {
            open.event(10, Lsn(100 + n), &one);
        }
        open.event(20, Lsn(140), &one);
        assert_eq!(open.kept_bytes, 4 * size + 2 * XID_OVERHEAD);
        open.event(30, Lsn(150), &one);
        assert_eq!(open.kept_bytes, size + XID_OVERHEAD);
        // They began before that, and go on behind it.
        open.event(10, Lsn(160), &payload(0, &long));
        open.event(21, Lsn(170), &one);
        assert_eq!(open.oldest_lsn(), Some(Lsn(100)));
        assert_eq!(places(open.commit(10, &[], Lsn(200), 0).unwrap()), [160, 100, 101, 102]);
        let mixed = open.commit(20, &[21], Lsn(210), 0).unwrap();
        assert_eq!(mixed.first_lsn, Lsn(140));
        assert_eq!(places(mixed), [140, 170]);
        assert_eq!(open.kept_bytes, size + XID_OVERHEAD);
        assert_eq!(ordered(&open.commit(30, &[], Lsn(220), 0).unwrap()).len(), 1);
        assert_eq!((open.kept_bytes, open.oldest_lsn()), (0, None));
    }

    #[test]
    fn what_is_too_large_for_memory_is_spilled_at_once() {
        let mut open = Transactions::new(1000);
        open.event(10, Lsn(100), &payload(1, "small"));
        open.event(11, Lsn(110), &payload(2, &"x".repeat(1000)));
        open.event(10, Lsn(120), &payload(3, "small"));
        open.prepare(10, &[11]);
        assert!(open.kept_bytes < 1000);
        assert_eq!(places(open.commit(10, &[11], Lsn(200), 0).unwrap()), [100, 110, 120]);
        assert_eq!((open.kept_bytes, open.oldest_lsn()), (0, None));
    }

    /// What the worker asks in each round, and what the WAL says in each second. Were the others passed for
    /// it, this would take minutes.
    #[test]
    fn nothing_passes_all_that_is_open() {
        const COUNT: u64 = 200_000;
        let one = payload(1, "x");
        for limit in [1 << 20, usize::MAX / 2] {
            let mut open = Transactions::new(limit);
            for xid in 0..COUNT {
                open.event(xid, Lsn(xid + 1), &one);
                assert_eq!(open.oldest_lsn(), Some(Lsn(1)));
                assert!(!open.has_prepared());
                open.retire_older_than(0);
                open.abort(COUNT + xid, &[]);
            }
            let subxids: Vec<_> = (1..COUNT as u32).collect();
            let transaction = open.commit(0, &subxids, Lsn(COUNT + 1), 0).unwrap();
            assert_eq!(transaction.events.messages(), COUNT as usize);
            assert_eq!((open.kept_bytes, open.oldest_lsn()), (0, None));
        }
    }

    #[test]
    fn an_event_that_is_no_transactions_is_one_and_is_kept_if_it_is_not_too_large() {
        let open = Transactions::new(1000);
        let small = open.alone(Lsn(100), &payload(1, "now"), Lsn(150), 7);
        assert_eq!((names(&small), small.xid), (vec!["now".to_owned()], 0));
        assert_eq!((small.first_lsn, small.commit_lsn, small.commit_time), (Lsn(100), Lsn(150), 7));
        let large = open.alone(Lsn(200), &payload(1, &"x".repeat(1000)), Lsn(250), 7);
        assert_eq!(places(large), [200]);
        assert_eq!((open.kept_bytes, open.oldest_lsn()), (0, None));
    }

    #[test]
    fn what_ends_frees_its_memory() {
        let mut open = Transactions::new(1 << 20);
        for xid in 10..14 {
            open.event(xid, Lsn(xid), &payload(1, "x"));
        }
        open.prepare(13, &[]);
        open.abort(10, &[11]);
        open.retire_all();
        assert_eq!(open.kept_bytes, payload(1, "x").len() + OVERHEAD);
        assert!(open.commit(13, &[], Lsn(200), 0).is_some());
        assert_eq!(open.kept_bytes, 0);
    }
}
