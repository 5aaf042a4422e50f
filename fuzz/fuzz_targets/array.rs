//! An array's bytes, right or damaged: rendering never panics, makes as many elements as its header says, each of them
//! once, and what is counted beforehand is what comes.

#![no_main]
#![allow(dead_code)]

#[path = "../shared/damage.rs"]
mod damage;
#[path = "../../src/memory.rs"]
mod memory;
#[path = "../../src/pg"]
mod pg {
    pub mod storage;
    #[path = "../../fuzz/shared/text.rs"]
    pub mod text;
}
#[path = "../../src/row"]
mod row {
    pub mod array;
    pub mod escape;
    pub mod json;
}

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pg::storage::{MAX_DIMENSIONS, MAXIMUM_ALIGNMENT, Storage, Stored};
use row::array::{Array, LENGTH};
use row::escape;
use row::json::Json;
use serde_json::value::RawValue;

#[derive(Arbitrary, Debug)]
struct Input {
    type_number: u8,
    /// Of the dimensions; each small.
    lengths: Vec<u8>,
    has_bitmap: bool,
    /// They are taken in turn.
    elements: Vec<Option<Element>>,
    flips: Vec<(u16, u8)>,
    /// The array ends before its end.
    cut: u8,
}

#[derive(Arbitrary, Clone, Debug)]
struct Element {
    bytes: Vec<u8>,
    /// Whether a header of four bytes stands ahead although one would do.
    has_long_header: bool,
}

const fn storage(length: i16, by_value: bool, alignment: u8) -> Storage {
    Storage { length, by_value, alignment }
}

/// bool, int2, int4, int8, text, interval, macaddr, uuid, and what is as varied as a type may be.
const STORAGES: [Storage; 9] = [
    storage(1, true, 1),
    storage(2, true, 2),
    storage(4, true, 4),
    storage(8, true, 8),
    storage(-1, false, 4),
    storage(16, false, 8),
    storage(6, false, 4),
    storage(16, false, 1),
    storage(-1, false, 8),
];

/// Appends an element as PostgreSQL stores it (arrayfuncs.c: `ArrayCastAndSet`). Returns its text.
fn put(out: &mut Vec<u8>, storage: Storage, element: &Element) -> String {
    let mut bytes = element.bytes.clone();
    if let Some(length) = storage.fixed_length() {
        bytes.resize(length, 7);
    }
    // `out` has no length ahead, which counts where values are aligned.
    let align = |out: &mut Vec<u8>| out.resize(storage.align(out.len() + LENGTH) - LENGTH, 0);
    if storage.is_varlena() {
        let header = if element.has_long_header || bytes.len() > 126 {
            align(out);
            (((bytes.len() + 4) as u32) << if cfg!(target_endian = "little") { 2 } else { 0 })
                .to_ne_bytes()
                .to_vec()
        } else if cfg!(target_endian = "little") {
            vec![((bytes.len() + 1) << 1) as u8 | 1]
        } else {
            vec![(bytes.len() + 1) as u8 | 0x80]
        };
        bytes.splice(..0, header);
    } else {
        align(out);
    }
    out.extend_from_slice(&bytes);
    text(&bytes)
}

fn text(bytes: &[u8]) -> String {
    let mut out = b"\"".to_vec();
    escape::push_hex(&mut out, bytes);
    String::from_utf8(out).unwrap() + "\""
}

impl Input {
    fn storage(&self) -> Storage {
        STORAGES[usize::from(self.type_number) % STORAGES.len()]
    }

    fn lengths(&self) -> Vec<i32> {
        self.lengths.iter().take(MAX_DIMENSIONS).map(|&length| i32::from(length % 6)).collect()
    }

    /// What stands behind the array's length, and the texts of its elements.
    fn build(&self) -> (Vec<u8>, Vec<String>) {
        let lengths = self.lengths();
        let count = if lengths.is_empty() { 0 } else { lengths.iter().product::<i32>() as usize };
        let empty = Element { bytes: Vec::new(), has_long_header: false };
        let filling = [Some(empty.clone())];
        let elements = if self.elements.is_empty() { &filling[..] } else { &self.elements };
        let in_turn = elements.iter().cycle().take(count);
        let has_bitmap = self.has_bitmap || in_turn.clone().any(Option::is_none);
        let header = 16 + 8 * lengths.len();
        let bitmap = if has_bitmap { count.div_ceil(8) } else { 0 };
        let start = (header + bitmap).next_multiple_of(MAXIMUM_ALIGNMENT);
        let offset = if has_bitmap { start as i32 } else { 0 };
        let words = [lengths.len() as i32, offset, 25];
        let bounds = lengths.iter().map(|_| &1);
        let words = words.iter().chain(&lengths).chain(bounds);
        let mut out: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
        out.resize(start - LENGTH, 0);
        let mut texts = Vec::new();
        for (index, element) in in_turn.enumerate() {
            let Some(element) = element else {
                texts.push("null".to_owned());
                continue;
            };
            if has_bitmap {
                out[header - LENGTH + index / 8] |= 1 << (index % 8);
            }
            texts.push(put(&mut out, self.storage(), element));
        }
        (out, texts)
    }
}

/// The elements in nested lists of these lengths.
fn elements<'a>(list: &'a RawValue, lengths: &[i32], found: &mut Vec<&'a str>) {
    let Some((&length, inner)) = lengths.split_first() else {
        found.push(list.get());
        return;
    };
    let items: Vec<&RawValue> = serde_json::from_str(list.get()).expect("it is a list");
    assert_eq!(items.len(), length as usize);
    items.into_iter().for_each(|item| elements(item, inner, found));
}

fuzz_target!(|input: Input| {
    let (mut content, texts) = input.build();
    damage::damage(&mut content, &input.flips);
    content.truncate(content.len().saturating_sub(input.cut.into()));
    let is_whole = input.flips.iter().all(|&(_, bits)| bits == 0) && input.cut == 0;
    let Some(array) = Array::of(&content) else { return assert!(!is_whole) };
    let storage = input.storage();
    let bytes = [&[0; LENGTH][..], &content].concat();
    let mut json = Json::utf8(Vec::new(), 0);
    json.begin(usize::MAX);
    let pushed = array.push(&mut json, storage, &bytes, |element: Stored<'_>, json: &mut Json| {
        json.push(text(element.bytes()).as_bytes());
    });
    let count = array.count(&content);
    let Some(()) = pushed else { return assert!(!is_whole) };
    let list = serde_json::from_slice::<&RawValue>(json.bytes()).expect("it is JSON");
    let mut found = Vec::new();
    match array.lengths() {
        [] => assert_eq!(list.get(), "[]"),
        lengths => elements(list, lengths, &mut found),
    }
    if is_whole {
        assert_eq!(found, texts);
    }
    // All that was rendered was there.
    let count = count.expect("it can be counted");
    let values: Vec<_> = found.iter().filter(|&&element| element != "null").collect();
    assert_eq!(count.values, values.len());
    let size: usize = values.iter().map(|value| value.len()).sum();
    assert_eq!(count.frame + size, json.bytes().len());
    if storage.is_varlena() {
        let mut walk = array.walk(storage, &bytes);
        for value in values {
            let (stored, _) = walk.next_varlena().expect("it is there");
            assert_eq!(text(stored.bytes()), **value);
        }
    }
});
