//! Which transactions other sessions can see already.

use pgrx::pg_sys;

/// A snapshot of the running transactions, taken in a transaction of its own that lasts as long as
/// this value. Works without a database (launcher.c: `get_subscription_list` does the same).
///
/// A backend leaves the list of running transactions only after its commit record is on disk and,
/// with synchronous replication, on the standby (xact.c: `RecordTransactionCommit` before
/// `ProcArrayEndTransaction`), so what is visible here is safe to announce.
pub struct Snapshot {
    snapshot: pg_sys::Snapshot,
}

/// Sets what [`Snapshot::take`] relies on, once per process: a serializable default would make each
/// snapshot one that predicate locking tracks.
pub fn prepare_process() {
    // SAFETY: constant strings; autovacuum.c's workers do the same.
    unsafe {
        pg_sys::SetConfigOption(
            c"default_transaction_isolation".as_ptr(),
            c"read committed".as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

impl Snapshot {
    /// Takes a snapshot.
    pub fn take() -> Snapshot {
        // SAFETY: main thread, outside any transaction.
        unsafe {
            pg_sys::StartTransactionCommand();
            Snapshot { snapshot: pg_sys::GetLatestSnapshot() }
        }
    }

    /// Whether the transaction was still running: its changes were invisible to others.
    pub fn is_running(&self, xid: u32) -> bool {
        // SAFETY: the snapshot lives until this value is consumed. Not TransactionIdIsInProgress:
        // that one may ask pg_subtrans about xids that are long truncated.
        unsafe { pg_sys::XidInMVCCSnapshot(pg_sys::TransactionId::from(xid), self.snapshot) }
    }

    /// Ends the snapshot's transaction. If this is never reached because of an error, the process
    /// ends and PostgreSQL cleans up.
    pub fn finish(self) {
        // SAFETY: the transaction that `take` started; it has no xid and writes nothing.
        unsafe { pg_sys::CommitTransactionCommand() }
    }
}
