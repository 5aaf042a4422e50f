//! The files in pg_wal: which WAL is there.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;

use crate::lsn::Lsn;
use crate::memory;
use crate::pg::server;
use crate::pg::timeline::Timelines;
use crate::pg::xlog_reader::ReadError;
use crate::wal::file_name;

/// Returns the oldest of the segments that reach up to `newest` without a missing one.
pub fn oldest_segment(newest: u64, exists: impl Fn(u64) -> bool) -> u64 {
    let mut oldest = newest;
    while oldest > 1 && exists(oldest - 1) {
        oldest -= 1;
    }
    oldest
}

/// The files in pg_wal.
pub struct WalFiles<'a> {
    timelines: &'a Timelines,
    segment_size: u64,
    /// (timeline, segment)
    files: HashSet<(u32, u64)>,
}

impl WalFiles<'_> {
    /// Reads the directory.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read: a file that was not seen must not count as gone.
    pub fn list(timelines: &Timelines) -> Result<WalFiles<'_>, ReadError> {
        let segment_size = server::wal_segment_size();
        let parse = |name: OsString| file_name::parse(name.to_str()?, segment_size);
        let list = || -> std::io::Result<HashSet<_>> {
            let mut files = HashSet::new();
            for file in fs::read_dir("pg_wal")? {
                memory::reserve_member(&mut files);
                files.extend(parse(file?.file_name()));
            }
            Ok(files)
        };
        let files = list().map_err(failed("read", "pg_wal"))?;
        Ok(WalFiles { timelines, segment_size, files })
    }

    /// Returns true if the segment with this byte is there.
    pub fn has(&self, lsn: Lsn) -> bool {
        self.has_segment(lsn.segment(self.segment_size))
    }

    /// Returns true if this segment is there.
    pub fn has_segment(&self, segment: u64) -> bool {
        let last_byte = Lsn((segment + 1) * self.segment_size - 1);
        self.files.contains(&(self.timelines.of(last_byte), segment))
    }
}

/// Makes the error of a file or directory that cannot be used.
pub fn failed(how: &str, name: &str) -> impl Fn(std::io::Error) -> ReadError {
    move |error| {
        ReadError::new(server::flushed_lsn(), format!("\"{name}\" cannot be {how}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_segment_is_the_start_of_the_last_unbroken_row() {
        let there = [1, 2, 5, 6, 7];
        assert_eq!(oldest_segment(7, |s| there.contains(&s)), 5);
        assert_eq!(oldest_segment(3, |s| there.contains(&s)), 1);
    }
}
