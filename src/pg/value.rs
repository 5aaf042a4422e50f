//! One value as JSON, byte for byte as PostgreSQL's `datum_to_json` (json.c: 15; 18 as
//! `datum_to_json_internal`) renders it under the fixed output settings ([`super::output`]).

use std::ffi::CStr;

use pgrx::{PgSqlErrorCode, pg_sys};

use super::kind::{Elements, Function, Kind};
use super::plan_memory::PlanMemory;
use super::report::Report;
use super::storage::MAXIMUM_ALIGNMENT;
use super::{escape, given, json::Json, jsonb, moment, numeric, output, sys, varlena};
use crate::memory;

/// Values above this size are not rendered, whatever the limit: a quarter of the longest text that
/// PostgreSQL's functions can make (memutils.h: `MaxAllocSize`), since text is longer than what it is
/// made of.
const UNSAFE: usize = 0x3FFF_FFFF / 4;

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
                Kind::Array(_) | Kind::Jsonb(_) | Kind::Quoted(_) | Kind::ToJson(_)
                    if is_varlena =>
                {
                    Some(varlena::content_size(value)).filter(|&size| size > UNSAFE).unwrap_or(0)
                }
                _ => 0,
            }
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
                Kind::Quoted(function) => {
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

/// `ARR_OVERHEAD_NONULLS` and its neighbours (utils/array.h): the header, then the length and the
/// lower bound of each dimension, then, where there are nulls, a bitmap of the others.
const HEADER: usize = size_of::<pg_sys::ArrayType>();

const _: () = assert!(HEADER == 16);

const MAX_DIMENSIONS: usize = pg_sys::MAXDIM as usize;

/// Walks through the elements of an array in the order in which they are stored, which is that of
/// the nested lists.
struct Walk<'a> {
    elements: &'a Elements,
    /// The array from its header to its end.
    bytes: &'a [u8],
    /// Where the next element is stored, or what aligns it.
    at: usize,
    /// Where a bit is set for each element that is not null; no bitmap if all are not.
    bitmap: Option<usize>,
    /// Index of the next element.
    index: usize,
}

impl Elements {
    /// # Safety
    ///
    /// `value` is an array.
    unsafe fn render(&self, value: pg_sys::Datum, json: &mut Json) {
        // SAFETY: the caller's; laid out as utils/array.h says. The copy of a toasted or short array
        // is freed with the memory context of the row.
        unsafe {
            let array = sys::pg_detoast_datum(value.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
            let size = pgrx::varsize_any(array.cast());
            if size < HEADER {
                refuse_damaged_array();
            }
            if (*array).elemtype != self.type_oid {
                return self.render_others(array, json);
            }
            let bytes = std::slice::from_raw_parts(array.cast::<u8>().cast_const(), size);
            if self.render_list(&*array, bytes, json).is_none() {
                refuse_damaged_array();
            }
        }
    }

    /// None if the array is not laid out as its header says.
    fn render_list(&self, array: &pg_sys::ArrayType, bytes: &[u8], json: &mut Json) -> Option<()> {
        let dimensions =
            usize::try_from(array.ndim).ok().filter(|&count| count <= MAX_DIMENSIONS)?;
        let after_bounds = HEADER + dimensions * 2 * size_of::<i32>();
        let mut lengths = [0; MAX_DIMENSIONS];
        let stored = bytes.get(HEADER..after_bounds)?.chunks_exact(size_of::<i32>());
        for (length, stored) in lengths[..dimensions].iter_mut().zip(stored) {
            *length = i32::from_ne_bytes(*stored.first_chunk()?);
        }
        let lengths = &lengths[..dimensions];
        if dimensions == 0 || lengths.contains(&0) {
            json.push(b"[]");
            return Some(());
        }
        let (bitmap, at) = match array.dataoffset {
            0 => (None, after_bounds.next_multiple_of(MAXIMUM_ALIGNMENT)),
            offset => (Some(after_bounds), usize::try_from(offset).ok()?),
        };
        Walk { elements: self, bytes, at, bitmap, index: 0 }.render(lengths, json)
    }

    /// Renders an array whose elements are not of the type that its column has, as functions in C and
    /// casts that somebody put into the catalogs may make them.
    ///
    /// # Safety
    ///
    /// It is an array, in a transaction unless this is done without a database.
    unsafe fn render_others(&self, array: *mut pg_sys::ArrayType, json: &mut Json) {
        let value = pg_sys::Datum::from(array);
        // SAFETY: the caller's.
        unsafe {
            let type_oid = (*array).elemtype;
            if let Some(function) = self.to_json {
                return Kind::ToJson(function).render(value, json);
            }
            match Kind::of_builtin(type_oid, true, &PlanMemory::new()) {
                Some((kind, _)) => kind.render(value, json),
                None => Report::new(
                    PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                    "elements of an array are not of the type that its column has",
                )
                .detail(format!("Their type has oid {}.", type_oid.to_u32()))
                .raise(),
            }
        }
    }
}

impl Walk<'_> {
    /// None if so many elements as the lengths say do not follow.
    fn render(&mut self, lengths: &[i32], json: &mut Json) -> Option<()> {
        let (&length, inner) = lengths.split_first()?;
        for n in 0..length {
            json.push(if n == 0 { b"[" } else { b"," });
            if inner.is_empty() {
                self.render_next(json)?;
            } else {
                self.render(inner, json)?;
            }
            if json.is_full() {
                // What comes now is not looked at any more.
                return Some(());
            }
        }
        json.push(b"]");
        Some(())
    }

    /// None if there is no next element.
    fn render_next(&mut self, json: &mut Json) -> Option<()> {
        let index = self.index;
        self.index += 1;
        if let Some(bitmap) = self.bitmap
            && self.bytes.get(bitmap + index / 8)? & (1 << (index % 8)) == 0
        {
            json.push(b"null");
            return Some(());
        }
        let value = self.elements.storage.take(self.bytes, &mut self.at)?;
        // SAFETY: a value of the elements' type, that ends within the array.
        unsafe { self.elements.kind.render(value, json) };
        Some(())
    }
}

fn refuse_damaged_array() -> ! {
    Report::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "an array is not laid out as it says")
        .raise()
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
