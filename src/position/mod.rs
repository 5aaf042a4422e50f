//! The only writer of progress: how far the stream is confirmed, kept in the replication slot and,
//! for standbys and for a slot that was lost, in position records in the WAL.
//!
//! A position is saved before the WAL it no longer needs is released, so that a crash never asks
//! for WAL that is gone. What is lost by a crash between two saves is only knowledge of confirms:
//! those events are sent again. When to save, [`schedule`] tells.

mod record;
mod schedule;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;

use crate::beginning::{self, Beginning};
use crate::gap::Gap;
use crate::lsn::Lsn;
use crate::memory;
use crate::pg::report::Report;
use crate::pg::slot::{self, Found, Slot, SlotData};
use crate::pg::timeline::Timelines;
use crate::pg::xlog_reader::ReadError;
use crate::pg::{logical_message, server};
use crate::wal::reader::{Survey, survey};
use crate::wal_file;
pub use record::{Notes, decode};
use schedule::{Due, Schedule};

/// Prefix of the logical message that carries a position record; unforgeable like the events' one.
pub const POSITION_PREFIX: &[u8] = b"amqp_cdc\0position\0";

/// How far the stream got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// C: every event of transactions whose commit record ends here or earlier is confirmed.
    pub confirmed: Lsn,
    /// R: the WAL from here on rebuilds every transaction after C whole.
    pub restart: Lsn,
    /// So many events of the transaction after C are confirmed, too.
    pub tx_seq: u64,
}

/// Bits of the slot's number that hold `tx_seq`; the seal is in those above.
const TX_SEQ_BITS: u32 = 40;

impl Position {
    /// Tells whether `restart` is still the one that was saved with `tx_seq`: anybody with the
    /// REPLICATION attribute may move a slot's restart_lsn while no worker holds it
    /// (pg_replication_slot_advance, START_REPLICATION), but touches nothing else in it.
    fn seal(&self) -> u64 {
        // Fibonacci hashing: the upper bits depend on all bits.
        self.restart.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> TX_SEQ_BITS
    }

    fn to_stored(self) -> SlotData {
        let tx_seq = self.tx_seq & ((1 << TX_SEQ_BITS) - 1);
        SlotData {
            confirmed_flush: self.confirmed,
            restart: self.restart,
            number: self.seal() << TX_SEQ_BITS | tx_seq,
        }
    }

    /// What is stored while a gap is not announced: no C, so that the next start finds the same
    /// loss again, or a larger one; the C before the gap in its place.
    fn to_stored_before_gap(self, from: Option<Lsn>) -> SlotData {
        let number = from.unwrap_or_default().0;
        SlotData { confirmed_flush: Lsn::INVALID, restart: self.restart, number }
    }

    /// The stored position, and whether its seal is unbroken. Without a stored C, only what is
    /// known of C otherwise: R was reserved by this worker in an earlier life, or by somebody else.
    fn from_stored(stored: SlotData) -> (Position, bool) {
        if !stored.confirmed_flush.is_valid() {
            return (Position { confirmed: Lsn(stored.number), ..Position::default() }, true);
        }
        let position = Position {
            confirmed: stored.confirmed_flush,
            restart: stored.restart,
            tx_seq: stored.number & ((1 << TX_SEQ_BITS) - 1),
        };
        (position, position.seal() == stored.number >> TX_SEQ_BITS)
    }
}

/// How the worker found its position at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In its slot.
    Slot,
    /// There was no slot, and nothing was ever captured: a first start.
    FirstStart,
    /// There was no slot, and none of an earlier life's events was confirmed, but all WAL since the first is
    /// there.
    Beginning,
    /// The slot could not be used, but the last position record and all WAL it needs are there.
    Record,
    /// WAL that the last position needs is gone: events may be missing.
    Lost(Gap),
}

/// Holds the slot and saves the position in it.
pub struct PositionKeeper {
    slot: Slot,
    /// C before the gap that is not announced yet.
    gap_from: Option<Lsn>,
    schedule: Schedule,
    /// What the last position record says besides the position.
    recorded: Notes,
    /// The WAL segment that was the newest when the last position record was written.
    recorded_in: u64,
    segment_size: u64,
}

