//! Which transactions other sessions can see already.

use pgrx::pg_sys;

/// Memory for one snapshot of the running transactions after the other.
pub struct SnapshotMemory {
    data: Box<pg_sys::SnapshotData>,
}

/// A snapshot of the running transactions, without a transaction of its own: starting and ending
/// one would take longer than all else that is done with a small transaction's events. Nothing is
/// read under it but the list of running transactions. As long as it lives it keeps back pg_subtrans,
/// as every snapshot does (`PGPROC.xmin`).
///
/// A backend leaves the list of running transactions only after its commit record is on disk and,
/// with synchronous replication, on the standby (xact.c: `RecordTransactionCommit` before
/// `ProcArrayEndTransaction`), so what is visible here is safe to announce.
pub struct Snapshot<'a> {
    data: &'a mut pg_sys::SnapshotData,
}

impl SnapshotMemory {
    /// None is taken yet.
    pub fn new() -> SnapshotMemory {
        // SAFETY: as the static ones of snapmgr.c begin: zeros, which is SNAPSHOT_MVCC, too.
        // GetSnapshotData gives it the arrays it needs, which are never freed.
        SnapshotMemory { data: Box::new(unsafe { std::mem::zeroed() }) }
    }

    /// Takes a snapshot.
    pub fn take(&mut self) -> Snapshot<'_> {
        let data = &mut *self.data;
        // SAFETY: main thread of a process that has a PGPROC and no snapshot; the memory outlives
        // the snapshot.
        unsafe { pg_sys::GetSnapshotData(data) };
        Snapshot { data }
    }
}

/// How a transaction, or a subtransaction, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has not.
    Running,
    Committed,
    Aborted,
    /// It died with the server, or is older than what pg_xact keeps.
    Unknown,
}

impl Snapshot<'_> {
    /// What pg_xact knows of it, which is read without a database.
    pub fn outcome(&mut self, xid: u32) -> Outcome {
        if self.is_running(xid) {
            return Outcome::Running;
        }
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        // SAFETY: in shared memory as long as the server runs.
        let oldest = unsafe { (*pg_sys::ShmemVariableCache).oldestClogXid };
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        // SAFETY: as above.
        let oldest = unsafe { (*pg_sys::TransamVariables).oldestClogXid };
        let xid = pg_sys::TransactionId::from(xid);
        // SAFETY: main thread, under a snapshot, so that pg_subtrans is not asked about what it has lost
        // (transam.c: `TransactionIdDidCommit`); pg_xact is not asked about what was removed.
        unsafe {
            if pg_sys::TransactionIdPrecedes(xid, oldest) {
                Outcome::Unknown
            } else if pg_sys::TransactionIdDidCommit(xid) {
                Outcome::Committed
            } else if pg_sys::TransactionIdDidAbort(xid) {
                Outcome::Aborted
            } else {
                Outcome::Unknown
            }
        }
    }

    /// Whether the transaction was still running: its changes were invisible to others.
    pub fn is_running(&mut self, xid: u32) -> bool {
        // SAFETY: a snapshot that was taken. Not TransactionIdIsInProgress: that one may ask
        // pg_subtrans about xids that are long truncated.
        unsafe { pg_sys::XidInMVCCSnapshot(pg_sys::TransactionId::from(xid), self.data) }
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        // SAFETY: main thread; it was the only snapshot (snapmgr.c: `SnapshotResetXmin`).
        unsafe {
            pg_sys::TransactionXmin = pg_sys::InvalidTransactionId;
            (*pg_sys::MyProc).xmin = pg_sys::InvalidTransactionId;
        }
    }
}
