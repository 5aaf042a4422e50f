//! Finds the order in which a transaction's changes were made. Pure.
//!
//! A statement writes its events when it has ended. Changes that triggers and functions make while it runs write
//! theirs earlier. So the order of the events is not that of the changes where commands nest. There, the order of
//! the changes' own *records* in the WAL decides, and only there need these be read. An event is *late* if an event
//! of a later command was written before it, and else on time. The rule:
//!
//! 1. A *statement* is the rows of one command id; a TRUNCATE is apart, and so is a message of a user's own, which
//!    is of the command that follows the one that sends it, always on time, and stands where it is. If a statement's
//!    first event is on time, it ended before anything of a later command was done. Then all its events stand where
//!    that first event stands.
//! 2. For an event of any other statement, a range of the WAL is searched: from the first event of a later command
//!    (for a TRUNCATE, a row of the same command counts, too) to the event itself. Ranges that overlap become one.
//!    The event stands at the last record in the range that its change can have left: a record of its kind, with
//!    the file and the place of its row. If there is no such record, the change was made before the range begins,
//!    and the event stands at that beginning, before all else. An event that names no place stands at the beginning
//!    of its own range: rows of unlogged and foreign tables, for instance, leave no record.
//! 3. Then both lists are merged. An event that is on time comes before a late one in three cases: its command is
//!    earlier; its command is the same, and it is a message, or both or neither are a TRUNCATE; it stands before the
//!    place of the late one.
//!
//! Why this is right: statements nest like a stack. A statement that begins while another one runs has a higher
//! command id, and has written all its events before the other goes on. Cascades alone (ri_triggers.c) write
//! theirs at the end of the outer statement. So if the first event of a statement is on time, it comes after all
//! changes of the statement, and before all that is done later. And if an event that is on time has a later
//! command than a late one, its whole statement ran between two changes of the other statement.

mod kind;

use std::collections::HashMap;
use std::ops::Range;

use super::event_list::{Entry, place_from_numbers, place_to_numbers};
use super::numbers::{Cursor, NumberList, SortedRows};
use crate::event::{ChangeKey, Highest};
use crate::lsn::Lsn;
use crate::memory;
use crate::place::{Place, TableFile, Trace};
use kind::Kind;

/// Returns true if a transaction's events, which come in the order of the WAL, are in the order of its changes.
pub fn is_in_order(entries: impl Iterator<Item = Entry>) -> bool {
    let mut highest = Highest::default();
    for Entry { key, .. } in entries {
        let trace = if key.is_of_layout_1 { Trace::NewVersion } else { key.trace };
        if highest.makes_late(key.command_id, trace) {
            return false;
        }
        highest.note(key.command_id, key.trace);
    }
    true
}

/// The order of one transaction's events, as far as it is known.
#[derive(Debug, Default)]
pub struct Order {
    /// Rows: command id; four times the LSN, plus what kind of event it is.
    on_time: SortedRows<2>,
    /// Rows: where the event stands; what decides between those that stand at the same LSN; the event's LSN;
    /// four times the command id, plus what kind of event it is.
    placed: SortedRows<4>,
    /// Late events whose records are sought, sorted by command and LSN. Rows: command id, trace and whether it makes
    /// two messages; LSN; place.
    sought: NumberList<7>,
    /// Up to here they were given to a search.
    handed_out: Cursor<7>,
    /// How many of them are done: their record was found, or there is none.
    settled: usize,
    /// Where they are sought; disjoint and in order.
    ranges: Vec<Range<Lsn>>,
}

/// A command that was the highest when its first event was written.
#[derive(Clone, Copy)]
struct Level {
    command_id: u32,
    first: Lsn,
    /// The first event of a row, if there was one while the command was the highest.
    first_row: Option<Lsn>,
}

