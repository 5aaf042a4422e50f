//! What messages of type `timeline` say, as a consumer that keeps books has to take it (docs/messages.md): which
//! messages are of a history that is no more. Pure.

use std::collections::BTreeMap;

use crate::lsn;
use crate::message::Message;

/// The end of a timeline, and which one goes on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Switch {
    /// The one that ended.
    pub from: u64,
    /// The one that began there.
    pub to: u64,
    /// Where that was: what committed behind it on the old one is of a history that is no more.
    pub at: u64,
}

/// Where timelines ended, as far as a consumer was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends(BTreeMap<u64, Switch>);

/// Where a message's transaction committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Commit {
    /// The timeline of the commit record.
    pub timeline: u64,
    /// Where the record ends.
    pub lsn: u64,
}

impl Switch {
    /// What a message of type `timeline` says, if it is as docs/messages.md has it.
    pub fn read(message: &Message) -> Option<Switch> {
        let body: serde_json::Value = serde_json::from_slice(&message.body).ok()?;
        let (from, to) = (body["from"].as_u64()?, body["to"].as_u64()?);
        Some(Switch { from, to, at: lsn::parse(body["at"].as_str()?)? })
    }

    /// Whether what committed there is of a history that is no more.
    pub fn undoes(&self, commit: Commit) -> bool {
        self.from == commit.timeline && commit.lsn > self.at
    }
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
        let switch = Switch::read(message).unwrap_or_else(|| panic!("{message:?}"));
        self.0.insert(switch.from, switch);
        true
    }

    /// Whether what committed there is of a history that is no more.
    pub fn exclude(&self, commit: Commit) -> bool {
        self.0.get(&commit.timeline).is_some_and(|switch| switch.undoes(commit))
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
        Commit::read(message).unwrap_or_else(|| panic!("{message:?}"))
    }

    /// Likewise, if the message says.
    pub fn read(message: &Message) -> Option<Commit> {
        let timeline = match message.headers.get("commit_timeline") {
            Some(timeline) => timeline.as_u64()?,
            None => message.message_id.as_deref()?.split('/').nth(1)?.parse().ok()?,
        };
        let lsn = lsn::parse(message.headers.get("commit_lsn")?.as_str()?)?;
        Some(Commit { timeline, lsn })
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
