//! Events that were spilled together, sorted by xid. Pure.

use std::collections::HashSet;

use crate::lsn::Lsn;
use crate::memory;
use crate::wal::event_list::{Entry, EventCursor, EventList};
use crate::wal::family::{Family, FamilyCursor};
use crate::wal::numbers::{Cursor, NumberList};

/// Most events and xids that are read to find an xid in a run.
const MARK_DISTANCE: usize = 128;

/// Events that were spilled together.
#[derive(Debug, Default)]
pub struct Run {
    /// Each xid, and how many events it has here.
    groups: NumberList<2>,
    /// The events of the first xid, then those of the second, and so on.
    pub(super) events: EventList,
    /// Where to begin to look for an xid.
    marks: Vec<Mark>,
    /// LSN of the first event of each xid, with the xid, in the order of the WAL.
    firsts: NumberList<2>,
    /// The first of these whose xid is alive; None if there is none.
    pub(super) oldest: Option<(Lsn, u64)>,
    /// Where the next one is sought.
    behind_oldest: Cursor<2>,
    /// No xid that is alive is less.
    least: u64,
    greatest: u64,
    /// The greatest xid of this run and all runs before it.
    pub(super) greatest_so_far: u64,
    /// Xids that ended, and whose events are still here.
    dead: HashSet<u64>,
    dead_events: usize,
}

/// A position in a run, before this xid.
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

/// Xids that have just ended, and the number of their events.
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
    /// Makes a run, or None if there is no event.
    pub(super) fn new<Events: Iterator<Item = Entry>>(
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

    /// Returns true if none of the events is wanted any more.
    pub(super) fn is_dead(&self) -> bool {
        self.oldest.is_none()
    }

    /// Gives the events of a family to `take`, by xid, and counts its members as dead.
    pub(super) fn end(&mut self, family: Family<'_>, mut take: impl FnMut(Entry)) {
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

    /// Returns the older xids that have events.
    pub(super) fn older_than(&self, xid: u64) -> impl Iterator<Item = u64> {
        let xids = self.groups.iter().map(|[xid, _]| xid);
        xids.take_while(move |&each| each < xid).filter(|xid| !self.dead.contains(xid))
    }

    /// Counts all older xids as dead.
    pub(super) fn end_older_than(&mut self, xid: u64) {
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

    /// Removes what is dead. `ended` are the xids that have just ended, sorted.
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

    /// Finds the first event whose xid is alive. Each dead one is passed only once.
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

    /// Returns the first of the groups ahead that is not older than `xid`.
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

    /// Returns the events of the next group. The caller must take all of them.
    fn events(&mut self, count: usize) -> impl Iterator<Item = Entry> {
        let run = self.run;
        self.step();
        let events = &mut self.events;
        (0..count).map_while(move |_| events.next(&run.events))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::event::ChangeKey;
    use crate::place::Trace;

    /// An event of a row that was written there.
    pub fn entry(lsn: u64) -> Entry {
        let key = ChangeKey {
            command_id: lsn as u32,
            trace: Trace::NewVersion,
            place: None,
            is_of_layout_1: false,
            is_split: false,
        };
        Entry { lsn: Lsn(lsn), key }
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
}
