//! Which transactions other sessions can see already.

use pgrx::pg_sys;

use super::server;
use super::sys::versions;
use crate::running::Running;

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
    data: &'a pg_sys::SnapshotData,
    /// The next xid, read when the snapshot was taken.
    next: u64,
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
        Snapshot { data, next: server::next_xid() }
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
    /// What pg_xact knows of a transaction, which is read without a database. With all 64 bits.
    pub fn outcome(&self, xid: u64) -> Outcome {
        if self.running().contains(xid) {
            return Outcome::Running;
        }
        // SAFETY: a process with a snapshot is attached to the shared memory.
        let oldest = unsafe { versions::oldest_known_xid() };
        let age = (self.next as u32).wrapping_sub(u32::from(oldest));
        if xid < self.next - u64::from(age) {
            return Outcome::Unknown;
        }
        let xid = pg_sys::TransactionId::from(xid as u32);
        // SAFETY: main thread, under a snapshot, so that pg_subtrans is not asked about what it has lost
        // (transam.c: `TransactionIdDidCommit`); pg_xact is not asked about what was removed.
        unsafe {
            if pg_sys::TransactionIdDidCommit(xid) {
                Outcome::Committed
            } else if pg_sys::TransactionIdDidAbort(xid) {
                Outcome::Aborted
            } else {
                Outcome::Unknown
            }
        }
    }

    /// The running transactions: their changes were invisible to others. Not by XidInMVCCSnapshot, which
    /// takes what is 2^31 transactions old for one of the future, nor by TransactionIdIsInProgress, which may
    /// ask pg_subtrans about xids that are long truncated.
    pub fn running(&self) -> Running<'_> {
        let [xmin, xmax] = [self.data.xmin, self.data.xmax].map(u32::from);
        // Each is within 2^31 of the next one.
        let xmax_with_epoch = self.next - u64::from((self.next as u32).wrapping_sub(xmax));
        let xids = if self.data.xcnt == 0 {
            &[][..]
        } else {
            const _: () = assert!(size_of::<pg_sys::TransactionId>() == size_of::<u32>());
            // SAFETY: a snapshot that was taken has so many; a TransactionId is a u32 (asserted above;
            // transparent in pgrx). Nobody takes the next one while this one lives.
            unsafe { std::slice::from_raw_parts(self.data.xip.cast(), self.data.xcnt as usize) }
        };
        Running {
            xmin: xmax_with_epoch - u64::from(xmax.wrapping_sub(xmin)),
            xmax: xmax_with_epoch,
            next: self.next,
            xids,
        }
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
