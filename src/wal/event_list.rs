//! The places of a transaction's events in the WAL: all that is kept of a transaction that is too large for
//! the worker's memory. An event takes about three bytes; a late one ([`crate::wal::order`]) takes some six
//! more. Pure.

use super::numbers::{Cursor, NumberList, SortedRows};
use crate::event::ChangeKey;
use crate::lsn::Lsn;
use crate::place::{Place, TableFile, Trace};

/// What decides the place of an event in its transaction. Entries compare by LSN first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// First byte of its WAL record.
    pub lsn: Lsn,
    /// What the event itself says.
    pub key: ChangeKey,
}

/// A list of events, which are added in the order of the WAL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventList {
    /// Command id, trace and flags; LSN.
    events: NumberList<2>,
    /// The places of those events that have one.
    places: NumberList<5>,
}

// Bits of the first number of an event: the trace, whether it has a place, is of layout 1, makes two messages.
const TRACE: u64 = 3;
const HAS_PLACE: u64 = 4;
const IS_OF_LAYOUT_1: u64 = 8;
const IS_SPLIT: u64 = 16;
const COMMAND_ID_SHIFT: u32 = 5;

impl EventList {
    /// Adds an event at the end.
    pub fn push(&mut self, entry: Entry) {
        if let Some(place) = entry.key.place {
            self.places.push(place_to_numbers(place));
        }
        self.events.push([key_to_number(entry.key), entry.lsn.0]);
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.events.bytes() + self.places.bytes()
    }

    /// Behind the last event: where the next one will be.
    pub fn end(&self) -> EventCursor {
        EventCursor { events: self.events.end(), places: self.places.end() }
    }

    /// The events in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        let mut cursor = EventCursor::default();
        std::iter::from_fn(move || cursor.next(self))
    }
}

/// A position between the events of one list.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventCursor {
    events: Cursor<2>,
    places: Cursor<5>,
}

impl EventCursor {
    /// Returns the event that follows. `list` must be the list that the cursor is of.
    pub fn next(&mut self, list: &EventList) -> Option<Entry> {
        let [number, lsn] = self.events.next(&list.events)?;
        let place = (number & HAS_PLACE != 0)
            .then(|| self.places.next(&list.places).map(place_from_numbers));
        Some(Entry { lsn: Lsn(lsn), key: key_from_number(number, place.flatten()) })
    }

    /// How many events there are before it.
    pub fn passed(&self) -> usize {
        self.events.passed()
    }
}

fn key_to_number(key: ChangeKey) -> u64 {
    let ChangeKey { command_id, trace, place, is_of_layout_1, is_split } = key;
    let mut number = u64::from(command_id) << COMMAND_ID_SHIFT | trace as u64;
    if is_of_layout_1 {
        number |= IS_OF_LAYOUT_1;
    }
    if place.is_some() {
        number |= HAS_PLACE;
    }
    if is_split {
        number |= IS_SPLIT;
    }
    number
}

fn key_from_number(number: u64, place: Option<Place>) -> ChangeKey {
    ChangeKey {
        command_id: (number >> COMMAND_ID_SHIFT) as u32,
        trace: Trace::from_number((number & TRACE) as u8).unwrap_or(Trace::NewVersion),
        place,
        is_of_layout_1: number & IS_OF_LAYOUT_1 != 0,
        is_split: number & IS_SPLIT != 0,
    }
}

/// Sorts events by LSN; most of them come in that order.
#[derive(Debug, Default)]
pub struct SortedEvents {
    /// LSN; the number of the key; place.
    rows: SortedRows<7>,
}

impl SortedEvents {
    /// Adds an event.
    pub fn push(&mut self, Entry { lsn, key }: Entry) {
        let [tablespace, database, number, block, offset] =
            place_to_numbers(key.place.unwrap_or_default());
        let key = key_to_number(key);
        self.rows.push([lsn.0, key, tablespace, database, number, block, offset]);
    }

    /// The events in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        self.rows.iter().map(|[lsn, number, place @ ..]| {
            let place = (number & HAS_PLACE != 0).then(|| place_from_numbers(place));
            Entry { lsn: Lsn(lsn), key: key_from_number(number, place) }
        })
    }
}

impl Extend<Entry> for EventList {
    fn extend<T: IntoIterator<Item = Entry>>(&mut self, entries: T) {
        entries.into_iter().for_each(|entry| self.push(entry));
    }
}

impl FromIterator<Entry> for EventList {
    fn from_iter<T: IntoIterator<Item = Entry>>(entries: T) -> EventList {
        let mut list = EventList::default();
        list.extend(entries);
        list
    }
}

/// Returns a place as numbers; those that change least come first.
pub fn place_to_numbers(place: Place) -> [u64; 5] {
    let Place { file: TableFile { tablespace, database, number }, block, offset } = place;
    [tablespace, database, number, block, u32::from(offset)].map(u64::from)
}

/// The inverse of [`place_to_numbers`].
pub fn place_from_numbers(numbers: [u64; 5]) -> Place {
    let [tablespace, database, number, block, offset] = numbers.map(|number| number as u32);
    Place { file: TableFile { tablespace, database, number }, block, offset: offset as u16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(command_id: u32, lsn: u64) -> Entry {
        let (trace, place) = (Trace::NewVersion, None);
        let (is_of_layout_1, is_split) = (false, false);
        Entry {
            lsn: Lsn(lsn),
            key: ChangeKey { command_id, trace, place, is_of_layout_1, is_split },
        }
    }

    fn late(number: u64) -> Entry {
        let file = TableFile { tablespace: 1663, database: 5, number: 16_384 };
        let (block, offset) = ((number / 200) as u32, (number % 200) as u16);
        let mut entry = entry(3, 1 << 40 | (number * 704));
        entry.key.place = Some(Place { file, block, offset });
        entry
    }

    #[test]
    fn events_come_back_as_they_were_added() {
        let mut entries =
            vec![entry(0, 8), entry(u32::MAX, 4096), late(7), entry(7, 1 << 63), late(1)];
        entries[0].key.trace = Trace::Storage;
        entries[2].key.trace = Trace::Deletion;
        entries[1].key.is_of_layout_1 = true;
        entries[2].key.is_split = true;
        entries[3].key.is_split = true;
        let list: EventList = entries.iter().copied().collect();
        assert_eq!(list.iter().collect::<Vec<_>>(), entries);
    }

    #[test]
    fn an_event_takes_three_bytes_and_a_late_one_nine() {
        let list: EventList = (0..10_000).map(|n| entry(3, 1 << 40 | (n * 704))).collect();
        assert!(list.bytes() < 2 * 10_000 * 3, "{}", list.bytes());
        let list: EventList = (0..10_000).map(late).collect();
        assert!(list.bytes() < 2 * 10_000 * 9, "{}", list.bytes());
    }

    #[test]
    fn events_of_several_sources_become_one_list_in_the_order_of_the_wal() {
        let mut sorted = SortedEvents::default();
        let entries = [entry(7, 8), entry(7, 40), late(1), entry(2, 16), late(0), entry(3, 48)];
        entries.into_iter().for_each(|entry| sorted.push(entry));
        let mut expected = entries;
        expected.sort_unstable();
        assert_eq!(sorted.iter().collect::<EventList>().iter().collect::<Vec<_>>(), expected);
    }
}
