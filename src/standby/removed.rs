//! A standby of a server that the extension was removed from: it has nothing to take over, and keeps no slot. It
//! listens whether there is a stream again.

use crate::pg::slot::{self, Found, Slot};
use crate::pg::transaction_records::Record;
use crate::pg::xlog_reader::{ReadError, Step, XLogReader};
use crate::pg::{server, wait, worker_process};
use crate::position::{self, POSITION_PREFIX, beginning};
use crate::wal::batch::Batch;

/// Listens.
pub struct Removed {
    reader: XLogReader,
}

impl Removed {
    /// If an earlier life of the worker has noted that it is so.
    pub fn noted() -> Option<Removed> {
        if !matches!(beginning::read(), Ok(beginning::Beginning::Removed)) {
            return None;
        }
        if matches!(slot::find(), Found::Usable | Found::Invalidated(_)) {
            slot::drop_it();
        }
        Some(Removed { reader: XLogReader::new(server::flushed_lsn()) })
    }

    /// From the record on that `reader` has just read. Lets the slot go, and notes why.
    ///
    /// # Errors
    ///
    /// If it cannot be noted. The slot stays then.
    pub fn now(slot: Slot, reader: XLogReader) -> std::io::Result<Removed> {
        let noted = beginning::note_removal();
        slot.release();
        noted?;
        slot::drop_it();
        Ok(Removed { reader })
    }

    /// Whether there is a stream again.
    pub fn is_over(&mut self) -> bool {
        match self.hears_a_position() {
            Ok(hears) => hears,
            // Nothing retains the WAL. The next position is heard of as well.
            Err(_) => {
                self.reader = XLogReader::new(server::flushed_lsn());
                false
            }
        }
    }

    fn hears_a_position(&mut self) -> Result<bool, ReadError> {
        while !worker_process::must_end() {
            let batch = Batch::begin(&self.reader);
            while !batch.is_over(&self.reader) {
                match self.reader.read()? {
                    Step::Record(Record::PlainMessage {
                        prefix: POSITION_PREFIX, payload, ..
                    }) => {
                        let position = position::decode(payload).map(|(position, _)| position);
                        if position.is_some_and(|position| !position.is_removal()) {
                            return Ok(true);
                        }
                    }
                    Step::Record(_) | Step::Skipped => {}
                    Step::EndOfWal => return Ok(false),
                }
            }
            wait::serve_interrupts();
        }
        Ok(false)
    }
}
