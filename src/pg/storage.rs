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
    /// In bytes.
    pub alignment: usize,
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

    /// The value stored at a place (`fetch_att`), and its bytes there.
    ///
    /// # Safety
    ///
    /// A value of this type is stored there, aligned.
    pub unsafe fn fetch(&self, at: *const u8) -> (pg_sys::Datum, usize) {
        let place = pg_sys::Datum::from(at);
        // SAFETY: the caller's.
        unsafe {
            match (self.by_value, self.length) {
                (true, 1) => (pg_sys::Datum::from(*at.cast::<i8>()), 1),
                (true, 2) => (pg_sys::Datum::from(*at.cast::<i16>()), 2),
                (true, 4) => (pg_sys::Datum::from(*at.cast::<i32>()), 4),
                (true, _) => (pg_sys::Datum::from(*at.cast::<i64>()), 8),
                (false, -1) => (place, pgrx::varsize_any(at.cast())),
                (false, -2) => (place, CStr::from_ptr(at.cast()).to_bytes_with_nul().len()),
                (false, length) => (place, length.max(0) as usize),
            }
        }
    }
}
