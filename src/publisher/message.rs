//! A message as it goes to the broker: the event's body, where it goes, and its properties.

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
}
