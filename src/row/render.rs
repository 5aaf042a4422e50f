//! One value as JSON, byte for byte as PostgreSQL's `datum_to_json` (json.c: 15; 18 as
//! `datum_to_json_internal`) renders it under the fixed output settings ([`super::output`]).

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::pg_sys;

use super::kind::{Function, Kind};
use super::{escape, given, guard, json::Json, jsonb, moment, numeric, output, sys, varlena};
use crate::memory;

/// Values above this size are not rendered, whatever the limit: a quarter of the longest text that
/// PostgreSQL's functions can make (memutils.h: `MaxAllocSize`), since text is longer than what it is
/// made of.
const UNSAFE: usize = 0x3FFF_FFFF / 4;

/// A jsonb takes at most so many times its text, as numbers of one digit and arrays in arrays do, and this
/// much in addition.
const SPARSEST: usize = 4;
const SCALAR: usize = 16;

/// What an output function made is freed at once above this size, and else with the memory context
/// of the row.
const LARGE: usize = 8 * 1024;

impl Kind {
    /// Bytes that a value takes at least, found without fetching or rendering it. Zero where that
    /// cannot be told, but for values so large that PostgreSQL's functions may fail to render them:
    /// their text would not fit into a gigabyte.
    ///
    /// # Safety
    ///
    /// `value` is a non-null value of the type.
    pub(super) unsafe fn least_size(&self, value: pg_sys::Datum, is_varlena: bool) -> usize {
        // SAFETY: the caller's; these types are of variable length.
        unsafe {
            match self {
                Kind::Text | Kind::Json => varlena::content_size(value),
                // Two hexadecimal digits.
                Kind::Bytea => 2 * varlena::content_size(value),
                // How many bits there are comes first; of the last byte one may count.
                Kind::Bits(_) => (8 * varlena::content_size(value)).saturating_sub(8 * 4 + 7),
                Kind::Numeric(_) => varlena::content_size(value).saturating_sub(SCALAR) / SPARSEST,
                Kind::Jsonb(_) => {
                    let size = varlena::content_size(value);
                    if size > UNSAFE { size } else { size.saturating_sub(SCALAR) / SPARSEST }
                }
                Kind::Array(_) | Kind::Quoted(_) | Kind::ToJson(_) if is_varlena => {
                    Some(varlena::content_size(value)).filter(|&size| size > UNSAFE).unwrap_or(0)
                }
                Kind::Given => given::piece(value).len(),
                _ => 0,
            }
        }
    }

    /// The same, but that a numeric, a jsonb and an array are looked into, which may have a far longer text
    /// than what they are made of; beyond `most` no further than to know that. What had to be fetched for it is
    /// in the place of the value then, until the memory context of the row is emptied.
    ///
    /// # Safety
    ///
    /// `value` is a non-null value of the type.
    pub(super) unsafe fn measure(
        &self,
        value: &Cell<pg_sys::Datum>,
        is_varlena: bool,
        most: usize,
    ) -> usize {
        // SAFETY: the caller's; these types are of variable length.
        unsafe {
            let least = self.least_size(value.get(), is_varlena);
            if least > most || !self.is_looked_into() {
                return least;
            }
            value.set(varlena::fetch(value.get()));
            let looked_into = match (self, varlena::plain(value.get())) {
                (Kind::Numeric(_), Some(stored)) => numeric::size(stored),
                (Kind::Jsonb(_), Some(stored)) => jsonb::size(stored, most),
                (Kind::Array(elements), Some(stored)) => elements.size(value.get(), stored, most),
                _ => None,
            };
            looked_into.unwrap_or(least)
        }
    }

    /// Bytes of a value's text, if they may be many more than those that are stored in its row: of the part
    /// that may be, at least, and beyond `most` no more than to know that. Zero for what is damaged. None for
    /// what our own code does not render. `stored` is what stands behind the value's header, if it is plain.
    ///
    /// # Safety
    ///
    /// `value` is a non-null value of the type, of variable length, in a row.
    #[inline]
    pub(super) unsafe fn growth(
        &self,
        value: pg_sys::Datum,
        stored: Option<&[u8]>,
        most: usize,
    ) -> Option<usize> {
        // SAFETY: the caller's.
        unsafe {
            match (self, stored) {
                (_, None) => self.growth_of_packed(value, most),
                (Kind::Numeric(_), Some(stored)) => Some(numeric::size(stored).unwrap_or(0)),
                (Kind::Jsonb(_), Some(stored)) => jsonb::numbers(stored, most),
                (Kind::Array(elements), Some(stored)) => elements.growth(value, stored, most),
                _ => Some(0),
            }
        }
    }

    /// # Safety
    ///
    /// The value is not stored plain.
    unsafe fn growth_of_packed(&self, value: pg_sys::Datum, most: usize) -> Option<usize> {
        // SAFETY: the caller's. What is fetched is freed again.
        unsafe {
            let size = varlena::content_size(value).max(self.least_size(value, true));
            if size > most || !self.is_looked_into() {
                return Some(size);
            }
            // Decompressing takes no lock and pins nothing, so that nothing is left behind by an error.
            let fetched = match guard::catch(|| varlena::fetch(value)) {
                Ok(fetched) => fetched,
                Err(failure) if failure.is_for_memory() => failure.rethrow(),
                Err(_) => return Some(0),
            };
            let growth = self.growth(fetched, varlena::plain(fetched), most);
            pg_sys::pfree(fetched.cast_mut_ptr());
            growth.map(|growth| growth.max(size))
        }
    }

    /// Whether one must look into a value to tell how long its text is.
    pub(super) fn is_looked_into(&self) -> bool {
        self.is_walked() || matches!(self, Kind::Array(_))
    }

