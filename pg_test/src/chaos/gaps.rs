//! What exchanges were told of events that did not go to them. Pure.

use serde_json::Value;

use crate::lsn;
use crate::message::Message;

/// That an exchange has not got everything of transactions that committed after `from`, up to `to`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Gap {
    pub exchange: String,
    /// None: it is not known from where on.
    pub from: Option<u64>,
    pub to: u64,
}

/// All that one queue got.
#[derive(Clone, Debug, Default)]
pub(super) struct Gaps(Vec<Gap>);

impl Gaps {
    /// Keeps what a gap event says. One that tells of damaged WAL excuses nothing: no event was in it.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn add(&mut self, message: &Message) -> Result<(), String> {
        let id = message.message_id.as_deref().ok_or("a gap without message_id")?;
        if id.ends_with("/passed/gap") {
            let body = serde_json::from_slice(&message.body)
                .map_err(|error| format!("a gap is not JSON: {error}"))?;
            self.0.push(Gap::read(&message.exchange, &body)?);
        }
        Ok(())
    }

    /// Whether this exchange was told that it may lack events of the transaction that committed there.
    pub fn tell(&self, exchange: &str, commit_lsn: u64) -> bool {
        self.0.iter().any(|gap| {
            gap.exchange == exchange
                && gap.from.is_none_or(|from| from < commit_lsn)
                && commit_lsn <= gap.to
        })
    }

    /// How many were announced, those that came again among them.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Exchanges that were told something.
    pub fn exchanges(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|gap| gap.exchange.as_str())
    }
}

impl From<Vec<Gap>> for Gaps {
    fn from(gaps: Vec<Gap>) -> Gaps {
        Gaps(gaps)
    }
}

impl Gap {
    fn read(exchange: &str, body: &Value) -> Result<Gap, String> {
        let end = |name: &str| body[name].as_str().and_then(lsn::parse);
        let from = end("from");
        if from.is_none() && !body["from"].is_null() {
            return Err(format!("a gap begins nowhere: {body}"));
        }
        let to = end("to").ok_or_else(|| format!("a gap without end: {body}"))?;
        Ok(Gap { exchange: exchange.to_owned(), from, to })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_told_of_what_committed_after_its_beginning_up_to_its_end() {
        let gap = Gap::read("x", &json!({"from": "0/10", "to": "0/20"})).unwrap();
        let unknown = Gap::read("y", &json!({"from": null, "to": "0/20"})).unwrap();
        let gaps = Gaps::from(vec![gap, unknown]);
        let told = |exchange, places: [u64; 4]| places.map(|place| gaps.tell(exchange, place));
        assert_eq!(told("x", [0x10, 0x11, 0x20, 0x21]), [false, true, true, false]);
        assert_eq!(told("y", [0x10, 0x11, 0x20, 0x21]), [true, true, true, false]);
        assert_eq!(told("z", [0x10, 0x11, 0x20, 0x21]), [false; 4]);
        assert!(Gap::read("x", &json!({"from": "0/10"})).is_err());
        assert!(Gap::read("x", &json!({"from": 7, "to": "0/20"})).is_err());
    }
}
