//! A gap in the stream: events that can no longer be published, because the WAL that held them is gone. A gap
//! event tells the consumers, before all that can still be published. An exchange that did not get single
//! events, because it refused them, is told by a gap event, too. Pure.

use std::fmt;
use std::rc::Rc;

use super::notice::{Notice, Place, tell};
use crate::event::Operation;
use crate::lsn::Lsn;
use crate::wal::committed::CommittedTransaction;

/// Routing key of the event that announces a gap.
pub const ROUTING_KEY: &str = "amqp_cdc.gap";

/// Where events may be missing: those before `to`, of transactions that committed after `from`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// Everything that committed up to here was confirmed; None if that is unknown.
    pub from: Option<Lsn>,
    /// The first record of the WAL that is there.
    pub to: Lsn,
}

/// Describes the gap for the operator.
impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            Some(from) => write!(f, "from {from} to {}", self.to),
            None => write!(f, "from unknown to {}", self.to),
        }
    }
}

/// A gap that an exchange is yet to be told of: it did not get some of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwedGap {
    pub exchange: Rc<str>,
    /// From before the first of them to the commit of the last.
    pub gap: Gap,
    /// Where the last of them is in the WAL: the announcement takes its name from it.
    pub last: Lsn,
}

impl Gap {
    /// Returns the gap that holds both, and all between them.
    pub fn and(self, other: Gap) -> Gap {
        let from = self.from.zip(other.from).map(|(one, other)| one.min(other));
        Gap { from, to: self.to.max(other.to) }
    }

    /// Makes the events that announce the gap to these exchanges, as a transaction of their own at the start of
    /// what follows. `time` is in microseconds since 2000-01-01 UTC.
    pub fn into_transaction(self, exchanges: &[Rc<str>], time: i64) -> CommittedTransaction {
        tell(&[self.notice()], exchanges, self.place(time))
    }

    pub(super) fn notice(self) -> Notice {
        Notice {
            operation: Operation::Gap,
            routing_key: ROUTING_KEY,
            body: self.body(),
            lsn: self.to,
        }
    }

    pub(super) fn place(self, time: i64) -> Place {
        // What was confirmed before `from` is not sent again.
        let commit_lsn = self.from.map_or(self.to, |from| from.max(self.to));
        Place { first_lsn: self.to, commit_lsn, time }
    }

    /// Returns the body of the message that announces the gap.
    pub fn body(self) -> String {
        let from = self.from.map_or("null".to_owned(), |from| format!("\"{from}\""));
        let operation = Operation::Gap.as_str();
        format!(
            r#"{{"operation":"{operation}","from":{from},"to":"{}","routing_key":"{ROUTING_KEY}"}}"#,
            self.to
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Content, Event, Names};
    use crate::wal::committed::OrderedEvents;

    fn announce(from: Option<Lsn>) -> (Lsn, String) {
        let gap = Gap { from, to: Lsn(0x20) };
        let transaction = gap.into_transaction(&["x".into(), "y".into()], 7);
        let OrderedEvents::Kept(mut events) = transaction.events else {
            panic!("nothing was spilled")
        };
        assert_eq!(events.len(), 2);
        let event = Event::decode(events.remove(0).payload, &mut Names::default()).unwrap();
        assert_eq!((&*event.head.exchange, event.head.operation), ("x", Operation::Gap));
        let Content::Body(body) = event.content else { panic!("there is no row") };
        (transaction.commit_lsn, String::from_utf8(body).unwrap())
    }

    #[test]
    fn says_from_where_to_where() {
        let (commit, body) = announce(Some(Lsn(0x10)));
        assert_eq!(commit, Lsn(0x20));
        assert_eq!(
            body,
            r#"{"operation":"gap","from":"0/10","to":"0/20","routing_key":"amqp_cdc.gap"}"#
        );
        let (commit, body) = announce(None);
        assert_eq!(commit, Lsn(0x20));
        assert!(body.contains(r#""from":null"#), "{body}");
    }

    #[test]
    fn what_was_confirmed_behind_it_stays_confirmed() {
        assert_eq!(announce(Some(Lsn(0x30))).0, Lsn(0x30));
    }

    #[test]
    fn two_make_one_that_holds_both() {
        let gap = |from, to| Gap { from: Some(Lsn(from)), to: Lsn(to) };
        assert_eq!(gap(5, 9).and(gap(3, 7)), gap(3, 9));
        assert_eq!(gap(5, 9).and(Gap { from: None, to: Lsn(7) }), Gap { from: None, to: Lsn(9) });
    }
}