    /// Whether it may hold numbers with long texts.
    pub(super) fn is_walked(&self) -> bool {
        matches!(self, Kind::Numeric(_) | Kind::Jsonb(_))
    }

    /// Bytes of the shortest text.
    pub(super) fn shortest(&self) -> usize {
        match self {
            Kind::Bool => b"true".len(),
            Kind::Uuid => 38,
            // Infinity.
            Kind::Date | Kind::Timestamp | Kind::TimestampTz => 10,
            // Two quotes.
            Kind::Text | Kind::Bytea | Kind::Name | Kind::Quoted(_) | Kind::Bits(_) => 2,
            _ => 1,
        }
    }

    /// Appends a value.
    ///
    /// # Safety
    ///
    /// `value` is a non-null value of the type; in a transaction, unless the type is one of
    /// [`super::builtin`].
    pub(super) unsafe fn render(&self, value: pg_sys::Datum, json: &mut Json) {
        let start = json.bytes().len();
        // SAFETY: the caller's, for all that follows.
        unsafe {
            match self {
                Kind::Bool => json.push(if value.value() as u8 != 0 { b"true" } else { b"false" }),
                Kind::Int2 => integer(json, i64::from(value.value() as i16)),
                Kind::Int4 => integer(json, i64::from(value.value() as i32)),
                Kind::Int8 => integer(json, value.value() as i64),
                Kind::Text => {
                    varlena::with_content(value, |text| json.push_literal(text));
                    json.settle(start, true);
                }
                Kind::Json => {
                    varlena::with_content(value, |text| json.push(text));
                    json.settle(start, true);
                }
                Kind::Bytea => varlena::with_content(value, |bytes| {
                    json.push(b"\"\\\\x");
                    escape::push_hex(json.bytes_mut(), bytes);
                    json.push(b"\"");
                }),
                Kind::Name => {
                    let name = &*value.cast_mut_ptr::<[u8; pg_sys::NAMEDATALEN as usize]>();
                    json.push_literal(name.split(|&byte| byte == 0).next().unwrap_or_default());
                    json.settle(start, true);
                }
                Kind::Uuid => uuid(json, &*value.cast_mut_ptr::<[u8; 16]>()),
                Kind::Date | Kind::Timestamp | Kind::TimestampTz => self.moment(value, json),
                Kind::Numeric(function) => {
                    let push = |stored: &[u8]| numeric::push(json.bytes_mut(), stored);
                    if varlena::with_content(value, push).is_none() {
                        with_output(*function, value, |text| json.push_literal(text));
                    }
                }
                Kind::Float(function) => with_output(*function, value, |text| {
                    if is_number(text) {
                        json.push(text);
                    } else {
                        json.push_literal(text);
                    }
                }),
                Kind::Jsonb(function) => {
                    if varlena::with_content(value, |stored| jsonb::push(json, stored)).is_none() {
                        json.truncate(start);
                        with_output(*function, value, |text| json.push(text));
                    }
                    json.settle(start, true);
                }
                Kind::Quoted(function) | Kind::Bits(function) => {
                    with_output(*function, value, |text| json.push_literal(text));
                    json.settle(start, false);
                }
                Kind::Array(elements) => elements.render(value, json),
                Kind::ToJson(function) => {
                    let made = sys::OidFunctionCall1Coll(*function, pg_sys::InvalidOid, value);
                    varlena::with_content(made, |text| json.push(text));
                    json.settle(start, false);
                }
                Kind::Given => json.push(given::piece(value)),
            }
        }
    }

    unsafe fn moment(&self, value: pg_sys::Datum, json: &mut Json) {
        json.push(b"\"");
        let out = json.bytes_mut();
        let (done, type_oid) = match self {
            Kind::Date => (moment::push_date(out, value.value() as i32), pg_sys::DATEOID),
            Kind::Timestamp => {
                (moment::push_timestamp(out, value.value() as i64), pg_sys::TIMESTAMPOID)
            }
            _ => (moment::push_timestamptz(out, value.value() as i64), pg_sys::TIMESTAMPTZOID),
        };
        if !done {
            output::push_date_time(out, value, type_oid);
        }
        json.push(b"\"");
    }
}

fn integer(json: &mut Json, number: i64) {
    escape::push_integer(json.bytes_mut(), number);
}

fn uuid(json: &mut Json, bytes: &[u8; 16]) {
    let out = json.bytes_mut();
    memory::reserve(out, "\"00000000-0000-0000-0000-000000000000\"".len());
    for (n, part) in [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]]
        .into_iter()
        .enumerate()
    {
        out.push(if n == 0 { b'"' } else { b'-' });
        escape::push_hex(out, part);
    }
    out.push(b'"');
}

/// Whether the text of a number is one in JSON too: all but Infinity and NaN are (json.c of 18).
fn is_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    digits.first().is_some_and(u8::is_ascii_digit)
}

/// Calls `use_it` with what an output function makes of a value.
///
/// # Safety
///
/// `function` is the output function of the value's type.
unsafe fn with_output(function: Function, value: pg_sys::Datum, use_it: impl FnOnce(&[u8])) {
    // SAFETY: the caller's; the function returns a NUL-terminated string in the current context.
    unsafe {
        let made = sys::OutputFunctionCall(function, value);
        let text = CStr::from_ptr(made).to_bytes();
        let is_large = text.len() > LARGE;
        use_it(text);
        if is_large {
            pg_sys::pfree(made.cast());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_and_nan_are_no_numbers() {
        for text in ["0", "-0", "12.50", "1e+20", "-3.4e-38"] {
            assert!(is_number(text.as_bytes()), "{text}");
        }
        for text in ["NaN", "Infinity", "-Infinity", "", "-"] {
            assert!(!is_number(text.as_bytes()), "{text}");
        }
    }
}
