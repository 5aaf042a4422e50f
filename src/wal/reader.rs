//! Reads the WAL record by record, keeps what is ours, and hands committed transactions on. What
//! was too large to be kept it reads a second time, event by event, and where commands nest also the records
//! of the changes, to tell their order.

use std::ops::ControlFlow;

use pgrx::PgSqlErrorCode;

use crate::event::EVENT_PREFIX;
use crate::lsn::Lsn;
use crate::memory;
use crate::pg::report::Report;
use crate::pg::server;
use crate::pg::transaction_records::Record;
use crate::pg::visibility::{Outcome, SnapshotMemory};
use crate::pg::xlog_reader::{ReadError, Step, XLogReader};
use crate::position::{self, Notes, POSITION_PREFIX, Position};
use crate::wal::order_queue::{OrderQueue, Pass};
use crate::wal::transactions::{CommittedTransaction, Transactions};
use crate::wal::xid_counter::XidCounter;

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

/// What was passed that could not be read, up to `next`.
#[derive(Debug, PartialEq, Eq)]
pub enum Passed {
    /// WAL that was not read before: events may have been in it, and ends of transactions.
    Unread { next: Lsn },
    /// Records of changes, which only tell the order of events.
    Changes { next: Lsn },
}

/// The committed transactions in the WAL, in commit order.
pub struct TransactionReader {
    reader: XLogReader,
    xids: XidCounter,
    /// Looks ahead of the reader for the epoch of the xids, when that is wanted.
    ahead: Option<(XLogReader, XidCounter)>,
    open: Transactions,
    /// Committed ones that wait for the order of their changes.
    unordered: OrderQueue,
    /// What is being read for them.
    pass: Option<Pass>,
    /// Reads it. Kept: what comes next mostly lies on the page that it has.
    changes: Option<ChangeReader>,
    /// Goes back to the events that were not kept.
    second: Option<XLogReader>,
    /// The end of what began before may have been in a damaged record.
    doubtful_before: Lsn,
    /// For asking how that ended.
    snapshot: Option<SnapshotMemory>,
    /// When the last transaction committed.
    commit_time: i64,
    /// The position records that begin before this are of earlier lives of the worker...
    earlier_until: Lsn,
    /// ...and say this besides the position, as far as was not asked for.
    notes: Vec<Notes>,
}

/// Reads records of changes.
struct ChangeReader {
    reader: XLogReader,
    /// Where the range ends that is being read.
    end: Lsn,
}

impl TransactionReader {
    /// Begins at `start`, the first byte of a record. Keeps at most `memory_limit` bytes of the
    /// events of open transactions. Position records before `earlier_until` are an earlier life's.
    pub fn new(start: Lsn, memory_limit: usize, earlier_until: Lsn) -> TransactionReader {
        TransactionReader {
            reader: XLogReader::new(start),
            xids: XidCounter::default(),
            ahead: None,
            open: Transactions::new(memory_limit),
            unordered: OrderQueue::default(),
            pass: None,
            changes: None,
            second: None,
            doubtful_before: Lsn::INVALID,
            snapshot: None,
            commit_time: 0,
            earlier_until,
            notes: Vec::new(),
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
            Some(pass) => self.read_changes(pass).map(|()| Reached::More),
            None => self.read_transactions(),
        };
        std::iter::from_fn(|| self.unordered.pop()).for_each(committed);
        // What was read intact is handed on before an error counts.
        let is_pass_due = match reached {
            Ok(Reached::More) => false,
            Ok(Reached::EndOfWal) => !may_gather,
            Err(_) => true,
        } || self.unordered.is_due(self.position());
        if self.pass.is_none() && is_pass_due && self.unordered.needs_pass() {
            self.pass = Some(self.unordered.begin_pass());
            return Ok(Reached::More);
        }
        reached
    }

    /// Reads a batch of what the pass asks for.
    fn read_changes(&mut self, mut pass: Pass) -> Result<(), ReadError> {
        match self.changes.get_or_insert_with(ChangeReader::new).read_batch(&mut pass) {
            Ok(ControlFlow::Break(())) => {
                self.unordered.end_pass(pass);
                Ok(())
            }
            Ok(ControlFlow::Continue(())) => {
                self.pass = Some(pass);
                Ok(())
            }
            Err(error) => {
                self.pass = Some(pass);
                Err(error)
            }
        }
    }

