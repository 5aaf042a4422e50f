//! Keeps committed transactions whose order is not known yet, and those that committed after them: they leave in
//! the order in which they came. Pure: the owner of the queue reads the WAL that a [`Pass`] asks for.
//!
//! The ranges of transactions that are open at the same time overlap. So many transactions are looked up in one
//! pass over the union of their ranges: one by one, the WAL of 40 clients was read twenty times.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use super::committed::{CommittedTransaction, Found};
use super::min_queue::MinQueue;
use super::order::{Order, Search, WANTED_BYTES};
use crate::lsn::Lsn;
use crate::memory;
use crate::place::{Place, TableFile, Trace};

/// Most bytes of memory of the events that one pass looks for. The others need another pass.
const PASS_BYTES: usize = 24 * 1024 * 1024;

/// So many late events of a transaction a pass looks for in any case.
const FEW: usize = 1000;

/// Bytes of an xid in a pass.
const XID_BYTES: usize = size_of::<(u32, u32)>();

/// A pass is due when the queue takes this many bytes.
const MANY_BYTES: usize = 16 * 1024 * 1024;

/// A pass is due when the queue has this many transactions.
const MANY: usize = 10_000;

/// A pass is due when this many bytes of WAL were read since the oldest commit, which must not wait for all the
/// WAL that others write.
const FAR_BEHIND: u64 = 16 * 1024 * 1024;

/// Committed transactions in commit order.
#[derive(Debug, Default)]
pub struct OrderQueue {
    queue: VecDeque<Queued>,
    /// LSN of the first event of each.
    first_lsns: MinQueue,
    /// Bytes of memory of all of them.
    bytes: usize,
    /// How many of them have events to be looked for.
    searching: usize,
}

#[derive(Debug)]
struct Queued {
    transaction: CommittedTransaction<Found>,
    bytes: usize,
    /// None: the events are in order as they are.
    order: Option<Order>,
    /// The xids of the transaction and its subtransactions, if a pass needs them. They are as records have them;
    /// these 32 bits are unique in the WAL of one pass.
    xids: Box<[u32]>,
}

impl Queued {
    fn is_ordered(&self) -> bool {
        self.order.as_ref().is_none_or(Order::is_known)
    }
}

impl OrderQueue {
    /// Adds the transaction that committed next, and the subtransactions that committed with it.
    pub fn push(&mut self, transaction: CommittedTransaction<Found>, subxids: &[u32]) {
        let order = transaction.events.order();
        let is_searching = order.as_ref().is_some_and(|order| !order.is_known());
        let xids = if is_searching {
            let mut xids = memory::with_room(1 + subxids.len());
            xids.push(transaction.xid as u32);
            xids.extend_from_slice(subxids);
            xids.into_boxed_slice()
        } else {
            Box::default()
        };
        let bytes = transaction.events.bytes()
            + order.as_ref().map_or(0, Order::bytes)
            + xids.len() * size_of::<u32>();
        self.searching += usize::from(is_searching);
        self.bytes += bytes;
        memory::reserve_place(&mut self.queue);
        self.first_lsns.push(transaction.first_lsn);
        self.queue.push_back(Queued { transaction, bytes, order, xids });
    }

    /// Takes the oldest transaction, if its order is known.
    pub fn pop(&mut self) -> Option<CommittedTransaction> {
        let Queued { transaction, bytes, order, .. } =
            self.queue.pop_front_if(|q| q.is_ordered())?;
        self.bytes -= bytes;
        self.first_lsns.pop();
        let CommittedTransaction { xid, commit_lsn, commit_time, first_lsn, events } = transaction;
        let events = events.in_order(order);
        Some(CommittedTransaction { xid, commit_lsn, commit_time, first_lsn, events })
    }

    /// Returns true if a pass is due, even if there is more to read from `position` on: there are many
    /// transactions, or the oldest has waited long.
    pub fn is_due(&self, position: Lsn) -> bool {
        let is_far_behind = self.queue.front().is_some_and(|oldest| {
            position.0.saturating_sub(oldest.transaction.commit_lsn.0) >= FAR_BEHIND
        });
        self.bytes >= MANY_BYTES || self.queue.len() >= MANY || is_far_behind
    }

    /// Returns true if a pass has something to look for.
    pub fn needs_pass(&self) -> bool {
        self.searching > 0
    }

