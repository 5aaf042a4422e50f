//! Messages of a client's own: the SQL that sends one, and what a consumer must find in it. In the ledger they stand
//! among the row changes; in place of a table they have the routing key that they are sent with. Pure.

use serde_json::json;

use super::exchanges;
use super::ledger::Change;
use super::tables::{AUTONOMOUS, LETTERED_AUTONOMOUS, LETTERED_MESSAGE, MESSAGE, SKIPPED_MESSAGE};
use crate::dice::Dice;
use crate::message::Message;

/// What a change's operation says of a message.
const SENT: &str = "send";

/// The AMQP property `type` of all of them.
const KIND: &str = "told";

/// What bodies are made of: so many bytes of each.
const PADDING: (&str, &[u8]) = ("é", b"\0\xff\n");

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sending {
    /// What tells where, and when.
    pub routing_key: &'static str,
    body: Body,
    /// So many letters, or groups of bytes, behind what the body says.
    padding: u64,
}

/// The four types of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Jsonb,
    Json,
    Text,
    Bytea,
}

impl Sending {
    /// One that counts with its transaction.
    pub fn roll(dice: &mut Dice, padding: u64) -> Sending {
        let routing_key = match dice.between(1, 10) {
            1 => SKIPPED_MESSAGE,
            2 => LETTERED_MESSAGE,
            _ => MESSAGE,
        };
        Sending { routing_key, body: Body::roll(dice), padding }
    }

    /// One that counts at once.
    pub fn roll_autonomous(dice: &mut Dice, padding: u64) -> Sending {
        let routing_key = if dice.chance(10) { LETTERED_AUTONOMOUS } else { AUTONOMOUS };
        Sending { routing_key, body: Body::roll(dice), padding }
    }

    /// A small one, which counts with its transaction.
    pub fn small() -> Sending {
        Sending { routing_key: MESSAGE, body: Body::Jsonb, padding: 0 }
    }

    /// The call that sends it. `key` and `stamp` are expressions in SQL.
    pub fn call(self, key: &str, stamp: &str) -> String {
        let Sending { routing_key, body, padding } = self;
        let function = if is_autonomous(routing_key) { "autonomous_publish" } else { "publish" };
        let exchange = match exchanges::of(routing_key) {
            exchanges::EXCHANGE => String::new(),
            other => format!(", exchange => '{other}'"),
        };
        let (letter, bytes) = PADDING;
        let object =
            format!("('key', {key}, 'stamp', {stamp}, 'padding', repeat('{letter}', {padding}))");
        let said = format!(r"{key} || E'\n' || {stamp} || E'\n'");
        let body = match body {
            Body::Jsonb => format!("jsonb_build_object{object}"),
            Body::Json => format!("json_build_object{object}"),
            Body::Text => format!("{said} || repeat('{letter}', {padding})"),
            Body::Bytea => {
                let bytes: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("convert_to({said}, 'UTF8') || decode(repeat('{bytes}', {padding}), 'hex')")
            }
        };
        format!(
            "amqp.{function}('{routing_key}', {body}{exchange}, type => '{KIND}', \
             correlation_id => {stamp}, \
             headers => jsonb_build_object('about', {key}, 'padding', {padding}))"
        )
    }

    /// Its line in the ledger.
    pub fn change(self, key: String, stamp: &str) -> Change {
        change(self.routing_key, key, stamp)
    }
}

impl Body {
    fn roll(dice: &mut Dice) -> Body {
        dice.pick(&[Body::Jsonb, Body::Json, Body::Text, Body::Bytea])
    }
}

/// What is sent with this routing key, as the ledger has it.
pub(super) fn change(routing_key: &str, key: String, stamp: &str) -> Change {
    let [table, operation, stamp] = [routing_key, SENT, stamp].map(str::to_owned);
    Change { table, operation, key, stamp }
}

/// Whether the change is a message.
pub(super) fn is_message(change: &Change) -> bool {
    change.operation == SENT
}

