//! The only writer of progress: how far the stream is confirmed, kept in the replication slot and,
//! for standbys and for a slot that was lost, in position records in the WAL.
//!
//! A position is saved before the WAL it no longer needs is released, so that a crash never asks
//! for WAL that is gone. What is lost by a crash between two saves is only knowledge of confirms:
//! those events are sent again.

use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;

use crate::lsn::Lsn;
use crate::pg::report::Report;
use crate::pg::slot::{self, Found, Slot, Stored};
use crate::pg::timeline::Timelines;
use crate::pg::xlog_reader::ReadError;
use crate::pg::{message, server};
use crate::wal::reader::{Survey, survey};

/// Prefix of the logical message that carries a position record; unforgeable like the events' one.
pub const POSITION_PREFIX: &[u8] = b"amqp_cdc\0position\0";

/// Version of the position record's layout.
const VERSION: u8 = 1;

/// Shortest time between two saves.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

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

impl Position {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for number in [self.confirmed.0, self.restart.0, self.tx_seq] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// The position in a position record; none if another version wrote it.
    pub fn decode(payload: &[u8]) -> Option<Position> {
        let (&version, numbers) = payload.split_first()?;
        let (numbers, rest) = numbers.as_chunks::<8>();
        match (version, numbers, rest) {
            (VERSION, &[confirmed, restart, tx_seq], []) => Some(Position {
                confirmed: Lsn(u64::from_le_bytes(confirmed)),
                restart: Lsn(u64::from_le_bytes(restart)),
                tx_seq: u64::from_le_bytes(tx_seq),
            }),
            _ => None,
        }
    }
}

impl From<Stored> for Position {
    fn from(stored: Stored) -> Position {
        Position {
            confirmed: stored.confirmed_flush,
            restart: stored.restart,
            tx_seq: stored.number,
        }
    }
}

impl From<Position> for Stored {
    fn from(position: Position) -> Stored {
        Stored {
            confirmed_flush: position.confirmed,
            restart: position.restart,
            number: position.tx_seq,
        }
    }
}

/// How the worker found its position at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In its slot.
    Slot,
    /// There was no slot, and the WAL knows of no position: a first start, as far as can be told.
    FirstStart,
    /// There was no slot, but the last position record and all WAL it needs.
    Record,
    /// There was no slot, and WAL that the last position needs is gone: events may be lost.
    Lost {
        /// The last known position.
        last: Position,
    },
}

/// Holds the slot and saves the position in it.
pub struct PositionKeeper {
    slot: Slot,
    saved: Position,
    /// When it was last looked at whether there is something to save.
    looked_at: Instant,
    segment_size: u64,
}

