//! How the rows of a table are stored and rendered, as bytes: with them a process that has no
//! database takes rows apart ([`crate::pg::row_image`]) and renders their columns.
//!
//! The bytes: the number of columns (u16), and for each, dropped ones included, a code. Codes from
//! [`PORTABLE`] on say the type; before that the storage follows. Then, unless it is hidden, comes the
//! column's label with its length (u16) ahead. Numbers are in the order of this machine's bytes: WAL
//! is not read on machines of another kind.

use super::column::{Column, Source};
use super::columns::Columns;
use super::kind::Portable;
use super::prerendered;
use crate::memory;
use crate::pg::descriptor::Descriptor;
use crate::pg::plan_memory::PlanMemory;
use crate::pg::row_image::RowMemory;
use crate::pg::storage::Storage;
use crate::pg::stored_column::StoredColumn;
use crate::pg::text;
use crate::pg::tuple::Piece;
use crate::pg::worker_types::WorkerType;

/// A column without a value that can be seen: dropped, or generated when it is read.
const HIDDEN: u8 = 0;
/// A column whose values come as JSON.
const PRERENDERED: u8 = 1;
/// The first of the types that the worker knows.
const PORTABLE: u8 = 2;
/// An array of such a type.
const ARRAY: u8 = 0x80;

const _: () = assert!(PORTABLE as usize + WorkerType::COUNT <= ARRAY as usize);

/// How the rows of a table are stored.
pub struct Layout {
    /// Of all columns.
    pub storages: Vec<Storage>,
    /// Numbers of the columns whose values come as JSON.
    prerendered: Vec<usize>,
}

/// The layout of a table's rows as bytes, given all its columns, and those that are published. Returns none if
/// a column has values that are not published, or that cannot be stored in a table; or if text is not UTF-8
/// here.
pub fn encode(descriptor: Descriptor<'_>, columns: &Columns) -> Option<Vec<u8>> {
    if !text::database_is_utf8() {
        return None;
    }
    let attributes = descriptor.attributes();
    let mut out = Vec::new();
    put_number(&mut out, attributes.len());
    for attribute in attributes {
        let storage = attribute.storage();
        let column = columns.list.iter().find(|column| column.stored.number == attribute.number);
        match column.map(|column| &column.source) {
            Some(Source::Anywhere(_, portable)) => {
                let array = if portable.is_array { ARRAY } else { 0 };
                memory::push(&mut out, (PORTABLE + portable.of.number()) | array);
            }
            Some(Source::Here(_) | Source::Prerendered) => {
                put_storage(&mut out, PRERENDERED, storage)?;
            }
            None if attribute.is_there() => return None,
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
    memory::append(out, &[u8::from(by_value), alignment]);
    storage.is_expected().then_some(())
}

fn take_storage(bytes: &mut &[u8]) -> Option<Storage> {
    let length = i16::from_ne_bytes(take(bytes)?);
    let [by_value, alignment] = take(bytes)?;
    let storage = Storage { length, by_value: by_value != 0, alignment };
    storage.is_expected().then_some(storage)
}

/// Takes a layout off the front of the bytes, and the columns with it. Returns none if they are no layout.
pub fn decode(bytes: &mut &[u8]) -> Option<(Layout, Columns)> {
    let plan_memory = PlanMemory::new();
    let count = take_number(bytes)?;
    let (mut storages, mut list) = (memory::with_room(count), memory::with_room(count));
    let mut prerendered = Vec::new();
    for number in 0..count {
        let [code] = take(bytes)?;
        let (source, storage) = match code {
            HIDDEN | PRERENDERED => (Source::Prerendered, take_storage(bytes)?),
            _ => {
                let of = WorkerType::at((code & !ARRAY).checked_sub(PORTABLE)?)?;
                let portable = Portable { of, is_array: code & ARRAY != 0 };
                let kind = portable.kind(&plan_memory);
                (Source::Anywhere(kind, portable), portable.storage())
            }
        };
        storages.push(storage);
        if code == PRERENDERED {
            memory::push(&mut prerendered, number);
        }
        if code != HIDDEN {
            let label = take_bytes(bytes)?;
            if !(label.starts_with(b"\"") && label.ends_with(b"\":")) {
                return None;
            }
            let stored = StoredColumn { number, storage };
            list.push(Column { label: memory::copy(label), stored, source });
        }
    }
    Some((Layout { storages, prerendered }, Columns::found(list)))
}

impl Layout {
    /// Takes the values of a row that come as JSON off the front of `pieces`. Returns none if there are too
    /// few.
    pub fn take_pieces<'a>(
        &self,
        row: &RowMemory,
        pieces: &mut &'a [u8],
    ) -> Option<Vec<Piece<'a>>> {
        let mut found = Vec::new();
        for &number in self.prerendered.iter().filter(|&&number| !row.is_null(number)) {
            memory::push(&mut found, (number, prerendered::take(pieces)?));
        }
        Some(found)
    }
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