    /// Tries once more to read what could not be read.
    pub fn retry(&mut self) {
        match (&self.pass, &mut self.changes) {
            (Some(_), Some(changes)) => changes.reader.retry(),
            _ => self.reader.retry(),
        }
    }

    /// Goes on behind the record that could not be read, at the next one that is whole, and says where that
    /// is; none while there is none.
    pub fn pass_damage(&mut self) -> Option<Passed> {
        // Records of changes were read before: their transactions are known, and no event is among them.
        if let (Some(_), Some(changes)) = (&self.pass, &mut self.changes) {
            let next = XLogReader::next_whole(changes.reader.position())?;
            changes.reader.begin(next);
            return Some(Passed::Changes { next });
        }
        let next = XLogReader::next_whole(self.reader.position())?;
        self.reader.begin(next);
        self.doubtful_before = next;
        Some(Passed::Unread { next })
    }

    /// Reads a batch, a smaller one if a transaction commits.
    fn read_transactions(&mut self) -> Result<Reached, ReadError> {
        // Finding that out by reading costs opening the segment anew.
        if self.reader.is_at_end() {
            return Ok(self.reach_end());
        }
        let batch = Batch::begin(&self.reader);
        while !batch.is_over(&self.reader) {
            let is_earlier = self.reader.position() < self.earlier_until;
            let record = match self.reader.read()? {
                Step::Record(record) => record,
                Step::Skipped => continue,
                Step::EndOfWal => return Ok(self.reach_end()),
            };
            let xid = count(&mut self.xids, &record);
            match record {
                Record::TransactionalMessage { lsn, prefix, payload, .. } => {
                    if prefix == EVENT_PREFIX {
                        self.open.event(xid, lsn, payload);
                    }
                }
                Record::Commit { subxids, end, time, .. } => {
                    self.commit_time = time;
                    if let Some(transaction) = self.open.commit(xid, subxids, end, time) {
                        self.unordered.push(transaction, subxids);
                        return Ok(Reached::More);
                    }
                }
                Record::Abort { subxids, .. } => self.open.abort(xid, subxids),
                Record::Prepare { subxids, .. } => self.open.prepare(xid, subxids),
                Record::RunningXacts { .. } => {
                    self.ask_for_doubtful(xid);
                    self.open.retire_older_than(xid);
                }
                Record::NothingRuns { .. } => {
                    self.ask_for_doubtful(u64::MAX);
                    self.open.retire_all();
                }
                Record::PlainMessage { prefix, payload } => {
                    if is_earlier && prefix == POSITION_PREFIX {
                        memory::reserve(&mut self.notes, 1);
                        self.notes.extend(position::decode(payload).and_then(|(_, notes)| notes));
                    }
                }
                Record::Checkpoint { .. } => {}
            }
        }
        Ok(Reached::More)
    }

    /// Those transactions older than this one, in doubt since a damaged record, that would be taken for dead now:
    /// their end may have been in it. pg_xact knows it.
    fn ask_for_doubtful(&mut self, oldest_running: u64) {
        if self.open.oldest_lsn().is_none_or(|first| first >= self.doubtful_before) {
            return;
        }
        let snapshot = self.snapshot.get_or_insert_with(SnapshotMemory::new).take();
        let (mut committed, mut unknown) = (Vec::new(), String::new());
        for xid in self.open.older_than(oldest_running) {
            let real = self.xids.real(xid);
            match snapshot.outcome(real.unwrap_or_else(|| snapshot.running().youngest(xid as u32)))
            {
                // Of those that may still run, only a prepared one does.
                Outcome::Running => self.open.prepare(xid, &[]),
                Outcome::Committed => memory::push(&mut committed, xid),
                Outcome::Aborted => {}
                Outcome::Unknown => {
                    let separator = if unknown.is_empty() { "" } else { ", " };
                    memory::append_text(&mut unknown, separator);
                    memory::append_text(&mut unknown, &(xid as u32).to_string());
                }
            }
        }
        drop(snapshot);
        if !unknown.is_empty() {
            Report::new(
                PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
                format!(
                    "transactions {unknown} ended in the part of the WAL that is damaged, and nothing tells how"
                ),
            )
            .detail("They did not commit, or pg_xact does not reach back to them. Their events are not published.")
            .warn();
        }
        // Which of them belong together is not known, and nothing is published of one that is not whole
        // without saying so.
        if let Some((&xid, others)) = committed.split_first() {
            let others = memory::collect(others.iter().map(|&xid| xid as u32));
            let end = self.reader.position();
            if let Some(transaction) = self.open.commit(xid, &others, end, self.commit_time) {
                self.unordered.push(transaction, &others);
            }
        }
    }

