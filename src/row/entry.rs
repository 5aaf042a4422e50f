//! What a layout ([`super::layout`]) says of one column, as bytes, and the numbers and texts that layouts and shapes
//! are made of. Numbers are in the order of this machine's bytes: WAL is not read on machines of another kind.
//! Pure; taking never panics.
//!
//! The bytes: a code; codes from [`PORTABLE`] on say the type, and before that the storage follows. Then, unless the
//! column is hidden, comes its label.

use crate::memory;
use crate::pg::storage::Storage;

/// A column without a value that can be seen: dropped, or generated when it is read.
const HIDDEN: u8 = 0;
/// A column whose values come as JSON.
const PRERENDERED: u8 = 1;
/// The first of the types that the worker knows.
const PORTABLE: u8 = 2;
/// An array of such a type.
const ARRAY: u8 = 0x80;

/// How many types there may be.
pub const MOST_TYPES: u8 = ARRAY - PORTABLE;

/// What is said of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// It has no value that can be seen.
    Hidden(Storage),
    /// Its values come as JSON, after this label.
    Prerendered(Storage, &'a [u8]),
    /// Its values are of the type with this number, or arrays of it, and come after this label.
    Portable { type_number: u8, is_array: bool, label: &'a [u8] },
}

impl<'a> Entry<'a> {
    /// Appends it.
    pub fn put(self, out: &mut Vec<u8>) {
        match self {
            Entry::Hidden(storage) => put_storage(out, HIDDEN, storage),
            Entry::Prerendered(storage, label) => {
                put_storage(out, PRERENDERED, storage);
                put_bytes(out, label);
            }
            Entry::Portable { type_number, is_array, label } => {
                let array = if is_array { ARRAY } else { 0 };
                memory::push(out, (PORTABLE + type_number) | array);
                put_bytes(out, label);
            }
        }
    }

    /// Takes one off the front. Returns none if there is none: if the bytes end before, or say of a column what no
    /// column can be.
    pub fn take(bytes: &mut &'a [u8]) -> Option<Entry<'a>> {
        let [code] = take(bytes)?;
        Some(match code {
            HIDDEN => Entry::Hidden(take_storage(bytes)?),
            PRERENDERED => Entry::Prerendered(take_storage(bytes)?, take_label(bytes)?),
            _ => Entry::Portable {
                type_number: (code & !ARRAY).checked_sub(PORTABLE)?,
                is_array: code & ARRAY != 0,
                label: take_label(bytes)?,
            },
        })
    }
}

fn put_storage(out: &mut Vec<u8>, code: u8, storage: Storage) {
    let Storage { length, by_value, alignment } = storage;
    memory::push(out, code);
    memory::append(out, &length.to_ne_bytes());
    memory::append(out, &[u8::from(by_value), alignment]);
}

fn take_storage(bytes: &mut &[u8]) -> Option<Storage> {
    let length = i16::from_ne_bytes(take(bytes)?);
    let [by_value, alignment] = take(bytes)?;
    let storage = Storage { length, by_value: by_value != 0, alignment };
    storage.is_expected().then_some(storage)
}

fn take_label<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    take_bytes(bytes).filter(|label| label.starts_with(b"\"") && label.ends_with(b"\":"))
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

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: Storage = Storage { length: -1, by_value: false, alignment: 4 };

    #[test]
    fn entries_come_back_as_they_were_put_and_what_is_cut_off_is_none() {
        let label = b"\"id\":".as_slice();
        let entries = [
            Entry::Hidden(TEXT),
            Entry::Prerendered(TEXT, label),
            Entry::Portable { type_number: 0, is_array: false, label },
            Entry::Portable { type_number: MOST_TYPES - 1, is_array: true, label },
        ];
        let mut bytes = Vec::new();
        for entry in entries {
            let start = bytes.len();
            entry.put(&mut bytes);
            for end in start..bytes.len() {
                assert_eq!(Entry::take(&mut &bytes[start..end]), None);
            }
        }
        let rest = &mut &bytes[..];
        assert_eq!(entries.map(|_| Entry::take(rest)), entries.map(Some));
        assert!(rest.is_empty());
    }

    /// Those of a table (id int4, v text): they are in the WAL.
    #[test]
    fn what_0_1_0_wrote_is_still_read() {
        let mut bytes = &b"\x04\x05\0\"id\":\x09\x04\0\"v\":"[..];
        for (type_number, label) in [(2, &b"\"id\":"[..]), (7, b"\"v\":")] {
            let expected = Entry::Portable { type_number, is_array: false, label };
            if cfg!(target_endian = "little") {
                assert_eq!(Entry::take(&mut bytes), Some(expected));
            }
        }
    }

    #[test]
    fn what_no_column_can_be_is_none() {
        let mut bytes = Vec::new();
        Entry::Hidden(Storage { length: 3, by_value: true, alignment: 1 }).put(&mut bytes);
        assert_eq!(Entry::take(&mut &bytes[..]), None);
        for label in ["", "id", "\"id\"", "id\":", "\"", "\":"] {
            let mut bytes = Vec::new();
            let portable =
                Entry::Portable { type_number: 0, is_array: false, label: label.as_bytes() };
            portable.put(&mut bytes);
            assert_eq!(Entry::take(&mut &bytes[..]).is_some(), label == "\":", "{label}");
        }
        // An array of what is no type.
        assert_eq!(Entry::take(&mut &[ARRAY, 0, 0][..]), None);
    }
}
