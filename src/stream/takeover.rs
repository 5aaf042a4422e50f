//! A failover, as consumers are told of it: what they have of the old timeline behind its end is of a history that is
//! no more. Pure.

use std::rc::Rc;

use super::notice::Notice;
use crate::event::Operation;
use crate::lsn::Lsn;
use crate::wal::committed::CommittedTransaction;

/// Routing key of the event that tells.
const ROUTING_KEY: &str = "amqp_cdc.timeline";

/// From one timeline to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// The timeline of what was confirmed last.
    pub from: u32,
    /// The one that the stream goes on on.
    pub to: u32,
    /// Where the old one ends. An LSN from here on in a message_id of it is of what nobody has any more.
    pub at: Lsn,
    /// Everything that committed up to here is confirmed.
    pub confirmed: Lsn,
    /// WAL from here on is needed.
    pub restart: Lsn,
}

impl Takeover {
    /// The events that tell these exchanges, ahead of all that is not confirmed. `time` is in microseconds since
    /// 2000-01-01 UTC.
    pub fn into_transaction(self, exchanges: &[Rc<str>], time: i64) -> CommittedTransaction {
        let notice = Notice {
            operation: Operation::Timeline,
            routing_key: ROUTING_KEY,
            body: self.body(),
            lsn: self.at,
            first_lsn: self.restart,
            // Nothing commits in between: records begin at multiples of eight.
            commit_lsn: Lsn(self.confirmed.0 + 1),
        };
        notice.into_transaction(exchanges, time)
    }

    fn body(self) -> String {
        let (operation, Takeover { from, to, at, .. }) = (Operation::Timeline.as_str(), self);
        format!(
            r#"{{"operation":"{operation}","from":{from},"to":{to},"at":"{at}","routing_key":"{ROUTING_KEY}"}}"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Position;
    use crate::stream::Stream;

    #[test]
    fn it_comes_before_all_that_is_not_confirmed() {
        let takeover =
            Takeover { from: 1, to: 3, at: Lsn(0x50), confirmed: Lsn(0x20), restart: Lsn(0x18) };
        let mut stream = Stream::resume(Position { confirmed: Lsn(0x20), ..Position::default() });
        stream.push(takeover.into_transaction(&["x".into()], 7));
        stream.push(CommittedTransaction {
            commit_lsn: Lsn(0x28),
            ..takeover.into_transaction(&["x".into()], 7)
        });
        stream.release(|_, _| true);
        let first = stream.next().map(|next| (next.commit_lsn, next.recorded.lsn));
        assert_eq!(first, Some((Lsn(0x21), Lsn(0x50))));
        assert_eq!(stream.next().map(|next| next.commit_lsn), Some(Lsn(0x28)));
        assert_eq!(
            takeover.body(),
            r#"{"operation":"timeline","from":1,"to":3,"at":"0/50","routing_key":"amqp_cdc.timeline"}"#
        );
    }
}
