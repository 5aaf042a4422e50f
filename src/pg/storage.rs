//! How the values of a type are stored in rows and arrays (access/tupmacs.h, varatt.h).

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;

/// `MAXIMUM_ALIGNOF` of the platforms that pgrx knows.
pub const MAXIMUM_ALIGNMENT: usize = 8;

/// Bytes of an array's header before its dimensions (utils/array.h).
pub const ARRAY_HEADER: usize = size_of::<pg_sys::ArrayType>();

/// Dimensions that an array has at most (utils/array.h: `MAXDIM`).
pub const MAX_DIMENSIONS: usize = pg_sys::MAXDIM as usize;

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

    /// Given what pg_type has.
    pub(super) fn new(length: i16, by_value: bool, alignment: c_char) -> Storage {
        let alignment = match alignment as u8 {
            pg_sys::TYPALIGN_CHAR => 1,
            pg_sys::TYPALIGN_SHORT => align_of::<i16>(),
            pg_sys::TYPALIGN_INT => align_of::<i32>(),
            _ => align_of::<f64>(),
        };
        Storage { length, by_value, alignment: alignment as u8 }
    }

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

    /// Bytes of a value that begins there, aligned. Returns none if it does not end there, or lies out of line.
    pub(super) fn size(self, stored: &[u8]) -> Option<usize> {
        let length = match self.length {
            -1 => match short_length(*stored.first()?) {
                Some(length) => Some(length).filter(|&length| length > 0)?,
                None => long_header(stored)?.size,
            },
            -2 => CStr::from_bytes_until_nul(stored).ok()?.to_bytes_with_nul().len(),
            length => usize::try_from(length).ok()?,
        };
        (length <= stored.len()).then_some(length)
    }
}

/// What a header of four bytes says.
pub(super) struct LongHeader {
    /// Bytes of the value, the header included.
    pub size: usize,
    pub is_compressed: bool,
}

/// Bytes of a value of variable length whose header is this one byte (varatt.h: `VARSIZE_1B`), zero for one
/// that lies out of line. Returns none if the header has four.
#[inline]
pub(super) fn short_length(header: u8) -> Option<usize> {
    if cfg!(target_endian = "little") {
        (header & 1 == 1).then_some(usize::from(header >> 1))
    } else {
        (header & 0x80 == 0x80).then_some(usize::from(header & 0x7F))
    }
}

/// The header of a value that has one of four bytes (varatt.h: `VARSIZE_4B`, `VARATT_IS_4B_C`). Returns none if
/// it is not there, or says less than what it takes itself: a compressed one says how long the value was, too.
#[inline]
pub(super) fn long_header(stored: &[u8]) -> Option<LongHeader> {
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
