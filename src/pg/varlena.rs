//! Values of variable length as they are stored (postgres.h: "struct varlena"): plain with a header
//! of one or of four bytes, compressed, or out of line in a TOAST table.

use pgrx::pg_sys;

use super::sys;

/// The bytes of a value that is stored plain.
///
/// # Safety
///
/// `value` is a non-null value of variable length that lives for `'a`.
#[inline]
pub(super) unsafe fn plain<'a>(value: pg_sys::Datum) -> Option<&'a [u8]> {
    let value = value.cast_mut_ptr::<pg_sys::varlena>();
    // SAFETY: the value is whole, so that its header is there, and as much behind it as that says.
    unsafe {
        let is_short = pgrx::varatt_is_1b(value) && !pgrx::varatt_is_1b_e(value);
        (is_short || pgrx::varatt_is_4b_u(value)).then(|| content(value))
    }
}

/// What stands behind the header.
///
/// # Safety
///
/// `value` is plain and lives for `'a`.
unsafe fn content<'a>(value: *const pg_sys::varlena) -> &'a [u8] {
    // SAFETY: a plain value has its content right behind its header, which says how much there is.
    unsafe {
        std::slice::from_raw_parts(
            pgrx::vardata_any(value).cast::<u8>(),
            pgrx::varsize_any_exhdr(value),
        )
    }
}

/// Calls `use_it` with the bytes of a value, however it is stored.
///
/// # Safety
///
/// `value` is a non-null value of variable length.
pub(super) unsafe fn with_content<T>(value: pg_sys::Datum, use_it: impl FnOnce(&[u8]) -> T) -> T {
    // SAFETY: the value is whole. What is not plain is copied into the current memory context, and freed
    // again, for it may be large; `use_it` cannot keep it.
    unsafe {
        if let Some(bytes) = plain(value) {
            return use_it(bytes);
        }
        let stored = value.cast_mut_ptr::<pg_sys::varlena>();
        let fetched = sys::pg_detoast_datum_packed(stored);
        let result = use_it(content(fetched));
        if !std::ptr::eq(fetched, stored) {
            pg_sys::pfree(fetched.cast());
        }
        result
    }
}

/// The value itself if it is stored plain, else a copy that is, in the current memory context.
///
/// # Safety
///
/// `value` is a non-null value of variable length.
pub(super) unsafe fn fetch(value: pg_sys::Datum) -> pg_sys::Datum {
    // SAFETY: the value is whole, so that it can be fetched.
    unsafe {
        match plain(value) {
            Some(_) => value,
            None => pg_sys::Datum::from(sys::pg_detoast_datum_packed(value.cast_mut_ptr())),
        }
    }
}

/// Bytes of the value's content, found without fetching it.
///
/// # Safety
///
/// `value` is a non-null value of variable length.
pub(super) unsafe fn content_size(value: pg_sys::Datum) -> usize {
    // SAFETY: the value is whole; only its header is looked at. The size counts a header of four bytes
    // (detoast.c: toast_raw_datum_size).
    unsafe {
        match plain(value) {
            Some(bytes) => bytes.len(),
            None => sys::toast_raw_datum_size(value).saturating_sub(pg_sys::VARHDRSZ),
        }
    }
}

/// The whole value as it is stored, if it is complete in itself: plain, compressed, or a pointer
/// into a TOAST table.
///
/// # Safety
///
/// `value` is a non-null value of variable length that lives for `'a`.
pub(super) unsafe fn image<'a>(value: pg_sys::Datum) -> Option<&'a [u8]> {
    let value = value.cast_mut_ptr::<pg_sys::varlena>();
    // SAFETY: the value is whole, with as many bytes as its header says. Of the pointers only those to disk stand for a value for ever.
    unsafe {
        let is_pointer = pgrx::varatt_is_1b_e(value);
        let is_complete = !is_pointer
            || pgrx::vartag_1b_e(value) as u32 == pg_sys::vartag_external::VARTAG_ONDISK;
        is_complete
            .then(|| std::slice::from_raw_parts(value.cast::<u8>(), pgrx::varsize_any(value)))
    }
}
