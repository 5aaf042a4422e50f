//! One value as JSON, byte for byte as PostgreSQL's `datum_to_json` (json.c: 15; 18 as
//! `datum_to_json_internal`) renders it under the fixed output settings ([`crate::pg::output_settings`]).

use pgrx::PgSqlErrorCode;

use super::array::{self, Array};
use super::json::Json;
use super::kind::{Elements, Kind, Portable};
use super::{escape, jsonb, moment, numeric};
use crate::memory;
use crate::pg::output_settings::{Moment, push_moment};
use crate::pg::plan_memory::PlanMemory;
use crate::pg::report::Report;
use crate::pg::storage::Stored;
use crate::pg::types::TypeId;
use crate::pg::value::Value;
use crate::pg::worker_types::WorkerType;

impl Kind {
    /// Appends a value of the type; in a transaction, unless the type is one of
    /// [`crate::pg::worker_types`].
    pub fn render(&self, value: Value<'_>, json: &mut Json) {
        let start = json.bytes().len();
        match self {
            Kind::Bool => {
                json.push(if value.number() as u8 != 0 { b"true" } else { b"false" });
            }
            Kind::Int2 => integer(json, i64::from(value.number() as i16)),
            Kind::Int4 => integer(json, i64::from(value.number() as i32)),
            Kind::Int8 => integer(json, value.number()),
            Kind::Text => {
                value.with_content(|text| json.push_literal(text));
                json.settle(start, true);
            }
            Kind::Json => {
                value.with_content(|text| json.push(text));
                json.settle(start, true);
            }
            Kind::Bytea => value.with_content(|bytes| {
                json.push(b"\"\\\\x");
                escape::push_hex(json.bytes_mut(), bytes);
                json.push(b"\"");
            }),
            Kind::Name => {
                let name = value.fixed_bytes().split(|&byte| byte == 0).next();
                json.push_literal(name.unwrap_or_default());
                json.settle(start, true);
            }
            Kind::Uuid => uuid(json, value.fixed_bytes()),
            Kind::Date => moment(json, Moment::Date(value.number() as i32)),
            Kind::Timestamp => moment(json, Moment::Timestamp(value.number())),
            Kind::TimestampTz => moment(json, Moment::TimestampTz(value.number())),
            Kind::Numeric(function) => {
                let push = |stored: &[u8]| numeric::push(json.bytes_mut(), stored);
                if value.with_content(push).is_none() {
                    function.with_text(value, |text| json.push_literal(text));
                }
            }
            Kind::Float(function) => function.with_text(value, |text| {
                if is_number(text) {
                    json.push(text);
                } else {
                    json.push_literal(text);
                }
            }),
            Kind::Jsonb(function) => {
                if value.with_content(|stored| jsonb::push(json, stored)).is_none() {
                    json.truncate(start);
                    function.with_text(value, |text| json.push(text));
                }
                json.settle(start, true);
            }
            Kind::Quoted(function) | Kind::Bits(function) => {
                function.with_text(value, |text| json.push_literal(text));
                json.settle(start, false);
            }
            Kind::Array(elements) => elements.render(value, json),
            Kind::ToJson(function) => {
                function.with_json(value, |text| json.push(text));
                json.settle(start, false);
            }
        }
    }
}

impl Elements {
    /// Appends an array.
    fn render(&self, value: Value<'_>, json: &mut Json) {
        let bytes = value.whole();
        let Some(array) = bytes.get(array::LENGTH..).and_then(Array::of) else {
            refuse_damaged_array()
        };
        if array.element_type != self.type_id.number() {
            return self.render_others(array.element_type, value, json);
        }
        let render =
            |element: Stored<'_>, json: &mut Json| self.kind.render(Value::of(element), json);
        if array.push(json, self.storage, bytes, render).is_none() {
            refuse_damaged_array();
        }
    }

    /// Renders an array whose elements are not of the type that its column has, as functions in C and
    /// casts that somebody put into the catalogs may make them.
    fn render_others(&self, type_number: u32, value: Value<'_>, json: &mut Json) {
        if let Some(function) = self.to_json {
            return Kind::ToJson(function).render(value, json);
        }
        let Some(of) = WorkerType::of(TypeId::of_number(type_number)) else {
            Report::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                "elements of an array are not of the type that its column has",
            )
            .detail(format!("Their type has oid {type_number}."))
            .raise()
        };
        Portable { of, is_array: true }.kind(&PlanMemory::new()).render(value, json);
    }
}

fn refuse_damaged_array() -> ! {
    Report::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "an array is not laid out as it says")
        .raise()
}

fn moment(json: &mut Json, moment: Moment) {
    json.push(b"\"");
    let out = json.bytes_mut();
    let is_done = match moment {
        Moment::Date(days) => moment::push_date(out, days),
        Moment::Timestamp(time) => moment::push_timestamp(out, time),
        Moment::TimestampTz(time) => moment::push_timestamptz(out, time),
    };
    if !is_done {
        push_moment(out, moment);
    }
    json.push(b"\"");
}

fn integer(json: &mut Json, number: i64) {
    escape::push_integer(json.bytes_mut(), number);
}

fn uuid(json: &mut Json, bytes: &[u8]) {
    // Of so many bytes is every uuid.
    let Some(bytes) = bytes.first_chunk::<16>() else { return };
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

/// Returns whether the text of a number is one in JSON too: all but Infinity and NaN are (json.c of 18).
fn is_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    digits.first().is_some_and(u8::is_ascii_digit)
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
