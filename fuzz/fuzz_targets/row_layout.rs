//! How the rows of a table are stored, right or damaged: what was written is found again, damaged bytes never panic, and
//! what is found in them is found again once it is written anew.

#![no_main]
#![allow(dead_code)]

#[path = "../shared/damage.rs"]
mod damage;
#[path = "../../src/memory.rs"]
mod memory;
#[path = "../../src/pg"]
mod pg {
    pub mod storage;
}
#[path = "../../src/row"]
mod row {
    pub mod entry;
}

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pg::storage::Storage;
use row::entry::{Entry, MOST_TYPES, put_bytes, put_number, take_bytes, take_number};

#[derive(Arbitrary, Debug)]
enum Given {
    Hidden(Stored),
    Prerendered(Stored, Vec<u8>),
    Portable { type_number: u8, is_array: bool, name: Vec<u8> },
}

/// As a column may be stored, or may not.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Stored {
    length: i16,
    by_value: bool,
    alignment: u8,
}

#[derive(Arbitrary, Debug)]
struct Input {
    columns: Vec<Given>,
    flips: Vec<(u16, u8)>,
    cut: u8,
}

fn storage(stored: Stored) -> Storage {
    let Stored { length, by_value, alignment } = stored;
    Storage { length, by_value, alignment }
}

fn label(name: &[u8]) -> Vec<u8> {
    [b"\"", name, b"\":"].concat()
}

fn entries(mut bytes: &[u8]) -> Vec<Entry<'_>> {
    let rest = &mut bytes;
    std::iter::from_fn(|| Entry::take(rest)).collect()
}

fn bytes_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    entries.iter().for_each(|entry| entry.put(&mut bytes));
    bytes
}

fuzz_target!(|input: Input| {
    let labels: Vec<_> = input
        .columns
        .iter()
        .map(|given| match given {
            Given::Hidden(_) => Vec::new(),
            Given::Prerendered(_, name) | Given::Portable { name, .. } => label(name),
        })
        .collect();
    let given = input.columns.iter().zip(&labels).map(|(given, label)| match *given {
        Given::Hidden(stored) => Entry::Hidden(storage(stored)),
        Given::Prerendered(stored, _) => Entry::Prerendered(storage(stored), label),
        Given::Portable { type_number, is_array, .. } => {
            Entry::Portable { type_number: type_number % MOST_TYPES, is_array, label }
        }
    });
    let given: Vec<_> = given.collect();
    let is_right = |entry: &&Entry<'_>| match entry {
        Entry::Hidden(storage) | Entry::Prerendered(storage, _) => storage.is_expected(),
        Entry::Portable { .. } => true,
    };
    let mut bytes = bytes_of(&given);
    let right: Vec<_> = given.iter().take_while(is_right).copied().collect();
    assert_eq!(entries(&bytes), right);

    damage::damage(&mut bytes, &input.flips);
    bytes.truncate(bytes.len().saturating_sub(input.cut.into()));
    let found = entries(&bytes);
    let again = bytes_of(&found);
    assert!(bytes.len() >= again.len());
    assert_eq!(entries(&again), found);
    let rest = &mut &bytes[..];
    if let (Some(number), Some(text)) = (take_number(rest), take_bytes(rest)) {
        let mut again = Vec::new();
        put_number(&mut again, number);
        put_bytes(&mut again, text);
        assert!(bytes.starts_with(&again) && bytes[again.len()..] == **rest);
    }
});
