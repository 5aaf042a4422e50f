//! Facts about the running server.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::sys::plain;
use super::text;
use crate::lsn::Lsn;
use crate::memory;

/// Returns whether wal_level is too low for a replication slot (`minimal`).
pub fn wal_level_is_minimal() -> bool {
    // SAFETY: a plain read of a setting, which nothing but this thread changes.
    unsafe { pg_sys::wal_level < pg_sys::WalLevel::WAL_LEVEL_REPLICA as i32 }
}

/// Returns whether pg_upgrade is running this server.
pub fn is_binary_upgrade() -> bool {
    // SAFETY: a plain read of a variable that nothing but this thread changes.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// Returns whether the postmaster is loading shared_preload_libraries right now.
pub fn is_preloading() -> bool {
    // SAFETY: a plain read of a variable that nothing but this thread changes.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Makes PostgreSQL report settings of this prefix that nobody defined (misspelt ones).
pub fn reserve_setting_prefix(prefix: &std::ffi::CStr) {
    // SAFETY: a NUL-terminated string that PostgreSQL copies.
    unsafe { pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) }
}

/// Whether the server is a standby, or recovers: it replays WAL, and writes none.
pub fn in_recovery() -> bool {
    // SAFETY: a read of shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Whether WAL came from another server, as to a standby, since this one was started.
pub fn has_streamed() -> bool {
    let mut chunk_start = 0;
    // SAFETY: reads shared memory under its spinlock. Asking for WAL sets both places; where some was written, the
    // last chunk of it began before its end (walreceiverfuncs.c: `RequestXLogStreaming`, walreceiver.c:
    // `XLogWalRcvFlush`).
    let end = unsafe { plain::GetWalRcvFlushRecPtr(&raw mut chunk_start, std::ptr::null_mut()) };
    end > chunk_start
}

/// The port of this server.
pub fn port() -> u16 {
    // SAFETY: a plain read of a setting, which nothing changes.
    unsafe { pg_sys::PostPortNumber as u16 }
}

/// Up to here the WAL is on disk.
pub fn flushed_lsn() -> Lsn {
    // SAFETY: the argument may be null. In recovery this is the replay position instead, as
    // GetFlushRecPtr asserts that recovery is over.
    unsafe {
        if pg_sys::RecoveryInProgress() {
            Lsn(pg_sys::GetXLogReplayRecPtr(std::ptr::null_mut()))
        } else {
            Lsn(pg_sys::GetFlushRecPtr(std::ptr::null_mut()))
        }
    }
}

/// Up to here the WAL is on the disks of the synchronous standbys; none if synchronous_standby_names
/// asks for no standby. A writer may not have waited for them: one that was cancelled while it did, one
/// with a lower synchronous_commit, one whose server crashed meanwhile.
pub fn synchronous_flush_lsn() -> Option<Lsn> {
    // SAFETY: plain reads of a setting and of an aligned number in shared memory, which walsenders
    // raise (syncrep.c: `SyncRepReleaseWaiters`). It is invalid until one has.
    unsafe {
        let names = pg_sys::SyncRepStandbyNames;
        let is_asked = pg_sys::max_wal_senders > 0 && !names.is_null() && *names != 0;
        is_asked.then(|| {
            let flushed = &raw const (*pg_sys::WalSndCtl).lsn[pg_sys::SYNC_REP_WAIT_FLUSH as usize];
            Lsn(flushed.read_volatile())
        })
    }
}

/// The next xid that will be assigned, with its epoch.
pub fn next_xid() -> u64 {
    // SAFETY: reads shared memory under its lock.
    unsafe { pg_sys::ReadNextFullTransactionId().value }
}

/// The number that initdb gave this cluster and its copies.
pub fn system_identifier() -> u64 {
    // SAFETY: reads the control file's copy in shared memory.
    unsafe { pg_sys::GetSystemIdentifier() }
}

/// The oid of this session's database.
pub fn database_oid() -> u32 {
    // SAFETY: a plain read of a variable that nothing but this thread changes.
    unsafe { pg_sys::MyDatabaseId.to_u32() }
}

/// The timeline on which this server writes. Not in recovery.
pub fn insertion_timeline() -> u32 {
    // SAFETY: reads shared memory that stays as it is once recovery is over.
    unsafe { plain::GetWALInsertionTimeLine() }
}

/// The application_name of this session.
pub fn copy_application_name(name: &mut String) {
    name.clear();
    // SAFETY: main thread; null or NUL-terminated, and it stays as it is meanwhile. It is ASCII (guc.c:
    // `check_application_name`).
    unsafe {
        let value = pg_sys::application_name;
        if !value.is_null() {
            memory::append_text(name, &text::to_utf8(CStr::from_ptr(value).to_bytes()));
        }
    }
}

/// Returns whether CREATE EXTENSION is running in this session, and neither an update nor a call by hand:
/// whether its own transaction has made the function `amqp.check_server`.
pub fn is_being_installed() -> bool {
    // SAFETY: syscache look-ups in a transaction, by keys of the types that the cache has (syscache.c:
    // `PROCNAMEARGSNSP`); the vector is palloc'd; the tuple is released after its last use.
    unsafe {
        let name = pg_sys::Datum::from(c"check_server".as_ptr());
        let no_arguments = pg_sys::Datum::from(pg_sys::buildoidvector(std::ptr::null(), 0));
        let schema = pg_sys::Datum::from(pg_sys::get_namespace_oid(c"amqp".as_ptr(), true));
        let cache = pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32;
        let tuple = pg_sys::SearchSysCache3(cache, name, no_arguments, schema);
        if tuple.is_null() {
            return false;
        }
        let made_by = (*(*tuple).t_data).t_choice.t_heap.t_xmin;
        pg_sys::ReleaseSysCache(tuple);
        pg_sys::TransactionIdIsCurrentTransactionId(made_by)
    }
}

/// Size of a WAL segment in bytes.
pub fn wal_segment_size() -> u64 {
    // SAFETY: a plain read; fixed at initdb.
    unsafe { pg_sys::wal_segment_size as u64 }
}

/// logical_decoding_work_mem, in bytes.
pub fn logical_decoding_work_mem() -> usize {
    // SAFETY: a plain read of a setting, which is in kilobytes.
    unsafe { pg_sys::logical_decoding_work_mem.max(64) as usize * 1024 }
}

/// Longest sleep of the WAL writer, in milliseconds: within about twice that an asynchronous
/// commit is on disk.
pub fn wal_writer_delay_ms() -> u64 {
    // SAFETY: a plain read of a setting, which nothing but this thread changes.
    unsafe { plain::WalWriterDelay.max(1) as u64 }
}

/// Now, in microseconds since 2000-01-01 UTC (PostgreSQL's TimestampTz).
pub fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// Start of the current transaction, in microseconds since 2000-01-01 UTC.
pub fn transaction_start() -> i64 {
    // SAFETY: a plain read of a variable that nothing but this thread changes.
    unsafe { plain::GetCurrentTransactionStartTimestamp() }
}
