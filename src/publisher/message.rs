//! A message as it goes to the broker: the event's body, where it goes, and its properties.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use super::window::ResendReason;

/// `delivery_mode` of a message that survives a broker restart (AMQP 0-9-1, basic properties).
const PERSISTENT: u8 = 2;

/// The AMQP property `app_id`.
const APP_ID: &str = "amqp_cdc";

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    Text(String),
    Number(i64),
    Boolean(bool),
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub exchange: String,
    pub routing_key: String,
    /// UTF-8 JSON.
    pub body: Vec<u8>,
    /// The same for every resend, and for no other message ever.
    pub message_id: String,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// The AMQP property `type`.
    pub kind: &'static str,
    /// Where the row lives, for the operator.
    pub table: String,
    pub headers: Vec<(&'static str, HeaderValue)>,
}

impl Message {
    /// What the operator is told about it.
    pub(super) fn description(&self) -> String {
        let Message { message_id, table, body, routing_key, .. } = self;
        let of = if table.is_empty() { String::new() } else { format!("table {table}, ") };
        format!("message {message_id} ({of}{} bytes, routing key \"{routing_key}\")", body.len())
    }

    /// Its AMQP properties, with header `resent` if it is sent again.
    pub(super) fn properties(&self, resent: Option<ResendReason>) -> BasicProperties {
        let mut headers = FieldTable::default();
        for (name, value) in &self.headers {
            let value = match value {
                HeaderValue::Text(text) => AMQPValue::LongString(LongString::from(text.as_str())),
                HeaderValue::Number(number) => AMQPValue::LongLongInt(*number),
                HeaderValue::Boolean(boolean) => AMQPValue::Boolean(*boolean),
            };
            headers.insert(ShortString::from(*name), value);
        }
        if let Some(reason) = resent {
            let reason = LongString::from(reason.as_str());
            headers.insert(ShortString::from("resent"), AMQPValue::LongString(reason));
        }
        BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(short(&self.message_id))
            .with_timestamp(self.timestamp)
            .with_type(self.kind.into())
            .with_app_id(APP_ID.into())
            .with_headers(headers)
    }
}

/// A short string; what is too long for one, which capture has refused, is cut off.
pub(super) fn short(text: &str) -> ShortString {
    const MAX: usize = 255;
    ShortString::from(&text[..text.floor_char_boundary(MAX)])
}
