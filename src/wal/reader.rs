//! Reads the WAL record by record, keeps our events, and hands on committed transactions. Events that were too
//! large to be kept are read a second time, one by one. Where commands nest, the records of the changes are read,
//! too, to find their order.

use std::ops::ControlFlow;

use pgrx::PgSqlErrorCode;

use super::batch::Batch;
use super::change_reader::ChangeReader;
use super::committed::CommittedTransaction;
use super::order_queue::{OrderQueue, Pass};
use super::transactions::Transactions;
use super::xid_counter::XidCounter;
use crate::event::{EVENT_PREFIX, time_of_message};
use crate::lsn::Lsn;
use crate::memory;
use crate::pg::report::Report;
use crate::pg::server;
use crate::pg::transaction_records::Record;
use crate::pg::visibility::{Outcome, SnapshotMemory};
use crate::pg::xlog_reader::{ReadError, Step, XLogReader};

/// What a batch ended with.
#[derive(Debug, PartialEq, Eq)]
pub enum Reached {
    /// There is more to read.
    More,
    /// Everything that is on disk was read.
    EndOfWal,
}

/// What could not be read and was passed over, up to `next`.
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
    /// Reads ahead for the epoch of the xids, while that is wanted.
    ahead: Option<(XLogReader, XidCounter)>,
    open: Transactions,
    /// Committed transactions that wait for the order of their changes.
    unordered: OrderQueue,
    /// What is being looked up for them.
    pass: Option<Pass>,
    /// Reads what the pass asks for. It is kept, because the next record is mostly on the page that it has read.
    changes: Option<ChangeReader>,
    /// Reads events that were not kept.
    second: Option<XLogReader>,
    /// A transaction that began before this may have ended in a damaged record.
    doubtful_before: Lsn,
    /// For asking how such a transaction ended.
    snapshot: Option<SnapshotMemory>,
    /// When the last transaction committed.
    commit_time: i64,
    /// Plain messages that begin before this are collected, if they have the prefix.
    collected_until: Lsn,
    collected_prefix: &'static [u8],
    /// Those that were not asked for yet.
    collected: Vec<Vec<u8>>,
}

