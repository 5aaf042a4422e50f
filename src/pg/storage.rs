//! How the values of a type are stored in rows and arrays (access/tupmacs.h, varatt.h), and taken off the front
//! of bytes that hold them. Pure: [`super::value`] makes of them what PostgreSQL's functions take.

use std::ffi::CStr;

/// `MAXIMUM_ALIGNOF` of the platforms that pgrx knows.
pub const MAXIMUM_ALIGNMENT: usize = 8;

/// Bytes of an array's header before its dimensions (utils/array.h).
pub const ARRAY_HEADER: usize = 16;

/// Dimensions that an array has at most (utils/array.h: `MAXDIM`).
pub const MAX_DIMENSIONS: usize = 6;

/// typlen, typbyval and typalign of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// In bytes; -1: as its own header says; -2: up to a NUL.
    pub length: i16,
    pub by_value: bool,
    /// In bytes: 1, 2, 4 or 8.
    pub alignment: u8,
}

/// The first place from there on that is so aligned. Not `next_multiple_of`, which divides.
#[inline]
pub fn align(at: usize, alignment: usize) -> usize {
    (at + (alignment - 1)) & !(alignment - 1)
}

impl Storage {
    /// Of values of variable length whose alignment does not matter any more.
    pub(super) const VARLENA: Storage = Storage { length: -1, by_value: false, alignment: 4 };

    /// Returns whether values have a header that says how long they are.
    #[inline]
    pub fn is_varlena(self) -> bool {
        self.length == -1
    }

    /// Bytes of each value, if all have as many.
    #[inline]
    pub fn fixed_length(self) -> Option<usize> {
        usize::try_from(self.length).ok()
    }

    /// The first place from there on where a value may begin whose header, if it has one, has four bytes.
    #[inline]
    pub fn align(self, at: usize) -> usize {
        align(at, usize::from(self.alignment))
    }

    /// Returns whether it is the storage of a type that PostgreSQL lets a column have (pg_type.c:
    /// `TypeCreate`).
    pub fn is_expected(self) -> bool {
        let Storage { length, by_value, alignment } = self;
        match (by_value, length) {
            (true, 1 | 2 | 4 | 8) => i16::from(alignment) == length,
            (true, _) => false,
            (false, -1) => matches!(alignment, 4 | 8),
            (false, length) => length >= 0 && matches!(alignment, 1 | 2 | 4 | 8),
        }
    }
}

/// The bytes of one value, whole and not out of line. What it looks like inside is not checked.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    bytes: &'a [u8],
    storage: Storage,
}

