//! What raises no ERROR, or raises one in a place where its caller sees to that. pgrx's wrappers guard each
//! call, which takes longer than most of these functions do. Alike in 15 to 18.

use std::ffi::{c_char, c_int, c_void};

use pgrx::pg_sys::{
    CommandId, HeapTupleHeader, Oid, RmgrId, TimeLineID, TimestampTz, TransactionId,
    XLogReaderState, XLogRecPtr, XLogRecord, XLogSegNo, sigjmp_buf,
};

unsafe extern "C-unwind" {
    // access/htup_details.h
    pub fn HeapTupleHeaderGetCmin(tuple: HeapTupleHeader) -> CommandId;
    pub fn HeapTupleHeaderGetCmax(tuple: HeapTupleHeader) -> CommandId;

    // access/xact.h
    pub fn GetCurrentTransactionId() -> TransactionId;
    pub fn GetCurrentTransactionIdIfAny() -> TransactionId;
    pub fn GetCurrentTransactionNestLevel() -> c_int;
    pub fn GetCurrentTransactionStartTimestamp() -> TimestampTz;
    pub fn IsInParallelMode() -> bool;
    // Raises an ERROR in parallel mode, if the command is to be marked as used.
    pub fn GetCurrentCommandId(is_used: bool) -> CommandId;

    // access/xlog.h
    pub fn GetWALInsertionTimeLine() -> TimeLineID;
    pub fn TransactionIdIsCurrentTransactionId(xid: TransactionId) -> bool;

    // access/xloginsert.h. XLogRegisterData is `(char *, int)` in 15, `(char *, uint32)` in 16 and 17,
    // `(const void *, uint32)` in 18: called alike by whoever passes no more than an int can hold.
    pub fn XLogBeginInsert();
    pub fn XLogRegisterData(data: *const c_void, length: u32);
    pub fn XLogSetRecordFlags(flags: u8);
    pub fn XLogInsert(resource_manager: RmgrId, info: u8) -> XLogRecPtr;

    // access/xlogreader.h
    pub fn XLogReadRecord(
        state: *mut XLogReaderState,
        message: *mut *mut c_char,
    ) -> *mut XLogRecord;

    // access/xlogutils.h. The functions themselves, which fill slots of C's: pgrx's wrappers are Rust's.
    pub fn read_local_xlog_page_no_wait(
        state: *mut XLogReaderState,
        target_page: XLogRecPtr,
        required: c_int,
        target_record: XLogRecPtr,
        page: *mut c_char,
    ) -> c_int;
    pub fn wal_segment_open(
        state: *mut XLogReaderState,
        segment: XLogSegNo,
        timeline: *mut TimeLineID,
    );
    pub fn wal_segment_close(state: *mut XLogReaderState);

    // replication/walreceiver.h
    pub fn GetWalRcvFlushRecPtr(
        latest_chunk_start: *mut XLogRecPtr,
        receive_timeline: *mut TimeLineID,
    ) -> XLogRecPtr;

    // miscadmin.h
    pub fn GetUserId() -> Oid;

    // mb/pg_wchar.h
    pub fn GetDatabaseEncoding() -> c_int;

    // utils/elog.h
    pub fn errstart(level: c_int, domain: *const c_char) -> bool;
    pub fn errcode(sqlstate: c_int) -> c_int;
    pub fn errmsg(format: *const c_char, ...) -> c_int;
    pub fn errdetail(format: *const c_char, ...) -> c_int;
    pub fn errhint(format: *const c_char, ...) -> c_int;
    pub fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
    pub fn geterrcode() -> c_int;
    pub fn pg_re_throw() -> !;

    /// Of pgrx-cshim.c: `sigsetjmp` is to be called from C.
    pub fn call_closure_with_sigsetjmp(
        save_mask: c_int,
        environment: *mut c_void,
        code: unsafe extern "C-unwind" fn(*mut sigjmp_buf, *mut c_void) -> c_int,
    ) -> c_int;
}

unsafe extern "C" {
    // libpq/libpq.h
    pub static mut PqCommMethods: *const PQcommMethods;
    // postmaster/walwriter.h. Changes on reload.
    pub static mut WalWriterDelay: c_int;
    // utils/bytea.h
    pub static mut bytea_output: c_int;
    // utils/pg_locale.h
    pub static locale_monetary: *mut c_char;
}

/// Of libpq/libpq.h.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PQcommMethods {
    pub comm_reset: unsafe extern "C-unwind" fn(),
    pub flush: unsafe extern "C-unwind" fn() -> c_int,
    pub flush_if_writable: unsafe extern "C-unwind" fn() -> c_int,
    pub is_send_pending: unsafe extern "C-unwind" fn() -> bool,
    pub putmessage: unsafe extern "C-unwind" fn(c_char, *const c_char, usize) -> c_int,
    pub putmessage_noblock: unsafe extern "C-unwind" fn(c_char, *const c_char, usize),
}

/// What `read_local_xlog_page_no_wait` tells (access/xlogutils.h: `ReadLocalXLogPageNoWaitPrivate`).
#[repr(C)]
pub struct PageReadState {
    pub end_of_wal: bool,
}
