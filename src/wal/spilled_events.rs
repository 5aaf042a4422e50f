//! The events of open transactions that are not in memory, only their places in the WAL: some eight bytes
//! each, in whichever subtransaction they are. Pure.
//!
//! They come in *runs*, each of what was in memory at a time, and a run is sorted by xid. The end of a
//! transaction takes its events out of those runs alone that can have some, and finds them without passing
//! the others. An xid that ended is listed as dead; a run of which half is dead is written anew.

use std::collections::{HashSet, VecDeque};

use super::event_list::{Entry, EventCursor, EventList, SortedEvents};
use super::family::{Family, FamilyCursor};
use super::numbers::{Cursor, NumberList};
use crate::lsn::Lsn;
use crate::memory;

/// Events and xids that are passed at most to find an xid in a run.
const MARK_DISTANCE: usize = 128;

/// All of them.
#[derive(Debug, Default)]
pub struct SpilledEvents {
    /// In the order of the WAL: all events of a run lie before those of the next one.
    runs: VecDeque<Run>,
}

impl SpilledEvents {
    /// Adds events, which lie behind all those before. `groups`: the events of each xid, by xid.
    /// `firsts`: the first event of each xid, with the xid, in the order of the WAL.
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

    /// Forgets the events of all that are older.
    pub fn forget_older_than(&mut self, xid: u64) {
        self.runs.iter_mut().for_each(|run| run.end_older_than(xid));
        self.runs.retain(|run| !run.is_dead());
    }

