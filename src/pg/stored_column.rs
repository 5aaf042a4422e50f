//! How a column's values are stored, and whether two of them are the same.

use std::cell::Cell;

use pgrx::pg_sys;

use super::storage::Storage;
use super::sys;
use super::tuple::Values;
use super::varlena;

/// The storage of a column.
#[derive(Clone, Copy)]
pub struct Stored {
    /// Which column it is, dropped ones counted, from 0.
    pub(super) number: usize,
    pub(super) storage: Storage,
}

impl Stored {
    pub(super) fn new(number: usize, attribute: &pg_sys::FormData_pg_attribute) -> Stored {
        Stored { number, storage: Storage::of(attribute) }
    }

    /// Whether values have a length of their own.
    pub(super) fn is_varlena(&self) -> bool {
        self.storage.is_varlena()
    }

    /// The column's value; none if it is null.
    pub(super) fn value(&self, row: &Values<'_>) -> Option<pg_sys::Datum> {
        row.value(self.number)
    }

    /// Where the column's value stands; none if it is null.
    pub(super) fn place<'a>(&self, row: &Values<'a>) -> Option<&'a Cell<pg_sys::Datum>> {
        row.place(self.number)
    }

    /// Whether both rows have the same value, by its stored image, as `datum_image_eq` (datum.c)
    /// compares. Nothing is fetched or decompressed for values that are stored in the same way, as
    /// those are that an update did not touch.
    pub fn is_same(&self, old: &Values<'_>, new: &Values<'_>) -> bool {
        let (old, new) = match (self.value(old), self.value(new)) {
            (Some(old), Some(new)) => (old, new),
            (None, None) => return true,
            _ => return false,
        };
        if self.storage.by_value {
            return old == new;
        }
        // SAFETY: both are values of this column, in live tuples.
        unsafe {
            if self.is_varlena() {
                if let (Some(old), Some(new)) = (varlena::plain(old), varlena::plain(new)) {
                    return old == new;
                }
                if varlena::image(old).is_some_and(|image| varlena::image(new) == Some(image)) {
                    return true;
                }
            }
            let Storage { by_value, length, .. } = self.storage;
            sys::datum_image_eq(old, new, by_value, i32::from(length))
        }
    }
}