impl Order {
    /// The order of these events, which come in the order of the WAL.
    pub fn of(entries: impl Iterator<Item = Entry>) -> Order {
        let mut order = Order::default();
        let mut levels = NumberList::<3>::default();
        let mut late = SortedRows::<8>::default();
        let mut highest = Highest::default();
        let mut level: Option<Level> = None;
        for Entry { lsn, key } in entries {
            let kind = Kind::of(key);
            if key.is_of_layout_1 {
                order.push_on_time(key.command_id, lsn, kind);
                continue;
            }
            if highest.makes_late(key.command_id, key.trace) {
                late.push(late_to_row(key, lsn));
                continue;
            }
            order.push_on_time(key.command_id, lsn, kind);
            highest.note(key.command_id, key.trace);
            let command_id = key.command_id;
            let known = level.filter(|level| level.command_id == command_id);
            if let (None, Some(passed)) = (known, level) {
                levels.push(passed.to_row());
            }
            let mut now = known.unwrap_or(Level { command_id, first: lsn, first_row: None });
            if kind.is_row() {
                now.first_row.get_or_insert(lsn);
            }
            level = Some(now);
        }
        levels.extend(level.map(Level::to_row));
        order.take_late(late, levels);
        order
    }

    fn push_on_time(&mut self, command_id: u32, lsn: Lsn, kind: Kind) {
        self.on_time.push([u64::from(command_id), kind.with(lsn)]);
    }

    /// Decides which of the late events belong to a statement that is on time, and where the records of the
    /// others are sought.
    fn take_late(&mut self, late: SortedRows<8>, levels: NumberList<3>) {
        let mut levels = levels.iter().map(Level::from_row).peekable();
        let mut level = levels.next();
        for (key, lsn) in late.iter().map(late_from_row) {
            while level.is_some_and(|level| level.command_id < key.command_id) {
                level = levels.next();
            }
            let own = level.filter(|level| level.command_id == key.command_id);
            let later = if own.is_some() { levels.peek().copied() } else { level };
            let own_row = own.and_then(|own| own.first_row);
            let kind = Kind::of(key);
            if own_row.is_some() && kind != Kind::Truncate {
                self.push_on_time(key.command_id, lsn, kind);
                continue;
            }
            // There is at least one of the two, or the event would not be late.
            let start = own_row.or(later.map(|later| later.first)).unwrap_or(lsn);
            match key.place {
                Some(place) => self.seek(key, lsn, place, start),
                None => self.push_placed(key.command_id, kind, lsn, start, None),
            }
        }
    }