    /// Returns the LSN of the first event, and the commit time, of the oldest transaction.
    pub fn oldest(&self) -> Option<(Lsn, i64)> {
        let transaction = &self.queue.front()?.transaction;
        Some((transaction.first_lsn, transaction.commit_time))
    }

    /// Returns the LSN of the earliest event of all.
    pub fn first_lsn(&self) -> Option<Lsn> {
        self.first_lsns.least()
    }

    /// Begins a pass for as many late events as memory allows.
    pub fn begin_pass(&mut self) -> Pass {
        let mut pass = Pass::default();
        let mut room = PASS_BYTES;
        for (number, queued) in self.queue.iter_mut().enumerate() {
            if room == 0 {
                break;
            }
            let Some(order) = queued.order.as_mut().filter(|order| !order.is_known()) else {
                continue;
            };
            let bytes_of_xids = queued.xids.len() * XID_BYTES;
            let most = room.saturating_sub(bytes_of_xids) / WANTED_BYTES;
            let search = order.search(most.max(FEW));
            room = room.saturating_sub(bytes_of_xids + search.len() * WANTED_BYTES);
            pass.add(number, &queued.xids, search);
        }
        pass.begin();
        pass
    }

    /// Takes the results of a pass that was given all its ranges. Nothing may leave the queue during a pass.
    pub fn end_pass(&mut self, pass: Pass) {
        for (number, search) in pass.searches {
            let Some(Queued { order: Some(order), .. }) = self.queue.get_mut(number) else {
                continue;
            };
            order.settle(search);
            self.searching -= usize::from(order.is_known());
        }
    }
}

/// One reading of the WAL for the late events of several transactions.
#[derive(Debug, Default)]
pub struct Pass {
    /// Each with its transaction's number in the queue.
    searches: Vec<(usize, Search)>,
    /// Xids, each with the number of its search; sorted.
    xids: Vec<(u32, u32)>,
    /// The numbers of the searches for a TRUNCATE, by the table's file.
    truncates: HashMap<TableFile, Vec<u32>>,
    /// What is to be read; disjoint, the last range first.
    ranges: Vec<Range<Lsn>>,
}

impl Pass {
    fn add(&mut self, number: usize, xids: &[u32], search: Search) {
        let own = self.searches.len() as u32;
        memory::reserve(&mut self.xids, xids.len());
        self.xids.extend(xids.iter().map(|&xid| (xid, own)));
        for &file in search.truncated() {
            memory::reserve_entry(&mut self.truncates);
            let searches = self.truncates.entry(file).or_default();
            if searches.last() != Some(&own) {
                memory::push(searches, own);
            }
        }
        memory::reserve(&mut self.ranges, search.ranges().len());
        self.ranges.extend_from_slice(search.ranges());
        memory::push(&mut self.searches, (number, search));
    }

