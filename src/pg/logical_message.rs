//! Writing logical messages into the WAL (`XLOG_LOGICAL_MESSAGE`), laid out as PostgreSQL's
//! `LogLogicalMessage` (replication/logical/message.c) does, with two differences: the prefix may
//! hold a NUL, and the database is `InvalidOid`, so that no logical slot queues our records
//! (decode.c: `logicalmsg_decode` returns at a foreign database).

use std::mem::{offset_of, size_of};

use pgrx::pg_sys;

use super::guard;
use super::sys::SyncRepWaitForLSN;
use super::sys::plain::{
    GetCurrentTransactionId, GetCurrentTransactionIdIfAny, XLogBeginInsert, XLogInsert,
    XLogRegisterData, XLogSetRecordFlags,
};
use crate::lsn::Lsn;

/// `xl_logical_message` (replication/message.h) up to its flexible array. Missing from pgrx.
#[repr(C)]
struct LogicalMessageHeader {
    database: pg_sys::Oid,
    transactional: bool,
    prefix_size: usize,
    message_size: usize,
}

/// The only operation of the resource manager (replication/message.h). Missing from pgrx.
pub(super) const XLOG_LOGICAL_MESSAGE: u8 = 0;

/// As many parts as any record takes, beside the header and the prefix (xloginsert.c:
/// `XLR_NORMAL_RDATAS`).
const FEW: usize = 18;

/// Far fewer bytes than make a record too long (16 and later, xloginsert.c: `XLogRecordMaxSize`).
const SMALL: usize = 1024 * 1024;

/// `SizeOfLogicalMessage`.
pub(super) const HEADER_SIZE: usize = size_of::<LogicalMessageHeader>();

const _: () = {
    assert!(HEADER_SIZE == 24);
    assert!(offset_of!(LogicalMessageHeader, transactional) == 4);
    assert!(offset_of!(LogicalMessageHeader, prefix_size) == 8);
    assert!(offset_of!(LogicalMessageHeader, message_size) == 16);
};

/// Writes a message that counts only if the current transaction commits, and assigns that
/// transaction an xid if it has none. The parts follow one another in the record. Returns the LSN of
/// the record's first byte.
pub fn write_transactional(prefix: &'static [u8], parts: &[&[u8]]) -> Lsn {
    // SAFETY: in a transaction on the main thread.
    unsafe {
        insert(prefix, true, 0, parts);
        Lsn(pg_sys::ProcLastRecPtr)
    }
}

/// Writes a message that counts at once, without a transaction, that wakes neither the checkpointer
/// nor archive_timeout (`XLOG_MARK_UNIMPORTANT`), and that the WAL writer flushes in its next round. Returns
/// the LSN of the first byte after it.
pub fn write_unimportant(prefix: &'static [u8], body: &[u8]) -> Lsn {
    // SAFETY: XLogInsert needs no transaction; XLogSetAsyncXactLSN takes the end of the record.
    unsafe {
        let end = insert(prefix, false, pg_sys::XLOG_MARK_UNIMPORTANT as u8, &[body]);
        pg_sys::XLogSetAsyncXactLSN(end.0);
        end
    }
}

/// Where a record is: its first byte, and the first one after it.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub start: Lsn,
    pub end: Lsn,
}

/// Writes a message that counts at once, whatever becomes of the transaction. The parts follow one another in
/// the record.
pub fn write_plain(prefix: &'static [u8], parts: &[&[u8]]) -> Written {
    // SAFETY: on the main thread; XLogInsert has set the variable.
    unsafe {
        let end = insert(prefix, false, 0, parts);
        Written { start: Lsn(pg_sys::ProcLastRecPtr), end }
    }
}

/// Waits until the WAL is on disk up to here, and on that of synchronous standbys, if a commit of this session would
/// wait for that, and else has the WAL writer see to it in its next round (xact.c: `RecordTransactionCommit`).
pub fn flush_as_a_commit(end: Lsn) {
    // SAFETY: a plain read of a setting; the LSN is the end of a record. Interrupts are held as syncrep.c asks for: a
    // query that is cancelled, or a session that is to end, ends the wait with a WARNING. An ERROR lets go of them itself
    // (elog.c: `errfinish`).
    unsafe {
        if pg_sys::synchronous_commit
            > pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_OFF as std::ffi::c_int
        {
            flush(end);
            pg_sys::InterruptHoldoffCount += 1;
            SyncRepWaitForLSN(end.0, false);
            pg_sys::InterruptHoldoffCount -= 1;
        } else {
            pg_sys::XLogSetAsyncXactLSN(end.0);
        }
    }
}

/// Waits until the WAL is on disk up to here.
pub fn flush(end: Lsn) {
    // SAFETY: outside recovery, on the main thread.
    unsafe { pg_sys::XLogFlush(end.0) }
}

/// Returns the LSN of the first byte after the record.
///
/// # Safety
///
/// On the main thread; in a transaction, for a transactional message.
unsafe fn insert(prefix: &'static [u8], transactional: bool, flags: u8, parts: &[&[u8]]) -> Lsn {
    debug_assert_eq!(prefix.last(), Some(&0), "logicalmsg_desc relies on it");
    let header = LogicalMessageHeader {
        database: pg_sys::InvalidOid,
        transactional,
        prefix_size: prefix.len(),
        message_size: parts.iter().map(|part| part.len()).sum(),
    };
    let register = |bytes: *const u8, length: usize| {
        // SAFETY: it outlives XLogInsert, which copies it.
        unsafe { XLogRegisterData(bytes.cast(), length as u32) }
    };
    // SAFETY: on the main thread; a transactional message is written in a transaction. What is registered
    // outlives the insertion.
    let write = || unsafe {
        if transactional {
            // It may itself write a record (XLOG_XACT_ASSIGNMENT), so it comes first.
            GetCurrentTransactionId();
        }
        XLogBeginInsert();
        register((&raw const header).cast(), HEADER_SIZE);
        register(prefix.as_ptr(), prefix.len());
        for part in parts.iter().filter(|part| !part.is_empty()) {
            register(part.as_ptr(), part.len());
        }
        if flags != 0 {
            XLogSetRecordFlags(flags);
        }
        XLogInsert(pg_sys::RmgrIds::RM_LOGICALMSG_ID as pg_sys::RmgrId, XLOG_LOGICAL_MESSAGE)
    };
    // With an xid, which there is none of in recovery, none is assigned here; and for a few parts of
    // a few bytes there is no ERROR on this way (xact.c: `GetCurrentTransactionId`; xloginsert.c:
    // `XLogRegisterData`, `XLogRecordAssemble`; xlog.c: `XLogInsertRecord`, whose critical section
    // makes one a PANIC). A guard takes longer than the rest of this function.
    // SAFETY: it reads a variable that nothing but this thread changes, and raises nothing.
    let has_xid = unsafe { GetCurrentTransactionIdIfAny() } != pg_sys::InvalidTransactionId;
    let cannot_raise =
        transactional && has_xid && parts.len() <= FEW && header.message_size <= SMALL;
    Lsn(if cannot_raise {
        write()
    } else {
        // SAFETY: nothing in the guarded code has a destructor.
        unsafe { guard::guard(write) }
    })
}
