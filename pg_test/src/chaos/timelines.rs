//! Which messages are of a history that is no more, as the consumers are told after each failover. Pure.

use std::collections::BTreeMap;

use super::delivery::{Delivery, Place};
use crate::history::Switch;
use crate::lsn;
use crate::message::Message;

/// Those that one queue was told of, each with how many messages had come before.
#[derive(Clone, Debug, Default)]
pub(super) struct Switches(BTreeMap<Switch, usize>);

impl Switches {
    /// Keeps what a message of type `timeline` says, which comes after so many others.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn add(&mut self, message: &Message, others: usize) -> Result<(), String> {
        let switch = Switch::read(message);
        let switch = switch.ok_or_else(|| format!("a timeline that ends nowhere: {message:?}"))?;
        self.0.entry(switch).or_insert(others);
        Ok(())
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether what committed there is of a history that is no more.
    pub fn undo(&self, place: Place) -> bool {
        self.0.keys().any(|switch| switch.undoes(place.commit()))
    }

    /// How many were not the first of their timeline: messages of that one had come already.
    pub fn overtaken(&self, deliveries: &[Delivery]) -> usize {
        let is_late = |&(switch, &others): &(&Switch, &usize)| {
            deliveries[..others].iter().any(|delivery| delivery.place.timeline >= switch.to)
        };
        self.0.iter().filter(is_late).count()
    }

    /// Where they differ from what happened.
    pub fn differences(&self, happened: &[Switch]) -> Vec<String> {
        let told = |switch: &Switch| self.0.contains_key(switch);
        let untold = happened.iter().filter(|&switch| !told(switch));
        let untold = untold.map(|switch| format!("was not told of {switch:?}"));
        let others = self.0.keys().filter(|switch| !happened.contains(switch));
        untold
            .chain(others.map(|switch| format!("was told of {switch:?}, which never was")))
            .collect()
    }
}

impl From<Vec<Switch>> for Switches {
    fn from(switches: Vec<Switch>) -> Switches {
        Switches(switches.into_iter().map(|switch| (switch, 0)).collect())
    }
}

/// What the history file of a timeline says (timeline.c: each line has the timeline that ended, and where).
pub(super) fn read_history(timeline: u64, text: &str) -> Vec<Switch> {
    let ends: Vec<(u64, u64)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, lsn::parse(words.next()?)?))
        })
        .collect();
    let next = ends.iter().skip(1).map(|&(next, _)| next).chain([timeline]);
    ends.iter().zip(next).map(|(&(from, at), to)| Switch { from, to, at }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_committed_behind_the_end_of_its_timeline_is_no_more() {
        let switches = read_history(3, "1\t0/50\tno recovery target specified\n\n2\t0/70\tnone\n");
        let [first, second] =
            [(1, 2, 0x50), (2, 3, 0x70)].map(|(from, to, at)| Switch { from, to, at });
        assert_eq!(switches, [first, second]);
        let told = Switches::from(switches);
        let undo = |timeline, commit_lsn| told.undo(Place { timeline, commit_lsn, tx_seq: 1 });
        assert_eq!([0x50, 0x51, 0x71].map(|at| undo(1, at)), [false, true, true]);
        assert_eq!([0x51, 0x70, 0x71].map(|at| undo(2, at)), [false, false, true]);
        assert!(!undo(3, 0x100));
        assert!(told.differences(&[first, second]).is_empty());
        assert_eq!(told.differences(&[first]).len(), 1);
        assert_eq!(Switches::from(vec![first]).differences(&[first, second]).len(), 1);
    }
}