impl PositionKeeper {
    /// Takes the slot, or makes it, and finds the position to go on from, and what is known already of the
    /// notes that earlier lives left. `keep_going` is asked during a long look through the WAL; if it declines,
    /// none.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the WAL is damaged. Raises if the slot cannot be had.
    pub fn open(
        timelines: &Timelines,
        mut keep_going: impl FnMut() -> bool,
    ) -> Result<Option<(PositionKeeper, Position, Origin, Notes)>, ReadError> {
        let (slot, stored) = match slot::find() {
            Found::Usable => {
                let slot = Slot::acquire();
                let stored = slot.stored();
                (slot, stored)
            }
            Found::Nothing => (Slot::create(), SlotData::default()),
            Found::Invalidated(stored) => {
                Report::new(
                    PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
                    format!("replication slot \"{}\" was invalidated and is made anew", slot::NAME),
                )
                .hint("Raise max_slot_wal_keep_size (and idle_replication_slot_timeout, if it is set) to bear longer outages of the broker.")
                .warn();
                slot::drop_it();
                (Slot::create(), SlotData { restart: Lsn::INVALID, ..stored })
            }
            Found::Logical => {
                slot::say_missing();
                Report::new(
                    PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                    format!("replication slot \"{}\" is a logical one", slot::NAME),
                )
                .hint("Drop it; amqp_cdc needs this name for a physical slot of its own.")
                .raise()
            }
        };
        let begun_gap = unannounced_gap(stored, timelines)?;
        let (stored, is_sealed) = Position::from_stored(stored);
        let (position, origin, notes) = if let Some(gap) = begun_gap {
            // For who is to be told.
            let start = retain_everything(&slot, timelines)?;
            let Some(survey) = survey(start, &mut keep_going)? else { return Ok(None) };
            let position = Position { restart: gap.to, ..Position::default() };
            (position, Origin::Lost(gap), survey.notes)
        } else if is_usable(stored, is_sealed, timelines)? {
            (stored, Origin::Slot, Notes::default())
        } else {
            match search(&slot, stored, timelines, keep_going)? {
                Some(found) => found,
                None => return Ok(None),
            }
        };
        let segment_size = server::wal_segment_size();
        let mut keeper = PositionKeeper {
            slot,
            gap_from: match origin {
                Origin::Lost(gap) => gap.from,
                _ => None,
            },
            schedule: Schedule::new(Instant::now(), position, segment_size),
            recorded: Notes::default(),
            recorded_in: 0,
            segment_size,
        };
        // Before it is saved that the stream was begun: nobody asks how once it is.
        note_beginning(position, origin)?;
        if origin != Origin::Slot {
            keeper.save(position, notes.clone());
        }
        Ok(Some((keeper, position, origin, notes)))
    }

    /// The position that is saved.
    pub fn saved(&self) -> Position {
        self.schedule.saved()
    }

    /// Looks at the position at most once a second, and saves it when it is due. When to ask again,
    /// if there is or may be something left to save. An idle server writes nothing.
    pub fn save_if_due(
        &mut self,
        position_and_notes: impl FnOnce() -> (Position, Notes),
    ) -> Option<Duration> {
        let wait = self.schedule.until_next_look(Instant::now());
        if !wait.is_zero() {
            return Some(wait);
        }
        let (position, notes) = position_and_notes();
        match self.schedule.look(Instant::now(), position) {
            Due::Save => self.save(position, notes),
            Due::Record => {
                self.record(position, notes);
                return Some(self.schedule.until_next_look(Instant::now()));
            }
            Due::Nothing => {
                if self.newest_segment() != self.recorded_in || notes != self.recorded {
                    self.record(position, notes);
                }
            }
        }
        None
    }

    fn newest_segment(&self) -> u64 {
        server::flushed_lsn().segment(self.segment_size)
    }

    /// In the WAL, and in the slot.
    fn save(&mut self, position: Position, notes: Notes) {
        let owes = !notes.owed.is_empty();
        if let Some(end) = self.record(position, notes)
            && owes
        {
            // The slot is to call events done with of which nothing else tells that they are missing.
            logical_message::flush(end);
        }
        self.slot.save(if position.confirmed.is_valid() {
            position.to_stored()
        } else {
            position.to_stored_before_gap(self.gap_from)
        });
        self.schedule.set_saved(Instant::now(), position);
    }

    /// The record lies behind the R that it names: as long as the WAL from R on is there, so is the
    /// record. Where it is not, as on a standby that keeps no slot, some record should be there all
    /// the same, or the loss would look like a first start: hence one in each segment. Returns its end.
    fn record(&mut self, position: Position, notes: Notes) -> Option<Lsn> {
        let record = record::encode(&position, &notes);
        self.recorded = notes;
        self.recorded_in = self.newest_segment();
        let is_known = position.confirmed.is_valid();
        is_known.then(|| logical_message::write_unimportant(POSITION_PREFIX, &record))
    }

