//! The committed transactions between the WAL and the broker, in commit order: those that were read and are
//! not yet wholly confirmed. The stream knows which transactions may be published, which event is next, and
//! what the position is. It never waits. Where events are missing, it holds a [`gap`]; where another server has
//! taken it over, a [`takeover`]. Pure.

pub mod gap;
mod notice;
pub mod takeover;
mod waiting;

use std::collections::VecDeque;

use crate::event::Half;
use crate::lsn::Lsn;
use crate::memory;
use crate::position::Position;
use crate::wal::committed::{CommittedTransaction, RecordedEvent};
use crate::wal::min_queue::MinQueue;
pub use waiting::Peeked;
use waiting::{Taken, Waiting};

/// Committed transactions in commit order, oldest first.
#[derive(Debug, Default)]
pub struct Stream {
    transactions: VecDeque<InStream>,
    /// LSN of the first event of each.
    first_lsns: MinQueue,
    /// How many transactions, from the front, are visible to other sessions and may be published.
    visible: usize,
    /// How many transactions, from the front, were handed out whole.
    handed_out: usize,
    /// How many messages of the front transaction are confirmed.
    confirmed_in_front: u64,
    /// C: everything up to here is confirmed.
    confirmed: Lsn,
    /// Bytes of memory of the transactions that were not handed out whole.
    bytes: usize,
}

#[derive(Debug)]
struct InStream {
    xid: u64,
    commit_lsn: Lsn,
    commit_time: i64,
    first_lsn: Lsn,
    size: u64,
    /// Bytes of memory that it took at first.
    bytes: usize,
    /// What was not handed out yet.
    waiting: Waiting,
}

/// One event that is next to be published, or to be published again as its second message, with its place in the stream.
#[derive(Debug, PartialEq, Eq)]
pub struct NextEvent {
    /// The event.
    pub recorded: RecordedEvent,
    /// Which of its messages is next, if it makes two.
    pub half: Half,
    /// Top-level transaction id, as it was counted.
    pub xid: u64,
    /// First byte after the commit record.
    pub commit_lsn: Lsn,
    /// Microseconds since 2000-01-01 UTC.
    pub commit_time: i64,
    /// The message's number in the transaction, from 1.
    pub tx_seq: u64,
    /// Messages of the transaction.
    pub tx_size: u64,
}

impl Stream {
    /// A stream that goes on from `position`.
    pub fn resume(position: Position) -> Stream {
        Stream {
            confirmed: position.confirmed,
            confirmed_in_front: position.tx_seq,
            ..Stream::default()
        }
    }

    /// Adds the transaction that committed next. Messages that were confirmed before the start are passed over.
    pub fn push(&mut self, transaction: CommittedTransaction) {
        let last = self.transactions.back().map_or(self.confirmed, |last| last.commit_lsn);
        if transaction.commit_lsn <= last {
            return;
        }
        let size = transaction.events.len() as u64;
        let bytes = transaction.events.bytes();
        let mut waiting = Waiting::new(transaction.events);
        if self.transactions.is_empty() {
            waiting.skip(self.confirmed_in_front.min(size) as usize);
        }
        memory::reserve_place(&mut self.transactions);
        self.bytes += bytes;
        self.first_lsns.push(transaction.first_lsn);
        self.transactions.push_back(InStream {
            xid: transaction.xid,
            commit_lsn: transaction.commit_lsn,
            commit_time: transaction.commit_time,
            first_lsn: transaction.first_lsn,
            size,
            bytes,
            waiting,
        });
    }

    /// Returns true if some transaction is not known to be visible yet.
    pub fn has_held_back(&self) -> bool {
        self.visible < self.transactions.len()
    }

    /// Returns the commit LSN of the first transaction that may not be published yet.
    pub fn first_held_back(&self) -> Option<Lsn> {
        self.transactions.get(self.visible).map(|first| first.commit_lsn)
    }

    /// Asks `may_be_announced`, with xid and commit LSN, which transactions may be published, and lets them go up
    /// to the first that may not: those behind it wait, too, so that the order is kept.
    pub fn release(&mut self, mut may_be_announced: impl FnMut(u64, Lsn) -> bool) {
        while let Some(next) = self.transactions.get(self.visible)
            && may_be_announced(next.xid, next.commit_lsn)
        {
            self.visible += 1;
        }
    }

