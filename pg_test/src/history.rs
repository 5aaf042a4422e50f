//! What messages of type `timeline` say, as a consumer that keeps books has to take it (docs/messages.md): which
//! messages are of a history that is no more. Pure.

use std::collections::BTreeMap;

use crate::lsn;
use crate::message::Message;

/// Where timelines ended, as far as a consumer was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends(BTreeMap<u64, u64>);

/// Where a message's transaction committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Commit {
    /// The timeline of the commit record.
    pub timeline: u64,
    /// Where the record ends.
    pub lsn: u64,
}

impl Ends {
    /// Takes what a message says that tells of a timeline. Whether it is one.
    ///
    /// # Panics
    /// If it is not as docs/messages.md has it.
    #[track_caller]
    pub fn hear(&mut self, message: &Message) -> bool {
        if message.kind.as_deref() != Some("timeline") {
            return false;
        }
        let body = message.json();
        let told = (body["from"].as_u64(), body["at"].as_str().and_then(lsn::parse));
        let (Some(from), Some(at)) = told else { panic!("{body}") };
        self.0.insert(from, at);
        true
    }

    /// Whether what committed there is of a history that is no more.
    pub fn exclude(&self, commit: Commit) -> bool {
        self.0.get(&commit.timeline).is_some_and(|&at| commit.lsn > at)
    }

    /// How many timelines ended.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Commit {
    /// Of this message's transaction: the timeline is the one of its message_id, where no header says otherwise.
    ///
    /// # Panics
    /// If the message does not say.
    #[track_caller]
    pub fn of(message: &Message) -> Commit {
        let id = message.message_id.as_deref().unwrap_or_default();
        let own = id.split('/').nth(1).and_then(|timeline| timeline.parse().ok());
        let header = message.headers.get("commit_timeline");
        let timeline = header.map_or(own, |timeline| timeline.as_u64());
        let lsn = message.headers.get("commit_lsn").and_then(|lsn| lsn::parse(lsn.as_str()?));
        let (Some(timeline), Some(lsn)) = (timeline, lsn) else { panic!("{message:?}") };
        Commit { timeline, lsn }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn message(kind: &str, body: Value, headers: &[(&str, Value)]) -> Message {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Message {
            body: body.to_string().into_bytes(),
            message_id: Some("7/1/0/10".to_owned()),
            kind: Some(kind.to_owned()),
            headers: headers.collect::<BTreeMap<_, _>>(),
            ..Message::default()
        }
    }

    #[test]
    fn what_committed_behind_the_end_of_its_timeline_is_no_more() {
        let mut ends = Ends::default();
        let change =
            |commit_lsn: &str| message("insert", json!({}), &[("commit_lsn", json!(commit_lsn))]);
        assert!(!ends.hear(&change("0/20")));
        assert!(!ends.exclude(Commit::of(&change("0/21"))));
        assert!(ends.hear(&message("timeline", json!({"from": 1, "to": 2, "at": "0/20"}), &[])));
        assert_eq!(ends.count(), 1);
        // The record that ends there is still in it.
        let excluded = ["0/18", "0/20", "0/28"].map(|lsn| ends.exclude(Commit::of(&change(lsn))));
        assert_eq!(excluded, [false, false, true]);
        let prepared = [("commit_lsn", json!("0/28")), ("commit_timeline", json!(2))];
        let prepared = message("insert", json!({}), &prepared);
        assert_eq!(Commit::of(&prepared), Commit { timeline: 2, lsn: 0x28 });
        assert!(!ends.exclude(Commit::of(&prepared)));
    }
}
