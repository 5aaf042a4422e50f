//! A jsonb as text, as PostgreSQL's `jsonb_out` (jsonb.c: `JsonbToCStringWorker`) writes it, made
//! from its stored bytes (utils/jsonb.h): a container is a header that says what it is and how many
//! children it has, an entry for each of them, and what the entries refer to. Pure.

use super::json::Json;
use super::numeric;

/// Of a container's header.
const COUNT: u32 = 0x0FFF_FFFF;
const IS_SCALAR: u32 = 0x1000_0000;
const IS_OBJECT: u32 = 0x2000_0000;

/// Of an entry: where its value ends, or how long it is.
const OFFSET_OR_LENGTH: u32 = 0x0FFF_FFFF;
const HAS_OFFSET: u32 = 0x8000_0000;
const TYPE: u32 = 0x7000_0000;
const STRING: u32 = 0x0000_0000;
const NUMERIC: u32 = 0x1000_0000;
const FALSE: u32 = 0x2000_0000;
const TRUE: u32 = 0x3000_0000;
const NULL: u32 = 0x4000_0000;
const CONTAINER: u32 = 0x5000_0000;

/// Bytes of a header, of an entry, and what numbers and containers are aligned to.
const WORD: usize = 4;

/// Containers in one another that are followed; PostgreSQL's own function uses no stack for them.
const DEPTH: usize = 200;

/// Appends the value whose stored bytes, after the length, these are. Returns none if it is not laid out as
/// expected, or too deep; something may have been appended then.
pub fn push(json: &mut Json, stored: &[u8]) -> Option<()> {
    container(json, stored, DEPTH)
}

/// Bytes of its text; of strings in which something is escaped, without that. Where there are more than `most`,
/// so many at least. Returns none where [`push`] says so.
pub fn size(stored: &[u8], most: usize) -> Option<usize> {
    let mut size = Size { bytes: 0, most };
    container(&mut size, stored, DEPTH)?;
    Some(size.bytes)
}

/// Bytes of the texts of the numbers in it; where there are more than `most`, so many at least. Returns none
/// where [`push`] says so.
pub fn numbers(stored: &[u8], most: usize) -> Option<usize> {
    let mut size = 0;
    add_numbers(&mut size, stored, most, DEPTH)?;
    Some(size)
}

fn add_numbers(size: &mut usize, bytes: &[u8], most: usize, depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let header = word(bytes, 0)?;
    // Keys are strings like others here.
    let count = (header & COUNT) as usize * if header & IS_OBJECT != 0 { 2 } else { 1 };
    let (entries, data) = bytes.get(WORD..)?.split_at_checked(count * WORD)?;
    let mut start = 0;
    for &entry in entries.as_chunks().0 {
        let entry = u32::from_ne_bytes(entry);
        let end = Entries::end(entry, start)?;
        match entry & TYPE {
            STRING | FALSE | TRUE | NULL => {}
            NUMERIC => *size += numeric::size(content(aligned(data, start, end)?)?)?,
            CONTAINER => add_numbers(size, aligned(data, start, end)?, most, depth)?,
            _ => return None,
        }
        if *size > most {
            break;
        }
        start = end;
    }
    Some(())
}

/// What lies between the two, without what it was aligned with.
fn aligned(data: &[u8], start: usize, end: usize) -> Option<&[u8]> {
    data.get(start.next_multiple_of(WORD)..end)
}

/// What a value is written to.
trait Text {
    fn push(&mut self, piece: &[u8]);
    fn push_string(&mut self, string: &[u8]);
    /// Given what is stored of it behind its length. Returns none if it is no number.
    fn push_number(&mut self, stored: &[u8]) -> Option<()>;
    /// Returns whether there is enough: nothing that comes is looked at any more.
    fn is_full(&self) -> bool;
}

impl Text for Json {
    fn push(&mut self, piece: &[u8]) {
        Json::push(self, piece);
    }

    fn push_string(&mut self, string: &[u8]) {
        self.push_literal(string);
    }

    fn push_number(&mut self, stored: &[u8]) -> Option<()> {
        numeric::push(self.bytes_mut(), stored)
    }

    fn is_full(&self) -> bool {
        Json::is_full(self)
    }
}

/// A text of which nothing but its size is kept.
struct Size {
    bytes: usize,
    most: usize,
}

impl Text for Size {
    fn push(&mut self, piece: &[u8]) {
        self.bytes += piece.len();
    }

    fn push_string(&mut self, string: &[u8]) {
        self.bytes += string.len() + 2;
    }

    fn push_number(&mut self, stored: &[u8]) -> Option<()> {
        self.bytes += numeric::size(stored)?;
        Some(())
    }