    /// Returns what is next to be published, if there is something that may be.
    pub fn peek(&mut self) -> Option<Peeked> {
        self.skip_handed_out();
        self.front_to_hand_out()?.waiting.peek()
    }

    /// Takes the payload of the event that [`Stream::peek`] found to be in the WAL.
    pub fn load(&mut self, payload: Vec<u8>) {
        if let Some(transaction) = self.front_to_hand_out() {
            transaction.waiting.load(payload);
        }
    }

    /// Takes the event that is next to be published, if it may be and is in memory.
    pub fn next(&mut self) -> Option<NextEvent> {
        self.skip_handed_out();
        let transaction = self.front_to_hand_out()?;
        let Taken { recorded, half } = transaction.waiting.next()?;
        Some(NextEvent {
            xid: transaction.xid,
            commit_lsn: transaction.commit_lsn,
            commit_time: transaction.commit_time,
            tx_seq: transaction.size - transaction.waiting.len() as u64,
            tx_size: transaction.size,
            recorded,
            half,
        })
    }

    fn skip_handed_out(&mut self) {
        while self.handed_out < self.visible
            && self.transactions[self.handed_out].waiting.len() == 0
        {
            self.bytes -= self.transactions[self.handed_out].bytes;
            self.handed_out += 1;
        }
    }

    fn front_to_hand_out(&mut self) -> Option<&mut InStream> {
        (self.handed_out < self.visible).then(|| &mut self.transactions[self.handed_out])
    }

    /// Notes that `count` more messages were confirmed, in the order in which they were handed out.
    pub fn confirm(&mut self, count: u64) {
        self.skip_handed_out();
        self.confirmed_in_front += count;
        while let Some(front) = self.transactions.front()
            && self.confirmed_in_front >= front.size
            && self.handed_out > 0
        {
            self.confirmed_in_front -= front.size;
            self.confirmed = front.commit_lsn;
            self.transactions.pop_front();
            self.first_lsns.pop();
            self.visible -= 1;
            self.handed_out -= 1;
        }
    }

    /// Returns the position. `needed_from` is the first byte that open transactions need, or that was not read yet.
    pub fn position(&self, needed_from: Lsn) -> Position {
        let restart = self.first_lsns.least().map_or(needed_from, |least| least.min(needed_from));
        Position { confirmed: self.confirmed, restart, tx_seq: self.confirmed_in_front }
    }

    /// Returns the LSN of the first event, and the commit time, of the oldest transaction that is not wholly
    /// confirmed.
    pub fn oldest_unconfirmed(&self) -> Option<(Lsn, i64)> {
        self.transactions.front().map(|front| (front.first_lsn, front.commit_time))
    }

    /// Bytes of memory of the transactions that were not handed out whole.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventHead, Names, Operation};
    use crate::wal::committed::OrderedEvents;

    fn transaction(xid: u64, first: u64, commit: u64, events: usize) -> CommittedTransaction {
        CommittedTransaction {
            xid,
            commit_lsn: Lsn(commit),
            commit_time: xid as i64,
            first_lsn: Lsn(first),
            events: OrderedEvents::Kept(
                (0..events)
                    .map(|n| RecordedEvent { lsn: Lsn(first + n as u64), payload: vec![0; 10] })
                    .collect(),
            ),
        }
    }

    fn spilled(transaction: CommittedTransaction) -> CommittedTransaction {
        let OrderedEvents::Kept(events) = transaction.events else { return transaction };
        let lsns = events.into_iter().map(|event| [event.lsn.0]).collect();
        CommittedTransaction { events: OrderedEvents::Spilled(lsns), ..transaction }
    }

    fn take_all(stream: &mut Stream) -> Vec<(u64, u64, u64)> {
        std::iter::from_fn(|| stream.next()).map(|e| (e.xid, e.tx_seq, e.tx_size)).collect()
    }

    fn position(confirmed: u64, restart: u64, tx_seq: u64) -> Position {
        Position { confirmed: Lsn(confirmed), restart: Lsn(restart), tx_seq }
    }

