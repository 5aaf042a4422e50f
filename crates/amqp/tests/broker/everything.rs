//! A message with every property, and a header of every type.

use amqp::table::ArrayBuf;
use amqp::{Properties, TableBuf, Text, Value};

/// The values, and as what a program of another language may print them.
pub const TIMESTAMP: u64 = 1_790_000_000;

/// Headers of every type, arrays and tables in one another among them.
pub fn headers() -> TableBuf {
    let mut inner = TableBuf::new();
    inner.put_text("deep", "down").put("none", Value::Void);
    let mut array = ArrayBuf::new();
    array
        .put(Value::I32(-1))
        .put(Value::Table(inner.as_table()))
        .put(Value::Array(ArrayBuf::new().as_array()));
    let mut headers = TableBuf::new();
    headers
        .put("array", Value::Array(array.as_array()))
        .put("boolean", Value::Boolean(true))
        .put("bytes", Value::Bytes(&[0, 0xFF, 0xCE]))
        .put("decimal", Value::Decimal { scale: 2, unscaled: 31_415 })
        .put("empty", Value::Table(amqp::Table::EMPTY))
        .put("f32", Value::F32(-2.0))
        .put("f64", Value::F64(1e100))
        .put("i16", Value::I16(-300))
        .put("i32", Value::I32(-70_000))
        .put("i64", Value::I64(1 << 40))
        .put("i8", Value::I8(100))
        .put("table", Value::Table(inner.as_table()))
        .put_text("text", "Grüße 🦀")
        .put("timestamp", Value::Timestamp(TIMESTAMP))
        .put("u16", Value::U16(60_000))
        .put("u32", Value::U32(4_000_000_000))
        .put("u8", Value::U8(100))
        .put("void", Value::Void);
    headers
}

/// All properties, with these headers.
pub fn properties(headers: &TableBuf) -> Properties<'_> {
    let text = |text: &'static str| Some(Text::from(text));
    Properties {
        content_type: text("application/json"),
        content_encoding: text("identity"),
        headers: Some(headers.as_table()),
        delivery_mode: Some(2),
        priority: Some(9),
        correlation_id: text("correlation"),
        reply_to: text("somewhere"),
        expiration: text("60000"),
        message_id: text("7/1/0/16B3748"),
        timestamp: Some(TIMESTAMP),
        kind: text("insert"),
        // The broker compares it.
        user_id: text("guest"),
        app_id: text("amqp"),
        cluster_id: text("reserved"),
    }
}
