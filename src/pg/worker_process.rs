//! The background worker as a process: its registration, signals and end.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags,
};
use pgrx::pg_sys;

use super::guard::{self, Problem};
use super::shared;

/// Seconds between the worker's end and its next start.
const RESTART_SECONDS: u64 = 5;

static TERMINATE: AtomicBool = AtomicBool::new(false);

/// Registers the worker with the postmaster. Only from `_PG_init` while preloading.
pub fn register() {
    BackgroundWorkerBuilder::new("amqp_cdc worker")
        .set_type("amqp_cdc worker")
        .set_library("amqp_cdc")
        .set_function("amqp_cdc_worker_main")
        .enable_shmem_access(None)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(RESTART_SECONDS)))
        .load();
}

/// Where the postmaster starts the worker. The argument is unused.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn amqp_cdc_worker_main(_argument: pg_sys::Datum) {
    // SAFETY: called from C, with nothing that has a destructor.
    unsafe {
        guard::at_boundary(|| {
            let life = || -> Infallible { crate::worker::run() };
            let Err(payload) = catch_unwind(AssertUnwindSafe(life));
            // SAFETY: the ERROR, if it is one, is raised again.
            match guard::problem_of(&*payload) {
                Problem::OutOfMemory => crate::worker::failed("out of memory"),
                Problem::Other(problem) => crate::worker::failed(&problem),
            }
            resume_unwind(payload)
        })
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
    reload_settings();
    let_others_finish();
}

/// Has this thread wait for its turn where it wakes up: Linux would let it take the core from the
/// backend whose commit woke it, before that has released its locks (xact.c: `CommitTransaction`) and
/// answered its client. Its share of the cores stays what it was (sched(7), SCHED_BATCH).
fn let_others_finish() {
    #[cfg(target_os = "linux")]
    // SAFETY: plain C calls; the parameter is of this thread, and read only.
    unsafe {
        let mut parameter: libc::sched_param = std::mem::zeroed();
        // Of the policy that any process may have, only 0. Where a sandbox forbids it, it stays as it was.
        parameter.sched_priority = 0;
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &parameter);
    }
}

/// Whether somebody asked this process to end: a shutdown, pg_terminate_backend, or the checkpointer
/// that invalidates our slot (slot.c: `InvalidatePossiblyObsoleteSlot`). They look alike.
pub fn must_end() -> bool {
    if BackgroundWorker::sigterm_received() {
        TERMINATE.store(true, Ordering::Relaxed);
    }
    TERMINATE.load(Ordering::Relaxed)
}

/// Whether the configuration files were changed since the last call; they are read again then.
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