    fn is_full(&self) -> bool {
        self.bytes > self.most
    }
}

/// One container with its entries.
#[derive(Clone, Copy)]
struct Entries<'a> {
    entries: &'a [u8],
    data: &'a [u8],
}

impl<'a> Entries<'a> {
    fn get(&self, index: usize) -> Option<u32> {
        word(self.entries, index * WORD)
    }

    /// Where the value of an entry ends, given where it begins. Returns none if that is before: no two values
    /// share bytes, so that what is made of a container is bounded by its size.
    fn end(entry: u32, start: usize) -> Option<usize> {
        let number = (entry & OFFSET_OR_LENGTH) as usize;
        let end = if entry & HAS_OFFSET != 0 { number } else { start + number };
        (end >= start).then_some(end)
    }

    fn string(&self, start: usize, end: usize) -> Option<&'a [u8]> {
        self.data.get(start..end)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|&word| u32::from_ne_bytes(word))
}

fn container<T: Text>(text: &mut T, bytes: &[u8], depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let header = word(bytes, 0)?;
    let count = (header & COUNT) as usize;
    if header & IS_OBJECT != 0 {
        let (entries, data) = bytes.get(WORD..)?.split_at_checked(2 * count * WORD)?;
        object(text, Entries { entries, data }, count, depth)
    } else {
        let (entries, data) = bytes.get(WORD..)?.split_at_checked(count * WORD)?;
        array(text, Entries { entries, data }, count, header & IS_SCALAR != 0, depth)
    }
}

fn array<T: Text>(
    text: &mut T,
    entries: Entries<'_>,
    count: usize,
    is_scalar: bool,
    depth: usize,
) -> Option<()> {
    if !is_scalar {
        text.push(b"[");
    }
    let mut start = 0;
    for index in 0..count {
        if index > 0 {
            text.push(b", ");
        }
        let entry = entries.get(index)?;
        let end = Entries::end(entry, start)?;
        value(text, entries, entry, (start, end), depth)?;
        if text.is_full() {
            return Some(());
        }
        start = end;
    }
    if !is_scalar {
        text.push(b"]");
    }
    Some(())
}

/// All keys come first, then the values in the same order.
fn object<T: Text>(text: &mut T, entries: Entries<'_>, count: usize, depth: usize) -> Option<()> {
    let mut start = 0;
    for index in 0..count {
        start = Entries::end(entries.get(index)?, start)?;
    }
    let mut key_start = 0;
    text.push(b"{");
    for index in 0..count {
        if index > 0 {
            text.push(b", ");
        }
        let key = entries.get(index).filter(|key| key & TYPE == STRING)?;
        let key_end = Entries::end(key, key_start)?;
        text.push_string(entries.string(key_start, key_end)?);
        text.push(b": ");
        let entry = entries.get(count + index)?;
        let end = Entries::end(entry, start)?;
        value(text, entries, entry, (start, end), depth)?;
        if text.is_full() {
            return Some(());
        }
        (key_start, start) = (key_end, end);
    }
    text.push(b"}");
    Some(())
}

fn value<T: Text>(
    text: &mut T,
    entries: Entries<'_>,
    entry: u32,
    (start, end): (usize, usize),
    depth: usize,
) -> Option<()> {
    match entry & TYPE {
        STRING => text.push_string(entries.string(start, end)?),
        NUMERIC => text.push_number(content(aligned(entries.data, start, end)?)?)?,
        FALSE => text.push(b"false"),
        TRUE => text.push(b"true"),
        NULL => text.push(b"null"),
        CONTAINER => container(text, aligned(entries.data, start, end)?, depth)?,
        _ => return None,
    }
    Some(())
}

