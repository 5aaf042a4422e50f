//! How the rows of a table are stored and rendered, as bytes: with them a process that has no
//! database takes rows apart (heaptuple.c: `heap_deform_tuple`) and renders their columns.
//!
//! The bytes: the number of columns (u16), and for each, dropped ones included, a code. Codes from
//! [`BUILTIN`] on say the type; before that the storage follows. Then, unless it is hidden, comes the
//! column's label with its length (u16) ahead. Numbers are in the order of this machine's bytes: WAL
//! is not read on machines of another kind.

use std::cell::Cell;

use pgrx::pg_sys;

use super::columns::{Column, Columns, attributes};
use super::kind::Kind;
use super::plan_memory::PlanMemory;
use super::storage::{MAXIMUM_ALIGNMENT, Storage};
use super::stored::Stored;
use super::tuple::Values;
use super::{builtin, given};
use crate::memory;

/// A column without a value that can be seen: dropped, or generated when it is read.
const HIDDEN: u8 = 0;
/// A column whose values are given.
const GIVEN: u8 = 1;
/// The first of PostgreSQL's own types.
const BUILTIN: u8 = 2;
/// An array of such a type.
const ARRAY: u8 = 0x80;

const _: () = assert!(BUILTIN as usize + builtin::COUNT <= ARRAY as usize);

/// Bytes of a row before its bitmap of nulls, of which an image has none (htup_details.h:
/// `SizeofHeapTupleHeader`).
pub(super) const HEADER: usize = std::mem::offset_of!(pg_sys::HeapTupleHeaderData, t_bits);

/// Where the values of a row begin, counted from its bitmap of nulls.
pub(super) fn data_offset(columns: usize, has_nulls: bool) -> usize {
    let bitmap = if has_nulls { columns.div_ceil(8) } else { 0 };
    (HEADER + bitmap).next_multiple_of(MAXIMUM_ALIGNMENT) - HEADER
}

/// Whether a value of a row is null that has a bitmap of nulls.
pub(super) fn is_null(image: &[u8], number: usize) -> bool {
    // Bits are set for values that are there.
    image[number / 8] & (1 << (number % 8)) == 0
}

/// The layout of a table's rows as bytes. None if a column has values that are not published, or that
/// cannot be stored in a table.
///
/// # Safety
///
/// `descriptor` is live, and the one that the columns are of.
pub(super) unsafe fn encode(descriptor: pg_sys::TupleDesc, columns: &Columns) -> Option<Vec<u8>> {
    // SAFETY: the caller's.
    let attributes = || unsafe { attributes(descriptor) };
    let mut out = Vec::new();
    put_number(&mut out, attributes().count());
    for (number, attribute) in attributes().enumerate() {
        let storage = Storage::of(attribute);
        let column = columns.list.iter().find(|column| column.stored.number == number);
        match column {
            Some(Column { builtin: Some((place, is_array)), .. }) => {
                memory::push(&mut out, (BUILTIN + place) | if *is_array { ARRAY } else { 0 });
            }
            Some(_) => put_storage(&mut out, GIVEN, storage)?,
            None if super::columns::is_there(attribute) => return None,
            None => put_storage(&mut out, HIDDEN, storage)?,
        }
        if let Some(column) = column {
            put_bytes(&mut out, &column.label);
        }
    }
    Some(out)
}

fn put_storage(out: &mut Vec<u8>, code: u8, storage: Storage) -> Option<()> {
    let Storage { length, by_value, alignment } = storage;
    memory::push(out, code);
    memory::append(out, &length.to_ne_bytes());
    memory::append(out, &[u8::from(by_value), alignment as u8]);
    is_expected(storage).then_some(())
}

/// Whether it is the storage of a type that PostgreSQL lets a column have (pg_type.c: `TypeCreate`).
fn is_expected(storage: Storage) -> bool {
    let Storage { length, by_value, alignment } = storage;
    match (by_value, length) {
        (true, 1 | 2 | 4 | 8) => alignment == length as usize,
        (true, _) => false,
        (false, -1) => matches!(alignment, 4 | 8),
        (false, length) => length >= 0 && matches!(alignment, 1 | 2 | 4 | 8),
    }
}

/// How the rows of a table are stored.
pub struct Layout {
    slots: Vec<Slot>,
}

struct Slot {
    storage: Storage,
    is_given: bool,
}

/// Takes a layout off the front of the bytes, and the columns with it. None if they are no layout.
pub fn decode(bytes: &mut &[u8]) -> Option<(Layout, Columns)> {
    let plan_memory = PlanMemory::new();
    let count = take_number(bytes)?;
    let (mut slots, mut list) = (memory::with_room(count), memory::with_room(count));
    for number in 0..count {
        let [code] = take(bytes)?;
        let (kind, storage) = match code {
            HIDDEN | GIVEN => (Kind::Given, take_storage(bytes)?),
            _ => {
                let type_oid = builtin::at((code & !ARRAY).checked_sub(BUILTIN)?)?;
                Kind::of_builtin(type_oid, code & ARRAY != 0, &plan_memory)?
            }
        };
        slots.push(Slot { storage, is_given: code == GIVEN });
        if code != HIDDEN {
            let label = take_bytes(bytes)?;
            if !(label.starts_with(b"\"") && label.ends_with(b"\":")) {
                return None;
            }
            let stored = Stored { number, storage };
            list.push(Column { label: memory::copy(label), stored, kind, builtin: None });
        }
    }
    Some((Layout { slots }, Columns::found(list, plan_memory)))
}

