//! A message as it goes to the broker: the event's body, where it goes, and its properties.

use std::rc::Rc;

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    Text(Rc<str>),
    Number(i64),
    Boolean(bool),
}

/// Why a message is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResendReason {
    /// It was under way when its connection ended.
    Reconnect,
    /// The broker refused it.
    Nack,
    /// The worker was started since, and does not know whether it sent it before.
    Restart,
}

impl ResendReason {
    /// The value of header `resent`.
    pub fn as_str(self) -> &'static str {
        match self {
            ResendReason::Reconnect => "reconnect",
            ResendReason::Nack => "nack",
            ResendReason::Restart => "restart",
        }
    }

    /// Whether it certainly was sent before.
    pub fn is_certain(self) -> bool {
        self != ResendReason::Restart
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub exchange: Rc<str>,
    pub routing_key: Rc<str>,
    /// UTF-8 JSON.
    pub body: Vec<u8>,
    /// The same for every resend, and for no other message ever.
    pub message_id: String,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// The AMQP property `type`.
    pub kind: &'static str,
    pub headers: Vec<(&'static str, HeaderValue)>,
    /// Why it may have been sent before it was handed to the delivery.
    pub resent: Option<ResendReason>,
}

impl Message {
    /// What the operator is told about it.
    pub(super) fn description(&self) -> String {
        let Message { message_id, body, routing_key, .. } = self;
        let name = |header| {
            self.headers.iter().find_map(|(name, value)| match value {
                HeaderValue::Text(text) if *name == header => Some(text),
                _ => None,
            })
        };
        let of = match (name("schema"), name("table")) {
            (Some(schema), Some(table)) => format!("table {schema}.{table}, "),
            _ => String::new(),
        };
        format!("message {message_id} ({of}{} bytes, routing key \"{routing_key}\")", body.len())
    }
}
