//! A gap in the stream: events that can no longer be published, because the WAL that held them is
//! gone. Consumers are told by an event of its own, ahead of all that can still be published. Pure.

use crate::event::{EventHead, Operation};
use crate::lsn::Lsn;
use crate::wal::transactions::{CommittedTransaction, OrderedEvents, RecordedEvent};

/// Routing key of the event that announces a gap.
const ROUTING_KEY: &str = "amqp_cdc.gap";

/// Where events may be missing: of transactions that committed after `from`, those before `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Everything that committed up to here was confirmed; none if that is unknown.
    pub from: Option<Lsn>,
    /// The first record of the WAL that is there.
    pub to: Lsn,
}

impl Gap {
    /// The event that announces it, in a transaction of its own at the start of what follows.
    /// `time` is in microseconds since 2000-01-01 UTC.
    pub fn into_transaction(self, exchange: String, time: i64) -> CommittedTransaction {
        let head = EventHead {
            exchange: exchange.into(),
            routing_key: ROUTING_KEY.into(),
            ..EventHead::new(Operation::Gap, 0)
        };
        let mut payload = Vec::new();
        head.encode_into(&mut payload);
        payload.extend_from_slice(self.body().as_bytes());
        CommittedTransaction {
            xid: 0,
            // What was confirmed before `from` is not sent again.
            commit_lsn: self.from.map_or(self.to, |from| from.max(self.to)),
            commit_time: time,
            first_lsn: self.to,
            events: OrderedEvents::Kept(vec![RecordedEvent { lsn: self.to, payload }]),
        }
    }

    fn body(self) -> String {
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

    fn announce(from: Option<Lsn>) -> (Lsn, String) {
        let gap = Gap { from, to: Lsn(0x20) };
        let transaction = gap.into_transaction("x".to_owned(), 7);
        let OrderedEvents::Kept(mut events) = transaction.events else {
            panic!("nothing was spilled")
        };
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
}