impl TransactionReader {
    /// Begins at `start`, the first byte of a record. Keeps at most `memory_limit` bytes of the
    /// events of open transactions. Collects the plain messages of `prefix` that begin before `until`.
    pub fn new(
        start: Lsn,
        memory_limit: usize,
        prefix: &'static [u8],
        until: Lsn,
    ) -> TransactionReader {
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
            collected_until: until,
            collected_prefix: prefix,
            collected: Vec::new(),
        }
    }

    /// Sets how many bytes of the events of open transactions are kept.
    pub fn set_memory_limit(&mut self, bytes: usize) {
        self.open.set_memory_limit(bytes);
    }

    /// Reads a batch, and gives `committed` the transactions whose commit and order are known then. `may_gather`:
    /// at the end of the WAL, transactions whose order must be looked up may wait for others.
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
        // An error counts only when all that was read before it is handed on.
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
            (Some(_), Some(changes)) => changes.retry(),
            _ => self.reader.retry(),
        }
    }

    /// Goes on at the next whole record behind the one that could not be read. Returns where that is, or None
    /// while there is none.
    pub fn pass_damage(&mut self) -> Option<Passed> {
        // This WAL was read before: the transactions in it are known, and only the order is at stake.
        if let (Some(_), Some(changes)) = (&self.pass, &mut self.changes) {
            return changes.pass_damage().map(|next| Passed::Changes { next });
        }
        let next = XLogReader::next_whole(self.reader.position())?;
        self.reader.begin(next);
        self.doubtful_before = next;
        Some(Passed::Unread { next })
    }

    /// Reads a batch, a smaller one if a transaction commits.
    fn read_transactions(&mut self) -> Result<Reached, ReadError> {
        // To find that out by reading, the segment would have to be opened again.
        if self.reader.is_at_end() {
            return Ok(self.reach_end());
        }
        let batch = Batch::begin(&self.reader);
        while !batch.is_over(&self.reader) {
            let is_collected = self.reader.position() < self.collected_until;
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
                Record::PlainMessage { lsn, end, prefix: EVENT_PREFIX, payload } => {
                    let time = time_of_message(payload).unwrap_or(self.commit_time);
                    let transaction = self.open.alone(lsn, payload, end, time);
                    self.unordered.push(transaction, &[]);
                    return Ok(Reached::More);
                }
                Record::PlainMessage { prefix, payload, .. } => {
                    if is_collected && prefix == self.collected_prefix {
                        memory::push(&mut self.collected, memory::copy(payload));
                    }
                }
                Record::Checkpoint { .. } => {}
            }
        }
        Ok(Reached::More)
    }

    /// Asks pg_xact how transactions older than this one ended that are in doubt since a damaged record: their end
    /// may have been in it. Without this they would count as dead now.
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
                // No other transaction that old runs any more: it must be a prepared one.
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
        // It is not known which of them belong together. So they are published as one transaction: no part of one
        // may look like a whole one.
        if let Some((&xid, others)) = committed.split_first() {
            let others = memory::collect(others.iter().map(|&xid| xid as u32));
            let end = self.reader.position();
            if let Some(transaction) = self.open.commit(xid, &others, end, self.commit_time) {
                self.unordered.push(transaction, &others);
            }
        }
    }

    /// Learns the epoch of the xids at the end of the WAL, where the server's counter agrees with the WAL.
    fn reach_end(&mut self) -> Reached {
        if !self.xids.is_known() {
            self.xids.learn(server::next_xid());
        }
        Reached::EndOfWal
    }

    /// Returns the xid of a transaction that was handed on with its epoch, if that is known yet.
    pub fn real_xid(&self, counted: u64) -> Option<u64> {
        self.xids.real(counted)
    }

    /// Reads ahead for the epoch of the xids, a batch at a time: a transaction that is held back may wait for
    /// nothing else. Returns true if the epoch was found, or if there is more to read for it.
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
                // The main reader will come to this error, too.
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
            Step::Record(
                Record::TransactionalMessage { lsn: found, prefix: EVENT_PREFIX, payload, .. }
                | Record::PlainMessage { lsn: found, prefix: EVENT_PREFIX, payload, .. },
            ) if found == lsn => Ok(memory::copy(payload)),
            _ => Err(ReadError::new(lsn, "the event that was there is gone")),
        }
    }

    /// Returns the messages that were collected since the last call.
    pub fn take_collected(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.collected)
    }

    /// The first byte that was not read yet.
    pub fn position(&self) -> Lsn {
        self.reader.position()
    }

    /// Closes old segments. To be called when nothing is left to be read a second time. An open segment that was
    /// removed still takes its disk space.
    pub fn forget_old_wal(&mut self) {
        self.second = None;
        if self.pass.is_none() {
            let segment = |lsn: Lsn| lsn.segment(server::wal_segment_size());
            let here = segment(self.position());
            self.changes.take_if(|changes| segment(changes.position()) != here);
        }
    }

    /// Returns the first byte that is needed by transactions which were not handed on yet, or the position if there
    /// are none.
    pub fn needed_from(&self) -> Lsn {
        let needed = [self.open.oldest_lsn(), self.unordered.first_lsn()];
        needed.into_iter().flatten().min().unwrap_or_else(|| self.position())
    }

    /// Returns the LSN of the first event, and the commit time, of the oldest committed transaction that was not
    /// handed on yet.
    pub fn oldest_unordered(&self) -> Option<(Lsn, i64)> {
        self.unordered.oldest()
    }

    /// Returns true if a prepared transaction has events.
    pub fn has_prepared(&self) -> bool {
        self.open.has_prepared()
    }
}

/// Counts the xid in a record. Returns the counted xid of the transaction, or of the oldest that runs; 0 if the
/// record has none.
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
