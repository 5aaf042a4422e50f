//! Finds where to go on if the slot does not say: searches all WAL that there is for the last position record.

use super::beginning::{self, Beginning};
use super::origin::Origin;
use super::pair::Position;
use super::record::{self, Notes, POSITION_PREFIX};
use super::wal_files::{WalFiles, failed, oldest_segment};
use crate::event::EVENT_PREFIX;
use crate::lsn::Lsn;
use crate::pg::server;
use crate::pg::slot::{self, Slot};
use crate::pg::timeline::Timelines;
use crate::pg::transaction_records::Record;
use crate::pg::xlog_reader::{ReadError, Step, XLogReader};
use crate::stream::gap::Gap;
use crate::wal::batch::Batch;

/// Finds where to go on if the slot does not say: at the last recorded position, if the WAL reaches back
/// to it. The redo pointer of the last checkpoint, which PostgreSQL's own ReplicationSlotReserveWal
/// takes, would not do: everything unconfirmed before it would be passed over. `stored` is what the slot
/// knew; its C holds, its R does not.
pub fn search(
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
    // No transaction in the WAL ends before the first record, so that record may serve as C.
    let whole = begin(first_record);
    let lost = |from| (begin(Lsn::INVALID), Origin::Lost(Gap { from, to: first_record }));
    if recorded.is_removal() {
        return Ok(Some((Position { restart: first_record, ..recorded }, Origin::Record, notes)));
    }
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
    // Read after the WAL: the file is written before the first event is captured, so it is there if one was found.
    let (position, origin) = match beginning::read().map_err(failed("read", beginning::FILE))? {
        Beginning::At(begin) if is_as_noted(begin) => (whole, Origin::Beginning),
        Beginning::Unknown => lost(None),
        // The worker does not begin there (`crate::worker`): what is there was written since.
        Beginning::Removed => (whole, Origin::Beginning),
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

/// Makes the slot retain all WAL that there is. Returns where that begins.
pub fn retain_everything(slot: &Slot, timelines: &Timelines) -> Result<Lsn, ReadError> {
    let segment_size = server::wal_segment_size();
    loop {
        let newest = server::flushed_lsn().segment(segment_size);
        let files = WalFiles::list(timelines)?;
        let oldest = oldest_segment(newest, |segment| files.has_segment(segment));
        slot.reserve(Lsn(oldest * segment_size));
        // A checkpoint that did not know of the slot yet may have removed the segment meanwhile.
        if slot::last_removed_segment() < oldest {
            return Ok(Lsn(oldest * segment_size));
        }
    }
}

/// A reader that begins at the first record there or later, and where that is.
///
/// # Errors
///
/// [`ReadError`] if there is none.
pub fn first_record_after(start: Lsn) -> Result<(XLogReader, Lsn), ReadError> {
    XLogReader::at_first_record_after(start)
        .ok_or_else(|| ReadError::new(start, "no record begins there or later"))
}

/// What a look through the whole WAL found.
#[derive(Debug, PartialEq, Eq)]
pub struct Survey {
    /// The first record there is.
    pub first_record: Lsn,
    /// The last position that was recorded in it.
    pub last_position: Option<Position>,
    /// What the position records note besides.
    pub notes: Notes,
    /// The first event, if no position was recorded ahead of it.
    pub first_event: Option<Lsn>,
}

/// Looks through the WAL from `start`, the first byte of the oldest segment, for the last recorded
/// position. `keep_going` is called now and then; returns None if it returned false.
///
/// # Errors
///
/// [`ReadError`] if the WAL holds no record. Damaged records are passed over.
pub fn survey(
    start: Lsn,
    mut keep_going: impl FnMut() -> bool,
) -> Result<Option<Survey>, ReadError> {
    let (mut reader, first_record) = first_record_after(start)?;
    let (last_position, notes) = (None, Notes::default());
    let mut survey = Survey { first_record, last_position, notes, first_event: None };
    while keep_going() {
        let batch = Batch::begin(&reader);
        while !batch.is_over(&reader) {
            let step = match reader.read() {
                Ok(step) => step,
                // The worker meets the damage again, if it is behind the position that is found.
                Err(error) => {
                    let Some(next) = XLogReader::next_whole(error.lsn) else {
                        return Ok(Some(survey));
                    };
                    reader.begin(next);
                    continue;
                }
            };
            match step {
                Step::Record(Record::PlainMessage { prefix: POSITION_PREFIX, payload, .. }) => {
                    if let Some((position, notes)) = record::decode(payload) {
                        survey.last_position = Some(position);
                        notes.into_iter().for_each(|notes| survey.notes.update(notes));
                    }
                }
                Step::Record(
                    Record::TransactionalMessage { prefix: EVENT_PREFIX, lsn, .. }
                    | Record::PlainMessage { prefix: EVENT_PREFIX, lsn, .. },
                ) => {
                    if survey.last_position.is_none() {
                        survey.first_event.get_or_insert(lsn);
                    }
                }
                Step::Record(_) | Step::Skipped => {}
                Step::EndOfWal => return Ok(Some(survey)),
            }
        }
    }
    Ok(None)
}
