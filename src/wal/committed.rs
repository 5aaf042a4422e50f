//! The events of transactions whose end was read. They are in memory, or are read again from the WAL. Pure.

use super::event_list::{Entry, EventList};
use super::numbers::NumberList;
use super::order::{Order, is_in_order};
use crate::event::{self, ChangeKey};
use crate::lsn::Lsn;
use crate::memory;

/// What an event in memory takes beside its payload.
pub(super) const OVERHEAD: usize = 64;

/// One event as it was found in the WAL. An event that makes two messages comes twice, one after the other; the
/// second has no payload of its own.
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

    /// How many messages it makes.
    fn messages(&self) -> usize {
        if event::is_split(&self.payload) { 2 } else { 1 }
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

/// The events of a transaction, in the order of its changes, each as often as it makes messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderedEvents {
    /// All in memory.
    Kept(Vec<RecordedEvent>),
    /// All to be read again from the WAL, where their records begin at these LSNs.
    Spilled(NumberList<1>),
}

impl OrderedEvents {
    /// How many messages they make.
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

    /// How many messages they make.
    pub fn messages(&self) -> usize {
        match self {
            Found::Kept(events) => events.iter().map(RecordedEvent::messages).sum(),
            Found::Spilled(list) => list.iter().map(|entry| entry.key.messages()).sum(),
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
        let count = self.messages();
        let events = self.put_in_order(order, count);
        assert_eq!(
            events.len(),
            count,
            "an event was lost or came twice in its transaction's order"
        );
        events
    }

    fn put_in_order(self, order: Option<Order>, count: usize) -> OrderedEvents {
        match (self, order) {
            (Found::Kept(events), None) => OrderedEvents::Kept(doubled(events, count)),
            (Found::Kept(mut events), Some(order)) => {
                let mut ordered = memory::with_room(count);
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
                let messages =
                    |Entry { lsn, key }: Entry| std::iter::repeat_n([lsn.0], key.messages());
                OrderedEvents::Spilled(list.iter().flat_map(messages).collect())
            }
            (Found::Spilled(list), Some(order)) => {
                drop(list);
                OrderedEvents::Spilled(order.lsns().map(|lsn| [lsn.0]).collect())
            }
        }
    }
}

/// The events in the same order, each as often as it makes messages, which are so many.
fn doubled(events: Vec<RecordedEvent>, count: usize) -> Vec<RecordedEvent> {
    if count == events.len() {
        return events;
    }
    let mut all = memory::with_room(count);
    for event in events {
        let (lsn, messages) = (event.lsn, event.messages());
        all.push(event);
        all.extend((1..messages).map(|_| RecordedEvent { lsn, payload: Vec::new() }));
    }
    all
}

/// The events of a transaction, and where they begin.
#[derive(Debug)]
pub struct Assembled {
    pub events: Found,
    /// LSN of the earliest.
    pub first_lsn: Lsn,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventHead, Operation};

    fn event(lsn: u64, operation: Operation, command_id: u32) -> RecordedEvent {
        let mut payload = Vec::new();
        EventHead::new(operation, command_id).encode_into(&mut payload);
        RecordedEvent { lsn: Lsn(lsn), payload }
    }

    #[test]
    fn an_event_that_makes_two_messages_is_there_twice_in_memory_and_in_the_wal() {
        // In the order of the WAL, and with the last one made first: it has no record.
        for (commands, pair) in [([1, 2, 3], [110, 120]), ([1, 3, 2], [120, 110])] {
            let kept = Found::Kept(vec![
                event(100, Operation::Insert, commands[0]),
                event(110, Operation::Split, commands[1]),
                event(120, Operation::Split, commands[2]),
            ]);
            let one = kept.bytes() / 3 - OVERHEAD;
            let expected = [100, pair[0], pair[0], pair[1], pair[1]];
            let spilled = kept.clone().spill();
            assert_eq!((kept.messages(), spilled.messages()), (5, 5));
            let order = kept.order();
            assert_eq!(order.is_some(), pair[0] > pair[1]);
            let OrderedEvents::Kept(events) = kept.in_order(order) else { panic!("spilled") };
            let (lsns, sizes): (Vec<_>, Vec<_>) =
                events.iter().map(|event| (event.lsn.0, event.payload.len())).unzip();
            assert_eq!(lsns, expected);
            // The second of each has nothing of its own.
            assert_eq!(sizes, [one, one, 0, one, 0]);
            let order = spilled.order();
            let OrderedEvents::Spilled(lsns) = spilled.in_order(order) else { panic!("kept") };
            assert_eq!(lsns.iter().collect::<Vec<_>>(), expected.map(|lsn| [lsn]));
        }
    }
}
