//! Rows that came as they are stored, taken apart without a descriptor (heaptuple.c: `heap_deform_tuple`).

use std::cell::Cell;

use pgrx::pg_sys;

use super::row_context::RowToken;
use super::storage::Storage;
use super::tuple::Values;
use super::tuple_bytes::{data_offset, is_null};
use super::value::Value;
use crate::memory;

/// A row that was taken apart; its memory is used again for the next.
#[derive(Default)]
pub struct RowMemory {
    /// The row's values as they are stored, aligned.
    data: Vec<u64>,
    values: Vec<Cell<pg_sys::Datum>>,
    nulls: Vec<bool>,
}

impl RowMemory {
    /// Takes a row apart, given how its columns are stored, and its bytes from the bitmap of nulls on, none of
    /// which lie out of line. Returns none if they are no such row.
    pub fn take_apart(&mut self, columns: &[Storage], has_nulls: bool, image: &[u8]) -> Option<()> {
        let count = columns.len();
        self.values.clear();
        self.nulls.clear();
        let data = align(&mut self.data, image.get(data_offset(count, has_nulls)..)?);
        memory::reserve(&mut self.values, count);
        memory::reserve(&mut self.nulls, count);
        let mut at = 0usize;
        for (number, &storage) in columns.iter().enumerate() {
            let is_null = has_nulls && is_null(image, number);
            let datum = if is_null {
                pg_sys::Datum::from(0)
            } else {
                Value::take(storage, data, &mut at)?.datum()
            };
            self.nulls.push(is_null);
            self.values.push(Cell::new(datum));
        }
        Some(())
    }

    /// Returns whether the value of a column is null.
    pub fn is_null(&self, column: usize) -> bool {
        self.nulls[column]
    }

    /// The row.
    pub fn values<'a>(&'a self, _token: &'a RowToken) -> Values<'a> {
        Values::new(&self.values, &self.nulls)
    }
}

/// A copy of the bytes that is aligned as they were in the row.
fn align<'a>(data: &'a mut Vec<u64>, bytes: &[u8]) -> &'a [u8] {
    data.clear();
    memory::resize(data, bytes.len().div_ceil(size_of::<u64>()), 0);
    // SAFETY: the vector has at least as many bytes, all of them initialized, and they are no others' than
    // the vector's, which stays borrowed.
    unsafe {
        let start = data.as_mut_ptr().cast::<u8>();
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
        std::slice::from_raw_parts(start, bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INT4: Storage = Storage { length: 4, by_value: true, alignment: 4 };
    const INT8: Storage = Storage { length: 8, by_value: true, alignment: 8 };
    const TEXT: Storage = Storage { length: -1, by_value: false, alignment: 4 };

    fn any_storage() -> impl Strategy<Value = Storage> {
        let by_value = prop::sample::select(vec![1u8, 2, 4, 8]).prop_map(|length| Storage {
            length: length.into(),
            by_value: true,
            alignment: length,
        });
        let by_reference = (-1i16..70, prop::sample::select(vec![1u8, 2, 4, 8]))
            .prop_map(|(length, alignment)| Storage { length, by_value: false, alignment });
        prop_oneof![by_value, by_reference]
    }

    #[test]
    fn values_are_found_behind_nulls_and_what_aligns_them() {
        // The second value is null. With the bitmap the header takes 24 bytes.
        let mut image = vec![0b1101];
        assert_eq!((data_offset(4, true), data_offset(9, true)), (1, 9));
        image.extend_from_slice(&7i32.to_ne_bytes());
        // A text of two bytes with a short header, then what aligns a number.
        image.extend_from_slice(&[2 * 3 + 1, b'h', b'i', 0]);
        image.extend_from_slice(&(-9i64).to_ne_bytes());
        let mut row = RowMemory::default();
        row.take_apart(&[INT4, INT8, TEXT, INT8], true, &image).unwrap();
        assert_eq!(row.nulls, [false, true, false, false]);
        let value = |column: usize| row.values[column].get().value();
        assert_eq!((value(0) as i32, value(3) as i64), (7, -9));
        let end = image.len() - 1;
        let cut = row.take_apart(&[INT4, INT8, TEXT, INT8], true, &image[..end]);
        assert!(cut.is_none());
    }

    #[test]
    fn headers_that_say_too_little_are_no_values() {
        let size = |bytes: &[u8]| {
            let mut memory = Vec::new();
            Value::take(TEXT, align(&mut memory, bytes), &mut 0).map(|_| ())
        };
        let header = |number: u32, compressed: u32| (number << 2 | compressed).to_ne_bytes();
        assert_eq!(size(&header(4, 0)), Some(()));
        assert_eq!(size(&[header(8, 2), [0; 4]].concat()), Some(()));
        for bytes in
            [&header(3, 0)[..], &header(0, 0), &header(5, 0), &header(4, 2), &[1, 18], &[5], b""]
        {
            assert_eq!(size(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_row_without_nulls_has_no_bitmap() {
        let mut image = vec![0; data_offset(1, false)];
        assert_eq!(image.len(), 1);
        image.extend_from_slice(&5i32.to_ne_bytes());
        let mut row = RowMemory::default();
        row.take_apart(&[INT4], false, &image).unwrap();
        assert_eq!((row.values[0].get().value() as i32, row.nulls[0]), (5, false));
    }

    proptest! {
        #[test]
        fn no_bytes_are_read_beyond_a_row(
            columns in prop::collection::vec(any_storage(), 0..12),
            has_nulls in any::<bool>(),
            image in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut row = RowMemory::default();
            if row.take_apart(&columns, has_nulls, &image).is_some() {
                prop_assert_eq!(row.values.len(), columns.len());
            }
        }
    }
}