/// Whether it counts whatever becomes of its transaction.
pub(super) fn is_autonomous(table: &str) -> bool {
    [AUTONOMOUS, LETTERED_AUTONOMOUS].contains(&table)
}

/// Whether a received message is one of these.
pub(super) fn is_one(message: &Message) -> bool {
    message.headers.contains_key("published")
}

/// What a received message says, all of which must agree.
///
/// # Errors
/// What is not as it was sent.
pub(super) fn read(message: &Message) -> Result<Change, String> {
    let header = |name: &str| message.headers.get(name).ok_or(format!("no header {name}"));
    let key = header("about")?.as_str().ok_or("header about: no text")?;
    let padding = header("padding")?.as_u64().ok_or("header padding: no number")? as usize;
    let stamp = message.correlation_id.as_deref().ok_or("no correlation_id")?;
    let change = change(&message.routing_key, key.to_owned(), stamp);
    let (letter, bytes) = PADDING;
    let is_json = || {
        let said = json!({"key": key, "stamp": stamp, "padding": letter.repeat(padding)});
        serde_json::from_slice(&message.body).is_ok_and(|body: serde_json::Value| body == said)
    };
    let is_behind_what_is_said = |padding: &[u8]| {
        let said = format!("{key}\n{stamp}\n");
        message.body.strip_prefix(said.as_bytes()) == Some(padding)
    };
    let is_whole = match message.content_type.as_deref() {
        Some("application/json") => is_json(),
        Some("text/plain") => is_behind_what_is_said(letter.repeat(padding).as_bytes()),
        Some("application/octet-stream") => is_behind_what_is_said(&bytes.repeat(padding)),
        _ => false,
    };
    if !is_whole {
        return Err(format!("{change} has another body, of {:?}", message.content_type));
    }
    if message.kind.as_deref() != Some(KIND) || message.delivery_mode != Some(2) {
        return Err(format!("{change} has type {:?}", message.kind));
    }
    if message.headers.contains_key("xid") == is_autonomous(&change.table) {
        return Err(format!("{change}: header xid, or none"));
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn message(content_type: &str, body: &[u8]) -> Message {
        let headers = [("about", json!("k")), ("padding", json!(2)), ("xid", json!(7))];
        Message {
            routing_key: MESSAGE.to_owned(),
            body: body.to_vec(),
            content_type: Some(content_type.to_owned()),
            correlation_id: Some("s".to_owned()),
            kind: Some(KIND.to_owned()),
            delivery_mode: Some(2),
            headers: headers.map(|(name, value): (_, Value)| (name.to_owned(), value)).into(),
            ..Message::default()
        }
    }

    #[test]
    fn a_body_that_differs_from_what_was_sent_is_found() {
        let sent = change(MESSAGE, "k".to_owned(), "s");
        for (content_type, right, wrong) in [
            ("text/plain", "k\ns\néé".as_bytes(), "k\ns\né".as_bytes()),
            ("application/octet-stream", b"k\ns\n\0\xff\n\0\xff\n", b"k\ns\n\0\xff\n\0\xff "),
            (
                "application/json",
                r#"{"stamp": "s", "key": "k", "padding": "éé"}"#.as_bytes(),
                br#"{"stamp": "s", "key": "l", "padding": "\u00e9\u00e9"}"#,
            ),
        ] {
            assert_eq!(read(&message(content_type, right)), Ok(sent.clone()), "{content_type}");
            assert!(read(&message(content_type, wrong)).is_err(), "{content_type}");
        }
        assert!(read(&message("text/html", "k\ns\néé".as_bytes())).is_err());
    }

    #[test]
    fn what_is_of_a_transaction_says_so() {
        let mut sent = message("text/plain", "k\ns\néé".as_bytes());
        sent.headers.remove("xid");
        assert!(read(&sent).is_err());
        sent.routing_key = AUTONOMOUS.to_owned();
        assert!(read(&sent).is_ok());
    }
}
