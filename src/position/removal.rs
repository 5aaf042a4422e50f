//! The end of a stream: the extension is removed from the cluster ([`crate::sql`], `amqp.uninstall`).

use super::beginning;
use super::pair::Position;
use super::record::{self, Notes, POSITION_PREFIX};
use super::search::{oldest_wal, survey};
use super::wal_files::failed;
use crate::pg::slot::{self, Found, Slot};
use crate::pg::timeline::Timelines;
use crate::pg::xlog_reader::ReadError;
use crate::pg::{logical_message, server};

/// Has nobody retain WAL any more, here and on standbys. What happens in the middle of it is finished by
/// [`finish`] in the next life of the worker.
///
/// # Errors
///
/// [`ReadError`] if it cannot be noted. Raises if the slot cannot be dropped.
pub fn remove(slot: Slot) -> Result<(), ReadError> {
    let noted = note();
    slot.release();
    noted?;
    end_here();
    Ok(())
}

/// Notes that the extension is removed.
///
/// # Errors
///
/// [`ReadError`] if it cannot be noted.
pub fn note() -> Result<(), ReadError> {
    beginning::note_removal().map_err(failed("written", beginning::FILE))
}

/// Takes that note back: what may have been captured since is for the next search to find.
///
/// # Errors
///
/// [`ReadError`] if it cannot be noted.
pub fn take_back() -> Result<(), ReadError> {
    beginning::note(None).map_err(failed("written", beginning::FILE))
}

/// What committed until now is done with, confirmed or not: no later stream brings it back.
fn end_here() {
    let position = Position { confirmed: server::inserted_lsn(), ..Position::default() };
    let record = record::encode(&position, &Notes::default());
    logical_message::flush(logical_message::write_unimportant(POSITION_PREFIX, &record));
    slot::drop_it();
}

/// Finishes a removal. Of the slot no more is known than that it is there.
///
/// # Errors
///
/// As of [`remove`].
pub fn finish() -> Result<(), ReadError> {
    match slot::find() {
        Found::Usable => remove(Slot::acquire()),
        Found::Invalidated(_) => {
            end_here();
            Ok(())
        }
        Found::Nothing | Found::Logical => Ok(()),
    }
}

/// Whether there is a stream again, though a removal is noted: a standby that did not listen, or a backup of the time
/// when there was none, has a note that is older than its WAL.
///
/// # Errors
///
/// [`ReadError`] if the WAL cannot be read.
pub fn is_over(keep_going: impl FnMut() -> bool) -> Result<bool, ReadError> {
    let found = survey(oldest_wal(&Timelines::read())?, keep_going)?;
    let last = found.and_then(|survey| survey.last_position);
    Ok(last.is_some_and(|position| !position.is_removal()))
}

impl Position {
    /// Whether this is the last word of a stream: there is nothing that WAL is needed for.
    pub fn is_removal(&self) -> bool {
        self.confirmed.is_valid() && !self.restart.is_valid()
    }
}