    fn begin(&mut self) {
        self.xids.sort_unstable();
        self.ranges.sort_unstable_by_key(|range| range.start);
        let mut union: Vec<Range<Lsn>> = memory::with_room(self.ranges.len());
        for range in self.ranges.drain(..) {
            match union.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => union.push(range),
            }
        }
        union.reverse();
        self.ranges = union;
    }

    /// Returns the next range of WAL to be read. It begins and ends at the first byte of a record.
    pub fn next_range(&mut self) -> Option<Range<Lsn>> {
        self.ranges.pop()
    }

    /// Takes a change that was found. A change of rows goes to the search of its xid, a new file of a table to all
    /// searches for that file, because it may be anybody's.
    pub fn take(&mut self, xid: u32, lsn: Lsn, trace: Trace, places: impl Iterator<Item = Place>) {
        if trace == Trace::Storage {
            for place in places {
                for &search in self.truncates.get(&place.file).into_iter().flatten() {
                    self.searches[search as usize].1.take(lsn, trace, place);
                }
            }
        } else if let Ok(found) = self.xids.binary_search_by_key(&xid, |&(xid, _)| xid) {
            let (_, search) = &mut self.searches[self.xids[found].1 as usize];
            places.for_each(|place| search.take(lsn, trace, place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventHead, Operation};
    use crate::place::TableFile;
    use crate::wal::committed::{OrderedEvents, RecordedEvent};

    fn place(xid: u32) -> Place {
        let file = TableFile { tablespace: 1663, database: 5, number: 16_384 };
        Place { file, block: xid, offset: 1 }
    }

    fn event(lsn: u64, command_id: u32, place: Option<Place>) -> RecordedEvent {
        let mut payload = Vec::new();
        let head = EventHead { place, ..EventHead::new(Operation::Insert, command_id) };
        head.encode_into(&mut payload);
        RecordedEvent { lsn: Lsn(lsn), payload }
    }

    /// Two events from `start` on. If the second is late, its record lies between them, at `start` + 5.
    fn transaction(xid: u32, start: u64, is_late: bool) -> CommittedTransaction<Found> {
        let commands = if is_late { [2, 1] } else { [1, 2] };
        let events = vec![
            event(start, commands[0], None),
            event(start + 10, commands[1], is_late.then(|| place(xid))),
        ];
        CommittedTransaction {
            xid: u64::from(xid),
            commit_lsn: Lsn(start + 20),
            commit_time: 0,
            first_lsn: Lsn(start),
            events: Found::Kept(events),
        }
    }

    fn ranges(pass: &mut Pass) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| pass.next_range()).map(|r| (r.start.0, r.end.0)).collect()
    }

    fn lsns(queue: &mut OrderQueue) -> Vec<u64> {
        let transactions = std::iter::from_fn(|| queue.pop());
        let lsns = |transaction: CommittedTransaction| match transaction.events {
            OrderedEvents::Kept(events) => events.into_iter().map(|e| e.lsn.0).collect::<Vec<_>>(),
            OrderedEvents::Spilled(_) => panic!("nothing was spilled"),
        };
        transactions.flat_map(lsns).collect()
    }

    #[test]
    fn what_waits_for_nothing_leaves_at_once() {
        let mut queue = OrderQueue::default();
        queue.push(transaction(7, 100, false), &[]);
        assert!(!queue.needs_pass());
        assert_eq!(queue.first_lsn(), Some(Lsn(100)));
        assert_eq!(lsns(&mut queue), [100, 110]);
        assert_eq!((queue.bytes, queue.first_lsn()), (0, None));
    }

    #[test]
    fn nothing_leaves_before_its_order_and_that_of_those_ahead_is_known() {
        let mut queue = OrderQueue::default();
        queue.push(transaction(7, 100, true), &[]);
        queue.push(transaction(8, 200, false), &[]);
        assert!(queue.needs_pass() && queue.pop().is_none());
        let mut pass = queue.begin_pass();
        assert!(queue.pop().is_none());
        assert_eq!(ranges(&mut pass), [(100, 110)]);
        pass.take(7, Lsn(105), Trace::NewVersion, std::iter::once(place(7)));
        assert!(queue.pop().is_none());
        queue.end_pass(pass);
        assert!(!queue.needs_pass());
        assert_eq!(lsns(&mut queue), [100, 110, 200, 210]);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn nobody_waits_for_much_wal_of_others() {
        let mut queue = OrderQueue::default();
        queue.push(transaction(7, 100, true), &[]);
        assert!(!queue.is_due(Lsn(120)) && !queue.is_due(Lsn(119 + FAR_BEHIND)));
        assert!(queue.is_due(Lsn(120 + FAR_BEHIND)));
        (0..MANY as u32).for_each(|xid| queue.push(transaction(xid, 200, true), &[]));
        assert!(queue.is_due(Lsn(220)));
    }

    #[test]
    fn one_pass_reads_for_all_and_tells_their_changes_apart() {
        let mut queue = OrderQueue::default();
        queue.push(transaction(7, 100, true), &[17]);
        queue.push(transaction(8, 104, true), &[]);
        queue.push(transaction(9, 300, true), &[]);
        let mut pass = queue.begin_pass();
        assert_eq!(ranges(&mut pass), [(100, 114), (300, 310)]);
        let take = |pass: &mut Pass, xid, lsn, of| {
            pass.take(xid, Lsn(lsn), Trace::NewVersion, [place(0), place(of)].into_iter());
        };
        // By a subtransaction; by somebody else; by nobody.
        take(&mut pass, 17, 105, 7);
        take(&mut pass, 9, 107, 8);
        queue.end_pass(pass);
        assert_eq!(lsns(&mut queue), [100, 110, 114, 104, 310, 300]);
    }
}