    /// Saves what is worth saving.
    pub fn save_the_last(&mut self, position: Position, notes: Notes) {
        if self.schedule.is_worth_saving(position) || notes != self.recorded {
            self.save(position, notes);
        }
    }

    /// Lets the slot go.
    pub fn close(self) {
        self.slot.release();
    }

    /// What committed after `confirmed` and up to `restart` is given up, at once, so that its WAL can go. The
    /// C before it, as far as it is known.
    pub fn give_up(&mut self, confirmed: Lsn, restart: Lsn, notes: Notes) -> Option<Lsn> {
        if confirmed.is_valid() {
            self.gap_from = Some(confirmed);
        }
        self.save(Position { restart, ..Position::default() }, notes);
        self.gap_from
    }

    /// Sees to it that the WAL has a record behind what it holds now.
    pub fn write_something(&self) {
        logical_message::write_unimportant(POSITION_PREFIX, &[]);
    }
}

/// The gap that was not announced when the slot was saved, if the WAL behind it is there. It is not looked
/// for anew: the WAL before it may be there, too, where an operator gave it up.
fn unannounced_gap(stored: SlotData, timelines: &Timelines) -> Result<Option<Gap>, ReadError> {
    let from = Lsn(stored.number);
    let is_unannounced = !stored.confirmed_flush.is_valid() && from.is_valid();
    if !is_unannounced || !stored.restart.is_valid() {
        return Ok(None);
    }
    let is_there = WalFiles::list(timelines)?.has(stored.restart);
    Ok(is_there.then_some(Gap { from: Some(from), to: stored.restart }))
}

/// Whether the slot's position can be gone on from.
fn is_usable(stored: Position, is_sealed: bool, timelines: &Timelines) -> Result<bool, ReadError> {
    if !stored.restart.is_valid() {
        return Ok(false);
    }
    let problem = if !is_sealed {
        "was moved by somebody else"
    } else if !WalFiles::list(timelines)?.has(stored.restart) {
        "lies in WAL that is gone"
    } else {
        return Ok(true);
    };
    Report::new(
        PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        format!("restart_lsn {} of replication slot \"{}\" {problem}", stored.restart, slot::NAME),
    )
    .detail("The last position that was recorded in the WAL is looked for.")
    .warn();
    Ok(false)
}

/// Where to go on if the slot does not say: at the last recorded position, as far as the WAL
/// reaches back. Not at the last checkpoint's redo pointer, as PostgreSQL's own
/// ReplicationSlotReserveWal would: that would pass over everything unconfirmed before it. `stored`
/// is what the slot knew; its C holds, its R does not.
fn search(
    slot: &Slot,
    stored: Position,
    timelines: &Timelines,
    mut keep_going: impl FnMut() -> bool,
) -> Result<Option<(Position, Origin, Notes)>, ReadError> {
    let start = retain_everything(slot, timelines)?;
    let Some(survey) = survey(start, &mut keep_going)? else { return Ok(None) };
    let Survey { first_record, last_position, notes, first_event } = survey;
    let recorded = last_position.unwrap_or_default();
    let last = if recorded.confirmed >= stored.confirmed { recorded } else { stored };
    let begin = |confirmed| Position { confirmed, restart: first_record, tx_seq: 0 };
    // No transaction ends before the first record, so that may as well be C.
    let whole = begin(first_record);
    let lost = |from| (begin(Lsn::INVALID), Origin::Lost(Gap { from, to: first_record }));
    if recorded.restart >= start {
        // R may be the start of a segment, which lies before its first record.
        let restart = recorded.restart.max(first_record);
        return Ok(Some((Position { restart, ..last }, Origin::Record, notes)));
    }
    if last.confirmed.is_valid() {
        let (position, origin) = lost(Some(last.confirmed));
        return Ok(Some((position, origin, notes)));
    }
    let is_as_noted = |begin: Lsn| start <= begin && first_event.is_none_or(|event| event >= begin);
    // Read after the WAL: it was noted before anything was captured.
    let (position, origin) = match beginning::read().map_err(failed("read", beginning::FILE))? {
        Beginning::At(begin) if is_as_noted(begin) => (whole, Origin::Beginning),
        Beginning::Unknown => lost(None),
        Beginning::At(_) | Beginning::Unnoted if first_event.is_some() => lost(None),
        Beginning::At(_) | Beginning::Unnoted => {
            match beginning::is_installed(None, keep_going).map_err(failed("read", "base"))? {
                Some(true) => lost(None),
                Some(false) => (whole, Origin::FirstStart),
                None => return Ok(None),
            }
        }
    };
    Ok(Some((position, origin, notes)))
}

