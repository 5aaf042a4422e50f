//! When the client has its answer: the worker is woken after that. To wake a process takes time that
//! would be the client's, and who is woken wants the cores that the answer needs.
//!
//! The main loop of a backend ends each command with ReadyForQuery and flushes what it has to say
//! (postgres.c: `PostgresMain`; dest.c: `ReadyForQuery`), through a table of functions that others
//! exchange, too (libpq.h: `PQcommMethods`, the same in 15 to 18; pqmq.c: `pq_redirect_to_shm_mq`).
//! Ours does what PostgreSQL's does, and wakes the worker where that is due. Only a backend that ends
//! without a word to its client does not (syncrep.c: `SyncRepWaitForLSN`, terminated): the worker, which
//! would wait for the standby, too, finds that transaction by itself.

use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::pg_sys;

use super::shared;

/// Of libpq.h, which pgrx has no bindings of.
#[derive(Clone, Copy)]
#[repr(C)]
struct PQcommMethods {
    comm_reset: unsafe extern "C-unwind" fn(),
    flush: unsafe extern "C-unwind" fn() -> c_int,
    flush_if_writable: unsafe extern "C-unwind" fn() -> c_int,
    is_send_pending: unsafe extern "C-unwind" fn() -> bool,
    putmessage: unsafe extern "C-unwind" fn(c_char, *const c_char, usize) -> c_int,
    putmessage_noblock: unsafe extern "C-unwind" fn(c_char, *const c_char, usize),
}

unsafe extern "C" {
    static mut PqCommMethods: *const PQcommMethods;
}

/// PostgreSQL's functions and ours, of a process that has a client.
static METHODS: OnceLock<[PQcommMethods; 2]> = OnceLock::new();

/// Whether the worker is to be woken once the client has its answer. Of this process, as is the other.
static WAKES_WORKER: AtomicBool = AtomicBool::new(false);

/// Whether the client has bound a portal (of the extended query protocol) since it had an answer.
static HAS_BOUND: AtomicBool = AtomicBool::new(false);

/// BindComplete and ReadyForQuery, the types of messages.
const BIND_COMPLETE: c_char = b'2' as c_char;
const READY_FOR_QUERY: c_char = b'Z' as c_char;

/// From now on this process can [`wake_the_worker_afterwards`], if it has a client. To be called once.
pub(super) fn prepare() {
    // SAFETY: both are set before a backend runs its first command; the table that is put in place
    // lives as long as the process, and its functions have the C ABI.
    unsafe {
        if pg_sys::MyProcPort.is_null() {
            return;
        }
        let [_, ours] = METHODS.get_or_init(|| {
            let given = *PqCommMethods;
            [given, PQcommMethods { flush, putmessage: put_message, ..given }]
        });
        PqCommMethods = ours;
    }
}

/// Has the worker woken once the client has the answer to what ends this transaction. False if there
/// may be something else to wait for before it is answered: then nothing was done.
pub(super) fn wake_the_worker_afterwards() -> bool {
    let is_next = is_next();
    if is_next {
        WAKES_WORKER.store(true, Ordering::Relaxed);
    }
    is_next
}

/// Whether nothing is left to do but to answer: the transaction ends with Sync, or with the one
/// statement of a simple query. Not where CALL or DO commits, with a statement before others, or with
/// an Execute that may have no Sync behind it.
fn is_next() -> bool {
    // SAFETY: reads variables of this process; a query string is one of C while it is set.
    unsafe {
        let ours = METHODS.get().map_or(std::ptr::null(), |[_, ours]| ours);
        if ours.is_null() || PqCommMethods != ours || !pg_sys::ActivePortal.is_null() {
            return false;
        }
        // The main loop has none at Sync (postgres.c: `exec_execute_message` takes it away).
        let query = pg_sys::debug_query_string;
        query.is_null()
            || !HAS_BOUND.load(Ordering::Relaxed) && is_one_statement(CStr::from_ptr(query))
    }
}

/// Whether this certainly is not several.
fn is_one_statement(query: &CStr) -> bool {
    let rest = query.to_bytes().trim_ascii_end();
    let rest = rest.strip_suffix(b";").unwrap_or(rest);
    !rest.contains(&b';')
}

unsafe extern "C-unwind" fn flush() -> c_int {
    // Ours is in place only where this is set.
    let Some([given, _]) = METHODS.get() else { return 0 };
    // SAFETY: PostgreSQL's own functions, as it would call them.
    unsafe {
        if WAKES_WORKER.load(Ordering::Relaxed) {
            // Not the flush that waits: the worker is not to sleep on because this client does not read.
            (given.flush_if_writable)();
            WAKES_WORKER.store(false, Ordering::Relaxed);
            shared::wake_for_commit();
        }
        (given.flush)()
    }
}

unsafe extern "C-unwind" fn put_message(kind: c_char, body: *const c_char, length: usize) -> c_int {
    match kind {
        BIND_COMPLETE => HAS_BOUND.store(true, Ordering::Relaxed),
        READY_FOR_QUERY => HAS_BOUND.store(false, Ordering::Relaxed),
        _ => {}
    }
    // As in `flush`.
    let Some([given, _]) = METHODS.get() else { return 0 };
    // SAFETY: PostgreSQL's own function, with what it was called with.
    unsafe { (given.putmessage)(kind, body, length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_may_end_with_a_semicolon() {
        for one in [c"COMMIT", c"END;", c"commit ;\n ", c""] {
            assert!(is_one_statement(one), "{one:?}");
        }
        for several in [c"COMMIT; SELECT 1", c"BEGIN;COMMIT;", c"SELECT ';'", c"COMMIT;;"] {
            assert!(!is_one_statement(several), "{several:?}");
        }
    }
}
