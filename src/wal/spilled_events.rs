//! The events of open transactions whose payloads are not in memory, only their places in the WAL. Each takes some
//! eight bytes, whatever subtransaction it is in. Pure.
//!
//! A *run* holds the events that were spilled together, sorted by xid. When a transaction ends, its events are
//! taken out of those runs that can have some, and are found there without reading all others. An xid that ended
//! is listed as dead; a run is written anew once half of it is dead.

mod run;

use std::collections::VecDeque;

use super::event_list::{Entry, EventList, SortedEvents};
use super::family::Family;
use crate::lsn::Lsn;
use crate::memory;
use run::Run;

/// All of them.
#[derive(Debug, Default)]
pub struct SpilledEvents {
    /// In the order of the WAL: all events of a run lie before those of the next one.
    runs: VecDeque<Run>,
}

impl SpilledEvents {
    /// Adds events, which are behind all earlier ones in the WAL. `groups` are the events of each xid, sorted by
    /// xid. `firsts` are the first events, each with its xid, in the order of the WAL.
    pub fn push<Events: Iterator<Item = Entry>>(
        &mut self,
        groups: impl Iterator<Item = (u64, Events)>,
        firsts: impl Iterator<Item = (Lsn, u64)>,
    ) {
        let greatest_before = self.runs.back().map_or(0, |run| run.greatest_so_far);
        memory::reserve_place(&mut self.runs);
        self.runs.extend(Run::new(groups, firsts, greatest_before));
    }

    /// Takes out the events of a family, if there are any.
    pub fn take(&mut self, family: Family<'_>) -> Option<EventList> {
        let mut list = EventList::default();
        self.end_in_runs(family.xid, |run| {
            let mut events = SortedEvents::default();
            run.end(family, |entry| events.push(entry));
            list.extend(events.iter());
        });
        (list.len() > 0).then_some(list)
    }

    /// Forgets the events of a family.
    pub fn forget(&mut self, family: Family<'_>) {
        self.end_in_runs(family.xid, |run| run.end(family, |_| {}));
    }

    fn end_in_runs(&mut self, oldest: u64, mut end: impl FnMut(&mut Run)) {
        let from = self.runs.partition_point(|run| run.greatest_so_far < oldest);
        self.runs.range_mut(from..).for_each(&mut end);
        if self.runs.range(from..).any(Run::is_dead) {
            self.runs.retain(|run| !run.is_dead());
        }
    }

    /// Forgets the events of all older xids.
    pub fn forget_older_than(&mut self, xid: u64) {
        self.runs.iter_mut().for_each(|run| run.end_older_than(xid));
        self.runs.retain(|run| !run.is_dead());
    }

    /// Returns the older xids that have events.
    pub fn older_than(&self, xid: u64) -> impl Iterator<Item = u64> {
        self.runs.iter().flat_map(move |run| run.older_than(xid))
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// LSN of the first one.
    pub fn oldest_lsn(&self) -> Option<Lsn> {
        self.runs.front()?.oldest.map(|(lsn, _)| lsn)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::run::tests::entry;
    use super::*;

    /// Adds events in the order of the WAL, from `lsn` on, each of the transaction that is named.
    fn push(spilled: &mut SpilledEvents, lsn: u64, xids: &[u64]) {
        let mut groups = BTreeMap::<u64, Vec<Entry>>::new();
        for (lsn, &xid) in (lsn..).zip(xids) {
            groups.entry(xid).or_default().push(entry(lsn));
        }
        let mut firsts: Vec<_> = groups.iter().map(|(&xid, events)| (events[0].lsn, xid)).collect();
        firsts.sort_unstable();
        let groups = groups.into_iter().map(|(xid, events)| (xid, events.into_iter()));
        spilled.push(groups, firsts.into_iter());
    }

    fn lsns(list: Option<EventList>) -> Vec<u64> {
        list.iter().flat_map(EventList::iter).map(|entry| entry.lsn.0).collect()
    }

    fn alone(xid: u64) -> Family<'static> {
        Family { xid, subxids: &[] }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<u64>),
        Take { xid: u64, subxids: Vec<u32> },
        Forget { xid: u64, subxids: Vec<u32> },
        ForgetOlderThan(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        // Many of few xids, or few of many.
        let family = || {
            (0..600u64, btree_set(1..600u32, 0..40)).prop_map(|(xid, others)| {
                (xid, others.into_iter().map(|other| xid as u32 + other).collect())
            })
        };
        prop_oneof![
            2 => vec(0..40u64, 0..300).prop_map(Step::Push),
            2 => vec(0..1200u64, 0..300).prop_map(Step::Push),
            3 => family().prop_map(|(xid, subxids)| Step::Take { xid, subxids }),
            2 => family().prop_map(|(xid, subxids)| Step::Forget { xid, subxids }),
            1 => (0..300u64).prop_map(Step::ForgetOlderThan),
        ]
    }

    proptest! {
        #[test]
        fn each_gets_its_own_and_the_oldest_is_known(steps in vec(step(), 0..40)) {
            let mut spilled = SpilledEvents::default();
            // The xid of each LSN.
            let mut model = BTreeMap::<u64, u64>::new();
            let mut lsn = 1;
            for step in steps {
                match step {
                    Step::Push(xids) => {
                        push(&mut spilled, lsn, &xids);
                        model.extend((lsn..).zip(xids.iter().copied()));
                        lsn += xids.len() as u64;
                    }
                    Step::Take { xid, subxids } => {
                        let family = Family { xid, subxids: &subxids };
                        let members: HashSet<_> = family.iter().collect();
                        let found = lsns(spilled.take(family));
                        let own = |xid: &u64| members.contains(xid);
                        let expected = model.iter().filter(|(_, xid)| own(xid)).map(|(&lsn, _)| lsn);
                        prop_assert_eq!(found, expected.collect::<Vec<_>>());
                        model.retain(|_, xid| !own(xid));
                    }
                    Step::Forget { xid, subxids } => {
                        let family = Family { xid, subxids: &subxids };
                        let members: HashSet<_> = family.iter().collect();
                        spilled.forget(family);
                        model.retain(|_, xid| !members.contains(xid));
                    }
                    Step::ForgetOlderThan(xid) => {
                        spilled.forget_older_than(xid);
                        model.retain(|_, of| *of >= xid);
                    }
                }
                let oldest = model.keys().next().copied().map(Lsn);
                prop_assert_eq!(spilled.oldest_lsn(), oldest);
                let live = spilled.runs.iter().map(|run| run.events.len()).sum::<usize>();
                prop_assert!(live <= 2 * model.len(), "{} of {} are dead", live, model.len());
            }
        }
    }

    /// Were one of them found by passing the others, or the oldest looked for among all, this would take
    /// minutes.
    #[test]
    fn the_end_of_one_passes_none_of_the_others() {
        const COUNT: u64 = 200_000;
        let mut spilled = SpilledEvents::default();
        let xids: Vec<_> = (0..COUNT).collect();
        push(&mut spilled, 1, &xids);
        for xid in 0..COUNT {
            assert_eq!(spilled.oldest_lsn(), Some(Lsn(xid + 1)));
            assert_eq!(lsns(spilled.take(alone(xid))), [xid + 1]);
            spilled.forget(alone(COUNT + xid));
            spilled.forget_older_than(xid);
        }
        assert_eq!(spilled.oldest_lsn(), None);
    }
}
