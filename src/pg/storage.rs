//! How the values of a type are stored in rows and arrays (access/tupmacs.h).

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;

/// `MAXIMUM_ALIGNOF` of the platforms that pgrx knows.
pub(super) const MAXIMUM_ALIGNMENT: usize = 8;

/// typlen, typbyval and typalign of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    /// In bytes; -1: as its own header says; -2: up to a NUL.
    pub length: i16,
    pub by_value: bool,
    /// In bytes: 1, 2, 4 or 8.
    pub alignment: usize,
}

/// The first place from there on that is so aligned. Not `next_multiple_of`, which divides.
pub(super) fn align(at: usize, alignment: usize) -> usize {
    (at + (alignment - 1)) & !(alignment - 1)
}

impl Storage {
    /// Given what pg_type has.
    pub fn new(length: i16, by_value: bool, alignment: c_char) -> Storage {
        let alignment = match alignment as u8 {
            pg_sys::TYPALIGN_CHAR => 1,
            pg_sys::TYPALIGN_SHORT => align_of::<i16>(),
            pg_sys::TYPALIGN_INT => align_of::<i32>(),
            _ => align_of::<f64>(),
        };
        Storage { length, by_value, alignment }
    }

    /// Of a column.
    pub fn of(attribute: &pg_sys::FormData_pg_attribute) -> Storage {
        Storage::new(attribute.attlen, attribute.attbyval, attribute.attalign)
    }

    /// Whether values have a header that says how long they are.
    pub fn is_varlena(&self) -> bool {
        self.length == -1
    }

    /// Bytes of each value, if all have as many.
    pub fn fixed_length(&self) -> Option<usize> {
        usize::try_from(self.length).ok()
    }

    /// Takes the value off that stands at `at` in `bytes`, or behind what aligns it there, and moves
    /// `at` to its end. `bytes` begin as aligned as values can be. None if it does not end within
    /// them, or lies out of line. What it looks like inside is not checked.
    pub fn take(&self, bytes: &[u8], at: &mut usize) -> Option<pg_sys::Datum> {
        // A header of one byte is not aligned (`att_align_pointer`).
        if !(self.is_varlena() && is_short(bytes.get(*at..)?)) {
            *at = align(*at, self.alignment);
        }
        let stored = bytes.get(*at..)?;
        let length = self.size(stored)?;
        *at += length;
        let place = stored.as_ptr();
        // SAFETY: so many bytes are there, aligned (`fetch_att`).
        Some(unsafe {
            match (self.by_value, length) {
                (true, 1) => pg_sys::Datum::from(*place.cast::<i8>()),
                (true, 2) => pg_sys::Datum::from(*place.cast::<i16>()),
                (true, 4) => pg_sys::Datum::from(*place.cast::<i32>()),
                (true, 8) => pg_sys::Datum::from(*place.cast::<i64>()),
                (true, _) => return None,
                (false, _) => pg_sys::Datum::from(place),
            }
        })
    }

    /// The same for a value of variable length, with what stands behind its header if it is stored plain.
    #[inline]
    pub fn take_varlena<'a>(
        &self,
        bytes: &'a [u8],
        at: &mut usize,
    ) -> Option<(pg_sys::Datum, Option<&'a [u8]>)> {
        if let Some(length) = short_length(*bytes.get(*at)?) {
            let stored = bytes.get(*at..*at + length)?;
            *at += length;
            // One that lies out of line has no length here.
            return Some((pg_sys::Datum::from(stored.as_ptr()), Some(stored.get(1..)?)));
        }
        *at = align(*at, self.alignment);
        let stored = bytes.get(*at..)?;
        let size = varlena_size(stored)?;
        let stored = stored.get(..size)?;
        *at += size;
        let value = stored.as_ptr().cast::<pg_sys::varlena>();
        // SAFETY: the header is there.
        let is_plain = unsafe { pgrx::varatt_is_4b_u(value) };
        Some((pg_sys::Datum::from(value), is_plain.then(|| &stored[size_of::<u32>()..])))
    }

    /// Bytes of a value that begins there, aligned. None if it does not end there, or lies out of
    /// line.
    fn size(&self, stored: &[u8]) -> Option<usize> {
        let length = match self.length {
            -1 => varlena_size(stored)?,
            -2 => CStr::from_bytes_until_nul(stored).ok()?.to_bytes_with_nul().len(),
            length => usize::try_from(length).ok()?,
        };
        (length <= stored.len()).then_some(length)
    }
}

/// Bytes of a value of variable length whose header is this one byte (varatt.h: `VARSIZE_1B`), zero for one
/// that lies out of line. None if the header has four.
#[inline]
fn short_length(header: u8) -> Option<usize> {
    if cfg!(target_endian = "little") {
        (header & 1 == 1).then_some(usize::from(header >> 1))
    } else {
        (header & 0x80 == 0x80).then_some(usize::from(header & 0x7F))
    }
}

/// Whether a value of variable length begins there that has a header of one byte.
fn is_short(stored: &[u8]) -> bool {
    // SAFETY: the byte is there.
    !stored.is_empty() && unsafe { pgrx::varatt_is_1b(stored.as_ptr().cast()) }
}

/// What the header of a value says. None if that is not all of it, if it says less than what it takes
/// itself, or that the value lies out of line.
fn varlena_size(stored: &[u8]) -> Option<usize> {
    let header = varlena_header(stored)?;
    // SAFETY: the header is there.
    Some(unsafe { pgrx::varsize_any(stored.as_ptr().cast()) }).filter(|&size| size >= header)
}

/// Bytes of the header of a value; a compressed one says how long it was, too (varatt.h: "va_tcinfo"). None if
/// it is not there, or says that the value lies out of line.
fn varlena_header(stored: &[u8]) -> Option<usize> {
    let value = stored.as_ptr().cast::<pg_sys::varlena>();
    // SAFETY: the first byte is there when it is looked at, and the whole header when that is.
    unsafe {
        if is_short(stored) {
            return (!pgrx::varatt_is_1b_e(value)).then_some(1);
        }
        if stored.len() < size_of::<u32>() {
            return None;
        }
        Some(size_of::<u32>() * if pgrx::varatt_is_4b_c(value) { 2 } else { 1 })
    }
}
