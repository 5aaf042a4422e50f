//! A standby of a server that the extension was removed from: it has nothing to take over, and keeps no slot. It
//! listens whether there is a stream again.

use super::listening::listen;
use crate::pg::server;
use crate::pg::slot::{self, Found, Slot};
use crate::pg::xlog_reader::{ReadError, XLogReader};
use crate::position::{self, beginning};

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
    pub fn now(slot: Slot, reader: XLogReader) -> Result<Removed, ReadError> {
        let noted = position::note_removal();
        slot.release();
        noted?;
        slot::drop_it();
        Ok(Removed { reader })
    }

    /// Whether there is a stream again.
    pub fn is_over(&mut self) -> bool {
        let mut is_over = false;
        let listened = listen(&mut self.reader, |heard, _| {
            if let Some((position, _)) = heard {
                is_over = !position.is_removal();
            }
        });
        if listened.is_err() {
            // Nothing retains the WAL. The next position is heard of as well.
            self.reader = XLogReader::new(server::flushed_lsn());
        }
        is_over
    }
}
