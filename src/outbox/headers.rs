//! Headers of a user's own, from a JSON object to a table of AMQP's. Pure.
//!
//! | JSON | in the table |
//! |---|---|
//! | text | long string (S) |
//! | number that is an integer of 64 bits | such an integer (l) |
//! | any other number | double (d) |
//! | true, false | boolean (t) |
//! | null | void (V) |
//! | object, array | table (F), array (A) |

use amqp::table::ArrayBuf;
use amqp::{TableBuf, Value};
use pgrx::PgSqlErrorCode;
use serde_json::Value as Json;

use super::reserved;
use crate::event::MAX_SHORT_STRING;
use crate::pg::report::Report;

/// How deep objects and arrays may lie in each other, the whole one counted.
const DEEPEST: usize = 16;

/// Headers in which the broker looks for more routing keys. It closes the channel where they are no arrays of texts.
const ROUTES: [&str; 2] = ["CC", "BCC"];

/// What a stream looks for when it filters; the broker's channel fails at anything but a text.
const FILTER_VALUE: &str = "x-stream-filter-value";

/// Bytes that properties and headers may have: they must fit into one frame, however small the broker's are.
pub const MOST_PROPERTIES: usize = 16 * 1024;

/// Text of this length makes no table that is small enough: a byte of it is written with six at most.
pub const LONGEST: usize = 8 * MOST_PROPERTIES;

/// What is wrong with properties and headers that take so many bytes.
pub fn too_many_properties(size: usize) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        "properties and headers are too large",
    )
    .detail(format!("They take {size} bytes; {MOST_PROPERTIES} are allowed."))
    .hint("Put into the body what is large.")
}

/// Makes a table of a JSON object.
///
/// # Errors
///
/// If it is no object, or something in it cannot be a header, or is not the caller's to say.
pub fn table(json: &str) -> Result<TableBuf, Report> {
    if json.len() > LONGEST {
        return Err(too_many_properties(json.len()));
    }
    if depth(json) > DEEPEST {
        return Err(wrong(format!("headers are nested more than {DEEPEST} deep"))
            .hint("Put into the body what is nested so deep."));
    }
    let json = serde_json::from_str(json).map_err(|error| unreadable(&error.to_string()))?;
    let Json::Object(members) = json else {
        return Err(wrong("headers must be a JSON object")
            .hint("For instance: '{\"tenant\": \"acme\", \"attempt\": 1}'."));
    };
    for (name, value) in &members {
        check(name, value)?;
    }
    let mut table = TableBuf::new();
    put_members(&mut table, &members)?;
    Ok(table)
}

/// What PostgreSQL takes for JSON, and we cannot: numbers beyond all bounds, and in a json, which is not a jsonb, half
/// of a surrogate pair.
fn unreadable(error: &str) -> Report {
    if error.starts_with("number out of range") {
        return wrong("a number in the headers is too large for AMQP")
            .detail(format!("{error}."))
            .hint("Send it as a text.");
    }
    wrong("a text in the headers stands for no characters")
        .detail(format!("{error}."))
        .hint("A cast to jsonb tells where.")
}

/// Whether a header of this name may have this value.
fn check(name: &str, value: &Json) -> Result<(), Report> {
    if reserved::is_header(name) {
        return Err(wrong(format!("header \"{name}\" is reserved"))
            .detail(format!(
                "The worker says it of messages, and consumers believe it. So are {}.",
                reserved::headers()
            ))
            .hint("Give the header another name."));
    }
    if reserved::is_header_of_the_broker(name) {
        return Err(wrong(format!("header \"{name}\" is reserved"))
            .detail("The broker writes it, and refuses messages in which somebody else did."));
    }
    if ROUTES.contains(&name) {
        let keys = value.as_array().into_iter().flatten().map(Json::as_str);
        let keys: Option<Vec<&str>> = keys.collect();
        let Some(keys) = keys.filter(|_| value.is_array()) else {
            return Err(wrong(format!("header \"{name}\" must be an array of texts"))
                .detail("The broker sends the message with these routing keys, too."));
        };
        for key in keys {
            check_routing_key(key)?;
        }
    }
    if name == FILTER_VALUE && value.as_str().is_none_or(|value| value.len() > MAX_SHORT_STRING) {
        return Err(wrong(format!(
            "header \"{name}\" must be a text of at most {MAX_SHORT_STRING} bytes"
        )));
    }
    Ok(())
}

/// Whether a user may send with this routing key.
pub fn check_routing_key(key: &str) -> Result<(), Report> {
    if key.len() > MAX_SHORT_STRING {
        return Err(too_long("routing key", key.len()));
    }
    if reserved::is_routing_key(key) {
        return Err(wrong(format!("routing key \"{key}\" is reserved"))
            .detail("Messages with routing keys that begin with \"amqp_cdc\" are about the stream itself.")
            .hint("Choose another routing key."));
    }
    if reserved::is_routing_key_of_the_broker(key) {
        return Err(wrong(format!("routing key \"{key}\" is reserved"))
            .detail("It names the connection of a consumer, and the broker closes the channel where it makes no sense.")
            .hint("Have answers sent to a queue."));
    }
    Ok(())
}

/// What AMQP cannot carry.
pub fn too_long(what: &str, length: usize) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_STRING_DATA_RIGHT_TRUNCATION,
        format!("{what} is longer than {MAX_SHORT_STRING} bytes"),
    )
    .detail(format!("It has {length} bytes."))
    .hint("Shorten it; AMQP allows no more.")
}

fn wrong(message: impl Into<String>) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
}

type Members = serde_json::Map<String, Json>;

