//! When the client has its answer: the worker is woken after that. To wake a process takes time that
//! would be the client's, and who is woken wants the cores that the answer needs. Woken in the commit, the
//! transactions of 8 clients, 1,000 a second on two cores, took 1.45 times as long as without a trigger (p50), and
//! 1.13 times as long so; of one client 1.34 and 1.17 times.
//!
//! The main loop of a backend ends each command with ReadyForQuery and flushes what it has to say
//! (postgres.c: `PostgresMain`; dest.c: `ReadyForQuery`), through a table of functions that others
//! exchange, too (libpq.h: `PQcommMethods`, the same in 15 to 18; pqmq.c: `pq_redirect_to_shm_mq`).
//! Ours does what PostgreSQL's does, and wakes the worker where that is due.
//!
//! Where anything may come before the answer that can take its time (a lock, another statement, the
//! network), the worker is woken at commit. What PostgreSQL itself has left to do then (xact.c:
//! `CommitTransaction`, unlinking the files of what was dropped) it waits for.

use std::ffi::{c_char, c_int};
use std::slice;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pgrx::pg_sys;

use super::shared;
use super::sys::plain::{PQcommMethods, PqCommMethods};

/// PostgreSQL's functions and ours, of a process that has a client.
static METHODS: OnceLock<[PQcommMethods; 2]> = OnceLock::new();

/// Whether the worker is to be woken once the client has its answer. Of this process, as are the others.
static WAKES_WORKER: AtomicBool = AtomicBool::new(false);

/// Whether the client may have bound a portal (of the extended query protocol) since it had an answer.
static MAY_HAVE_BOUND: AtomicBool = AtomicBool::new(true);

/// So many bytes of messages find room without anything being sent (pqcomm.c: PQ_SEND_BUFFER_SIZE).
const SEND_BUFFER_BYTES: usize = 8192;

/// Bytes of messages since all were flushed; of those before our functions were in place, nothing is
/// known.
static UNFLUSHED: AtomicUsize = AtomicUsize::new(SEND_BUFFER_BYTES);

/// Type and length, which each message has besides its body.
const HEADER_BYTES: usize = 5;

/// BindComplete and ReadyForQuery, the types of messages.
const BIND_COMPLETE: c_char = b'2' as c_char;
const READY_FOR_QUERY: c_char = b'Z' as c_char;

/// No query that is longer is looked at: locks are held meanwhile.
const LONGEST_QUERY_BYTES: usize = 2048;

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

/// Returns whether nothing is left to do but to answer: the transaction ends with Sync, or with the one
/// statement of a simple query. Not where CALL or DO commits, with a statement before others, with an Execute
/// that may have no Sync behind it, or where the client is given up.
fn is_next() -> bool {
    // SAFETY: reads variables of this process; a query string is one of C while it is set, and is not
    // read beyond its end.
    unsafe {
        let ours = METHODS.get().map_or(std::ptr::null(), |[_, ours]| ours);
        if ours.is_null()
            || PqCommMethods != ours
            || pg_sys::whereToSendOutput != pg_sys::CommandDest::DestRemote
            || !pg_sys::ActivePortal.is_null()
        {
            return false;
        }
        let query = pg_sys::debug_query_string;
        // The main loop has none at Sync (postgres.c: `exec_execute_message` takes it away).
        if query.is_null() {
            return true;
        }
        if MAY_HAVE_BOUND.load(Ordering::Relaxed) {
            return false;
        }
        let length = libc::strnlen(query, LONGEST_QUERY_BYTES);
        length < LONGEST_QUERY_BYTES
            && is_one_statement(slice::from_raw_parts(query.cast(), length))
    }
}

/// Returns whether this certainly is not several.
fn is_one_statement(query: &[u8]) -> bool {
    let rest = query.trim_ascii_end();
    let rest = rest.strip_suffix(b";").unwrap_or(rest);
    !rest.contains(&b';')
}

fn wake_if_due() {
    if WAKES_WORKER.load(Ordering::Relaxed) {
        WAKES_WORKER.store(false, Ordering::Relaxed);
        shared::wake_for_commit();
    }
}

unsafe extern "C-unwind" fn flush() -> c_int {
    // Ours is in place only where this is set.
    let Some([given, _]) = METHODS.get() else { return 0 };
    UNFLUSHED.store(0, Ordering::Relaxed);
    // SAFETY: PostgreSQL's own functions, as it would call them.
    unsafe {
        if WAKES_WORKER.load(Ordering::Relaxed) {
            // Not the flush that waits: the worker is not to sleep on because this client does not read.
            (given.flush_if_writable)();
            wake_if_due();
        }
        (given.flush)()
    }
}

unsafe extern "C-unwind" fn put_message(kind: c_char, body: *const c_char, length: usize) -> c_int {
    match kind {
        BIND_COMPLETE => MAY_HAVE_BOUND.store(true, Ordering::Relaxed),
        READY_FOR_QUERY => MAY_HAVE_BOUND.store(false, Ordering::Relaxed),
        _ => {}
    }
    let unflushed = UNFLUSHED.load(Ordering::Relaxed) + HEADER_BYTES + length;
    UNFLUSHED.store(unflushed, Ordering::Relaxed);
    if unflushed > SEND_BUFFER_BYTES {
        // It may have to wait until the client reads.
        wake_if_due();
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
        for one in ["COMMIT", "END;", "commit ;\n ", ""] {
            assert!(is_one_statement(one.as_bytes()), "{one:?}");
        }
        for several in ["COMMIT; SELECT 1", "BEGIN;COMMIT;", "SELECT ';'", "COMMIT;;"] {
            assert!(!is_one_statement(several.as_bytes()), "{several:?}");
        }
    }
}
