//! Where the events of a transaction lie in the WAL, without their bodies: what is kept of a
//! transaction that is too large for the worker's memory. Pure. About three bytes an event, since
//! each is written as the difference from the one before.

use crate::lsn::Lsn;

/// One event's place: in its transaction, whose events are in the order of these keys, and in the
/// WAL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKey {
    /// Command of the transaction that made the change.
    pub command_id: u32,
    /// First byte of the WAL record.
    pub lsn: Lsn,
}

/// A list of keys in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventList {
    bytes: Vec<u8>,
    length: usize,
    last: EventKey,
    is_unsorted: bool,
}

impl EventList {
    /// Adds a key at the end.
    pub fn push(&mut self, key: EventKey) {
        self.is_unsorted |= key < self.last;
        let command_ids = i64::from(key.command_id) - i64::from(self.last.command_id);
        push_number(&mut self.bytes, zigzag(command_ids));
        push_number(&mut self.bytes, zigzag(key.lsn.0.wrapping_sub(self.last.lsn.0) as i64));
        self.length += 1;
        self.last = key;
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the keys are in the order of the changes.
    pub fn is_sorted(&self) -> bool {
        !self.is_unsorted
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

impl Extend<EventKey> for EventList {
    fn extend<T: IntoIterator<Item = EventKey>>(&mut self, keys: T) {
        keys.into_iter().for_each(|key| self.push(key));
    }
}

impl FromIterator<EventKey> for EventList {
    fn from_iter<T: IntoIterator<Item = EventKey>>(keys: T) -> EventList {
        let mut list = EventList::default();
        list.extend(keys);
        list
    }
}

impl IntoIterator for EventList {
    type Item = EventKey;
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter { bytes: self.bytes.into_iter(), length: self.length, last: EventKey::default() }
    }
}

/// The keys of a list.
#[derive(Clone, Debug)]
pub struct IntoIter {
    bytes: std::vec::IntoIter<u8>,
    length: usize,
    last: EventKey,
}

impl Iterator for IntoIter {
    type Item = EventKey;

    fn next(&mut self) -> Option<EventKey> {
        let command_ids = unzigzag(take_number(&mut self.bytes)?);
        let lsns = unzigzag(take_number(&mut self.bytes)?);
        self.length = self.length.saturating_sub(1);
        self.last = EventKey {
            command_id: (i64::from(self.last.command_id) + command_ids) as u32,
            lsn: Lsn(self.last.lsn.0.wrapping_add(lsns as u64)),
        };
        Some(self.last)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.length, Some(self.length))
    }
}

impl ExactSizeIterator for IntoIter {}

/// Small numbers of either sign become small numbers without one.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Seven bits a byte, the lowest first; the eighth says that more follow (LEB128).
fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7F {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = bytes.next()?;
        number |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(command_id: u32, lsn: u64) -> EventKey {
        EventKey { command_id, lsn: Lsn(lsn) }
    }

    #[test]
    fn keys_come_back_as_they_were_added() {
        let keys = [
            key(0, 8),
            key(u32::MAX, 4096),
            key(7, u64::MAX),
            key(7, 0),
            key(7, 1 << 63),
            key(8, 1),
        ];
        let list: EventList = keys.into_iter().collect();
        assert_eq!((list.len(), list.is_sorted()), (keys.len(), false));
        assert_eq!(list.into_iter().collect::<Vec<_>>(), keys);
    }

    #[test]
    fn a_change_of_a_row_takes_three_bytes() {
        let list: EventList = (0..10_000).map(|n| key(3, 1 << 40 | (n * 704))).collect();
        assert!(list.is_sorted());
        assert!(list.bytes.len() < 10_000 * 3 + 16, "{}", list.bytes.len());
    }
}
