//! What a consumer received: one message with its properties, as plain data.

use std::collections::BTreeMap;

use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::Value;

/// A received message. Properties that it did not carry are `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The exchange it was published to.
    pub exchange: String,
    /// The routing key it was published with.
    pub routing_key: String,
    /// The body's bytes.
    pub body: Vec<u8>,
    /// Whether the broker delivered it before (not: whether the publisher sent it again).
    pub redelivered: bool,
    /// The property `content_type`.
    pub content_type: Option<String>,
    /// The property `content_encoding`.
    pub content_encoding: Option<String>,
    /// The property `priority`.
    pub priority: Option<u8>,
    /// The property `correlation_id`.
    pub correlation_id: Option<String>,
    /// The property `reply_to`.
    pub reply_to: Option<String>,
    /// The property `expiration`, in milliseconds.
    pub expiration: Option<String>,
    /// The property `delivery_mode`; 2 is persistent.
    pub delivery_mode: Option<u8>,
    /// The property `message_id`.
    pub message_id: Option<String>,
    /// The property `timestamp`, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// The property `type`.
    pub kind: Option<String>,
    /// The property `app_id`.
    pub app_id: Option<String>,
    /// The headers.
    pub headers: BTreeMap<String, Value>,
}

impl Message {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("the body is not JSON ({error}): {}", self.text()),
        }
    }

    /// The body as text, for its exact spelling: JSON values do not keep the order of members.
    ///
    /// # Panics
    /// If it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        match std::str::from_utf8(&self.body) {
            Ok(text) => text,
            Err(error) => panic!("the body is not UTF-8 ({error}): {:?}", self.body),
        }
    }
}

impl From<Delivery> for Message {
    fn from(delivery: Delivery) -> Message {
        let properties = &delivery.properties;
        Message {
            exchange: delivery.exchange.to_string(),
            routing_key: delivery.routing_key.to_string(),
            redelivered: delivery.redelivered,
            content_type: text(properties.content_type()),
            content_encoding: text(properties.content_encoding()),
            priority: *properties.priority(),
            correlation_id: text(properties.correlation_id()),
            reply_to: text(properties.reply_to()),
            expiration: text(properties.expiration()),
            delivery_mode: *properties.delivery_mode(),
            message_id: text(properties.message_id()),
            timestamp: *properties.timestamp(),
            kind: text(properties.kind()),
            app_id: text(properties.app_id()),
            headers: properties.headers().as_ref().map(table).unwrap_or_default(),
            body: delivery.data,
        }
    }
}

fn text(property: &Option<ShortString>) -> Option<String> {
    property.as_ref().map(ShortString::to_string)
}

fn table(fields: &FieldTable) -> BTreeMap<String, Value> {
    fields.inner().iter().map(|(name, field)| (name.to_string(), value(field))).collect()
}

/// The JSON value nearest to an AMQP value.
fn value(field: &AMQPValue) -> Value {
    match field {
        AMQPValue::Boolean(value) => Value::from(*value),
        AMQPValue::ShortShortInt(value) => Value::from(*value),
        AMQPValue::ShortShortUInt(value) => Value::from(*value),
        AMQPValue::ShortInt(value) => Value::from(*value),
        AMQPValue::ShortUInt(value) => Value::from(*value),
        AMQPValue::LongInt(value) => Value::from(*value),
        AMQPValue::LongUInt(value) => Value::from(*value),
        AMQPValue::LongLongInt(value) => Value::from(*value),
        AMQPValue::Timestamp(value) => Value::from(*value),
        AMQPValue::Float(value) => Value::from(*value),
        AMQPValue::Double(value) => Value::from(*value),
        AMQPValue::DecimalValue(value) => {
            Value::from(f64::from(value.value) / 10f64.powi(i32::from(value.scale)))
        }
        AMQPValue::ShortString(value) => Value::from(value.to_string()),
        AMQPValue::LongString(value) => Value::from(value.to_string()),
        AMQPValue::ByteArray(value) => Value::from(value.as_slice().to_vec()),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(self::value).collect(),
        AMQPValue::FieldTable(fields) => table(fields).into_iter().collect(),
        AMQPValue::Void => Value::Null,
    }
}
