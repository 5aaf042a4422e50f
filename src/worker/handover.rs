//! What one life of the worker leaves to the next in the position records: the exchanges that events went to last,
//! and what exchanges are owed. Pure.

use std::rc::Rc;

use crate::lsn::Lsn;
use crate::position::Notes;
use crate::stream::gap::OwedGap;

/// Exchanges that are remembered: those that are told of a gap.
const MOST: usize = 64;

/// What earlier lives left, and what this one will leave.
#[derive(Debug)]
pub struct Handover {
    /// What the records of earlier lives say, until all were read and taken over.
    earlier: Option<Notes>,
    /// Those records end here.
    until: Lsn,
    /// The exchanges that events went to in this life, the last one at the end.
    exchanges: Vec<Rc<str>>,
}

impl Handover {
    /// For a life that has not written a record yet: those before `until` are of earlier ones. `notes`: what is
    /// known of them already.
    pub fn begin(notes: Notes, until: Lsn) -> Handover {
        Handover { earlier: Some(notes), until, exchanges: Vec::new() }
    }

    /// An earlier life's record was read.
    pub fn take(&mut self, notes: Notes) {
        if let Some(earlier) = &mut self.earlier {
            earlier.update(notes);
        }
    }

    /// Whether the WAL was read so far that no more records of earlier lives come.
    pub fn is_known(&self, read: Lsn) -> bool {
        self.earlier.is_some() && read >= self.until
    }

    /// What earlier lives left owed, once, when all is known. From then on this life speaks for itself.
    pub fn take_over(&mut self) -> Vec<OwedGap> {
        let Notes { owed, mut exchanges, .. } = self.earlier.take().unwrap_or_default();
        exchanges.retain(|known| !self.exchanges.contains(known));
        exchanges.append(&mut self.exchanges);
        self.exchanges = exchanges;
        self.forget_oldest();
        owed
    }

    /// An event goes to this exchange.
    pub fn note(&mut self, exchange: &Rc<str>) {
        if self.exchanges.last() == Some(exchange) {
            return;
        }
        self.exchanges.retain(|known| known != exchange);
        self.exchanges.push(Rc::clone(exchange));
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        let too_many = self.exchanges.len().saturating_sub(MOST);
        self.exchanges.drain(..too_many);
    }

    /// Everybody who is to be told of a gap: the exchanges that events went to last, and this one.
    pub fn addressees(&self, own: &str) -> Vec<Rc<str>> {
        let earlier = self.earlier.iter().flat_map(|notes| &notes.exchanges);
        let mut all: Vec<Rc<str>> = Vec::new();
        for exchange in self.exchanges.iter().rev().chain(earlier.rev()) {
            if all.len() < MOST && !all.contains(exchange) {
                all.push(Rc::clone(exchange));
            }
        }
        if !all.iter().any(|exchange| &**exchange == own) {
            all.push(own.into());
        }
        all
    }

    /// What a record written now is to say, given what exchanges are owed.
    pub fn notes(&self, owed: Vec<OwedGap>) -> Notes {
        Notes { owed, exchanges: self.exchanges.clone(), is_partial: self.earlier.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(exchanges: &[&str]) -> Vec<Rc<str>> {
        exchanges.iter().map(|&name| name.into()).collect()
    }

    fn notes(exchanges: &[&str]) -> Notes {
        Notes { exchanges: names(exchanges), ..Notes::default() }
    }

    #[test]
    fn everybody_is_told_whom_events_went_to_in_this_life_or_an_earlier_one() {
        let mut handover = Handover::begin(notes(&["a", "b"]), Lsn(100));
        assert_eq!(handover.addressees("own"), names(&["b", "a", "own"]));
        handover.note(&"c".into());
        handover.note(&"b".into());
        handover.note(&"b".into());
        assert_eq!(handover.addressees("c"), names(&["b", "c", "a"]));
        assert!(!handover.is_known(Lsn(99)) && handover.is_known(Lsn(100)));
        assert!(handover.notes(Vec::new()).is_partial);
        handover.take_over();
        assert!(!handover.is_known(Lsn(100)));
        let notes = handover.notes(Vec::new());
        assert_eq!((notes.exchanges, notes.is_partial), (names(&["a", "c", "b"]), false));
    }

    #[test]
    fn what_the_last_record_says_is_owed_is_taken_over_once() {
        let owed = |exchange: &str| OwedGap {
            exchange: exchange.into(),
            gap: Default::default(),
            last: Lsn(1),
        };
        let mut handover = Handover::begin(Notes::default(), Lsn(100));
        handover.take(Notes { owed: vec![owed("a")], ..Notes::default() });
        handover.take(Notes { owed: vec![owed("b")], ..Notes::default() });
        assert_eq!(handover.take_over(), [owed("b")]);
        assert_eq!(handover.take_over(), []);
    }

    #[test]
    fn only_the_last_of_many_exchanges_are_remembered() {
        let mut handover = Handover::begin(Notes::default(), Lsn(0));
        handover.take_over();
        for number in 0..2 * MOST {
            handover.note(&number.to_string().into());
        }
        assert_eq!(handover.notes(Vec::new()).exchanges.len(), MOST);
        let all = handover.addressees("own");
        assert_eq!((all.len(), &*all[0]), (MOST + 1, (2 * MOST - 1).to_string().as_str()));
    }
}