    /// Those that are less and have events.
    pub fn older_than(&self, xid: u64) -> impl Iterator<Item = u64> {
        self.runs.iter().flat_map(move |run| {
            let xids = run.groups.iter().map(|[xid, _]| xid);
            xids.take_while(move |&each| each < xid).filter(|xid| !run.dead.contains(xid))
        })
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

/// What was spilled at a time.
#[derive(Debug, Default)]
struct Run {
    /// Each xid, and how many events it has here.
    groups: NumberList<2>,
    /// Those of the first xid, of the second, and so on.
    events: EventList,
    /// Where to begin to look for an xid.
    marks: Vec<Mark>,
    /// LSN of the first event of each xid, with the xid, in the order of the WAL.
    firsts: NumberList<2>,
    /// The first of these whose xid is alive; none if there is none.
    oldest: Option<(Lsn, u64)>,
    /// Behind that one.
    behind_oldest: Cursor<2>,
    /// None that is alive is less.
    least: u64,
    greatest: u64,
    /// That of the runs before included.
    greatest_so_far: u64,
    /// Xids whose events are still here though they ended.
    dead: HashSet<u64>,
    dead_events: usize,
}

/// A place in a run, before this xid.
#[derive(Clone, Copy, Debug)]
struct Mark {
    xid: u64,
    groups: Cursor<2>,
    events: EventCursor,
}

/// The events of one xid in a run.
#[derive(Clone, Copy, Debug)]
struct Group {
    xid: u64,
    count: usize,
}

/// What is dead since just now.
#[derive(Debug, Default)]
struct Ended {
    xids: Vec<u64>,
    events: usize,
}

impl Ended {
    fn push(&mut self, group: Group) {
        memory::push(&mut self.xids, group.xid);
        self.events += group.count;
    }
}

impl Run {
    /// None if there is no event.
    fn new<Events: Iterator<Item = Entry>>(
        groups: impl Iterator<Item = (u64, Events)>,
        firsts: impl Iterator<Item = (Lsn, u64)>,
        greatest_before: u64,
    ) -> Option<Run> {
        let mut run = Run::default();
        for (xid, events) in groups {
            run.push(xid, events);
        }
        run.firsts.extend(firsts.map(|(lsn, xid)| [lsn.0, xid]));
        run.least = run.marks.first()?.xid;
        run.greatest_so_far = run.greatest.max(greatest_before);
        run.find_oldest();
        Some(run)
    }

    fn push(&mut self, xid: u64, events: impl Iterator<Item = Entry>) {
        let passed = |list: &Run| list.groups.len() + list.events.len();
        let before = passed(self);
        if self.marks.last().is_none_or(|mark| before - mark.passed() >= MARK_DISTANCE) {
            let (groups, events) = (self.groups.end(), self.events.end());
            memory::push(&mut self.marks, Mark { xid, groups, events });
        }
        let count = self.events.len();
        self.events.extend(events);
        self.groups.push([xid, (self.events.len() - count) as u64]);
        self.greatest = xid;
    }

    fn is_dead(&self) -> bool {
        self.oldest.is_none()
    }

    /// Gives the events of a family to `take`, by xid, and counts its members as dead.
    fn end(&mut self, family: Family<'_>, mut take: impl FnMut(Entry)) {
        if family.last() < self.least || self.greatest < family.xid {
            return;
        }
        let mut ended = Ended::default();
        let mut members = FamilyCursor::new(family);
        let mut groups = Groups::of(self);
        let mut from = self.least;
        while let Some(member) = members.seek(from)
            && let Some(group) = groups.seek(member)
        {
            from = group.xid;
            if from == member {
                if !self.dead.contains(&member) {
                    groups.events(group.count).for_each(&mut take);
                    ended.push(group);
                }
                from += 1;
            }
        }
        self.bury(ended);
    }

    fn end_older_than(&mut self, xid: u64) {
        if xid <= self.least {
            return;
        }
        let mut ended = Ended::default();
        let mut groups = Groups::of(self);
        while let Some(group) = groups.seek(self.least).filter(|group| group.xid < xid) {
            groups.events(group.count).for_each(drop);
            if !self.dead.contains(&group.xid) {
                ended.push(group);
            }
        }
        self.least = xid;
        self.bury(ended);
    }

    fn bury(&mut self, ended: Ended) {
        self.dead_events += ended.events;
        if 2 * self.dead_events >= self.events.len() {
            self.shrink(&ended.xids);
            return;
        }
        memory::reserve_members(&mut self.dead, ended.xids.len());
        self.dead.extend(ended.xids);
        if self.oldest.is_some_and(|(_, xid)| self.dead.contains(&xid)) {
            self.find_oldest();
        }
    }

    /// Lets go of what is dead. `ended`: what is so since just now, by xid.
    fn shrink(&mut self, ended: &[u64]) {
        let old = std::mem::take(self);
        let is_alive = |xid: u64| !old.dead.contains(&xid) && ended.binary_search(&xid).is_err();
        let mut groups = Groups::of(&old);
        while let Some(group) = groups.seek(old.least) {
            let events = groups.events(group.count);
            if is_alive(group.xid) {
                self.push(group.xid, events);
            } else {
                events.for_each(drop);
            }
        }
        self.firsts.extend(old.firsts.iter().filter(|&[_, xid]| is_alive(xid)));
        self.least = old.least;
        self.greatest_so_far = old.greatest_so_far;
        self.find_oldest();
    }

    /// Passes the dead ones. Each is passed once.
    fn find_oldest(&mut self) {
        self.oldest = loop {
            let Some([lsn, xid]) = self.behind_oldest.next(&self.firsts) else { break None };
            if !self.dead.contains(&xid) {
                break Some((Lsn(lsn), xid));
            }
        };
    }
}

impl Mark {
    /// Groups and events before it.
    fn passed(&self) -> usize {
        self.groups.passed() + self.events.passed()
    }
}

/// Goes through a run from xid to xid.
struct Groups<'a> {
    run: &'a Run,
    /// Number of the next mark.
    mark: usize,
    groups: Cursor<2>,
    events: EventCursor,
    /// The group whose events are next.
    next: Option<Group>,
}

impl Groups<'_> {
    fn of(run: &Run) -> Groups<'_> {
        let mut groups = Groups {
            run,
            mark: 0,
            groups: Cursor::default(),
            events: EventCursor::default(),
            next: None,
        };
        groups.step();
        groups
    }

    fn step(&mut self) {
        let next = self.groups.next(&self.run.groups);
        self.next = next.map(|[xid, count]| Group { xid, count: count as usize });
    }

    /// The first group that is not older than `xid`, of those ahead.
    fn seek(&mut self, xid: u64) -> Option<Group> {
        if self.next?.xid < xid {
            self.pass_marks(xid);
        }
        while let Some(group) = self.next.filter(|group| group.xid < xid) {
            self.events(group.count).for_each(drop);
        }
        self.next
    }

    /// Goes to the last mark that is not behind `xid`, if that is ahead.
    fn pass_marks(&mut self, xid: u64) {
        let ahead = &self.run.marks[self.mark..];
        let passed = ahead.partition_point(|mark| mark.xid <= xid);
        let Some(mark) = passed.checked_sub(1).map(|last| ahead[last]) else { return };
        self.mark += passed;
        if self.next.is_some_and(|next| next.xid < mark.xid) {
            (self.groups, self.events) = (mark.groups, mark.events);
            self.step();
        }
    }

    /// The events of the group that is next, all of which are to be taken.
    fn events(&mut self, count: usize) -> impl Iterator<Item = Entry> {
        let run = self.run;
        self.step();
        let events = &mut self.events;
        (0..count).map_while(move |_| events.next(&run.events))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;
    use crate::event::ChangeKey;
    use crate::place::Trace;

    fn entry(lsn: u64) -> Entry {
        let key = ChangeKey {
            command_id: lsn as u32,
            trace: Trace::NewVersion,
            place: None,
            is_of_layout_1: false,
        };
        Entry { lsn: Lsn(lsn), key }
    }

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

    #[test]
    fn a_subtransaction_with_one_event_takes_ten_bytes() {
        const COUNT: u64 = 100_000;
        let events = |n: u64| std::iter::once(entry(1 << 40 | (n * 400)));
        let xid = |n: u64| (1 << 32 | n) + 3;
        let firsts = (0..COUNT).map(|n| (Lsn(1 << 40 | (n * 400)), xid(n)));
        let run = Run::new((0..COUNT).map(|n| (xid(n), events(n))), firsts, 0).unwrap();
        let marks = run.marks.capacity() * size_of::<Mark>();
        let bytes = run.groups.bytes() + run.events.bytes() + run.firsts.bytes() + marks;
        assert!(bytes < 2 * 10 * COUNT as usize, "{bytes}");
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
