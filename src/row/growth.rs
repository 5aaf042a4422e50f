//! How much longer a row becomes as text. The worker, which all share, renders the rows of all; one that
//! becomes far longer than what is stored of it (a number such as 1e131071, nulls in an array, what was
//! compressed) is rendered by who wrote it.

use super::columns::Columns;
use super::kind::Kind;
use crate::memory;
use crate::pg::descriptor::Descriptor;
use crate::pg::storage::Storage;
use crate::pg::tuple_bytes::{data_offset, is_null};
use crate::pg::value::Value;

/// A row whose text has more than so many times the bytes that are stored of it is its writer's.
const MOST: usize = 10;

/// Where in a row the values are that may grow.
pub struct Growth {
    /// How many columns a row has.
    columns: usize,
    /// The columns up to the last one that may grow.
    steps: Vec<Step>,
    /// How many of them come before the first whose place differs from row to row where there are no nulls,
    /// and its place.
    first: (usize, usize),
}

/// A column of the row.
struct Step {
    storage: Storage,
    /// Its place among the published ones, if it may grow.
    grows: Option<usize>,
    /// Whether it may grow although it is stored plain.
    grows_plain: bool,
}

impl Growth {
    /// For the rows of a table, given all its columns, and those that are published.
    pub fn of(descriptor: Descriptor<'_>, columns: &Columns) -> Growth {
        let mut steps = Vec::new();
        for attribute in descriptor.attributes() {
            let storage = attribute.storage();
            // Values that their writer renders anyhow come as text.
            let grows = columns.list.iter().position(|column| {
                column.stored.number == attribute.number
                    && column.portable_kind().is_some()
                    && storage.is_varlena()
            });
            let kind = grows.and_then(|column| columns.list[column].portable_kind());
            let grows_plain = kind.is_some_and(Kind::is_looked_into);
            memory::push(&mut steps, Step { storage, grows, grows_plain });
        }
        let count = steps.len();
        let last = steps.iter().rposition(|step| step.grows.is_some());
        steps.truncate(last.map_or(0, |last| last + 1));
        let mut first = (0, 0);
        while let Some(length) = steps.get(first.0).and_then(|step| step.storage.fixed_length()) {
            first.1 = steps[first.0].storage.align(first.1) + length;
            first.0 += 1;
        }
        Growth { columns: count, steps, first }
    }

    /// Returns whether a row, given its bytes from the bitmap of nulls on, none of which lie out of line,
    /// becomes too long for the worker, or cannot be rendered there. All but what may grow is taken to be as
    /// long as it is stored. What is damaged is not: the worker says so, and the writer need not fail.
    pub fn is_too_much(&self, columns: &Columns, has_nulls: bool, image: &[u8]) -> bool {
        let most = image.len() * (MOST - 1);
        let Some(data) = image.get(data_offset(self.columns, has_nulls)..) else {
            return false;
        };
        let (skipped, mut at) = if has_nulls { (0, 0) } else { self.first };
        let mut size = 0;
        for (number, step) in self.steps.iter().enumerate().skip(skipped) {
            if has_nulls && is_null(image, number) {
                continue;
            }
            if let Some(length) = step.storage.fixed_length() {
                at = step.storage.align(at) + length;
                continue;
            }
            if !step.storage.is_varlena() {
                let Some(_) = Value::take(step.storage, data, &mut at) else { return false };
                continue;
            }
            let Some((value, stored)) = Value::take_varlena(step.storage, data, &mut at) else {
                return false;
            };
            let Some(column) = step.grows else { continue };
            if stored.is_some() && !step.grows_plain {
                continue;
            }
            let kind = columns.list[column].portable_kind();
            match kind.and_then(|kind| kind.growth(value, stored, most)) {
                Some(grown) => size += grown,
                None => return true,
            }
        }
        size > most
    }
}
