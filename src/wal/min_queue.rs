//! A queue of LSNs that knows the least of them, at the same cost whatever its length. Pure.

use std::collections::VecDeque;

use crate::lsn::Lsn;
use crate::memory;

/// LSNs that come and go at the two ends of a queue.
#[derive(Debug, Default)]
pub struct MinQueue {
    /// The LSNs that are less than all behind them, each with the number of those added before it.
    least: VecDeque<(u64, Lsn)>,
    added: u64,
    removed: u64,
}

impl MinQueue {
    /// Adds one at the end.
    pub fn push(&mut self, lsn: Lsn) {
        while self.least.pop_back_if(|(_, other)| *other >= lsn).is_some() {}
        memory::reserve_place(&mut self.least);
        self.least.push_back((self.added, lsn));
        self.added += 1;
    }

    /// Removes the one at the front, if there is one.
    pub fn pop(&mut self) {
        if self.removed == self.added {
            return;
        }
        let removed = self.removed;
        self.least.pop_front_if(|&mut (number, _)| number == removed);
        self.removed += 1;
    }

    /// The least of all.
    pub fn least(&self) -> Option<Lsn> {
        self.least.front().map(|&(_, lsn)| lsn)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_least_is_the_least(steps in vec(option::of(0..20u64), 0..200)) {
            let (mut queue, mut plain) = (MinQueue::default(), VecDeque::new());
            for step in steps {
                match step.map(Lsn) {
                    Some(lsn) => {
                        queue.push(lsn);
                        plain.push_back(lsn);
                    }
                    None => {
                        queue.pop();
                        plain.pop_front();
                    }
                }
                prop_assert_eq!(queue.least(), plain.iter().copied().min());
            }
        }
    }
}
