//! Remembers whether anything was ever captured in this cluster. A worker that finds neither slot nor position
//! record needs to know: it must not take a loss of both for a first start.
//!
//! A file in the data directory keeps this. Other places would not do:
//! - the slot: the question comes up when it is lost, and neither a base backup nor a standby has it;
//! - the WAL alone: without a worker nothing retains it;
//! - a catalog: the worker has no database.
//!
//! A base backup and pg_rewind copy the file, so that a restored cluster knows as much as the original did. The
//! file is missing on a standby that is older than the file, in a cluster that pg_upgrade made, and where an
//! earlier version of the extension captured without a worker. There the files of the databases tell whether the
//! extension is in one of them ([`traces`]), which means that something may have been captured.
//!
//! The file names the LSN before which nothing was captured, if that is known: as long as the WAL from there on is
//! whole, nothing can be lost. The file is on disk before the first event is captured. The worker writes it when
//! it has found where to begin, or CREATE EXTENSION does, if no worker has done so yet.

mod traces;

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Result};

use crate::lsn::Lsn;
use crate::note_file;
pub use traces::is_installed;

/// The name of the file.
pub const FILE: &str = "amqp_cdc.started";

/// What it says.
const TEXT: &str =
    "amqp_cdc captures changes in this cluster. Remove this file once amqp_cdc is removed.\n";

/// What it says where the extension was removed.
const REMOVED: &str =
    "amqp_cdc was removed from this cluster by amqp.uninstall(). CREATE EXTENSION begins anew.\n";

/// The words before the LSN, on a line of its own.
const NOTHING_BEFORE: &str = "Nothing was captured before ";

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// There is no file.
    Unnoted,
    /// Something may have been captured at any time.
    Unknown,
    /// Nothing was captured before this LSN.
    At(Lsn),
    /// Something was captured, all of it was done with, and the extension was removed.
    Removed,
}

/// Reads the file.
///
/// # Errors
///
/// If the file is there and cannot be read.
pub fn read() -> Result<Beginning> {
    match fs::read(FILE) {
        Ok(bytes) => Ok(parse(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Beginning::Unnoted),
        Err(error) => Err(error),
    }
}

/// Reads what the file says. One that was cut off, or that another version wrote, says that nothing is known.
fn parse(text: &str) -> Beginning {
    if text == REMOVED {
        return Beginning::Removed;
    }
    let lsn = text.lines().find_map(|line| line.strip_prefix(NOTHING_BEFORE));
    lsn.and_then(|lsn| lsn.strip_suffix('.')?.parse().ok())
        .map_or(Beginning::Unknown, Beginning::At)
}

fn spell(begin: Option<Lsn>) -> String {
    let line = begin.map(|begin| format!("{NOTHING_BEFORE}{begin}.\n"));
    format!("{TEXT}{}", line.unwrap_or_default())
}

/// Notes, durably, that nothing was captured before this LSN, or without an LSN that nothing is known. This
/// replaces what was noted before.
///
/// # Errors
///
/// If the file cannot be written.
pub fn note(begin: Option<Lsn>) -> Result<()> {
    note_file::replace(FILE, &spell(begin))
}

/// Notes, durably, that the extension was removed.
///
/// # Errors
///
/// If the file cannot be written.
pub fn note_removal() -> Result<()> {
    note_file::replace(FILE, REMOVED)
}

/// Notes that the extension is being installed in this database, unless something is noted already. Nothing was
/// captured before `begin` if no other database has the extension.
///
/// # Errors
///
/// If the file cannot be written, or a file of another database cannot be read.
pub fn note_installation(begin: Lsn, database: u32) -> Result<()> {
    match read()? {
        Beginning::Unnoted => {}
        Beginning::Removed => return note(Some(begin)),
        Beginning::Unknown | Beginning::At(_) => return Ok(()),
    }
    let is_elsewhere = is_installed(Some(database), || true)? == Some(true);
    match OpenOptions::new().write(true).create_new(true).open(FILE) {
        Ok(file) => note_file::fill(file, &spell((!is_elsewhere).then_some(begin))),
        // Another session was faster, and notes the same.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_as_it_is_written() {
        let lsn = Lsn(0x12_3456_789A);
        assert_eq!(parse(&spell(Some(lsn))), Beginning::At(lsn));
        assert_eq!(parse(&spell(None)), Beginning::Unknown);
        assert_eq!(parse(REMOVED), Beginning::Removed);
    }

    #[test]
    fn of_what_was_cut_off_or_is_of_0_1_0_nothing_is_known() {
        let whole = spell(Some(Lsn(0x12_3456_789A)));
        for end in 0..whole.len() - 1 {
            assert_eq!(parse(&whole[..end]), Beginning::Unknown, "{end}");
        }
        let old = "amqp_cdc has published from this cluster. Remove this file once amqp_cdc is removed.\n";
        assert_eq!(parse(old), Beginning::Unknown);
    }
}
