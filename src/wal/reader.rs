//! Reads the WAL record by record, keeps what is ours, and hands committed transactions on. What
//! was too large to be kept it reads a second time, event by event, and where commands nest also the records
//! of the changes, to tell their order.

use std::ops::ControlFlow;

use crate::event::EVENT_PREFIX;
use crate::lsn::Lsn;
use crate::memory;
use crate::pg::server;
use crate::pg::xlog_reader::{ReadError, Record, Step, XLogReader};
use crate::position::{POSITION_PREFIX, Position};
use crate::wal::order_queue::{OrderQueue, Pass};
use crate::wal::transactions::{CommittedTransaction, Transactions};

/// What is read in one go, before the caller looks at signals and at the broker again: so many records...
const BATCH_RECORDS: usize = 1000;

/// ...and not much more WAL than this: on a cold disk each page may take milliseconds.
const BATCH_BYTES: u64 = 64 * 1024;

/// How far one batch goes.
struct Batch {
    records: usize,
    end: Lsn,
}

impl Batch {
    fn begin(reader: &XLogReader) -> Batch {
        let records = reader.records() + BATCH_RECORDS;
        Batch { records, end: Lsn(reader.position().0 + BATCH_BYTES) }
    }

    fn is_over(&self, reader: &XLogReader) -> bool {
        reader.records() >= self.records || reader.position() >= self.end
    }
}

/// What a batch ended with.
#[derive(Debug, PartialEq, Eq)]
pub enum Reached {
    /// There is more to read.
    More,
    /// Everything that is on disk was read.
    EndOfWal,
}

/// The committed transactions in the WAL, in commit order.
pub struct TransactionReader {
    reader: XLogReader,
    open: Transactions,
    /// Committed ones that wait for the order of their changes.
    unordered: OrderQueue,
    /// What is being read for them.
    pass: Option<Pass>,
    /// Reads it. Kept: what comes next mostly lies on the page that it has.
    changes: Option<ChangeReader>,
    /// Goes back to the events that were not kept.
    second: Option<XLogReader>,
}

/// Reads records of changes.
struct ChangeReader {
    reader: XLogReader,
    /// Where the range ends that is being read.
    end: Lsn,
}

impl TransactionReader {
    /// Begins at `start`, the first byte of a record. Keeps at most `memory_limit` bytes of the
    /// events of open transactions.
    pub fn new(start: Lsn, memory_limit: usize) -> TransactionReader {
        TransactionReader {
            reader: XLogReader::new(start),
            open: Transactions::new(memory_limit),
            unordered: OrderQueue::default(),
            pass: None,
            changes: None,
            second: None,
        }
    }

    /// Sets the bytes that are kept of the events of open transactions.
    pub fn set_memory_limit(&mut self, bytes: usize) {
        self.open.set_memory_limit(bytes);
    }

    /// Reads a batch, and gives what is known then of the committed transactions and their
    /// order to `committed`. `may_gather`: those whose order is to be looked up may wait for others at the end
    /// of the WAL.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the WAL is damaged.
    pub fn read_batch(
        &mut self,
        may_gather: bool,
        committed: impl FnMut(CommittedTransaction),
    ) -> Result<Reached, ReadError> {
        let reached = match self.pass.take() {
            Some(pass) => {
                self.read_changes(pass)?;
                Reached::More
            }
            None => self.read_transactions()?,
        };
        std::iter::from_fn(|| self.unordered.pop()).for_each(committed);
        let is_pass_due =
            (reached == Reached::EndOfWal && !may_gather) || self.unordered.is_due(self.position());
        if self.pass.is_none() && is_pass_due && self.unordered.needs_pass() {
            self.pass = Some(self.unordered.begin_pass());
            return Ok(Reached::More);
        }
        Ok(reached)
    }

    /// Reads a batch of what the pass asks for.
    fn read_changes(&mut self, mut pass: Pass) -> Result<(), ReadError> {
        match self.changes.get_or_insert_with(ChangeReader::new).read_batch(&mut pass)? {
            ControlFlow::Continue(()) => self.pass = Some(pass),
            ControlFlow::Break(()) => self.unordered.end_pass(pass),
        }
        Ok(())
    }

    /// Reads a batch, a smaller one if a transaction commits.
    fn read_transactions(&mut self) -> Result<Reached, ReadError> {
        // Finding that out by reading costs opening the segment anew.
        if self.reader.is_at_end() {
            return Ok(Reached::EndOfWal);
        }
        let batch = Batch::begin(&self.reader);
        while !batch.is_over(&self.reader) {
            let record = match self.reader.read()? {
                Step::Record(record) => record,
                Step::Skipped => continue,
                Step::EndOfWal => return Ok(Reached::EndOfWal),
            };
            match record {
                Record::TransactionalMessage { xid, lsn, prefix, payload } => {
                    if prefix == EVENT_PREFIX {
                        self.open.event(xid, lsn, payload);
                    }
                }
                Record::Commit { xid, subxids, end, time } => {
                    if let Some(transaction) = self.open.commit(xid, subxids, end, time) {
                        self.unordered.push(transaction, subxids);
                        return Ok(Reached::More);
                    }
                }
                Record::Abort { xid, subxids } => self.open.abort(xid, subxids),
                Record::Prepare { xid, subxids } => self.open.prepare(xid, subxids),
                Record::OldestRunning { xid } => self.open.retire_older_than(xid),
                Record::NothingRuns => self.open.retire_all(),
                Record::PlainMessage { .. } => {}
            }
        }
        Ok(Reached::More)
    }

