//! The background worker as a process: its registration, signals and end.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgrx::PgSqlErrorCode;
use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags,
};
use pgrx::pg_sys;

use super::guard::{self, Failure};
use super::report::Report;
use super::sys::versions;
use super::{shared, threads};

/// Seconds between the worker's end and its next start.
const RESTART_SECONDS: u64 = 5;

static TERMINATE: AtomicBool = AtomicBool::new(false);

/// Registers the worker with the postmaster, and has the triggers refuse if that does not take it. Only from
/// `_PG_init` while preloading.
pub fn register() {
    let last = last_registered();
    load();
    // A server in single-user mode starts no workers, whatever is registered (17 and later take none).
    // SAFETY: a plain read of a variable that nothing but this thread changes.
    let has_postmaster = unsafe { pg_sys::IsPostmasterEnvironment };
    if has_postmaster && last_registered() != last {
        return;
    }
    shared::worker_is_missing();
    Report::new(
        PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        "amqp_cdc worker could not be registered",
    )
    .detail("Nobody will publish changes, and capture triggers raise an error.")
    .hint(MISSING_HINT)
    .warn();
}

/// What to do where the postmaster has not taken the worker.
pub const MISSING_HINT: &str = "Raise max_worker_processes and restart the server.";

/// Where the worker is that the postmaster took last. It says so in no other way (bgworker.c:
/// `RegisterBackgroundWorker` returns nothing, and logs that there are too many): a worker that it takes
/// comes to the head of its list. Later, in its children, there may be no list any more: from 17 on it is in
/// memory that they free.
fn last_registered() -> *const c_void {
    // SAFETY: `_PG_init` calls this while preloading, which the postmaster does, or a single-user server.
    unsafe { versions::last_registered_worker() }
}

fn load() {
    BackgroundWorkerBuilder::new("amqp_cdc worker")
        .set_type("amqp_cdc worker")
        .set_library("amqp_cdc")
        .set_function("amqp_cdc_worker_main")
        .enable_shmem_access(None)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::ConsistentState)
        .set_restart_time(Some(Duration::from_secs(RESTART_SECONDS)))
        .load();
}

/// Does this. What fails in it is handed over once what an ERROR leaves behind is cleaned up, as far as a
/// process without transactions has it (walwriter.c: `WalWriterMain`).
///
/// # Errors
///
/// What failed.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Failure> {
    // SAFETY: main thread of a process that holds no lock on purpose across what may fail.
    unsafe {
        let result = guard::catch(work);
        if result.is_err() {
            pg_sys::LWLockReleaseAll();
            pg_sys::ConditionVariableCancelSleep();
        }
        result
    }
}

/// Makes this process the worker: signal handlers, a connection without a database (so that it
/// blocks no DROP DATABASE and reads no catalog), its pid in shared memory. It never starts a
/// transaction, and so never hears of changes to a catalog (inval.c: `AcceptInvalidationMessages`).
pub fn begin() {
    // SIGINT (pg_cancel_backend) is caught and means nothing: there is no query to cancel.
    BackgroundWorker::attach_signal_handlers(
        SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM | SignalWakeFlags::SIGINT,
    );
    // SAFETY: null names mean: no database, no role.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
    }
    shared::become_the_worker();
    threads::prepare_memory();
    reload_settings();
}

/// Returns whether somebody asked this process to end: a shutdown, pg_terminate_backend, or the checkpointer
/// that invalidates our slot (slot.c: `InvalidatePossiblyObsoleteSlot`). They look alike.
pub fn must_end() -> bool {
    if BackgroundWorker::sigterm_received() {
        TERMINATE.store(true, Ordering::Relaxed);
    }
    TERMINATE.load(Ordering::Relaxed)
}

/// Returns whether the configuration files were changed since the last call; they are read again then.
pub fn settings_reloaded() -> bool {
    let reloaded = BackgroundWorker::sighup_received();
    if reloaded {
        reload_settings();
    }
    reloaded
}

fn reload_settings() {
    // SAFETY: main thread, outside a transaction.
    unsafe {
        pg_sys::ConfigReloadPending = 0;
        pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
    }
}

/// Ends the process so that the postmaster starts it again. Exit code 0 would mean: never again
/// (postmaster.c: `CleanupBackgroundWorker`).
#[allow(unreachable_code)] // The bindings of 15 to 17 know that proc_exit does not return.
pub fn end() -> ! {
    // SAFETY: main thread. A thread that still looks a name up owns nothing of PostgreSQL's.
    unsafe { pg_sys::proc_exit(1) };
    unreachable!("proc_exit does not return")
}
