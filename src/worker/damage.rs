//! WAL that cannot be read: when it is tried again, and when that is of no use.

use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;

use crate::pg::report::Report;
use crate::pg::slot;
use crate::pg::xlog_reader::ReadError;

/// Time between two attempts to read WAL that cannot be read.
const RETRY: Duration = Duration::from_secs(5);

/// Where the WAL cannot be read on.
pub struct Damage {
    pub error: ReadError,
    /// When to try again.
    pub retry_at: Instant,
}

impl Damage {
    /// Makes the damage that was found just now.
    pub fn new(error: ReadError) -> Damage {
        Damage { error, retry_at: Instant::now() + RETRY }
    }
}

/// Ends the process with an error; it is started again.
pub fn fail_to_read(error: &ReadError) -> ! {
    Report::new(
        PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
        format!("could not read WAL at {}: {}", error.lsn, error.message),
    )
    .detail(format!("The replication slot \"{}\" retains the WAL.", slot::NAME))
    .hint("The worker is started again in a few seconds.")
    .raise();
}