/// What follows the length of a value that has one of four bytes (varatt.h: `VARSIZE_4B`).
fn content(bytes: &[u8]) -> Option<&[u8]> {
    let header = word(bytes, 0)?;
    let length = if cfg!(target_endian = "little") {
        (header & 3 == 0).then_some(header >> 2)
    } else {
        (header >> 30 == 0).then_some(header)
    };
    bytes.get(WORD..length? as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(stored: &[u8]) -> Option<Vec<u8>> {
        let mut json = Json::for_test(usize::MAX);
        push(&mut json, stored).map(|()| json.bytes().to_vec())
    }

    fn words(words: &[u32], data: &[u8]) -> Vec<u8> {
        let words = words.iter().flat_map(|word| word.to_ne_bytes());
        words.chain(data.iter().copied()).collect()
    }

    const IS_ARRAY: u32 = 0x4000_0000;

    #[test]
    fn a_scalar_an_array_and_an_object_are_spelt_as_postgresql_spells_them() {
        let scalar = words(&[IS_ARRAY | IS_SCALAR | 1, TRUE], b"");
        assert_eq!(text(&scalar).unwrap(), b"true");
        let array = words(&[IS_ARRAY | 3, STRING | 2, NULL, STRING | HAS_OFFSET | 3], b"a\"b");
        assert_eq!(text(&array).unwrap(), br#"["a\"", null, "b"]"#);
        let aligned = words(&[], b"keyxy\0\0\0");
        let data = [aligned, words(&[IS_OBJECT], b"")].concat();
        let object = words(&[IS_OBJECT | 2, 3, 2, CONTAINER | 7, FALSE], &data);
        assert_eq!(text(&object).unwrap(), br#"{"key": {}, "xy": false}"#);
        for (stored, escapes) in [(scalar, 0), (array, 1), (object, 0)] {
            let whole = text(&stored).unwrap().len();
            assert_eq!(size(&stored, usize::MAX), Some(whole - escapes));
        }
    }

    #[test]
    fn the_size_of_a_number_is_known_without_its_digits() {
        // 10^131071 and, as a scalar is, in an array.
        let number = words(&[if cfg!(target_endian = "little") { 10 << 2 } else { 10 }], b"");
        let digits = [0u16, 32767, 1000].map(u16::to_ne_bytes).concat();
        let number = [number, digits].concat();
        let stored = words(&[IS_ARRAY | IS_SCALAR | 1, NUMERIC | number.len() as u32], &number);
        let whole = text(&stored).unwrap().len();
        assert_eq!((whole, size(&stored, usize::MAX)), (131_072, Some(131_069)));
        let many = 1000;
        let entries = [vec![IS_ARRAY | many], vec![NUMERIC | 12; many as usize]].concat();
        let padded = [number, vec![0; 2]].concat();
        let stored = words(&entries, &padded.repeat(many as usize));
        assert!(size(&stored, usize::MAX) > Some(1000 * 131_069));
        assert_eq!(numbers(&stored, usize::MAX), Some(1000 * 131_069));
        for size in [size, numbers] {
            let most = size(&stored, 1_000_000).unwrap();
            assert!((1_000_001..1_200_000).contains(&most), "{most}");
        }
    }

    #[test]
    fn what_is_nested_too_deep_is_declined() {
        let mut stored = words(&[IS_ARRAY], b"");
        for _ in 0..DEPTH {
            stored = words(&[IS_ARRAY | 1, CONTAINER | stored.len() as u32], &stored);
        }
        assert_eq!((text(&stored), size(&stored, usize::MAX)), (None, None));
        assert!(text(&stored[2 * WORD..]).is_some());
    }

    /// Each level would hold the next one twice, and sixty levels would take for ever.
    #[test]
    fn values_that_share_bytes_are_declined() {
        let mut stored = words(&[IS_ARRAY], b"");
        for _ in 0..60 {
            let inner = CONTAINER | stored.len() as u32;
            stored = words(&[IS_ARRAY | 3, inner, NULL | HAS_OFFSET, inner], &stored);
        }
        assert_eq!((text(&stored), size(&stored, usize::MAX)), (None, None));
        assert_eq!(numbers(&stored, usize::MAX), None);
        let keys = words(&[IS_OBJECT | 2, 3, HAS_OFFSET | 1, TRUE, TRUE], b"key");
        assert_eq!((text(&keys), numbers(&keys, usize::MAX)), (None, None));
    }

    #[test]
    fn a_key_that_is_no_string_is_declined() {
        let object = |key: u32| words(&[IS_OBJECT | 1, key | 3, TRUE], b"key");
        assert_eq!(text(&object(STRING)).unwrap(), br#"{"key": true}"#);
        for kind in [NUMERIC, CONTAINER, NULL] {
            assert_eq!((text(&object(kind)), size(&object(kind), usize::MAX)), (None, None));
        }
    }

    #[test]
    fn no_more_is_made_than_the_limit_asks_for() {
        let stored = words(&[IS_ARRAY | 3, STRING | 1, STRING | 1, STRING | 1], b"abc");
        let mut json = Json::for_test(4);
        assert_eq!(push(&mut json, &stored), Some(()));
        assert!(json.is_full() && !json.bytes().contains(&b'c'));
    }

    proptest! {
        /// Damaged values end in an error of PostgreSQL's, not in a panic.
        #[test]
        fn no_bytes_panic(stored in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(text(&stored).is_some(), size(&stored, usize::MAX).is_some());
            numbers(&stored, usize::MAX);
        }
    }
}
