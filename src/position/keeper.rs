//! Keeps the position in the slot and in position records.

use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;

use super::beginning::{self, Beginning};
use super::origin::Origin;
use super::pair::Position;
use super::record::{self, Notes, POSITION_PREFIX};
use super::schedule::{Due, Schedule};
use super::search::{retain_everything, search, survey};
use super::taking::take_slot;
use super::wal_files::{WalFiles, failed};
use crate::lsn::Lsn;
use crate::pg::report::Report;
use crate::pg::slot::{self, Slot, SlotData};
use crate::pg::timeline::Timelines;
use crate::pg::xlog_reader::ReadError;
use crate::pg::{logical_message, server};
use crate::stream::gap::Gap;

/// Holds the slot and saves the position in it.
pub struct PositionKeeper {
    slot: Slot,
    /// C before the gap, while that is not announced yet.
    gap_from: Option<Lsn>,
    schedule: Schedule,
    /// What the last position record says besides the position.
    recorded: Notes,
    /// The WAL segment that was the newest when the last position record was written.
    recorded_in: u64,
    segment_size: u64,
}

impl PositionKeeper {
    /// Takes the slot, or makes it, unless this process holds it already. Returns the position to go on from, how it
    /// was found, and those notes of earlier lives of the worker that are known already. `keep_going` is called during
    /// a long search through the WAL; returns None if it returned false.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the WAL is damaged. Raises if the slot cannot be had.
    pub fn open(
        held: Option<(Slot, Notes)>,
        timelines: &Timelines,
        mut keep_going: impl FnMut() -> bool,
    ) -> Result<Option<(PositionKeeper, Position, Origin, Notes)>, ReadError> {
        let was_promoted = held.is_some();
        let (slot, stored, known) = match held {
            Some((slot, notes)) => {
                let stored = slot.stored();
                (slot, stored, notes)
            }
            None => {
                let (slot, stored) = take_slot();
                (slot, stored, Notes::default())
            }
        };
        let stored = of_this_history(stored, was_promoted, timelines);
        let begun_gap = unannounced_gap(stored, timelines)?;
        let (stored, is_sealed) = Position::from_stored(stored);
        let (position, origin, notes) = if let Some(gap) = begun_gap {
            // The WAL says which exchanges are to be told.
            let start = retain_everything(&slot, timelines)?;
            let Some(survey) = survey(start, &mut keep_going)? else { return Ok(None) };
            let position = Position { restart: gap.to, ..Position::default() };
            (position, Origin::Lost(gap), survey.notes)
        } else if is_usable(stored, is_sealed, timelines)? {
            (stored, Origin::Slot, known)
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
        // Before the position is saved: once it is, nobody asks how the stream began.
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

    /// Looks at the position at most once a second, and saves it when that is due. Returns how long to wait before
    /// the next call, or None if nothing is left to save. An idle server writes nothing.
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

    /// Saves the position in the WAL and in the slot.
    fn save(&mut self, position: Position, notes: Notes) {
        let owes = !notes.owed.is_empty();
        if let Some(end) = self.record(position, notes)
            && owes
        {
            // On disk first: the slot is about to pass over events, and only this record says that they are
            // missing.
            logical_message::flush(end);
        }
        self.slot.save(if position.confirmed.is_valid() {
            position.to_stored()
        } else {
            position.to_stored_before_gap(self.gap_from)
        });
        self.schedule.set_saved(Instant::now(), position);
    }

    /// Writes a position record, and returns its end. The record is behind the R that it names, so it is there as
    /// long as the WAL from R on is. Where that WAL is gone, as on a standby that keeps no slot, some record should
    /// still be there, or the loss would look like a first start. So each segment gets one. While a gap is not
    /// announced it is empty: a standby would retain nothing any more where it hears of nobody.
    fn record(&mut self, position: Position, notes: Notes) -> Option<Lsn> {
        let is_known = position.confirmed.is_valid();
        let record = if is_known { record::encode(&position, &notes) } else { Vec::new() };
        self.recorded = notes;
        self.recorded_in = self.newest_segment();
        let end = logical_message::write_unimportant(POSITION_PREFIX, &record);
        is_known.then_some(end)
    }

    /// Saves the position at the worker's end, if there is anything new in it.
    pub fn save_the_last(&mut self, position: Position, notes: Notes) {
        if self.schedule.is_worth_saving(position) || notes != self.recorded {
            self.save(position, notes);
        }
    }

    /// The slot, to be done with.
    pub fn into_slot(self) -> Slot {
        self.slot
    }

    /// Lets the slot go.
    pub fn close(self) {
        self.slot.release();
    }

    /// Gives up what committed after `confirmed` and up to `restart`, at once, so that its WAL can be removed.
    /// Returns the C before the gap, if it is known.
    pub fn give_up(&mut self, confirmed: Lsn, restart: Lsn, notes: Notes) -> Option<Lsn> {
        if confirmed.is_valid() {
            self.gap_from = Some(confirmed);
        }
        self.save(Position { restart, ..Position::default() }, notes);
        self.gap_from
    }

    /// Writes an empty record, so that the WAL has one behind what it holds now.
    pub fn write_something(&self) {
        logical_message::write_unimportant(POSITION_PREFIX, &[]);
    }
}

/// What the slot stores; nothing, if it is of another history: where a standby recovers anew, up to a time before what
/// it had replayed already, its slot knows of what has never been. Behind the end of the WAL there is nothing that
/// could be known, nor, right after a promotion, behind the end of the timeline before.
fn of_this_history(stored: SlotData, was_promoted: bool, timelines: &Timelines) -> SlotData {
    let end = server::flushed_lsn();
    let is_new = |lsn: Lsn| lsn > end || was_promoted && timelines.of(lsn) == timelines.current();
    if !stored.confirmed_flush.is_valid() || !is_new(stored.confirmed_flush.max(stored.restart)) {
        return stored;
    }
    Report::new(
        PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        format!(
            "replication slot \"{}\" is of another history: everything up to {} was confirmed there",
            slot::NAME,
            stored.confirmed_flush
        ),
    )
    .detail("The last position that was recorded in the WAL is looked for.")
    .warn();
    SlotData::default()
}

/// Returns the gap that was not announced when the slot was saved, if the WAL behind it is there. The slot's word
/// counts, not a new search: where an operator gave the WAL before it up, that WAL may be there, too.
fn unannounced_gap(stored: SlotData, timelines: &Timelines) -> Result<Option<Gap>, ReadError> {
    let from = Lsn(stored.number);
    let is_unannounced = !stored.confirmed_flush.is_valid() && from.is_valid();
    if !is_unannounced || !stored.restart.is_valid() {
        return Ok(None);
    }
    let is_there = WalFiles::list(timelines)?.has(stored.restart);
    Ok(is_there.then_some(Gap { from: Some(from), to: stored.restart }))
}

/// Returns true if the stream can go on from the slot's position. If it cannot, the log says why.
pub fn is_usable(
    stored: Position,
    is_sealed: bool,
    timelines: &Timelines,
) -> Result<bool, ReadError> {
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

/// Notes how the stream began, for a later worker that finds neither slot nor record.
fn note_beginning(position: Position, origin: Origin) -> Result<(), ReadError> {
    let noted = match origin {
        Origin::FirstStart => beginning::note(Some(position.restart)),
        Origin::Beginning => Ok(()),
        // Until the gap is announced, the next worker must find it again.
        Origin::Lost(Gap { from: None, .. }) => beginning::note(None),
        Origin::Slot | Origin::Record | Origin::Lost(_) => match beginning::read() {
            Ok(Beginning::Unnoted) => beginning::note(None),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        },
    };
    noted.map_err(failed("written", beginning::FILE))
}
