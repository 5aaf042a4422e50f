//! What consumers are told of the stream itself: an event of its own, to each exchange. Pure.

use std::rc::Rc;

use crate::event::{EventHead, Operation};
use crate::lsn::Lsn;
use crate::memory;
use crate::wal::committed::{CommittedTransaction, OrderedEvents, RecordedEvent};

/// What is told.
pub struct Notice {
    pub operation: Operation,
    pub routing_key: &'static str,
    pub body: String,
    /// The place in the WAL that it is named after.
    pub lsn: Lsn,
}

/// Where in the stream something is told.
pub struct Place {
    /// From here on the WAL is needed until it is confirmed.
    pub first_lsn: Lsn,
    /// Its place among the transactions.
    pub commit_lsn: Lsn,
    /// When, in microseconds since 2000-01-01 UTC.
    pub time: i64,
}

/// Tells these exchanges all of it, one notice after the other: an event of each for each exchange, in a transaction
/// of their own, so that all of it is confirmed or nothing.
pub fn tell(notices: &[Notice], exchanges: &[Rc<str>], place: Place) -> CommittedTransaction {
    let mut events = memory::with_room(notices.len() * exchanges.len());
    for notice in notices {
        events.extend(exchanges.iter().map(|exchange| notice.event(Rc::clone(exchange))));
    }
    let Place { first_lsn, commit_lsn, time } = place;
    CommittedTransaction {
        xid: 0,
        commit_lsn,
        commit_time: time,
        first_lsn,
        events: OrderedEvents::Kept(events),
    }
}

impl Notice {
    fn event(&self, exchange: Rc<str>) -> RecordedEvent {
        let head = EventHead {
            exchange,
            routing_key: self.routing_key.into(),
            ..EventHead::new(self.operation, 0)
        };
        let mut payload = Vec::new();
        head.encode_into(&mut payload);
        memory::append(&mut payload, self.body.as_bytes());
        RecordedEvent { lsn: self.lsn, payload }
    }
}
