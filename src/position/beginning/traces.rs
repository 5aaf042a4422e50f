//! Tells whether the extension is in one of the cluster's databases, for processes that are in no database. It
//! looks for the trigger function in the files of pg_proc.
//!
//! The files are read as they are on disk. A function that was made after the last checkpoint may be missing there,
//! but then the WAL since that checkpoint is retained, and all that was captured since is in it. A function that
//! was dropped is found until its page is cleaned up, which is the safer error.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Result};
use std::path::{Path, PathBuf};

use crate::memory;

/// The oid of pg_proc (catalog/pg_proc.h: `ProcedureRelationId`).
const PG_PROC: u32 = 1255;

/// The file that names the files of those catalogs that pg_class cannot name (relmapper.c: `RelMapFile`).
const MAP: &str = "pg_filenode.map";
const MAP_MAGIC: u32 = 0x0059_2717;

/// The function's `prosrc` and `probin` (sql/amqp_cdc--*.sql), one soon after the other.
const SYMBOL: &[u8] = b"amqp_change_data_capture";
const LIBRARY: &[u8] = b"amqp_cdc";

/// Most bytes between the two: the length of the second, and a path that a packager may have put before the
/// library's name.
const BETWEEN: usize = 64;

/// Bytes that are read in one go: whole pages, whatever their size. No row crosses the end of a page.
const CHUNK: usize = 1024 * 1024;

/// Returns whether the extension is, or was until a while ago, installed in a database other than the one with the
/// oid `except`. `keep_going` is called now and then; returns None if it returned false.
///
/// # Errors
///
/// If a file cannot be read: a file that was not seen must not count as one without the extension.
pub fn is_installed(
    except: Option<u32>,
    mut keep_going: impl FnMut() -> bool,
) -> Result<Option<bool>> {
    for (oid, database) in databases()? {
        if !keep_going() {
            return Ok(None);
        }
        if Some(oid) != except && has_function(&database)? {
            return Ok(Some(true));
        }
    }
    Ok(Some(false))
}

/// Returns the oids and directories of all databases, in all tablespaces.
fn databases() -> Result<Vec<(u32, PathBuf)>> {
    let mut parents = vec![PathBuf::from("base")];
    for tablespace in entries(Path::new("pg_tblspc"))? {
        // One directory for each version that pg_upgrade has been through.
        parents.extend(entries(&tablespace)?);
    }
    let mut databases = Vec::new();
    for parent in parents {
        databases.extend(entries(&parent)?.into_iter().filter_map(|path| {
            let oid = path.file_name()?.to_str()?.parse().ok()?;
            Some((oid, path))
        }));
    }
    Ok(databases)
}

/// Returns the paths in a directory, or none if there is no such directory.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let Some(entries) = found(fs::read_dir(directory))? else { return Ok(Vec::new()) };
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Returns None for what is not there: a database may be dropped meanwhile, and not every path is a directory.
fn found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn has_function(database: &Path) -> Result<bool> {
    let Some(map) = found(fs::read(database.join(MAP)))? else { return Ok(false) };
    let Some(number) = file_number(&map, PG_PROC) else { return Ok(false) };
    // From one gigabyte on a table goes on in another file (md.c).
    for segment in 0.. {
        let name = if segment == 0 { number.to_string() } else { format!("{number}.{segment}") };
        let Some(mut file) = found(File::open(database.join(name)))? else { break };
        let mut chunk = memory::with_room(CHUNK);
        loop {
            chunk.clear();
            if (&mut file).take(CHUNK as u64).read_to_end(&mut chunk)? == 0 {
                break;
            }
            if names_function(&chunk) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Returns the number of a catalog's file. After the magic number and the count, a map has pairs of oid and number.
fn file_number(map: &[u8], catalog: u32) -> Option<u32> {
    let (numbers, _) = map.as_chunks::<4>();
    let mut numbers = numbers.iter().map(|&bytes| u32::from_ne_bytes(bytes));
    if numbers.next()? != MAP_MAGIC {
        return None;
    }
    let count = numbers.next()?;
    for _ in 0..count {
        let (oid, number) = (numbers.next()?, numbers.next()?);
        if oid == catalog {
            return Some(number);
        }
    }
    None
}

fn names_function(page: &[u8]) -> bool {
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    page.windows(SYMBOL.len()).enumerate().any(|(at, window)| {
        window[0] == SYMBOL[0] && window == SYMBOL && {
            let after = &page[at + SYMBOL.len()..];
            find(&after[..after.len().min(BETWEEN)], LIBRARY)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(u32, u32)]) -> Vec<u8> {
        let mut numbers = vec![MAP_MAGIC, pairs.len() as u32];
        numbers.extend(pairs.iter().flat_map(|&(oid, number)| [oid, number]));
        // Whatever stands behind the pairs is none.
        numbers.extend([PG_PROC, 7]);
        numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
    }

    #[test]
    fn the_map_tells_the_file_of_a_catalog() {
        assert_eq!(file_number(&map(&[(1259, 16385), (PG_PROC, 16390)]), PG_PROC), Some(16390));
        assert_eq!(file_number(&map(&[(1259, 16385)]), PG_PROC), None);
        assert_eq!(file_number(&map(&[(PG_PROC, 1)])[4..], PG_PROC), None);
        assert_eq!(file_number(&map(&[(PG_PROC, 1)])[..14], PG_PROC), None);
        assert_eq!(file_number(&[], PG_PROC), None);
    }

    /// A function of a user's own may well have this name.
    #[test]
    fn only_the_function_of_the_library_is_found() {
        assert!(names_function(b"..\x33amqp_change_data_capture\x13amqp_cdc.."));
        assert!(names_function(b"..\x33amqp_change_data_capture\x23$libdir/amqp_cdc"));
        assert!(!names_function(b"..\x33amqp_change_data_capture\x13pg_amqp.."));
        assert!(!names_function(b"amqp_change_data_capture"));
        assert!(!names_function(b"amqp_cdc amqp_change_data_captur"));
    }
}
