//! What a writing backend does at the end of its transaction: tell the worker, without a wait, a
//! lock, an allocation or any way to fail. An ERROR at that point is a PANIC of the whole server
//! (xact.c: `RecordTransactionAbort`, "cannot abort transaction %u, it was already committed"),
//! which is why this is a plain C callback and not one of pgrx's closures.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use pgrx::pg_sys;

use super::{shared, sys, wake_after_answer};
use crate::lsn::Lsn;

/// Whether the current transaction wrote an event. Of this process, as are the others.
static EMITTED: AtomicBool = AtomicBool::new(false);

/// LSN of the current transaction's first event that was not rolled back.
static FIRST_EVENT: AtomicU64 = AtomicU64::new(0);

/// Nesting level of the subtransaction which that event stands and falls with.
static FIRST_EVENT_LEVEL: AtomicI32 = AtomicI32::new(0);

/// What the capture notes of the current transaction ([`notes`]).
static NOTES: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// Whether this process has registered its callback.
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// LSN of the current transaction's first event that was not rolled back; invalid if there is none.
pub fn first_event() -> Lsn {
    Lsn(FIRST_EVENT.load(Ordering::Relaxed))
}

/// What was noted last in the current transaction, its subtransactions included; zeros at its start.
pub fn notes() -> [u64; 2] {
    NOTES.each_ref().map(|note| note.load(Ordering::Relaxed))
}

/// Notes something until the transaction ends.
pub fn set_notes(notes: [u64; 2]) {
    NOTES.iter().zip(notes).for_each(|(place, note)| place.store(note, Ordering::Relaxed));
}

/// Whether the current transaction must not write (xact.h: `XactReadOnly`).
pub fn is_read_only() -> bool {
    // SAFETY: a plain read of a variable that nothing but this thread changes.
    unsafe { pg_sys::XactReadOnly }
}

/// Whether parallel workers may be at work for this session, or it is one: nobody may begin a command then.
pub fn is_parallel() -> bool {
    // SAFETY: reads variables of this process; raises nothing.
    unsafe { sys::plain::IsInParallelMode() }
}

/// Returns the id of the command that follows the current one, which counts as having written something: so that
/// the next command has that id indeed, and no lower one. Not while [`is_parallel`].
pub fn next_command() -> u32 {
    // SAFETY: in a transaction; outside of parallel mode it raises nothing.
    unsafe { sys::plain::GetCurrentCommandId(true) + 1 }
}

/// To be called before the first event of a transaction is written: from then on the end of the
/// transaction wakes the worker.
pub fn prepare_to_emit() {
    if !REGISTERED.load(Ordering::Relaxed) {
        // SAFETY: the callbacks have the C ABI, no argument and no way to unwind.
        unsafe {
            sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut());
            sys::RegisterSubXactCallback(Some(at_subtransaction_end), std::ptr::null_mut());
        }
        wake_after_answer::prepare();
        REGISTERED.store(true, Ordering::Relaxed);
    }
}

/// To be called after an event was written at `lsn`.
pub fn emitted(lsn: Lsn) {
    EMITTED.store(true, Ordering::Relaxed);
    if FIRST_EVENT.load(Ordering::Relaxed) == 0 {
        FIRST_EVENT.store(lsn.0, Ordering::Relaxed);
        FIRST_EVENT_LEVEL.store(nesting_level(), Ordering::Relaxed);
    }
}

/// Tells the worker of an event that counts at once, whose record ends at `end`.
pub fn announce(end: Lsn) {
    if shared::announce_commit(end) {
        shared::wake_for_commit();
    }
}

fn nesting_level() -> i32 {
    // SAFETY: reads a variable of this process.
    unsafe { sys::plain::GetCurrentTransactionNestLevel() }
}

/// A savepoint's events become its parent's when it is released, and are gone with all that came
/// after them when it is rolled back.
unsafe extern "C-unwind" fn at_subtransaction_end(
    event: pg_sys::SubXactEvent::Type,
    _own: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut std::ffi::c_void,
) {
    // The level is still that of the subtransaction which ends (xact.c: `CommitSubTransaction`,
    // `AbortSubTransaction`).
    let level = nesting_level();
    if FIRST_EVENT_LEVEL.load(Ordering::Relaxed) < level {
        return;
    }
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => {
            FIRST_EVENT_LEVEL.store(level - 1, Ordering::Relaxed);
        }
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => FIRST_EVENT.store(0, Ordering::Relaxed),
        _ => {}
    }
}

unsafe extern "C-unwind" fn at_transaction_end(
    event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    let reached = match event {
        // SAFETY: a plain read of this process's variable.
        pg_sys::XactEvent::XACT_EVENT_COMMIT => unsafe { pg_sys::XactLastCommitEnd },
        // The worker is to read past the start of our last record, which is the PREPARE record or a
        // later one. (PostgreSQL keeps its end, XactLastRecEnd, but has cleared it by now.)
        // SAFETY: a plain read of this process's variable.
        pg_sys::XactEvent::XACT_EVENT_PREPARE => unsafe { pg_sys::ProcLastRecPtr + 1 },
        pg_sys::XactEvent::XACT_EVENT_ABORT => 0,
        _ => return,
    };
    FIRST_EVENT.store(0, Ordering::Relaxed);
    set_notes([0; 2]);
    if EMITTED.swap(false, Ordering::Relaxed)
        && reached != 0
        && shared::announce_commit(Lsn(reached))
        && !wake_after_answer::wake_the_worker_afterwards()
    {
        shared::wake_for_commit();
    }
}