    /// There, the counter of the server is that of the WAL.
    fn reach_end(&mut self) -> Reached {
        if !self.xids.is_known() {
            self.xids.learn(server::next_xid());
        }
        Reached::EndOfWal
    }

    /// The xid of a transaction that was handed on, with its epoch, if that is known yet.
    pub fn real_xid(&self, counted: u64) -> Option<u64> {
        self.xids.real(counted)
    }

    /// To be called while a transaction is held back, which may wait for no more than its epoch: looks for that
    /// ahead of what is read, a batch at a time. Whether it was found, or there is more to be read for it.
    pub fn look_for_epoch(&mut self) -> bool {
        if self.xids.is_known() {
            self.ahead = None;
            return false;
        }
        let begin = || (XLogReader::new(self.reader.position()), self.xids.clone());
        let (reader, xids) = self.ahead.get_or_insert_with(begin);
        let batch = Batch::begin(reader);
        while !batch.is_over(reader) && !xids.is_known() {
            match reader.read() {
                Ok(Step::Record(record)) => {
                    count(xids, &record);
                }
                Ok(Step::Skipped) => {}
                Ok(Step::EndOfWal) => xids.learn(server::next_xid()),
                // Whoever reads what lies before it comes to it, too.
                Err(_) => return false,
            }
        }
        self.xids.know_from(xids);
        true
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
            _ => Err(ReadError::new(lsn, "the event that was there is gone")),
        }
    }

    /// What earlier lives of the worker noted in the WAL that was read since the last call.
    pub fn take_notes(&mut self) -> Vec<Notes> {
        std::mem::take(&mut self.notes)
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

/// The xid that a record is about, if it is about one: of the transaction, or the oldest that runs.
fn count(xids: &mut XidCounter, record: &Record<'_>) -> u64 {
    match *record {
        Record::TransactionalMessage { xid, .. }
        | Record::Commit { xid, .. }
        | Record::Abort { xid, .. }
        | Record::Prepare { xid, .. } => xids.count(xid),
        Record::RunningXacts { next, oldest } => xids.count_running(next, oldest),
        Record::Checkpoint { next_xid } | Record::NothingRuns { next_xid: Some(next_xid) } => {
            xids.learn(next_xid);
            0
        }
        Record::NothingRuns { next_xid: None } | Record::PlainMessage { .. } => 0,
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
                    return Err(ReadError::new(lsn, "WAL that was there is gone"));
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
    /// What was noted besides.
    pub notes: Notes,
    /// The first event, if no position was recorded ahead of it.
    pub first_event: Option<Lsn>,
}

/// Looks through the WAL from `start`, the first byte of the oldest segment, for the last recorded
/// position. `keep_going` is asked now and then; if it declines, none.
///
/// # Errors
///
/// [`ReadError`] if the WAL holds no record. Damaged ones are passed.
pub fn survey(
    start: Lsn,
    mut keep_going: impl FnMut() -> bool,
) -> Result<Option<Survey>, ReadError> {
    let (mut reader, first_record) = XLogReader::at_first_record_after(start)
        .ok_or_else(|| ReadError::new(start, "no record begins there or later"))?;
    let (last_position, notes) = (None, Notes::default());
    let mut survey = Survey { first_record, last_position, notes, first_event: None };
    while keep_going() {
        let batch = Batch::begin(&reader);
        while !batch.is_over(&reader) {
            let step = match reader.read() {
                Ok(step) => step,
                // Whoever reads on from the position that is found comes upon it, too, if it matters.
                Err(error) => {
                    let Some(next) = XLogReader::next_whole(error.lsn) else {
                        return Ok(Some(survey));
                    };
                    reader.begin(next);
                    continue;
                }
            };
            match step {
                Step::Record(Record::PlainMessage { prefix, payload }) => {
                    if prefix == POSITION_PREFIX
                        && let Some((position, notes)) = position::decode(payload)
                    {
                        survey.last_position = Some(position);
                        notes.into_iter().for_each(|notes| survey.notes.update(notes));
                    }
                }
                Step::Record(Record::TransactionalMessage { prefix, lsn, .. }) => {
                    if prefix == EVENT_PREFIX && survey.last_position.is_none() {
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
