//! A message as it goes to the broker: the event's body, where it goes, and its properties.

use std::rc::Rc;

use crate::event::Properties;
use crate::lsn::Lsn;
use crate::memory;
use crate::row::keys::keys_alone;
use crate::stream::gap::Gap;

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
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub exchange: Rc<str>,
    pub routing_key: Rc<str>,
    /// UTF-8 JSON; of a user's own message whatever they sent.
    pub body: Vec<u8>,
    /// The same for every resend, and for no other message ever.
    pub message_id: String,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// The AMQP property `type`, unless a user's own message has another one.
    pub kind: &'static str,
    pub headers: Vec<(&'static str, HeaderValue)>,
    /// Why it may have been sent before it was handed to the delivery.
    pub resent: Option<ResendReason>,
    /// Where its event lies in the WAL.
    pub lsn: Lsn,
    /// Where events are missing if it does not go to its exchange.
    pub without_it: Gap,
    /// Names of the columns that identify its rows, as a JSON array, if they are known.
    pub key: Option<Rc<String>>,
    /// What a user's own message says of itself.
    pub properties: Option<Box<Properties>>,
}

impl Clone for Message {
    fn clone(&self) -> Message {
        let Message { exchange, routing_key, message_id, headers, key, properties, .. } = self;
        Message {
            exchange: Rc::clone(exchange),
            routing_key: Rc::clone(routing_key),
            body: memory::copy(&self.body),
            message_id: message_id.clone(),
            headers: headers.clone(),
            key: key.clone(),
            properties: properties.clone(),
            ..*self
        }
    }
}

/// Why a message does not go to its exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// In the broker's words.
    pub reason: Rc<str>,
    /// Whether it is too large.
    pub is_size: bool,
}

/// What a dead letter was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub exchange: Rc<str>,
    /// Why it did not go there.
    pub reason: Rc<str>,
    /// Its body, if that was too large.
    body: Option<Vec<u8>>,
    /// How many headers it had.
    headers: usize,
}

impl Message {
    /// Whether it tells of the stream itself, and goes to many exchanges of which some may not be there any more.
    pub(super) fn is_notice(&self) -> bool {
        matches!(self.kind, "gap" | "timeline")
    }

    /// Bytes of memory that are worth counting.
    pub fn bytes(&self) -> usize {
        self.body.len() + self.properties.as_ref().map_or(0, |properties| properties.bytes())
    }

    /// Makes it the message that goes to another exchange instead: header `refused` says why, and where it
    /// belonged. Of what was too large only the keys of the rows go there, which a user's own message has not. Where there is no memory for that it
    /// stays as it was.
    pub(super) fn become_dead_letter(&mut self, exchange: &str, why: &Why) -> Origin {
        let key = self.key.as_ref().map_or("[]", |key| key.as_str());
        let keys = why.is_size.then(|| match self.properties {
            None => keys_alone(&self.body, key),
            Some(_) => Vec::new(),
        });
        let refused = format!("exchange \"{}\": {}", self.exchange, why.reason);
        let headers = self.headers.len();
        self.headers.push(("refused", HeaderValue::Text(refused.into())));
        let body = keys.map(|keys| std::mem::replace(&mut self.body, keys));
        if let Some(whole) = &body
            && !self.headers.iter().any(|(name, _)| *name == "oversize")
        {
            self.headers.push(("oversize", HeaderValue::Number(whole.len() as i64)));
        }
        let exchange = std::mem::replace(&mut self.exchange, exchange.into());
        Origin { exchange, reason: Rc::clone(&why.reason), body, headers }
    }

    /// Makes it again what it was before it became a dead letter.
    pub(super) fn revive(&mut self, origin: Origin) {
        self.exchange = origin.exchange;
        self.headers.truncate(origin.headers);
        if let Some(body) = origin.body {
            self.body = body;
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn why(is_size: bool) -> Why {
        Why { reason: "NOT_FOUND".into(), is_size }
    }

    #[test]
    fn a_dead_letter_says_where_it_belonged_and_comes_back_to_life_as_it_was() {
        let body = br#"{"previous":null,"current":{"id":1,"text":"long"},"targets":[]}"#.to_vec();
        let message = Message {
            exchange: "x".into(),
            headers: vec![("table", HeaderValue::Text("t".into()))],
            body: body.clone(),
            key: Some(Rc::new(r#"["id"]"#.to_owned())),
            ..Message::default()
        };
        let mut dead = message.clone();
        let origin = dead.become_dead_letter("dead", &why(false));
        assert_eq!((&*dead.exchange, &dead.body), ("dead", &body));
        let refused = HeaderValue::Text("exchange \"x\": NOT_FOUND".into());
        assert_eq!(dead.headers[1..], [("refused", refused)]);
        dead.revive(origin);
        assert_eq!(dead, message);

        let origin = dead.become_dead_letter("dead", &why(true));
        assert_eq!(dead.body, br#"{"previous":null,"current":{"id":1},"targets":[]}"#);
        assert_eq!(dead.headers[2], ("oversize", HeaderValue::Number(body.len() as i64)));
        dead.revive(origin);
        assert_eq!(dead, message);

        let own = Message { properties: Some(Box::default()), ..message };
        let mut dead = own.clone();
        let origin = dead.become_dead_letter("dead", &why(true));
        assert_eq!(dead.body, b"");
        dead.revive(origin);
        assert_eq!(dead, own);
    }
}
