//! How the rows of a table are stored and rendered, as bytes: with them a process that has no
//! database takes rows apart ([`crate::pg::row_image`]) and renders their columns.
//!
//! The bytes: the number of columns (u16), and for each, dropped ones included, its [`Entry`].

use super::column::{Column, Source};
use super::columns::Columns;
use super::entry::{self, Entry, put_number, take_number};
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

const _: () = assert!(WorkerType::COUNT <= entry::MOST_TYPES as usize);

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
        let entry = match column {
            Some(Column {
                label, source: Source::Anywhere(_, Portable { of, is_array }), ..
            }) => Entry::Portable { type_number: of.number(), is_array: *is_array, label },
            Some(Column { label, .. }) => Entry::Prerendered(storage, label),
            None if attribute.is_there() => return None,
            None => Entry::Hidden(storage),
        };
        if matches!(entry, Entry::Hidden(_) | Entry::Prerendered(..)) && !storage.is_expected() {
            return None;
        }
        entry.put(&mut out);
    }
    Some(out)
}

/// Takes a layout off the front of the bytes, and the columns with it. Returns none if they are no layout.
pub fn decode(bytes: &mut &[u8]) -> Option<(Layout, Columns)> {
    let plan_memory = PlanMemory::new();
    let count = take_number(bytes)?;
    let (mut storages, mut list) = (memory::with_room(count), memory::with_room(count));
    let mut prerendered = Vec::new();
    for number in 0..count {
        let (source, storage, label) = match Entry::take(bytes)? {
            Entry::Hidden(storage) => {
                storages.push(storage);
                continue;
            }
            Entry::Prerendered(storage, label) => {
                memory::push(&mut prerendered, number);
                (Source::Prerendered, storage, label)
            }
            Entry::Portable { type_number, is_array, label } => {
                let portable = Portable { of: WorkerType::at(type_number)?, is_array };
                let kind = portable.kind(&plan_memory);
                (Source::Anywhere(kind, portable), portable.storage(), label)
            }
        };
        storages.push(storage);
        let stored = StoredColumn { number, storage };
        list.push(Column { label: memory::copy(label), stored, source });
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
