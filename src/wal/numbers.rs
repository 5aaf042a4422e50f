//! Lists of numbers that take little memory. They hold what is kept of transactions that are too large for the
//! worker's memory. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::bytes::{Reader, put_number};
use crate::memory;

/// Rows of `N` numbers. Each number is stored as its difference from the one in the row before; a small
/// difference takes one byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberList<const N: usize> {
    bytes: Vec<u8>,
    length: usize,
    last: [u64; N],
}

impl<const N: usize> Default for NumberList<N> {
    fn default() -> Self {
        NumberList { bytes: Vec::new(), length: 0, last: [0; N] }
    }
}

impl<const N: usize> NumberList<N> {
    /// Adds a row at the end.
    pub fn push(&mut self, row: [u64; N]) {
        for (number, last) in row.into_iter().zip(self.last) {
            put_number(&mut self.bytes, zigzag(number.wrapping_sub(last) as i64));
        }
        self.length += 1;
        self.last = row;
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Behind the last row: where the next one will be.
    pub fn end(&self) -> Cursor<N> {
        Cursor { at: self.bytes.len(), passed: self.length, last: self.last }
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = [u64; N]> + '_ {
        let mut cursor = Cursor::default();
        std::iter::from_fn(move || cursor.next(self))
    }

    /// The last row, if there is one.
    fn last(&self) -> Option<[u64; N]> {
        (self.length > 0).then_some(self.last)
    }
}

impl<const N: usize> FromIterator<[u64; N]> for NumberList<N> {
    fn from_iter<T: IntoIterator<Item = [u64; N]>>(rows: T) -> Self {
        let mut list = NumberList::default();
        list.extend(rows);
        list
    }
}

impl<const N: usize> Extend<[u64; N]> for NumberList<N> {
    fn extend<T: IntoIterator<Item = [u64; N]>>(&mut self, rows: T) {
        rows.into_iter().for_each(|row| self.push(row));
    }
}

impl<const N: usize> IntoIterator for NumberList<N> {
    type Item = [u64; N];
    type IntoIter = IntoIter<N>;

    fn into_iter(self) -> IntoIter<N> {
        IntoIter { list: self, cursor: Cursor::default() }
    }
}

/// A position between the rows of one list.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<const N: usize> {
    at: usize,
    passed: usize,
    last: [u64; N],
}

impl<const N: usize> Default for Cursor<N> {
    fn default() -> Self {
        Cursor { at: 0, passed: 0, last: [0; N] }
    }
}

impl<const N: usize> Cursor<N> {
    /// Returns the row that follows. `list` must be the list that the cursor is of.
    pub fn next(&mut self, list: &NumberList<N>) -> Option<[u64; N]> {
        let mut reader = Reader::new(list.bytes.get(self.at..)?);
        let mut row = [0; N];
        for (number, last) in row.iter_mut().zip(self.last) {
            *number = last.wrapping_add(unzigzag(reader.number()?) as u64);
        }
        self.at = list.bytes.len() - reader.rest().len();
        self.passed += 1;
        self.last = row;
        Some(row)
    }

    /// How many rows there are before it.
    pub fn passed(&self) -> usize {
        self.passed
    }
}

/// The rows of a list that it owns.
#[derive(Clone, Debug)]
pub struct IntoIter<const N: usize> {
    list: NumberList<N>,
    cursor: Cursor<N>,
}

impl<const N: usize> Iterator for IntoIter<N> {
    type Item = [u64; N];

    fn next(&mut self) -> Option<[u64; N]> {
        self.cursor.next(&self.list)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.list.length - self.cursor.passed;
        (left, Some(left))
    }
}

impl<const N: usize> ExactSizeIterator for IntoIter<N> {}

/// Sorts rows that mostly come in order. Each row goes to the end of a run that it continues; a row that
/// continues none begins a new run.
#[derive(Clone, Debug)]
pub struct SortedRows<const N: usize> {
    /// A later run has a lower last row.
    runs: Vec<NumberList<N>>,
}

impl<const N: usize> Default for SortedRows<N> {
    fn default() -> Self {
        SortedRows { runs: Vec::new() }
    }
}

impl<const N: usize> SortedRows<N> {
    /// Adds a row.
    pub fn push(&mut self, row: [u64; N]) {
        let continued = self.runs.partition_point(|run| run.last().is_some_and(|last| last > row));
        if continued == self.runs.len() {
            memory::push(&mut self.runs, NumberList::default());
        }
        self.runs[continued].push(row);
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.bytes() + size_of::<NumberList<N>>()).sum()
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = [u64; N]> + '_ {
        merge(self.runs.iter().map(NumberList::iter))
    }
}

/// Merges sorted iterators into one.
fn merge<T: Ord>(
    sources: impl Iterator<Item = impl Iterator<Item = T>>,
) -> impl Iterator<Item = T> {
    let mut sources = sources.fold(Vec::new(), |mut list, source| {
        memory::push(&mut list, source);
        list
    });
    let next = |(number, source): (usize, &mut _)| Some(Reverse((Iterator::next(source)?, number)));
    let mut first = memory::with_room(sources.len());
    first.extend(sources.iter_mut().enumerate().filter_map(next));
    let mut heap = BinaryHeap::from(first);
    std::iter::from_fn(move || {
        let Reverse((row, number)) = heap.pop()?;
        if let Some(next) = sources[number].next() {
            heap.push(Reverse((next, number)));
        }
        Some(row)
    })
}

/// Turns small numbers of either sign into small numbers without a sign.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_come_back_as_they_were_added(rows in vec(any::<[u64; 3]>(), 0..100)) {
            let list: NumberList<3> = rows.iter().copied().collect();
            prop_assert_eq!(list.len(), rows.len());
            prop_assert_eq!(list.iter().collect::<Vec<_>>(), &rows[..]);
            let mut iterator = list.into_iter();
            for (number, row) in rows.iter().enumerate() {
                prop_assert_eq!(iterator.len(), rows.len() - number);
                prop_assert_eq!(iterator.next(), Some(*row));
            }
            prop_assert_eq!(iterator.next(), None);
        }

        #[test]
        fn sorted_rows_are_sorted(mut rows in vec((0..20u64, any::<u64>()), 0..200)) {
            let mut sorted = SortedRows::<2>::default();
            rows.iter().for_each(|&(a, b)| sorted.push([a, b]));
            rows.sort_unstable();
            let rows: Vec<_> = rows.into_iter().map(|(a, b)| [a, b]).collect();
            prop_assert_eq!(sorted.iter().collect::<Vec<_>>(), rows);
        }
    }

    #[test]
    fn rows_that_come_in_two_orders_make_two_runs() {
        let mut sorted = SortedRows::<1>::default();
        for number in 0..1000 {
            sorted.push([2 * number + 1000]);
            sorted.push([2 * number]);
        }
        assert_eq!(sorted.runs.len(), 2);
        assert!(sorted.iter().is_sorted());
    }
}