    #[test]
    fn nothing_is_announced_before_it_is_visible_and_nothing_overtakes() {
        let mut stream = Stream::default();
        stream.push(transaction(1, 10, 20, 1));
        stream.push(transaction(2, 11, 30, 1));
        assert_eq!(stream.next(), None);
        stream.release(|xid, _| xid != 1);
        assert_eq!((stream.next(), stream.has_held_back()), (None, true));
        stream.release(|_, _| true);
        assert_eq!(take_all(&mut stream), [(1, 1, 1), (2, 1, 1)]);
        assert!(!stream.has_held_back());
    }

    #[test]
    fn the_position_moves_with_the_confirms() {
        let mut stream = Stream::default();
        stream.push(transaction(1, 15, 20, 2));
        stream.push(transaction(2, 10, 30, 3));
        stream.release(|_, _| true);
        take_all(&mut stream);
        assert_eq!(stream.position(Lsn(40)), position(0, 10, 0));
        stream.confirm(1);
        assert_eq!(stream.position(Lsn(40)), position(0, 10, 1));
        stream.confirm(2);
        assert_eq!(stream.position(Lsn(40)), position(20, 10, 1));
        assert_eq!(stream.oldest_unconfirmed(), Some((Lsn(10), 2)));
        stream.confirm(2);
        assert_eq!(stream.position(Lsn(40)), position(30, 40, 0));
        assert_eq!((stream.oldest_unconfirmed(), stream.bytes()), (None, 0));
    }

    #[test]
    fn it_goes_on_where_the_position_says() {
        let mut stream = Stream::resume(position(20, 10, 2));
        stream.push(transaction(1, 15, 20, 2));
        stream.push(transaction(2, 10, 30, 3));
        stream.push(transaction(3, 31, 40, 1));
        stream.release(|_, _| true);
        assert_eq!(take_all(&mut stream), [(2, 3, 3), (3, 1, 1)]);
        stream.confirm(1);
        assert_eq!(stream.position(Lsn(50)), position(30, 31, 0));
    }

    #[test]
    fn a_transaction_wholly_confirmed_before_a_restart_is_passed_over() {
        let mut stream = Stream::resume(position(20, 10, 3));
        stream.push(transaction(2, 10, 30, 3));
        stream.release(|_, _| true);
        assert_eq!(stream.next(), None);
        stream.confirm(0);
        assert_eq!(stream.position(Lsn(50)), position(30, 50, 0));
    }

    #[test]
    fn nothing_is_confirmed_that_was_not_handed_out() {
        let mut stream = Stream::default();
        stream.push(transaction(1, 10, 20, 2));
        stream.release(|_, _| true);
        stream.next();
        stream.confirm(2);
        assert_eq!(stream.position(Lsn(50)), position(0, 10, 2));
    }

    #[test]
    fn what_was_spilled_is_handed_out_as_it_is_read_again() {
        let mut stream = Stream::resume(position(5, 5, 1));
        stream.push(spilled(transaction(1, 10, 20, 3)));
        stream.release(|_, _| true);
        // The first was confirmed before.
        for (lsn, tx_seq) in [(11, 2), (12, 3)] {
            assert_eq!(stream.peek(), Some(Peeked::InWal(Lsn(lsn))));
            assert_eq!(stream.next(), None);
            stream.load(vec![7; 4]);
            stream.load(vec![8; 4]);
            assert_eq!(stream.peek(), Some(Peeked::InMemory(4)));
            let next = stream.next().unwrap();
            assert_eq!((next.recorded.lsn, next.tx_seq, next.tx_size), (Lsn(lsn), tx_seq, 3));
            assert_eq!(next.recorded.payload, [7; 4]);
        }
        assert_eq!(stream.peek(), None);
        stream.confirm(2);
        assert_eq!(stream.position(Lsn(50)), position(20, 50, 0));
        assert_eq!(stream.bytes(), 0);
    }

    #[test]
    fn what_ends_before_the_last_one_was_there_already() {
        let mut stream = Stream::default();
        stream.push(transaction(0, 10, 30, 1));
        stream.push(transaction(1, 10, 20, 1));
        stream.push(transaction(2, 31, 40, 1));
        stream.release(|_, _| true);
        assert_eq!(take_all(&mut stream), [(0, 1, 1), (2, 1, 1)]);
    }

