//! What is known of the time before there was a position: whether something was captured in this cluster
//! once. A worker that finds neither slot nor position record must not take a loss for a first start.
//!
//! That is kept in a file in the data directory, and not
//! - in the slot, whose loss is what it is asked about, and which neither a base backup nor a standby has;
//! - in the WAL alone: what is retained tells of itself, and with nobody to publish nothing is retained;
//! - in a catalog: the worker has no database.
//!
//! A base backup and pg_rewind copy the file, so that a restored cluster knows as much as the original did. A
//! standby that is older than the file, a cluster that pg_upgrade made, and one in which a version captured
//! that wrote no file where it had no worker, do not have it: there the databases are asked, as far as files
//! tell ([`traces`]). That the extension is in one of them means that something may have been captured.
//!
//! The file names the LSN ahead of which nothing was captured, if that is known: as long as the WAL from there
//! on is whole nothing can be lost. It is made, and is on disk, before the first event is captured: by the
//! worker when it has found where to begin, or by CREATE EXTENSION, where no worker has yet.

mod traces;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Result, Write};

use crate::lsn::Lsn;
pub use traces::is_installed;

/// The name of the file.
pub const FILE: &str = "amqp_cdc.started";

/// What it says.
const TEXT: &str =
    "amqp_cdc captures changes in this cluster. Remove this file once amqp_cdc is removed.\n";

/// Comes before the LSN, on a line of its own.
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
}

/// What is known.
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

/// A file that was cut off, or that another version wrote, says that nothing is known.
fn parse(text: &str) -> Beginning {
    let lsn = text.lines().find_map(|line| line.strip_prefix(NOTHING_BEFORE));
    lsn.and_then(|lsn| lsn.strip_suffix('.')?.parse().ok())
        .map_or(Beginning::Unknown, Beginning::At)
}

fn spell(begin: Option<Lsn>) -> String {
    let line = begin.map(|begin| format!("{NOTHING_BEFORE}{begin}.\n"));
    format!("{TEXT}{}", line.unwrap_or_default())
}

/// Notes, durably, and whatever is noted, that nothing was captured before this LSN; without one, that nothing
/// is known.
///
/// # Errors
///
/// If the file cannot be written.
pub fn note(begin: Option<Lsn>) -> Result<()> {
    write(File::create(FILE)?, begin)
}

/// Notes that the extension is being installed in this database, unless something is noted already: where
/// no worker was yet, nothing was captured before `begin`.
///
/// # Errors
///
/// If the file cannot be written, or another database's not be read.
pub fn note_installation(begin: Lsn, database: u32) -> Result<()> {
    if read()? != Beginning::Unnoted {
        return Ok(());
    }
    let is_elsewhere = is_installed(Some(database), || true)? == Some(true);
    match OpenOptions::new().write(true).create_new(true).open(FILE) {
        Ok(file) => write(file, (!is_elsewhere).then_some(begin)),
        // Somebody was faster, and sees to the rest.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn write(mut file: File, begin: Option<Lsn>) -> Result<()> {
    file.write_all(spell(begin).as_bytes())?;
    file.sync_all()?;
    File::open(".")?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_as_it_is_written() {
        let lsn = Lsn(0x12_3456_789A);
        assert_eq!(parse(&spell(Some(lsn))), Beginning::At(lsn));
        assert_eq!(parse(&spell(None)), Beginning::Unknown);
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