    /// Adds a late event whose record is sought from `start` on. Calls come in the order of `start`, because they
    /// come in the order of commands.
    fn seek(&mut self, key: ChangeKey, lsn: Lsn, place: Place, start: Lsn) {
        let [tablespace, database, number, block, offset] = place_to_numbers(place);
        let command =
            u64::from(key.command_id) << 3 | u64::from(key.is_split) << 2 | key.trace as u64;
        self.sought.push([command, lsn.0, tablespace, database, number, block, offset]);
        match self.ranges.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(lsn),
            _ => memory::push(&mut self.ranges, start..lsn),
        }
    }

    /// Adds a late event whose place is known: at the record of its change, or at `start` if there is none.
    fn push_placed(
        &mut self,
        command_id: u32,
        kind: Kind,
        lsn: Lsn,
        start: Lsn,
        record: Option<Lsn>,
    ) {
        let command_id = u64::from(command_id);
        // Only events of the record's own change stand at a record: the rows of one COPY, say.
        let rank = if record.is_some() { 0 } else { command_id };
        let place = record.unwrap_or(start).0;
        self.placed.push([place, rank, lsn.0, command_id << 2 | kind as u64]);
    }

    /// Returns true if no record is left to be sought.
    pub fn is_known(&self) -> bool {
        self.settled == self.sought.len()
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.on_time.bytes()
            + self.placed.bytes()
            + self.sought.bytes()
            + self.ranges.capacity() * size_of::<Range<Lsn>>()
    }

    /// Begins a search for the records of the next late events, at most so many.
    pub fn search(&mut self, most: usize) -> Search {
        let mut search = Search { from: self.handed_out, ..Search::default() };
        let mut cursor = self.handed_out;
        while search.wanted.len() < most
            && let Some(row) = cursor.next(&self.sought)
        {
            let (key, lsn) = sought_from_row(row);
            let Some(spot) = search.spot_of(key.trace, key.place.unwrap_or_default()) else {
                break;
            };
            memory::push(&mut search.wanted, Wanted { spot, lsn, record: Lsn::INVALID });
            if key.trace == Trace::Storage {
                memory::reserve(&mut search.truncated, 1);
                search.truncated.extend(key.place.map(|place| place.file));
            }
            search.extend_range(self.start_of_range(lsn)..lsn);
            self.handed_out = cursor;
        }
        search.wanted.sort_unstable_by_key(|wanted| (wanted.spot, wanted.lsn));
        search
    }

    fn start_of_range(&self, lsn: Lsn) -> Lsn {
        let number = self.ranges.partition_point(|range| range.end < lsn);
        self.ranges.get(number).map_or(lsn, |range| range.start)
    }

    /// Takes the results of a search that was given all records of its ranges.
    pub fn settle(&mut self, mut search: Search) {
        search.carry_on();
        let mut cursor = search.from;
        for _ in 0..search.wanted.len() {
            let Some((key, lsn)) = cursor.next(&self.sought).map(sought_from_row) else { break };
            let start = self.start_of_range(lsn);
            let record = search.record_of(key, lsn).filter(|&record| record >= start);
            self.push_placed(key.command_id, Kind::of(key), lsn, start, record);
            self.settled += 1;
        }
    }

    /// Returns the LSNs of the events, in the order of the changes, each as often as it makes messages. Events that
    /// were not sought yet are missing.
    pub fn lsns(&self) -> impl Iterator<Item = Lsn> + '_ {
        let mut on_time = self.on_time.iter().peekable();
        let mut placed = self.placed.iter().peekable();
        // The command of the statement whose events are next, and where it stands.
        let mut statement = None;
        std::iter::from_fn(move || {
            let next = on_time.peek().map(|&[command_id, number]| {
                let (kind, lsn) = Kind::from_number(number);
                if !kind.is_row() {
                    return (command_id, kind, lsn);
                }
                if statement.is_none_or(|(of, _)| of != command_id) {
                    statement = Some((command_id, lsn));
                }
                (command_id, kind, statement.map_or(lsn, |(_, at)| at))
            });
            let comes_first = match (next, placed.peek()) {
                (Some((command_id, kind, at)), Some(&[place, .., late])) => {
                    let (late_kind, Lsn(late_command)) = Kind::from_number(late);
                    let is_late_truncate = late_kind == Kind::Truncate;
                    let is_alike = (kind == Kind::Truncate) == is_late_truncate;
                    command_id < late_command
                        || (command_id == late_command && (is_alike || kind == Kind::Message))
                        || at < Lsn(place)
                }
                (next, _) => next.is_some(),
            };
            if comes_first {
                on_time.next().map(|[_, number]| Kind::from_number(number))
            } else {
                placed.next().map(|[_, _, lsn, late]| (Kind::from_number(late).0, Lsn(lsn)))
            }
        })
        .flat_map(|(kind, lsn)| std::iter::repeat_n(lsn, kind.messages()))
    }
}

impl Level {
    fn to_row(self) -> [u64; 3] {
        [u64::from(self.command_id), self.first.0, self.first_row.unwrap_or_default().0]
    }

    fn from_row([command_id, first, first_row]: [u64; 3]) -> Level {
        let first_row = Some(Lsn(first_row)).filter(|lsn| lsn.is_valid());
        Level { command_id: command_id as u32, first: Lsn(first), first_row }
    }
}

/// Returns a late event as a row that sorts by command id and LSN: command id; LSN; trace, whether it makes two
/// messages, and whether there is a place; place.
fn late_to_row(key: ChangeKey, lsn: Lsn) -> [u64; 8] {
    let [tablespace, database, number, block, offset] =
        place_to_numbers(key.place.unwrap_or_default());
    let kind =
        (key.trace as u64) << 2 | u64::from(key.is_split) << 1 | u64::from(key.place.is_some());
    [u64::from(key.command_id), lsn.0, kind, tablespace, database, number, block, offset]
}

fn late_from_row(row: [u64; 8]) -> (ChangeKey, Lsn) {
    let [command_id, lsn, kind, place @ ..] = row;
    let key = ChangeKey {
        command_id: command_id as u32,
        trace: Trace::from_number((kind >> 2) as u8).unwrap_or(Trace::NewVersion),
        place: (kind & 1 == 1).then(|| place_from_numbers(place)),
        is_of_layout_1: false,
        is_split: kind & 2 != 0,
    };
    (key, Lsn(lsn))
}

