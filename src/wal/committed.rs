//! The events of transactions whose end was read. They are in memory, or are read again from the WAL. Pure.

use super::event_list::{Entry, EventList};
use super::numbers::NumberList;
use super::order::{Order, is_in_order};
use crate::event::ChangeKey;
use crate::lsn::Lsn;
use crate::memory;

/// What an event in memory takes beside its payload.
pub(super) const OVERHEAD: usize = 64;

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
    pub(super) fn bytes(&self) -> usize {
        self.payload.len() + OVERHEAD
    }

    /// Returns its place in the WAL, and what decides its order.
    pub(super) fn entry(&self) -> Entry {
        Entry { lsn: self.lsn, key: ChangeKey::of(&self.payload) }
    }
}

/// A committed transaction that has events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedTransaction<Events = OrderedEvents> {
    /// Top-level transaction id, as it was counted; 0 for none.
    pub xid: u64,
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
    pub(super) fn kept_bytes(&self) -> usize {
        match self {
            Found::Kept(_) => self.bytes(),
            Found::Spilled(_) => 0,
        }
    }

    /// LSN of the earliest.
    pub(super) fn first_lsn(&self) -> Option<Lsn> {
        match self {
            Found::Kept(events) => events.first().map(|event| event.lsn),
            Found::Spilled(list) => list.iter().next().map(|entry| entry.lsn),
        }
    }

    /// Forgets the payloads, and keeps only the places in the WAL.
    pub fn spill(self) -> Found {
        match self {
            Found::Kept(events) => {
                Found::Spilled(events.iter().map(RecordedEvent::entry).collect())
            }
            Found::Spilled(list) => Found::Spilled(list),
        }
    }

    /// Returns the order of the changes, or None if that is the order of the WAL.
    pub fn order(&self) -> Option<Order> {
        match self {
            Found::Kept(events) => {
                let entries = || events.iter().map(RecordedEvent::entry);
                (!is_in_order(entries())).then(|| Order::of(entries()))
            }
            Found::Spilled(list) => (!is_in_order(list.iter())).then(|| Order::of(list.iter())),
        }
    }

    /// Puts the events in this order.
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

/// The events of a transaction, and where they begin.
#[derive(Debug)]
pub struct Assembled {
    pub events: Found,
    /// LSN of the earliest.
    pub first_lsn: Lsn,
}
