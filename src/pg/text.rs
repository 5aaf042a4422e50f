//! Text in the database's encoding, as UTF-8.

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char, c_int};

use pgrx::{GucSetting, pg_sys};

use super::sys;
use super::sys::plain::GetDatabaseEncoding;
use crate::memory;

const UTF8: i32 = pg_sys::pg_enc::PG_UTF8 as i32;
const SQL_ASCII: i32 = pg_sys::pg_enc::PG_SQL_ASCII as i32;

/// What stands for what has no meaning.
const REPLACEMENT: &str = "\u{FFFD}";

/// Bytes converted at once. Each may become [`GROWTH`] bytes, and a NUL follows.
const CHUNK: usize = 4096;

/// `MAX_CONVERSION_GROWTH` (mb/pg_wchar.h).
const GROWTH: usize = 4;

/// Returns whether the current database's encoding is UTF-8.
pub fn database_is_utf8() -> bool {
    // SAFETY: it reads a variable that nothing but this thread changes, and raises nothing.
    unsafe { GetDatabaseEncoding() == UTF8 }
}

/// Text of the current database as UTF-8. What has no meaning in UTF-8 is replaced by U+FFFD.
pub fn to_utf8(bytes: &[u8]) -> Cow<'_, str> {
    to_utf8_noting_loss(bytes, &mut false)
}

/// The same; sets `lossy` if something had to be replaced.
pub fn to_utf8_noting_loss<'a>(bytes: &'a [u8], lossy: &mut bool) -> Cow<'a, str> {
    if bytes.is_ascii() {
        // SAFETY: ASCII is UTF-8.
        return Cow::Borrowed(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    // SAFETY: it reads a variable that nothing but this thread changes, and raises nothing.
    match unsafe { GetDatabaseEncoding() } {
        UTF8 | SQL_ASCII => replace_invalid(bytes, lossy),
        encoding => Cow::Owned(convert(bytes, encoding, lossy)),
    }
}

fn replace_invalid<'a>(bytes: &'a [u8], lossy: &mut bool) -> Cow<'a, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            *lossy = true;
            let mut text = String::new();
            append_lossy(&mut text, bytes);
            Cow::Owned(text)
        }
    }
}

/// As `String::from_utf8_lossy` would have it.
fn append_lossy(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        memory::append_text(text, chunk.valid());
        if !chunk.invalid().is_empty() {
            memory::append_text(text, REPLACEMENT);
        }
    }
}

/// The text, whose memory is the caller's.
pub fn owned(text: Cow<'_, str>) -> String {
    match text {
        Cow::Borrowed(text) => memory::text(text),
        Cow::Owned(text) => text,
    }
}

/// Converts what can be converted: no writer is to fail because a byte that its database accepts
/// has no counterpart in UTF-8.
fn convert(bytes: &[u8], encoding: i32, lossy: &mut bool) -> String {
    // SAFETY: looks the default conversion up in the catalogs, as every client with another
    // encoding makes PostgreSQL do.
    let conversion = unsafe { sys::FindDefaultConversionProc(encoding, UTF8) };
    if conversion == pg_sys::InvalidOid {
        return owned(replace_invalid(bytes, lossy));
    }
    let mut target = [0u8; CHUNK * GROWTH + 1];
    let mut text = String::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (source, length) = (rest.as_ptr(), rest.len().min(CHUNK) as c_int);
        let (out, room) = (target.as_mut_ptr(), target.len() as c_int);
        // SAFETY: the target has room for whatever `length` bytes may become and for a NUL; with
        // no_error the function stops at what it cannot convert, and returns how far it came.
        let taken = unsafe {
            sys::pg_do_encoding_conversion_buf(
                conversion, encoding, UTF8, source, length, out, room, true,
            )
        };
        match taken.max(0) as usize {
            // Cut off at the end of a chunk, a character comes to stand at the start of the next.
            0 => {
                memory::append_text(&mut text, REPLACEMENT);
                *lossy = true;
                rest = &rest[1..];
            }
            taken => {
                let converted = CStr::from_bytes_until_nul(&target).unwrap_or_default();
                append_lossy(&mut text, converted.to_bytes());
                rest = &rest[taken.min(rest.len())..];
            }
        }
    }
    text
}

/// Text as PostgreSQL may send it to a client or the server log, which it takes to be in the
/// database's encoding: where that is not UTF-8, characters beyond ASCII are written as escapes.
pub(super) fn for_report(text: String) -> String {
    if text.is_ascii() || database_is_utf8() {
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

/// Puts the value of a setting, as UTF-8, in place of `text`. Without an allocation in most cases:
/// `GucSetting::get` makes one each time.
pub fn copy_setting(setting: &GucSetting<Option<CString>>, text: &mut String) {
    text.clear();
    // SAFETY: main thread; null or NUL-terminated, and it stays as it is meanwhile.
    unsafe {
        let value = *setting.as_ptr();
        if !value.is_null() {
            memory::append_text(text, &to_utf8(CStr::from_ptr(value).to_bytes()));
        }
    }
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
    // SAFETY: the text is NUL-terminated.
    owned(to_utf8(unsafe { CStr::from_ptr(text) }.to_bytes()))
}

/// A name in the catalogs, as UTF-8; empty if there is none.
///
/// # Safety
///
/// `name` is null or a palloc'd NUL-terminated string, which is freed.
pub(super) unsafe fn take_name(name: *mut c_char) -> String {
    if name.is_null() {
        return String::new();
    }
    // SAFETY: the name is NUL-terminated, was palloc'd, and is nobody else's any more.
    unsafe {
        let owned = owned(to_utf8(CStr::from_ptr(name).to_bytes()));
        pg_sys::pfree(name.cast());
        owned
    }
}