fn sought_from_row([command, lsn, place @ ..]: [u64; 7]) -> (ChangeKey, Lsn) {
    let key = ChangeKey {
        command_id: (command >> 3) as u32,
        trace: Trace::from_number((command & 3) as u8).unwrap_or(Trace::NewVersion),
        place: Some(place_from_numbers(place)),
        is_of_layout_1: false,
        is_split: command & 4 != 0,
    };
    (key, Lsn(lsn))
}

/// A search for the records of late events of one transaction.
#[derive(Debug, Default)]
pub struct Search {
    /// The tables' files, numbered.
    files: HashMap<TableFile, u64>,
    /// Sorted by spot and LSN.
    wanted: Vec<Wanted>,
    ranges: Vec<Range<Lsn>>,
    from: Cursor<7>,
    /// The files of the tables that were truncated.
    truncated: Vec<TableFile>,
}

/// A late event.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    /// Number of the file, trace, block and offset.
    spot: u64,
    lsn: Lsn,
    /// The last record that was found before the event, and behind the wanted event before it at the same spot.
    record: Lsn,
}

/// Bytes of memory of an event whose record is sought.
pub const WANTED_BYTES: usize = size_of::<Wanted>();

/// Most files that a spot can number: the block takes 32 of its 64 bits, the offset 16, the trace 2.
const MOST_FILES: usize = 1 << 14;

impl Search {
    /// Returns the spot of a change, or None if its file is one too many.
    fn spot_of(&mut self, trace: Trace, place: Place) -> Option<u64> {
        let number = self.files.len();
        let file = match self.files.get(&place.file) {
            Some(&file) => file,
            None if number == MOST_FILES => return None,
            None => {
                memory::reserve_entry(&mut self.files);
                *self.files.entry(place.file).or_insert(number as u64)
            }
        };
        Some(spot(file, trace, place))
    }

    fn extend_range(&mut self, range: Range<Lsn>) {
        match self.ranges.last_mut() {
            Some(last) if last.start == range.start => last.end = last.end.max(range.end),
            _ => memory::push(&mut self.ranges, range),
        }
    }

    /// Returns where the records may be: disjoint ranges in order, each up to the last event that is sought in it.
    pub fn ranges(&self) -> &[Range<Lsn>] {
        &self.ranges
    }

    /// How many events have their records sought.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// The files of the tables that were truncated, if a TRUNCATE is among them.
    pub fn truncated(&self) -> &[TableFile] {
        &self.truncated
    }

    /// Takes the record of a change at `lsn`, in the order of the WAL. A change of rows must be of this
    /// transaction. A new file of a table may be anybody's, because a subtransaction may have no xid yet when it
    /// makes one.
    pub fn take(&mut self, lsn: Lsn, trace: Trace, place: Place) {
        let Some(&file) = self.files.get(&place.file) else { return };
        let spot = spot(file, trace, place);
        // The record comes before its event.
        let next = self.wanted.partition_point(|wanted| (wanted.spot, wanted.lsn) <= (spot, lsn));
        if let Some(wanted) = self.wanted.get_mut(next).filter(|wanted| wanted.spot == spot) {
            wanted.record = lsn;
        }
    }

    /// Must be called when all records were taken. A record that was found before an event is before the later
    /// events of the same spot, too.
    fn carry_on(&mut self) {
        let mut last = (0, Lsn::INVALID);
        for wanted in &mut self.wanted {
            if !wanted.record.is_valid() && wanted.spot == last.0 {
                wanted.record = last.1;
            }
            last = (wanted.spot, wanted.record);
        }
    }

    fn record_of(&self, key: ChangeKey, lsn: Lsn) -> Option<Lsn> {
        let place = key.place?;
        let spot = spot(*self.files.get(&place.file)?, key.trace, place);
        let order = |wanted: &Wanted| (wanted.spot, wanted.lsn);
        let number = self.wanted.binary_search_by_key(&(spot, lsn), order).ok()?;
        Some(self.wanted[number].record).filter(|record| record.is_valid())
    }
}

fn spot(file: u64, trace: Trace, place: Place) -> u64 {
    file << 50 | (trace as u64) << 48 | u64::from(place.block) << 16 | u64::from(place.offset)
}

#[cfg(test)]
mod tests;