impl<'a> Stored<'a> {
    /// Takes the value off that stands at `at` in `bytes`, or behind what aligns it there, and moves `at` to
    /// its end. `bytes` begin as aligned as values can be. Returns none if it does not end within them, or lies
    /// out of line.
    #[inline]
    pub fn take(storage: Storage, bytes: &'a [u8], at: &mut usize) -> Option<Stored<'a>> {
        if storage.is_varlena() {
            return Stored::take_varlena(storage, bytes, at).map(|(stored, _)| stored);
        }
        *at = storage.align(*at);
        let rest = bytes.get(*at..)?;
        let length = match storage.length {
            -2 => CStr::from_bytes_until_nul(rest).ok()?.to_bytes_with_nul().len(),
            length => usize::try_from(length).ok()?,
        };
        *at += length;
        let is_whole = !storage.by_value || matches!(length, 1 | 2 | 4 | 8);
        Some(Stored { bytes: rest.get(..length).filter(|_| is_whole)?, storage })
    }

    /// The same for a value of variable length, with what stands behind its header if it is stored plain.
    #[inline]
    pub fn take_varlena(
        storage: Storage,
        bytes: &'a [u8],
        at: &mut usize,
    ) -> Option<(Stored<'a>, Option<&'a [u8]>)> {
        let mut header = *bytes.get(*at)?;
        // One of one byte is not aligned (`att_align_pointer`).
        if short_length(header).is_none() {
            *at = storage.align(*at);
            header = *bytes.get(*at)?;
        }
        let rest = &bytes[*at..];
        let (bytes, content) = match short_length(header) {
            Some(length) => {
                let stored = rest.get(..length)?;
                // One that lies out of line has no length here.
                (stored, Some(stored.get(1..)?))
            }
            None => {
                let header = long_header(rest)?;
                let stored = rest.get(..header.size)?;
                (stored, (!header.is_compressed).then(|| &stored[size_of::<u32>()..]))
            }
        };
        *at += bytes.len();
        Some((Stored { bytes, storage }, content))
    }

    /// All of its bytes, a header included.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// How it is stored.
    #[inline]
    pub fn storage(self) -> Storage {
        self.storage
    }

    /// The value itself, if it is a number that is passed by value.
    #[inline]
    pub fn number(self) -> Option<i64> {
        if !self.storage.by_value {
            return None;
        }
        Some(match *self.bytes {
            [a] => i8::from_ne_bytes([a]).into(),
            [a, b] => i16::from_ne_bytes([a, b]).into(),
            [a, b, c, d] => i32::from_ne_bytes([a, b, c, d]).into(),
            _ => i64::from_ne_bytes(*self.bytes.first_chunk()?),
        })
    }
}

/// What a header of four bytes says.
struct LongHeader {
    /// Bytes of the value, the header included.
    size: usize,
    is_compressed: bool,
}

/// Bytes of a value of variable length whose header is this one byte (varatt.h: `VARSIZE_1B`), zero for one
/// that lies out of line. Returns none if the header has four.
#[inline]
fn short_length(header: u8) -> Option<usize> {
    if cfg!(target_endian = "little") {
        (header & 1 == 1).then_some(usize::from(header >> 1))
    } else {
        (header & 0x80 == 0x80).then_some(usize::from(header & 0x7F))
    }
}

/// The header of a value that has one of four bytes (varatt.h: `VARSIZE_4B`, `VARATT_IS_4B_C`). Returns none if
/// it is not there, or says less than what it takes itself: a compressed one says how long the value was, too.
#[inline]
fn long_header(stored: &[u8]) -> Option<LongHeader> {
    let header = u32::from_ne_bytes(*stored.first_chunk()?);
    let (size, flags) = if cfg!(target_endian = "little") {
        (header >> 2, header & 3)
    } else {
        (header & 0x3FFF_FFFF, header >> 30)
    };
    let is_compressed = flags != 0;
    let least = size_of::<u32>() * if is_compressed { 2 } else { 1 };
    let size = size as usize;
    (size >= least).then_some(LongHeader { size, is_compressed })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: Storage = Storage { length: -1, by_value: false, alignment: 4 };

    /// PostgreSQL reads it as one, too, whatever is expected there: and a 1 says that the value is elsewhere.
    #[test]
    fn a_header_of_one_byte_is_one_also_behind_what_aligns_it() {
        let short = |length: u8| {
            if cfg!(target_endian = "little") { length << 1 | 1 } else { length | 0x80 }
        };
        for (header, expected) in
            [(short(3), Some(b"hi".as_slice())), (short(0), None), (short(8), None)]
        {
            let bytes = [0, 0, 0, 0, 0, 0, 0, 0, header, b'h', b'i', 0, 0, 0];
            let mut at = 5;
            let found = Stored::take_varlena(TEXT, &bytes, &mut at);
            assert_eq!(found.map(|(_, content)| content.unwrap()), expected);
            assert!(expected.is_none() || at == 11);
        }
    }

    proptest! {
        #[test]
        fn a_value_that_is_taken_is_as_long_as_its_header_says(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            at in 0..40usize,
        ) {
            let mut end = at;
            if let Some(stored) = Stored::take(TEXT, &bytes, &mut end) {
                let stored = stored.bytes();
                prop_assert_eq!(stored, &bytes[end - stored.len()..end]);
                let length = match short_length(stored[0]) {
                    Some(length) => length,
                    None => {
                        prop_assert_eq!((end - stored.len()) % 4, 0);
                        long_header(stored).unwrap().size
                    }
                };
                prop_assert_eq!(stored.len(), length);
            }
        }
    }
}
