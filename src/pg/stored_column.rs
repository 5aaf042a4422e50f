//! Where a column's values are in a row, and whether two of them are the same.

use super::storage::Storage;
use super::sys;
use super::tuple::Values;
use super::value::Value;
use super::varlena;

/// A column as it is stored.
#[derive(Clone, Copy)]
pub struct StoredColumn {
    /// Which column it is, dropped ones counted, from 0.
    pub number: usize,
    pub storage: Storage,
}

impl StoredColumn {
    /// The column's value; none if it is null.
    pub fn value<'a>(&self, row: &Values<'a>) -> Option<Value<'a>> {
        row.value(self.number, self.storage)
    }

    /// The column's value, fetched if it is not stored plain: then that is what the row has from now on.
    pub fn fetch<'a>(&self, row: &Values<'a>) -> Option<Value<'a>> {
        let value = self.value(row)?.fetch();
        row.replace(self.number, value);
        Some(value)
    }

    /// Returns whether both rows have the same value, by its stored image, as `datum_image_eq` (datum.c)
    /// compares. Nothing is fetched or decompressed for values that are stored in the same way, as those are
    /// that an update did not touch.
    pub fn is_same(&self, old: &Values<'_>, new: &Values<'_>) -> bool {
        let (old, new) = match (self.value(old), self.value(new)) {
            (Some(old), Some(new)) => (old.datum(), new.datum()),
            (None, None) => return true,
            _ => return false,
        };
        if self.storage.by_value {
            return old == new;
        }
        // SAFETY: both are whole values of this column, and there as long as their rows are.
        unsafe {
            if self.storage.is_varlena() {
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
