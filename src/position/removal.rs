//! The end of a stream: the extension is removed from the cluster ([`crate::sql`], `amqp.uninstall`).

use super::beginning;
use super::pair::Position;
use super::record::{self, Notes, POSITION_PREFIX};
use super::wal_files::failed;
use crate::lsn::Lsn;
use crate::pg::logical_message;
use crate::pg::slot::{self, Found, Slot};
use crate::pg::xlog_reader::ReadError;

/// Has nobody retain WAL any more, here and on standbys. What happens in the middle of it is finished by
/// [`finish`] in the next life of the worker.
///
/// # Errors
///
/// [`ReadError`] if it cannot be noted. Raises if the slot cannot be dropped.
pub fn remove(slot: Slot, confirmed: Lsn) -> Result<(), ReadError> {
    let noted = beginning::note_removal();
    slot.release();
    noted.map_err(failed("written", beginning::FILE))?;
    let position = Position { confirmed, ..Position::default() };
    let record = record::encode(&position, &Notes::default());
    logical_message::flush(logical_message::write_unimportant(POSITION_PREFIX, &record));
    slot::drop_it();
    Ok(())
}

/// Finishes a removal. Of the slot no more is known than that it is there.
///
/// # Errors
///
/// As of [`remove`].
pub fn finish() -> Result<(), ReadError> {
    match slot::find() {
        Found::Usable => {
            let slot = Slot::acquire();
            let confirmed = Position::from_stored(slot.stored()).0.confirmed;
            remove(slot, confirmed)
        }
        Found::Invalidated(_) => {
            slot::drop_it();
            Ok(())
        }
        Found::Nothing | Found::Logical => Ok(()),
    }
}

impl Position {
    /// Whether this is the last word of a stream: there is nothing that WAL is needed for.
    pub fn is_removal(&self) -> bool {
        self.confirmed.is_valid() && !self.restart.is_valid()
    }
}
