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
    /// From here on the WAL is needed until it is confirmed.
    pub first_lsn: Lsn,
    /// Its place among the transactions.
    pub commit_lsn: Lsn,
}

impl Notice {
    /// One event for each of these exchanges, in a transaction of their own. `time` is in microseconds since
    /// 2000-01-01 UTC.
    pub fn into_transaction(self, exchanges: &[Rc<str>], time: i64) -> CommittedTransaction {
        let event = |exchange: &Rc<str>| {
            let head = EventHead {
                exchange: Rc::clone(exchange),
                routing_key: self.routing_key.into(),
                ..EventHead::new(self.operation, 0)
            };
            let mut payload = Vec::new();
            head.encode_into(&mut payload);
            memory::append(&mut payload, self.body.as_bytes());
            RecordedEvent { lsn: self.lsn, payload }
        };
        CommittedTransaction {
            xid: 0,
            commit_lsn: self.commit_lsn,
            commit_time: time,
            first_lsn: self.first_lsn,
            events: OrderedEvents::Kept(memory::collect(exchanges.iter().map(event))),
        }
    }
}
