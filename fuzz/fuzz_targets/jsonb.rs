//! A jsonb's stored bytes, right or damaged: rendering never panics, what is right says what was put in, what is known
//! beforehand of the size is so, and nothing becomes larger than its bytes account for.

#![no_main]
#![allow(dead_code)]

#[path = "../shared/damage.rs"]
mod damage;
#[path = "../../src/memory.rs"]
mod memory;
#[path = "../shared"]
mod pg {
    pub mod text;
}
#[path = "../../src/row"]
mod row {
    pub mod escape;
    pub mod json;
    pub mod jsonb;
    pub mod numeric;
}

use std::cell::Cell;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use row::json::Json;
use row::jsonb;

#[derive(Arbitrary, Debug)]
enum Input {
    Any(Vec<u8>),
    Value { value: Value, stride: u8, flips: Vec<(u16, u8)>, limit: Option<u8> },
}

#[derive(Arbitrary, Debug)]
enum Value {
    Null,
    Bool(bool),
    Number(i64),
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
    /// No value: its entry says that it ends where all values begin, so that the next one has the bytes of others.
    Back,
}

const COUNT: u32 = 0x0FFF_FFFF;
const IS_SCALAR: u32 = 0x1000_0000;
const IS_OBJECT: u32 = 0x2000_0000;
const IS_ARRAY: u32 = 0x4000_0000;
const HAS_OFFSET: u32 = 0x8000_0000;
const STRING: u32 = 0x0000_0000;
const NUMERIC: u32 = 0x1000_0000;
const FALSE: u32 = 0x2000_0000;
const TRUE: u32 = 0x3000_0000;
const NULL: u32 = 0x4000_0000;
const CONTAINER: u32 = 0x5000_0000;

/// A numeric as it is stored, its length included.
fn numeric(number: i64) -> Vec<u8> {
    let mut digits = Vec::new();
    let mut rest = number.unsigned_abs();
    while rest > 0 {
        digits.insert(0, (rest % 10_000) as u16);
        rest /= 10_000;
    }
    let weight = digits.len().saturating_sub(1) as u16;
    let header = 0x8000 | u16::from(number < 0) << 13 | weight;
    let words = [header].into_iter().chain(digits);
    let content: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
    let length = (content.len() + 4) as u32;
    let length = if cfg!(target_endian = "little") { length << 2 } else { length };
    [&length.to_ne_bytes()[..], &content].concat()
}

/// Containers as PostgreSQL writes them (jsonb_util.c: `convertJsonbValue`), but for how often an offset stands in the
/// place of a length.
struct Writer {
    stride: usize,
    /// Whether values share bytes.
    went_back: Cell<bool>,
}

impl Writer {
    /// The type of a value's entry, and its bytes if it stands at `at`.
    fn value(&self, value: &Value, at: usize) -> (u32, Vec<u8>) {
        let aligned = |bytes: Vec<u8>| [vec![0; at.next_multiple_of(4) - at], bytes].concat();
        match value {
            Value::Null => (NULL, Vec::new()),
            Value::Back => {
                self.went_back.set(self.went_back.get() || at > 0);
                (NULL | HAS_OFFSET, Vec::new())
            }
            Value::Bool(is_true) => (if *is_true { TRUE } else { FALSE }, Vec::new()),
            Value::Number(number) => (NUMERIC, aligned(numeric(*number))),
            Value::Text(text) => (STRING, text.as_bytes().to_vec()),
            Value::List(_) | Value::Object(_) => (CONTAINER, aligned(self.container(value))),
        }
    }

    fn container(&self, value: &Value) -> Vec<u8> {
        let (mut entries, mut data) = (Vec::new(), Vec::new());
        let mut put = |(kind, bytes): (u32, Vec<u8>), data: &mut Vec<u8>| {
            data.extend_from_slice(&bytes);
            let end = if kind & HAS_OFFSET != 0 {
                0
            } else if entries.len() % self.stride == 0 {
                HAS_OFFSET | data.len() as u32
            } else {
                bytes.len() as u32
            };
            entries.push(kind | end);
        };
        let header = match value {
            Value::List(values) => {
                values.iter().for_each(|value| put(self.value(value, data.len()), &mut data));
                IS_ARRAY | values.len() as u32
            }
            Value::Object(members) => {
                members.iter().for_each(|(key, _)| put((STRING, key.as_bytes().to_vec()), &mut data));
                members.iter().for_each(|(_, value)| put(self.value(value, data.len()), &mut data));
                IS_OBJECT | members.len() as u32
            }
            scalar => {
                put(self.value(scalar, 0), &mut data);
                IS_ARRAY | IS_SCALAR | 1
            }
        };
        let words = [header].into_iter().chain(entries).flat_map(u32::to_ne_bytes);
        words.chain(data).collect()
    }
}

fn push(out: &mut String, value: &Value) {
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    match value {
        Value::Null | Value::Back => out.push_str("null"),
        Value::Bool(is_true) => out.push_str(&is_true.to_string()),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::Text(text) => out.push_str(&quoted(text)),
        Value::List(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                push(out, value);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (key, value)) in members.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                out.push_str(&quoted(key));
                out.push_str(": ");
                push(out, value);
            }
            out.push('}');
        }
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::List(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.iter().map(|(_, value)| depth(value)).max().unwrap_or(0),
        _ => 0,
    }
}

/// The text, as far as the limit asks for it.
fn render(stored: &[u8], limit: usize) -> Option<Json> {
    let mut json = Json::utf8(Vec::new(), 0);
    json.begin(limit);
    jsonb::push(&mut json, stored).map(|()| json)
}

/// That what is known of the size is so. Numbers may be far longer than what is stored of them: no more is made of
/// them than the limit asks for.
fn check_sizes(stored: &[u8]) {
    const MOST: usize = 1 << 20;
    let (numbers, size) = (jsonb::numbers(stored, MOST), jsonb::size(stored, MOST));
    assert!(size.is_none() || numbers.is_some());
    let (Some(numbers), Some(size)) = (numbers, size) else { return };
    if numbers > MOST {
        return;
    }
    // An entry of four bytes becomes at most a key or a value, quotes, colon and comma.
    assert!(size <= numbers + 8 * stored.len(), "{size} of {} with {numbers}", stored.len());
    let json = render(stored, usize::MAX).expect("so does the size say");
    assert!(json.bytes().len() >= size);
}

fuzz_target!(|input: Input| {
    match input {
        Input::Any(stored) => check_sizes(&stored),
        Input::Value { value, stride, flips, limit } => {
            let writer = Writer { stride: usize::from(stride % 32) + 1, went_back: Cell::new(false) };
            let mut stored = writer.container(&value);
            assert!(stored.len() < COUNT as usize);
            if writer.went_back.get() {
                assert!(render(&stored, usize::MAX).is_none());
                assert_eq!((jsonb::size(&stored, usize::MAX), jsonb::numbers(&stored, usize::MAX)), (None, None));
                return;
            }
            damage::damage(&mut stored, &flips);
            check_sizes(&stored);
            if let Some(limit) = limit {
                let _ = render(&stored, limit.into());
            }
            // Deeper ones are left to PostgreSQL.
            if flips.iter().all(|&(_, bits)| bits == 0) && depth(&value) < 200 {
                let mut expected = String::new();
                push(&mut expected, &value);
                let json = render(&stored, usize::MAX).expect("it is laid out as it should be");
                assert_eq!(String::from_utf8_lossy(json.bytes()), expected);
            }
        }
    }
});