/// Notes what a later worker needs to know that finds neither slot nor record.
fn note_beginning(position: Position, origin: Origin) -> Result<(), ReadError> {
    let noted = match origin {
        Origin::FirstStart => beginning::note(Some(position.restart)),
        Origin::Beginning => Ok(()),
        // Until that is announced, the next worker must find the same.
        Origin::Lost(Gap { from: None, .. }) => beginning::note(None),
        Origin::Slot | Origin::Record | Origin::Lost(_) => match beginning::read() {
            Ok(Beginning::Unnoted) => beginning::note(None),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        },
    };
    noted.map_err(failed("written", beginning::FILE))
}

/// The error of a file or directory of the server's that cannot be used.
fn failed(how: &str, name: &str) -> impl Fn(std::io::Error) -> ReadError {
    move |error| {
        ReadError::new(server::flushed_lsn(), format!("\"{name}\" cannot be {how}: {error}"))
    }
}

/// Makes the slot retain all WAL there is and returns where that begins.
fn retain_everything(slot: &Slot, timelines: &Timelines) -> Result<Lsn, ReadError> {
    let segment_size = server::wal_segment_size();
    loop {
        let newest = server::flushed_lsn().segment(segment_size);
        let files = WalFiles::list(timelines)?;
        let oldest = oldest_segment(newest, |segment| files.has_segment(segment));
        slot.reserve(Lsn(oldest * segment_size));
        // A checkpoint may have removed it before it heard of the slot.
        if slot::last_removed_segment() < oldest {
            return Ok(Lsn(oldest * segment_size));
        }
    }
}

/// The oldest of the segments that reach without a gap up to `newest`.
fn oldest_segment(newest: u64, exists: impl Fn(u64) -> bool) -> u64 {
    let mut oldest = newest;
    while oldest > 1 && exists(oldest - 1) {
        oldest -= 1;
    }
    oldest
}

/// The files in pg_wal.
struct WalFiles<'a> {
    timelines: &'a Timelines,
    segment_size: u64,
    /// (timeline, segment)
    files: HashSet<(u32, u64)>,
}

impl WalFiles<'_> {
    /// # Errors
    ///
    /// If the directory cannot be read: what is not seen must not be taken for gone.
    fn list(timelines: &Timelines) -> Result<WalFiles<'_>, ReadError> {
        let segment_size = server::wal_segment_size();
        let parse = |name: OsString| wal_file::parse(name.to_str()?, segment_size);
        let list = || -> std::io::Result<HashSet<_>> {
            let mut files = HashSet::new();
            for file in fs::read_dir("pg_wal")? {
                memory::reserve_member(&mut files);
                files.extend(parse(file?.file_name()));
            }
            Ok(files)
        };
        let files = list().map_err(failed("read", "pg_wal"))?;
        Ok(WalFiles { timelines, segment_size, files })
    }

    fn has(&self, lsn: Lsn) -> bool {
        self.has_segment(lsn.segment(self.segment_size))
    }

    fn has_segment(&self, segment: u64) -> bool {
        let last_byte = Lsn((segment + 1) * self.segment_size - 1);
        self.files.contains(&(self.timelines.of(last_byte), segment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_somebody_moved_is_told_from_one_that_was_saved() {
        let position = Position { confirmed: Lsn(70), restart: Lsn(50), tx_seq: 3 };
        let stored = position.to_stored();
        assert_eq!(Position::from_stored(stored), (position, true));
        for moved in [1, 49, 51, 1 << 24] {
            assert!(
                !Position::from_stored(SlotData { restart: Lsn(moved), ..stored }).1,
                "{moved}"
            );
        }
    }

    #[test]
    fn before_a_gap_is_announced_only_the_c_before_it_is_known() {
        let position = Position { confirmed: Lsn::INVALID, restart: Lsn(90), tx_seq: 0 };
        let known = |from| Position::from_stored(position.to_stored_before_gap(from)).0;
        assert_eq!(known(Some(Lsn(1 << 50))).confirmed, Lsn(1 << 50));
        assert_eq!(known(None), Position::default());
        assert_eq!(known(Some(Lsn(70))).restart, Lsn::INVALID);
    }

    #[test]
    fn the_oldest_segment_is_the_start_of_the_last_unbroken_row() {
        let there = [1, 2, 5, 6, 7];
        assert_eq!(oldest_segment(7, |s| there.contains(&s)), 5);
        assert_eq!(oldest_segment(3, |s| there.contains(&s)), 1);
    }
}
