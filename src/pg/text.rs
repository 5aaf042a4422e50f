//! Text in the database's encoding, as UTF-8.

use std::borrow::Cow;
use std::ffi::{CStr, c_char};

use pgrx::pg_sys;

const UTF8: i32 = pg_sys::pg_enc::PG_UTF8 as i32;
const SQL_ASCII: i32 = pg_sys::pg_enc::PG_SQL_ASCII as i32;

/// Text of the current database as UTF-8. What has no meaning in UTF-8, which only a SQL_ASCII
/// database can hold, is replaced by U+FFFD.
pub fn to_utf8(bytes: &[u8]) -> Cow<'_, str> {
    to_utf8_noting_loss(bytes, &mut false)
}

/// The same; sets `lossy` if something had to be replaced.
pub fn to_utf8_noting_loss<'a>(bytes: &'a [u8], lossy: &mut bool) -> Cow<'a, str> {
    // SAFETY: reads a variable.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    if bytes.is_ascii() || encoding == UTF8 || encoding == SQL_ASCII {
        let text = String::from_utf8_lossy(bytes);
        *lossy |= matches!(text, Cow::Owned(_));
        return text;
    }
    // SAFETY: PostgreSQL returns either its argument (nothing to convert, which was ruled out
    // above but for an empty text) or a NUL-terminated copy in the current memory context.
    unsafe {
        let source: *const c_char = bytes.as_ptr().cast();
        let converted = pg_sys::pg_server_to_any(source, bytes.len() as i32, UTF8);
        if std::ptr::eq(converted, source) {
            return String::from_utf8_lossy(bytes);
        }
        let owned = CStr::from_ptr(converted).to_string_lossy().into_owned();
        pg_sys::pfree(converted.cast());
        Cow::Owned(owned)
    }
}

/// Text as PostgreSQL may send it to a client or the server log, which it takes to be in the
/// database's encoding: where that is not UTF-8, characters beyond ASCII are written as escapes.
pub(super) fn for_report(text: String) -> String {
    // SAFETY: reads a variable.
    if text.is_ascii() || unsafe { pg_sys::GetDatabaseEncoding() } == UTF8 {
        return text;
    }
    text.chars()
        .flat_map(|character| {
            let escape = (!character.is_ascii()).then(|| character.escape_unicode());
            let plain = character.is_ascii().then_some(character);
            escape.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// A C string of the current database as UTF-8; empty for a null pointer.
///
/// # Safety
///
/// `text` is null or NUL-terminated.
pub(super) unsafe fn c_to_utf8(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's.
    to_utf8(unsafe { CStr::from_ptr(text) }.to_bytes()).into_owned()
}