    /// Reads the payload of an event that was not kept.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the WAL is damaged.
    pub fn read_event(&mut self, lsn: Lsn) -> Result<Vec<u8>, ReadError> {
        let second = self.second.get_or_insert_with(|| XLogReader::new(Lsn::INVALID));
        second.begin(lsn);
        match second.read()? {
            Step::Record(Record::TransactionalMessage { lsn: found, prefix, payload, .. })
                if found == lsn && prefix == EVENT_PREFIX =>
            {
                Ok(memory::copy(payload))
            }
            _ => Err(ReadError { lsn, message: "the event that was there is gone".to_owned() }),
        }
    }

    /// The first byte that was not read yet.
    pub fn position(&self) -> Lsn {
        self.reader.position()
    }

    /// To be called when nothing is left to be read a second time: who keeps an old segment open keeps its
    /// disk space from being freed.
    pub fn forget_old_wal(&mut self) {
        self.second = None;
        if self.pass.is_none() {
            let segment = |lsn: Lsn| lsn.segment(server::wal_segment_size());
            let here = segment(self.position());
            self.changes.take_if(|changes| segment(changes.reader.position()) != here);
        }
    }

    /// The first byte that the transactions need which were not handed on yet, or the position if there
    /// are none.
    pub fn needed_from(&self) -> Lsn {
        let needed = [self.open.oldest_lsn(), self.unordered.first_lsn()];
        needed.into_iter().flatten().min().unwrap_or_else(|| self.position())
    }

    /// LSN of the first event, and commit time, of the oldest committed transaction that was not handed on
    /// yet.
    pub fn oldest_unordered(&self) -> Option<(Lsn, i64)> {
        self.unordered.oldest()
    }

    /// Whether a prepared transaction has events.
    pub fn has_prepared(&self) -> bool {
        self.open.has_prepared()
    }
}

impl ChangeReader {
    fn new() -> ChangeReader {
        ChangeReader { reader: XLogReader::new(Lsn::INVALID), end: Lsn::INVALID }
    }

    /// Reads a batch. Breaks when everything was read.
    fn read_batch(&mut self, pass: &mut Pass) -> Result<ControlFlow<()>, ReadError> {
        let mut batch = Batch::begin(&self.reader);
        while !batch.is_over(&self.reader) {
            if self.reader.position() >= self.end {
                let Some(range) = pass.next_range() else { return Ok(ControlFlow::Break(())) };
                self.reader.begin(range.start);
                self.end = range.end;
                batch.end = Lsn(range.start.0 + BATCH_BYTES);
            }
            match self.reader.read_change(self.end)? {
                Step::Record(change) => {
                    pass.take(change.xid, change.lsn, change.trace, change.places());
                }
                Step::Skipped => {}
                // All of it was read before, up to the commit behind it.
                Step::EndOfWal => {
                    let lsn = self.reader.position();
                    return Err(ReadError {
                        lsn,
                        message: "WAL that was there is gone".to_owned(),
                    });
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// What a look through the whole WAL found.
#[derive(Debug, PartialEq, Eq)]
pub struct Survey {
    /// The first record there is.
    pub first_record: Lsn,
    /// The last position that was recorded in it.
    pub last_position: Option<Position>,
    /// Whether there is an event that an earlier life of the server wrote, ahead of any position.
    /// In a first life there is none: its worker records a position before anything else.
    pub has_orphans: bool,
}

/// Looks through the WAL from `start`, the first byte of the oldest segment, for the last recorded
/// position. `keep_going` is asked now and then; if it declines, none.
///
/// # Errors
///
/// [`ReadError`] if the WAL is damaged, or holds no record.
pub fn survey(
    start: Lsn,
    mut keep_going: impl FnMut() -> bool,
) -> Result<Option<Survey>, ReadError> {
    let (mut reader, first_record) = XLogReader::at_first_record_after(start).ok_or_else(|| {
        ReadError { lsn: start, message: "no record begins there or later".to_owned() }
    })?;
    let mut survey = Survey { first_record, last_position: None, has_orphans: false };
    let mut has_events = false;
    while keep_going() {
        let batch = Batch::begin(&reader);
        while !batch.is_over(&reader) {
            match reader.read()? {
                Step::Record(Record::PlainMessage { prefix, payload }) => {
                    if prefix == POSITION_PREFIX {
                        survey.last_position = Position::decode(payload).or(survey.last_position);
                    }
                }
                Step::Record(Record::TransactionalMessage { prefix, .. }) => {
                    has_events |= prefix == EVENT_PREFIX && survey.last_position.is_none();
                }
                // The end of a life: a shutdown, a recovery or a promotion.
                Step::Record(Record::NothingRuns) => survey.has_orphans |= has_events,
                Step::Record(_) | Step::Skipped => {}
                Step::EndOfWal => return Ok(Some(survey)),
            }
        }
    }
    Ok(None)
}
