//! Reads the records of changes that a pass asks for. They show the order of events.

use std::ops::ControlFlow;

use super::batch::{BATCH_BYTES, Batch};
use super::order_queue::Pass;
use crate::lsn::Lsn;
use crate::pg::xlog_reader::{ReadError, Step, XLogReader};

/// Reads records of changes.
pub struct ChangeReader {
    reader: XLogReader,
    /// Where the range ends that is being read.
    end: Lsn,
}

impl ChangeReader {
    /// A reader that has read nothing yet.
    pub fn new() -> ChangeReader {
        ChangeReader { reader: XLogReader::new(Lsn::INVALID), end: Lsn::INVALID }
    }

    /// Reads a batch. Breaks when everything was read.
    pub fn read_batch(&mut self, pass: &mut Pass) -> Result<ControlFlow<()>, ReadError> {
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
                // All of this WAL was read before, up to the commit behind it.
                Step::EndOfWal => {
                    let lsn = self.reader.position();
                    return Err(ReadError::new(lsn, "WAL that was there is gone"));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The first byte that was not read yet.
    pub fn position(&self) -> Lsn {
        self.reader.position()
    }

    /// Tries once more to read what could not be read.
    pub fn retry(&mut self) {
        self.reader.retry();
    }

    /// Goes on at the next whole record behind the one that could not be read. Returns where that is, or None
    /// while there is none.
    pub fn pass_damage(&mut self) -> Option<Lsn> {
        let next = XLogReader::next_whole(self.position())?;
        self.reader.begin(next);
        Some(next)
    }
}