    /// Of events of these operations, each of which says where it is.
    fn split(xid: u64, first: u64, commit: u64, operations: &[Operation]) -> CommittedTransaction {
        let mut events = Vec::new();
        for (n, &operation) in operations.iter().enumerate() {
            let mut payload = Vec::new();
            EventHead::new(operation, n as u32).encode_into(&mut payload);
            let lsn = Lsn(first + n as u64);
            let copies = if operation == Operation::Split { 2 } else { 1 };
            events.push(RecordedEvent { lsn, payload });
            events.extend((1..copies).map(|_| RecordedEvent { lsn, payload: Vec::new() }));
        }
        let events = OrderedEvents::Kept(events);
        CommittedTransaction { events, ..transaction(xid, first, commit, 0) }
    }

    const MOVES: [Operation; 4] =
        [Operation::Update, Operation::Split, Operation::Split, Operation::Insert];

    /// LSN, half, number and size of all that is next.
    fn halves(stream: &mut Stream) -> Vec<(u64, Half, u64, u64)> {
        let mut seen = Vec::new();
        while let Some(peeked) = stream.peek() {
            if let Peeked::InWal(lsn) = peeked {
                let mut payload = Vec::new();
                let number = (lsn.0 % 10) as usize;
                EventHead::new(MOVES[number], number as u32).encode_into(&mut payload);
                stream.load(payload);
            }
            let next = stream.next().unwrap();
            let lsn = next.recorded.lsn.0;
            // The second is read like the first.
            let event = Event::decode(next.recorded.payload, &mut Names::default()).unwrap();
            assert_eq!(u64::from(event.head.command_id), lsn % 10);
            seen.push((lsn, next.half, next.tx_seq, next.tx_size));
        }
        seen
    }

    #[test]
    fn an_event_that_makes_two_messages_is_handed_out_and_confirmed_twice() {
        let (first, second) = (Half::Delete, Half::Insert);
        let all = [
            (10, first, 1, 6),
            (11, first, 2, 6),
            (11, second, 3, 6),
            (12, first, 4, 6),
            (12, second, 5, 6),
            (13, first, 6, 6),
        ];
        for is_spilled in [false, true] {
            // It goes on behind each of the messages, in the middle of an event as well.
            for done in 0..=6 {
                let mut stream = Stream::resume(position(5, 5, done));
                let moved = split(1, 10, 20, &MOVES);
                stream.push(if is_spilled { spilled(moved) } else { moved });
                stream.release(|_, _| true);
                assert_eq!(halves(&mut stream), all[done as usize..], "{done} {is_spilled}");
                for confirmed in done..6 {
                    assert_eq!(stream.position(Lsn(50)), position(5, 10, confirmed));
                    stream.confirm(1);
                }
                stream.confirm(0);
                assert_eq!(stream.position(Lsn(50)), position(20, 50, 0));
            }
        }
    }

    #[test]
    fn events_of_one_place_that_make_one_message_each_are_no_halves() {
        let mut stream = Stream::default();
        let mut notices = split(1, 10, 20, &[Operation::Gap, Operation::Gap]);
        if let OrderedEvents::Kept(events) = &mut notices.events {
            events[1].lsn = events[0].lsn;
        }
        stream.push(notices);
        stream.release(|_, _| true);
        let taken: Vec<_> = std::iter::from_fn(|| stream.next()).collect();
        assert!(taken.iter().all(|next| next.half == Half::Delete));
        assert_ne!(taken[0].recorded.payload, taken[1].recorded.payload);
    }

    #[test]
    fn a_second_message_for_which_there_was_no_memory_is_read_from_the_wal() {
        let mut waiting = Waiting::new(split(1, 10, 20, &[Operation::Split]).events);
        let first = waiting.next().unwrap();
        let Peeked::InMemory(size) = waiting.peek().unwrap() else { panic!("it is in the WAL") };
        assert_eq!(size, first.recorded.payload.len());
        waiting.forget_next();
        assert_eq!(waiting.peek(), Some(Peeked::InWal(Lsn(10))));
        waiting.load(first.recorded.payload.clone());
        let second = waiting.next().unwrap();
        assert_eq!((second.half, second.recorded), (Half::Insert, first.recorded));
        assert_eq!(waiting.peek(), None);
    }
}
