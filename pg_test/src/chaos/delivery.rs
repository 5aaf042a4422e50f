//! A message as the checks need it: where it stands in the stream, what changed, and fingerprints
//! in place of what may be 5 MB long. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde_json::Value;

use super::clock::micros;
use super::giants;
use super::ledger::Change;
use super::messages;
use crate::history::Commit;
use crate::lsn;
use crate::message::Message;

/// Longer values are kept as their length and fingerprint.
const LONGEST_VALUE: usize = 100;

/// A row: its columns' values as texts, long ones shortened.
pub(super) type Row = BTreeMap<String, String>;

/// Where an event stands in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The timeline that the transaction committed on.
    pub timeline: u64,
    /// End of the commit record.
    pub commit_lsn: u64,
    /// From 1.
    pub tx_seq: u64,
}

impl Place {
    /// Where its transaction committed.
    pub fn commit(self) -> Commit {
        Commit { timeline: self.timeline, lsn: self.commit_lsn }
    }
}

impl fmt::Display for Place {
    /// As pg_waldump and the message's headers have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { timeline, commit_lsn, tx_seq } = *self;
        write!(f, "{} of timeline {timeline}, event {tx_seq}", lsn::spelt(commit_lsn))
    }
}

/// One received message.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub message_id: String,
    pub exchange: String,
    /// Fingerprint of the body.
    pub body: u64,
    pub place: Place,
    pub tx_size: u64,
    pub change: Change,
    /// Fingerprint of the row before.
    pub before: Option<u64>,
    /// Fingerprint of the row after.
    pub after: Option<u64>,
    /// Header `resent`.
    pub resent: Option<String>,
    /// Header `refused`.
    pub refused: Option<String>,
    /// Whether it says that it holds the key alone.
    pub is_oversize: bool,
    /// In microseconds since 1970.
    pub committed_at: i64,
    /// Likewise.
    pub arrived_at: i64,
}

impl Delivery {
    /// What a message says that arrived at this time, in microseconds since 1970, and the row after the change.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn read(message: &Message, arrived_at: i64) -> Result<(Delivery, Option<Row>), String> {
        let (change, before, after) = match messages::is_one(message) {
            true => (messages::read(message)?, None, None),
            false => read_change(&message.body)?,
        };
        let header = |name: &str| message.headers.get(name).ok_or(format!("no header {name}"));
        let number = |name: &str| header(name)?.as_u64().ok_or(format!("header {name}: no number"));
        let commit = Commit::read(message);
        let Commit { timeline, lsn } = commit.ok_or("it does not say where it committed")?;
        let committed_at = header("commit_ts")?.as_str().and_then(micros);
        let is_oversize = message.headers.contains_key("oversize");
        let holds_more = |row: &Row| row.keys().any(|column| !giants::KEY.contains(&&**column));
        if is_oversize && before.iter().chain(&after).any(holds_more) {
            return Err(format!("{change} has header oversize, and more than the key"));
        }
        let message_id = message.message_id.clone().ok_or("no message_id")?;
        let delivery = Delivery {
            message_id,
            exchange: message.exchange.clone(),
            body: fingerprint(&message.body),
            place: Place { timeline, commit_lsn: lsn, tx_seq: number("tx_seq")? },
            tx_size: number("tx_size")?,
            change,
            before: before.as_ref().map(stable),
            after: after.as_ref().map(stable),
            resent: message.headers.get("resent").map(text),
            refused: message.headers.get("refused").map(text),
            is_oversize,
            committed_at: committed_at.ok_or("header commit_ts: no time")?,
            arrived_at,
        };
        Ok((delivery, after))
    }

    /// From the commit to the consumer.
    pub fn latency(&self) -> Duration {
        Duration::from_micros((self.arrived_at - self.committed_at).max(0) as u64)
    }

    /// Whether both are of one transaction.
    pub fn is_of_one_with(&self, other: &Delivery) -> bool {
        self.place.commit() == other.place.commit()
    }

    /// Whether it empties its table.
    pub fn is_truncate(&self) -> bool {
        self.change.operation == "truncate"
    }
}

/// A row change, with the rows before and after it.
fn read_change(body: &[u8]) -> Result<(Change, Option<Row>, Option<Row>), String> {
    let body: Value =
        serde_json::from_slice(body).map_err(|error| format!("a body is not JSON: {error}"))?;
    let (before, after) = (row(&body["previous"]), row(&body["current"]));
    let column = |name: &str| {
        let row = after.as_ref().or(before.as_ref()).and_then(|row| row.get(name));
        row.cloned().ok_or_else(|| format!("a row has no column {name}"))
    };
    let (table, operation) = (text(&body["tablename"]), text(&body["operation"]));
    let (key, stamp) = match operation.as_str() {
        "truncate" => Default::default(),
        _ => (column("key")?, column("stamp")?),
    };
    Ok((Change { table, operation, key, stamp }, before, after))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A row from its JSON, or none from null.
pub(super) fn row(json: &Value) -> Option<Row> {
    let columns = json.as_object()?.iter();
    Some(columns.map(|(name, value)| (name.clone(), shortened(value))).collect())
}

fn shortened(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.len() <= LONGEST_VALUE {
        return text;
    }
    format!("{} bytes, {:x}", text.len(), fingerprint(text.as_bytes()))
}

/// Fingerprint of the columns that no ALTER TABLE touches.
fn stable(row: &Row) -> u64 {
    let mut hasher = DefaultHasher::new();
    ["key", "stamp", "payload"].map(|name| row.get(name)).hash(&mut hasher);
    hasher.finish()
}

fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_commit_order_then_row_order() {
        let place = |timeline, commit_lsn, tx_seq| Place { timeline, commit_lsn, tx_seq };
        assert!(place(1, 1, 9) < place(1, 2, 1) && place(1, 2, 1) < place(1, 2, 2));
        assert!(place(1, 9, 1) < place(2, 8, 1));
        assert_eq!(place(3, 0x1_0000_00AB, 2).to_string(), "1/AB of timeline 3, event 2");
    }

    #[test]
    fn a_type_that_changed_does_not_change_the_text() {
        let (int, text) = (serde_json::json!({"n": 5}), serde_json::json!({"n": "5"}));
        assert_eq!(row(&int), row(&text));
        assert_eq!(row(&Value::Null), None);
    }

    #[test]
    fn long_values_differ_if_any_byte_does() {
        let long = |end: &str| row(&serde_json::json!({ "t": "x".repeat(5000) + end }));
        assert_ne!(long("a"), long("b"));
        assert_eq!(long("a"), long("a"));
    }
}
