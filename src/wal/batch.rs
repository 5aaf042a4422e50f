//! How much WAL is read in one go.

use crate::lsn::Lsn;
use crate::pg::xlog_reader::XLogReader;

/// Most records that are read in one go, before the caller looks at signals and at the broker again.
const BATCH_RECORDS: usize = 1000;

/// Bytes of WAL after which a batch ends: on a cold disk each page may take milliseconds.
pub const BATCH_BYTES: u64 = 64 * 1024;

/// How far one batch goes.
pub struct Batch {
    pub records: usize,
    pub end: Lsn,
}

impl Batch {
    /// Begins a batch where the reader is.
    pub fn begin(reader: &XLogReader) -> Batch {
        let records = reader.records() + BATCH_RECORDS;
        Batch { records, end: Lsn(reader.position().0 + BATCH_BYTES) }
    }

    /// Returns true if the reader has read the batch.
    pub fn is_over(&self, reader: &XLogReader) -> bool {
        reader.records() >= self.records || reader.position() >= self.end
    }
}
