//! A failover, as consumers are told of it: what committed on an old timeline behind its end is of a history that is no
//! more. Pure.

use std::rc::Rc;

use super::gap::Gap;
use super::notice::{Notice, Place, tell};
use crate::event::Operation;
use crate::lsn::Lsn;
use crate::wal::committed::CommittedTransaction;

/// Routing key of the event that tells.
const ROUTING_KEY: &str = "amqp_cdc.timeline";

/// Records begin and end at multiples of this, so that nothing commits in between.
const ALIGNMENT: u64 = 8;

/// The end of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    pub from: u32,
    /// The one that began there.
    pub to: u32,
    /// What committed behind this on the old one nobody has any more.
    pub at: Lsn,
}

/// From the timeline of what was confirmed last to the one that the stream goes on on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// Each promotion since then, of which some may have been told of: whoever was promoted in between may have
    /// published, and have died before anybody heard what was confirmed.
    pub switches: Vec<Switch>,
    /// Everything that committed up to here is confirmed.
    pub confirmed: Lsn,
    /// WAL from here on is needed.
    pub restart: Lsn,
}

impl Takeover {
    /// None if there was no promotion since, or if all of it is told and confirmed.
    pub fn new(switches: Vec<Switch>, confirmed: Lsn, restart: Lsn) -> Option<Takeover> {
        let takeover = Takeover { switches, confirmed, restart };
        (takeover.commit_lsn() > confirmed).then_some(takeover)
    }

    /// Ahead of all that is not confirmed. It tells how many switches were told of.
    fn commit_lsn(&self) -> Lsn {
        let told = (self.switches.len() as u64).min(ALIGNMENT - 1);
        Lsn(self.confirmed.0 / ALIGNMENT * ALIGNMENT + told)
    }

    /// The events that tell these exchanges, ahead of all that is not confirmed. `time` is in microseconds since
    /// 2000-01-01 UTC. With a `gap` that one is told of behind it, and in one with it: what is confirmed is unknown
    /// until both are.
    pub fn into_transaction(
        self,
        gap: Option<Gap>,
        exchanges: &[Rc<str>],
        time: i64,
    ) -> CommittedTransaction {
        let own = Place { first_lsn: self.restart, commit_lsn: self.commit_lsn(), time };
        let place = gap.map_or(own, |gap| gap.place(time));
        let switches = self.switches.into_iter().map(Switch::notice);
        let notices: Vec<_> = switches.chain(gap.map(Gap::notice)).collect();
        tell(&notices, exchanges, place)
    }
}

impl Switch {
    fn notice(self) -> Notice {
        Notice {
            operation: Operation::Timeline,
            routing_key: ROUTING_KEY,
            body: self.body(),
            lsn: self.at,
        }
    }

    fn body(self) -> String {
        let (operation, Switch { from, to, at }) = (Operation::Timeline.as_str(), self);
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

    const FIRST: Switch = Switch { from: 1, to: 2, at: Lsn(0x50) };
    const SECOND: Switch = Switch { from: 2, to: 3, at: Lsn(0x70) };

    fn resumed(confirmed: u64) -> Stream {
        Stream::resume(Position { confirmed: Lsn(confirmed), ..Position::default() })
    }

    /// Commit LSN and place of each event.
    fn told(stream: &mut Stream) -> Vec<(u64, u64)> {
        stream.release(|_, _| true);
        let next = || stream.next().map(|next| (next.commit_lsn.0, next.recorded.lsn.0));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn it_comes_before_all_that_is_not_confirmed() {
        let takeover = Takeover::new(vec![FIRST], Lsn(0x20), Lsn(0x18)).unwrap();
        let transaction = takeover.into_transaction(None, &["x".into()], 7);
        let mut stream = resumed(0x20);
        stream.push(transaction.clone());
        stream.push(CommittedTransaction { commit_lsn: Lsn(0x28), ..transaction });
        assert_eq!(told(&mut stream), [(0x21, 0x50), (0x28, 0x50)]);
        assert_eq!(
            FIRST.body(),
            r#"{"operation":"timeline","from":1,"to":2,"at":"0/50","routing_key":"amqp_cdc.timeline"}"#
        );
    }

    #[test]
    fn each_promotion_is_told_of_once_it_is_confirmed_no_more() {
        assert_eq!(Takeover::new(Vec::new(), Lsn(0x20), Lsn(0x18)), None);
        // The first one, and then the next server, which knows that much.
        assert_eq!(Takeover::new(vec![FIRST], Lsn(0x21), Lsn(0x18)), None);
        let both = Takeover::new(vec![FIRST, SECOND], Lsn(0x21), Lsn(0x18)).unwrap();
        let mut stream = resumed(0x21);
        stream.push(both.into_transaction(None, &["x".into()], 7));
        assert_eq!(told(&mut stream), [(0x22, 0x50), (0x22, 0x70)]);
        stream.confirm(2);
        assert_eq!(stream.position(Lsn(0x90)).confirmed, Lsn(0x22));
        // However many there are, the next commit is not passed over.
        let many = Takeover::new(vec![FIRST; 20], Lsn(0x22), Lsn(0x18)).unwrap();
        assert_eq!(many.commit_lsn(), Lsn(0x27));
        assert_eq!(Takeover::new(vec![FIRST; 20], Lsn(0x27), Lsn(0x18)), None);
    }

    #[test]
    fn a_gap_is_confirmed_with_it_or_not_at_all() {
        let gap = Gap { from: Some(Lsn(0x20)), to: Lsn(0x48) };
        let takeover = Takeover::new(vec![FIRST], Lsn(0x20), Lsn(0x48)).unwrap();
        let mut stream = resumed(0);
        stream.push(takeover.into_transaction(Some(gap), &["x".into()], 7));
        assert_eq!(told(&mut stream), [(0x48, 0x50), (0x48, 0x48)]);
        stream.confirm(1);
        assert_eq!(stream.position(Lsn(0x90)).confirmed, Lsn::INVALID);
        stream.confirm(1);
        assert_eq!(stream.position(Lsn(0x90)).confirmed, Lsn(0x48));
    }
}