/// Appends a number of two bytes.
pub fn put_number(out: &mut Vec<u8>, number: usize) {
    memory::append(out, &(number as u16).to_ne_bytes());
}

/// Appends bytes with their length ahead.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len());
    memory::append(out, bytes);
}

/// Takes a number off the front that [`put_number`] has appended.
pub fn take_number(bytes: &mut &[u8]) -> Option<usize> {
    take(bytes).map(|number| usize::from(u16::from_ne_bytes(number)))
}

/// Takes bytes off the front that [`put_bytes`] has appended.
pub fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_number(bytes)?;
    bytes.split_off(..length)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (&taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(taken)
}

fn take_storage(bytes: &mut &[u8]) -> Option<Storage> {
    let length = i16::from_ne_bytes(take(bytes)?);
    let [by_value, alignment] = take(bytes)?;
    let storage = Storage { length, by_value: by_value != 0, alignment: usize::from(alignment) };
    is_expected(storage).then_some(storage)
}

/// A row that was taken apart; its memory is used again for the next.
#[derive(Default)]
pub struct RowMemory {
    /// The row's values as they are stored, aligned.
    data: Vec<u64>,
    values: Vec<Cell<pg_sys::Datum>>,
    nulls: Vec<bool>,
}

impl RowMemory {
    /// Takes a row apart, given its bytes from the bitmap of nulls on, none of which lie out of line.
    /// None if they are no such row.
    pub fn take_apart(&mut self, layout: &Layout, has_nulls: bool, image: &[u8]) -> Option<()> {
        let count = layout.slots.len();
        let data = align(&mut self.data, image.get(data_offset(count, has_nulls)..)?);
        self.values.clear();
        self.nulls.clear();
        memory::reserve(&mut self.values, count);
        memory::reserve(&mut self.nulls, count);
        let mut at = 0usize;
        for (number, slot) in layout.slots.iter().enumerate() {
            let is_null = has_nulls && is_null(image, number);
            self.nulls.push(is_null);
            if is_null {
                self.values.push(Cell::new(pg_sys::Datum::from(0)));
                continue;
            }
            self.values.push(Cell::new(slot.storage.take(data, &mut at)?));
        }
        Some(())
    }

    /// Puts values in their places that are given, off the front of `pieces`, which must stay until
    /// the row was rendered. To be called when nobody needs to know any more how the values are
    /// stored. None if there are too few.
    pub fn give(&mut self, layout: &Layout, pieces: &mut &[u8]) -> Option<()> {
        for (number, _) in layout.slots.iter().enumerate().filter(|(_, slot)| slot.is_given) {
            if !self.nulls[number] {
                self.values[number].set(given::take(pieces)?);
            }
        }
        Some(())
    }

    /// The row.
    pub fn values(&self) -> Values<'_> {
        Values::new(&self.values, &self.nulls)
    }
}

/// A copy of the bytes that is aligned as they were in the row.
fn align<'a>(data: &'a mut Vec<u64>, bytes: &[u8]) -> &'a [u8] {
    data.clear();
    memory::resize(data, bytes.len().div_ceil(size_of::<u64>()), 0);
    // SAFETY: there are at least as many bytes, all of them initialized, and they are no others.
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

    fn layout(storages: &[Storage]) -> Layout {
        let slot = |&storage| Slot { storage, is_given: false };
        Layout { slots: storages.iter().map(slot).collect() }
    }

    fn any_storage() -> impl Strategy<Value = Storage> {
        let by_value = prop::sample::select(vec![1usize, 2, 4, 8]).prop_map(|length| Storage {
            length: length as i16,
            by_value: true,
            alignment: length,
        });
        let by_reference = (-1i16..70, prop::sample::select(vec![1usize, 2, 4, 8]))
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
        row.take_apart(&layout(&[INT4, INT8, TEXT, INT8]), true, &image).unwrap();
        assert_eq!(row.nulls, [false, true, false, false]);
        let value = |column: usize| row.values[column].get().value();
        assert_eq!((value(0) as i32, value(3) as i64), (7, -9));
        let end = image.len() - 1;
        let cut = row.take_apart(&layout(&[INT4, INT8, TEXT, INT8]), true, &image[..end]);
        assert!(cut.is_none());
    }

    #[test]
    fn headers_that_say_too_little_are_no_values() {
        let size = |bytes: &[u8]| {
            let mut memory = Vec::new();
            TEXT.take(align(&mut memory, bytes), &mut 0).map(|_| ())
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
        row.take_apart(&layout(&[INT4]), false, &image).unwrap();
        assert_eq!((row.values[0].get().value() as i32, row.nulls[0]), (5, false));
    }

    proptest! {
        #[test]
        fn no_bytes_are_read_beyond_a_row(
            storages in prop::collection::vec(any_storage(), 0..12),
            has_nulls in any::<bool>(),
            image in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut row = RowMemory::default();
            if row.take_apart(&layout(&storages), has_nulls, &image).is_some() {
                prop_assert_eq!(row.values.len(), storages.len());
            }
        }
    }
}