impl PositionKeeper {
    /// Takes the slot, or makes it, and finds the position to go on from. `keep_going` is asked
    /// during a long look through the WAL; if it declines, none.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the WAL is damaged. Raises if the slot cannot be had.
    pub fn open(
        timelines: &Timelines,
        keep_going: impl FnMut() -> bool,
    ) -> Result<Option<(PositionKeeper, Position, Origin)>, ReadError> {
        let slot = match slot::find() {
            Found::Usable => Slot::acquire(),
            Found::Nothing => Slot::create(),
            Found::Invalidated => {
                Report::new(
                    PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
                    format!("replication slot \"{}\" was invalidated and is made anew", slot::NAME),
                )
                .hint("Raise max_slot_wal_keep_size to bear longer outages of the broker.")
                .warn();
                slot::drop_it();
                Slot::create()
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
        let stored = Position::from(slot.stored());
        // C is always valid in a position that was saved. R alone is a reservation that this worker
        // made in an earlier life, or somebody else.
        let (position, origin) = if stored.confirmed.is_valid() {
            (stored, Origin::Slot)
        } else {
            let Some(found) = find_without_slot(&slot, timelines, keep_going)? else {
                return Ok(None);
            };
            found
        };
        let mut keeper = PositionKeeper {
            slot,
            saved: position,
            looked_at: Instant::now(),
            segment_size: server::wal_segment_size(),
        };
        if origin != Origin::Slot {
            keeper.save(position);
        }
        Ok(Some((keeper, position, origin)))
    }

    /// The position that is saved.
    pub fn saved(&self) -> Position {
        self.saved
    }

    /// Saves the position if something in it is worth saving, at most once a second: within that
    /// time, says when to ask again. An idle server writes nothing.
    pub fn save_if_due(&mut self, position: impl FnOnce() -> Position) -> Option<Duration> {
        let elapsed = self.looked_at.elapsed();
        if elapsed < SAVE_INTERVAL {
            return Some(SAVE_INTERVAL - elapsed);
        }
        self.looked_at = Instant::now();
        let position = position();
        if self.is_worth_saving(position) {
            self.save(position);
        }
        None
    }

    fn is_worth_saving(&self, position: Position) -> bool {
        let confirmed = (position.confirmed, position.tx_seq);
        let segment = |lsn: Lsn| lsn.segment(self.segment_size);
        confirmed != (self.saved.confirmed, self.saved.tx_seq)
            || segment(position.restart) != segment(self.saved.restart)
    }

    fn save(&mut self, position: Position) {
        self.slot.save(position.into());
        message::write_unimportant(POSITION_PREFIX, &position.encode());
        self.saved = position;
    }

    /// Saves what is worth saving and lets the slot go.
    pub fn close(mut self, position: Position) {
        if self.is_worth_saving(position) {
            self.save(position);
        }
        self.slot.release();
    }
}

/// Where to go on without a stored position: at the last recorded one, as far as the WAL reaches
/// back. Not at the last checkpoint's redo pointer, as PostgreSQL's own ReplicationSlotReserveWal
/// would: that would pass over everything unconfirmed before it.
fn find_without_slot(
    slot: &Slot,
    timelines: &Timelines,
    mut keep_going: impl FnMut() -> bool,
) -> Result<Option<(Position, Origin)>, ReadError> {
    let start = retain_everything(slot, timelines);
    let Some(Survey { first_record, last_position }) = survey(start, &mut keep_going)? else {
        return Ok(None);
    };
    Ok(Some(match last_position {
        // R may be the start of a segment, which lies before its first record.
        Some(last) if last.restart >= start => {
            (Position { restart: last.restart.max(first_record), ..last }, Origin::Record)
        }
        Some(last) => {
            (Position { restart: first_record, tx_seq: 0, ..last }, Origin::Lost { last })
        }
        // No transaction ends before the first record, so that may as well be C.
        None => (
            Position { confirmed: first_record, restart: first_record, tx_seq: 0 },
            Origin::FirstStart,
        ),
    }))
}

/// Makes the slot retain all WAL there is and returns where that begins.
fn retain_everything(slot: &Slot, timelines: &Timelines) -> Lsn {
    let segment_size = server::wal_segment_size();
    loop {
        let newest = server::flushed_lsn().segment(segment_size);
        let files = wal_files(segment_size);
        let timeline_of = |segment: u64| timelines.of(Lsn((segment + 1) * segment_size - 1));
        let oldest =
            oldest_segment(newest, |segment| files.contains(&(timeline_of(segment), segment)));
        slot.reserve(Lsn(oldest * segment_size));
        // A checkpoint may have removed it before it heard of the slot.
        if slot::last_removed_segment() < oldest {
            return Lsn(oldest * segment_size);
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

/// (timeline, segment) of every file in pg_wal.
fn wal_files(segment_size: u64) -> HashSet<(u32, u64)> {
    let Ok(directory) = fs::read_dir("pg_wal") else {
        return HashSet::new();
    };
    directory
        .flatten()
        .filter_map(|entry| parse_wal_file_name(entry.file_name().to_str()?, segment_size))
        .collect()
}

/// `TTTTTTTTXXXXXXXXYYYYYYYY`: timeline, then the segment number in two parts
/// (access/xlog_internal.h: XLogFileName).
fn parse_wal_file_name(name: &str, segment_size: u64) -> Option<(u32, u64)> {
    if name.len() != 24 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let part = |from: usize| u32::from_str_radix(&name[from..from + 8], 16).ok();
    let per_high = 0x1_0000_0000 / segment_size;
    Some((part(0)?, u64::from(part(8)?) * per_high + u64::from(part(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_record_comes_back_as_it_was_written() {
        let position = Position { confirmed: Lsn(7), restart: Lsn(5), tx_seq: 3 };
        assert_eq!(Position::decode(&position.encode()), Some(position));
    }

    #[test]
    fn a_strange_position_record_is_none() {
        let bytes = Position::default().encode();
        assert_eq!(Position::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Position::decode(&[]), None);
        assert_eq!(Position::decode(&[&[9], &bytes[1..]].concat()), None);
        assert_eq!(Position::decode(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn wal_file_names_are_read_as_postgresql_writes_them() {
        let size = 16 * 1024 * 1024;
        assert_eq!(parse_wal_file_name("0000000200000001000000FE", size), Some((2, 256 + 254)));
        assert_eq!(parse_wal_file_name("00000002.history", size), None);
        assert_eq!(parse_wal_file_name("0000000200000001000000FE.partial", size), None);
    }

    #[test]
    fn the_oldest_segment_is_the_start_of_the_last_unbroken_row() {
        let there = [1, 2, 5, 6, 7];
        assert_eq!(oldest_segment(7, |s| there.contains(&s)), 5);
        assert_eq!(oldest_segment(3, |s| there.contains(&s)), 1);
    }
}