fn put_members(table: &mut TableBuf, members: &Members) -> Result<(), Report> {
    for (name, value) in members {
        if name.len() > MAX_SHORT_STRING {
            return Err(too_long("the name of a header", name.len()));
        }
        match value {
            Json::Object(members) => {
                let mut inner = TableBuf::new();
                put_members(&mut inner, members)?;
                table.put(name, Value::Table(inner.as_table()));
            }
            Json::Array(elements) => {
                let inner = array(elements)?;
                table.put(name, Value::Array(inner.as_array()));
            }
            value => {
                table.put(name, scalar(value));
            }
        }
    }
    Ok(())
}

fn array(elements: &[Json]) -> Result<ArrayBuf, Report> {
    let mut array = ArrayBuf::default();
    for element in elements {
        match element {
            Json::Object(members) => {
                let mut inner = TableBuf::new();
                put_members(&mut inner, members)?;
                array.put(Value::Table(inner.as_table()));
            }
            Json::Array(elements) => {
                let inner = self::array(elements)?;
                array.put(Value::Array(inner.as_array()));
            }
            value => {
                array.put(scalar(value));
            }
        }
    }
    Ok(array)
}

/// The value of what is neither an object nor an array.
fn scalar(value: &Json) -> Value<'_> {
    match value {
        Json::Bool(boolean) => Value::Boolean(*boolean),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::I64(integer),
            None => Value::F64(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text.as_str().into()),
        Json::Null | Json::Object(_) | Json::Array(_) => Value::Void,
    }
}

/// How deep objects and arrays lie in each other.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut is_text, mut is_escaped) = (0usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> String {
        table(json).expect_err(json).message
    }

    #[test]
    fn each_kind_of_value_has_its_type() {
        let json = r#"{"a": "ü", "b": -9223372036854775808, "c": 9223372036854775808, "d": 1.5, "e": true,
            "f": null, "g": {"x": 1, "y": []}, "h": [1, "two", [false], {"z": null}], "": 0}"#;
        let made = table(json).unwrap();
        let fields: Vec<_> = made.as_table().fields().map(Result::unwrap).collect();
        let text = |text: &'static str| Value::Text(text.into());
        assert_eq!(
            fields[..7],
            [
                ("".into(), Value::I64(0)),
                ("a".into(), text("ü")),
                ("b".into(), Value::I64(i64::MIN)),
                ("c".into(), Value::F64(9_223_372_036_854_775_808.0)),
                ("d".into(), Value::F64(1.5)),
                ("e".into(), Value::Boolean(true)),
                ("f".into(), Value::Void),
            ]
        );
        let Value::Table(inner) = fields[7].1 else { panic!("{fields:?}") };
        assert_eq!(inner.get("x"), Ok(Some(Value::I64(1))));
        let Value::Array(inner) = fields[8].1 else { panic!("{fields:?}") };
        let elements: Vec<_> = inner.values().map(Result::unwrap).collect();
        assert_eq!(elements[..2], [Value::I64(1), text("two")]);
        assert!(matches!(elements[2..], [Value::Array(_), Value::Table(_)]));
        assert!(table("{}").unwrap().as_table().is_empty());
    }

    #[test]
    fn what_is_no_object_or_too_deep_or_too_large_is_refused() {
        for json in ["[]", "1", "null", "\"text\""] {
            assert_eq!(refusal(json), "headers must be a JSON object");
        }
        let nested = |depth: usize| {
            format!("{{\"[{{\": {}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1))
        };
        assert!(table(&nested(DEEPEST)).is_ok());
        assert!(refusal(&nested(DEEPEST + 1)).contains("nested"));
        assert!(refusal(&nested(LONGEST / 3)).contains("nested"));
        assert!(refusal(&nested(LONGEST)).contains("too large"));
        assert!(refusal(&format!("{{\"n\": 1{}}}", "0".repeat(400))).contains("number"));
        assert_eq!(refusal(r#"{"a": "\ud800"}"#), "a text in the headers stands for no characters");
        let long = "x".repeat(256);
        assert!(refusal(&format!("{{\"{long}\": 1}}")).contains("longer than 255"));
        assert!(refusal(&format!("{{\"a\": [{{\"{long}\": 1}}]}}")).contains("longer than 255"));
        assert!(table(&format!("{{\"{}\": 1}}", &long[1..])).is_ok());
    }

    #[test]
    fn what_is_not_the_callers_to_say_is_refused() {
        for name in ["published", "xid", "x-death", "x-first-death-queue"] {
            assert_eq!(
                refusal(&format!("{{\"{name}\": true}}")),
                format!("header \"{name}\" is reserved")
            );
        }
        // Only where consumers look.
        assert!(table(r#"{"own": {"published": true, "CC": 1}}"#).is_ok());
    }

    #[test]
    fn more_routing_keys_are_texts_that_a_user_may_send_with() {
        for name in ["CC", "BCC"] {
            assert!(table(&format!("{{\"{name}\": [\"a\", \"b\"]}}")).is_ok());
            assert!(table(&format!("{{\"{name}\": []}}")).is_ok());
            for value in ["\"a\"", "[1]", "[\"a\", null]", "{}", "null"] {
                let refused = refusal(&format!("{{\"{name}\": {value}}}"));
                assert_eq!(refused, format!("header \"{name}\" must be an array of texts"));
            }
            assert!(refusal(&format!("{{\"{name}\": [\"amqp_cdc.gap\"]}}")).contains("reserved"));
            let long = "x".repeat(256);
            assert!(refusal(&format!("{{\"{name}\": [\"{long}\"]}}")).contains("longer than 255"));
        }
        assert!(table(r#"{"x-stream-filter-value": "a"}"#).is_ok());
        assert!(refusal(r#"{"x-stream-filter-value": 1}"#).contains("must be a text"));
    }
}
