//! The shared memory of the extension: what the worker tells the backends and the other way round.
//! It exists only where the library is in shared_preload_libraries; [`is_available`] says so.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Once, OnceLock};

use pgrx::{PGRXSharedMemory, PgAtomic, PgLwLock, PgSqlErrorCode, pg_sys};

use super::pipe;
use super::report::Report;
use crate::lsn::Lsn;

/// Numbers that the worker publishes; each is written by the worker alone unless it says otherwise.
#[derive(Default)]
pub struct Numbers {
    commits: Commits,
    /// What is missing without which events would be lost: triggers refuse then.
    pub missing: Missing,
    /// Process id of the worker; 0 while none runs.
    pub worker_pid: AtomicI32,
    /// State of the worker, as the status has it.
    pub state: AtomicU8,
    /// Messages sent to the broker, those sent again included. Since the server started.
    pub published: AtomicU64,
    /// Events the broker confirmed. Since the server started.
    pub confirmed: AtomicU64,
    /// Messages the broker returned because no queue was bound. Since the server started.
    pub returned: AtomicU64,
    /// Messages that were sent again. Since the server started.
    pub resent: AtomicU64,
    /// Messages that were passed over by order of an operator. Since the server started.
    pub skipped: AtomicU64,
    /// Events that were passed over by the policy of their exchange. Since the server started.
    pub passed_over: AtomicU64,
    /// Events that went to the dead-letter exchange instead. Since the server started.
    pub dead_lettered: AtomicU64,
    /// Exchanges that are to be told that events are missing.
    pub gaps_owed: AtomicU64,
    /// Whether [`Texts::skip`] is an order that the worker has not taken yet. Raised by
    /// [`request_skip`].
    skip_requested: AtomicBool,
    /// Up to here the backlog is to be given up, an order that the worker has not taken yet; 0: none is.
    give_up_until: AtomicU64,
    /// Once what committed up to here is confirmed the extension is to be removed; 0: it is not.
    remove_after: AtomicU64,
    /// Whether that does not wait for what is unconfirmed.
    removal_discards: AtomicBool,
    /// Whether the worker has read all WAL that was there when it started.
    pub caught_up: AtomicBool,
    /// Up to here the worker has read the WAL.
    pub read_lsn: AtomicU64,
    /// C of the position.
    pub confirmed_lsn: AtomicU64,
    /// R of the position.
    pub restart_lsn: AtomicU64,
    /// Where the WAL begins that holds events which are committed and not confirmed.
    pub done_lsn: AtomicU64,
    /// Commit time of the oldest unconfirmed transaction, microseconds since 2000; 0 if none.
    pub oldest_unconfirmed: AtomicI64,
    /// In how many seconds nothing will be unconfirmed, as the bits of an f64; NaN: unknown.
    pub catch_up_seconds: AtomicU64,
    /// C before the last gap; 0 if it is unknown. Of the gap since the server started.
    pub gap_from: AtomicU64,
    /// Where the WAL begins after the last gap; 0 if there was none.
    pub gap_to: AtomicU64,
    /// When the worker found it, microseconds since 2000.
    pub gap_at: AtomicI64,
    /// When the last error happened, microseconds since 2000; 0 if none did.
    pub last_error_at: AtomicI64,
}

/// What backends tell the worker when they commit.
#[derive(Default)]
struct Commits {
    /// End of the latest commit (or PREPARE) that wrote events.
    latest: AtomicU64,
    /// How many there were. They do not come in the order of the WAL.
    count: AtomicU64,
    /// Whether the worker sleeps until the next one. Raised by it, lowered by whoever wakes it.
    awaited: AtomicBool,
}

/// What is missing without which events would be lost.
#[derive(Default)]
pub struct Missing {
    /// The postmaster has not taken the worker: none will run until the server is restarted. Written when
    /// the shared memory is made.
    pub worker: AtomicBool,
    /// The worker tried to make its replication slot and could not. Written by [`super::slot`].
    pub slot: AtomicBool,
    /// The extension was removed: nobody publishes, and nothing is retained.
    removed: AtomicBool,
}

/// Texts that the worker publishes.
#[derive(Clone, Copy, Default)]
pub struct Texts {
    /// Why the stream stands still.
    pub reason: Text<400>,
    /// `host:port` of the broker, never with a credential.
    pub broker: Text<272>,
    /// The last error.
    pub last_error: Text<400>,
    /// message_id of the message that the stream stands still at, if it is a message's fault.
    pub held: Text<80>,
    /// message_id of the message that is to be passed over.
    skip: Text<80>,
    /// The exchanges that refuse everything, and why.
    pub refusing: Text<800>,
}

/// A text of at most `N` bytes that can live in shared memory.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    length: usize,
    bytes: [u8; N],
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Text { length: 0, bytes: [0; N] }
    }
}

impl<const N: usize> Text<N> {
    /// Stores `text`, cut at a character boundary if it is too long.
    pub fn set(&mut self, text: &str) {
        self.length = text.floor_char_boundary(N);
        self.bytes[..self.length].copy_from_slice(&text.as_bytes()[..self.length]);
    }

    /// The text, or none if it is empty.
    pub fn get(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.bytes[..self.length]);
        (!text.is_empty()).then(|| text.into_owned())
    }
}

// SAFETY: atomics alone; nothing in them points into a process.
unsafe impl PGRXSharedMemory for Numbers {}
// SAFETY: plain bytes behind an LWLock; nothing in them points into a process.
unsafe impl PGRXSharedMemory for Texts {}

// SAFETY: the names are this extension's alone.
static NUMBERS: PgAtomic<Numbers> = unsafe { PgAtomic::new(c"amqp_cdc numbers") };
// SAFETY: this name is the extension's alone, too.
static TEXTS: PgLwLock<Texts> = unsafe { PgLwLock::new(c"amqp_cdc texts") };

/// Whether the library was loaded through shared_preload_libraries.
static AVAILABLE: AtomicBool = AtomicBool::new(false);

/// Wakes the worker: a pipe that the postmaster makes and all its children have (but for builds
/// with EXEC_BACKEND, where each would make its own). Not the worker's latch: setting that sends a
/// signal, and the consumer of a single client's commits waits 1.16 times as long (median of seven runs).
static DOORBELL: OnceLock<(PipeReader, PipeWriter)> = OnceLock::new();

/// What the postmaster knows and the shared memory is told each time that it is made, also after a crash.
static WORKER_MISSING: AtomicBool = AtomicBool::new(false);
static WAS_REMOVED: AtomicBool = AtomicBool::new(false);

impl Numbers {
    fn at_start() -> Numbers {
        let numbers = Numbers::default();
        let is_missing = WORKER_MISSING.load(Ordering::Relaxed);
        numbers.missing.worker.store(is_missing, Ordering::Relaxed);
        numbers.missing.removed.store(WAS_REMOVED.load(Ordering::Relaxed), Ordering::Relaxed);
        numbers
    }
}

/// Says that no worker will run. Only in the postmaster, before there is shared memory.
pub(super) fn worker_is_missing() {
    WORKER_MISSING.store(true, Ordering::Relaxed);
}

/// Says that the extension was removed before the server was started: writers are to be told before the worker can
/// be. It tells them otherwise, if that has changed. Only in the postmaster, before there is shared memory.
pub fn was_removed() {
    WAS_REMOVED.store(true, Ordering::Relaxed);
}

/// Requests the shared memory. Only from `_PG_init` in the postmaster.
pub fn init() {
    use pgrx::pg_shmem_init;
    use pgrx::prelude::pg_guard;
    pg_shmem_init!(NUMBERS = Numbers::at_start());
    pg_shmem_init!(TEXTS);
    match pipe::new() {
        // The library is loaded once.
        Ok(ends) => drop(DOORBELL.set(ends)),
        Err(error) => Report::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
            format!("amqp_cdc could not make a pipe: {error}"),
        )
        .raise(),
    }
    AVAILABLE.store(true, Ordering::Relaxed);
}

/// Returns whether the functions below may be called.
pub fn is_available() -> bool {
    AVAILABLE.load(Ordering::Relaxed)
}

/// The numbers.
pub fn numbers() -> &'static Numbers {
    NUMBERS.get()
}

/// A copy of the texts.
pub fn texts() -> Texts {
    *TEXTS.share()
}

/// Changes the texts.
pub fn update_texts(change: impl FnOnce(&mut Texts)) {
    change(&mut TEXTS.exclusive());
}

/// End of the latest commit that wrote events.
pub fn last_commit() -> Lsn {
    Lsn(numbers().commits.latest.load(Ordering::SeqCst))
}

/// Says that a transaction with events ended at `lsn`, and whether the worker sleeps until then:
/// [`wake_for_commit`] is to follow soon. Cannot fail. The order of both, here and in
/// [`await_commit`], is what keeps a commit from being slept through.
pub(super) fn announce_commit(lsn: Lsn) -> bool {
    let commits = &numbers().commits;
    commits.latest.fetch_max(lsn.0, Ordering::SeqCst);
    commits.count.fetch_add(1, Ordering::SeqCst);
    commits.awaited.load(Ordering::SeqCst)
}

/// Wakes the worker, unless somebody has: of many that commit while it wakes up, one wakes it. Cannot
/// fail.
pub(super) fn wake_for_commit() {
    let awaited = &numbers().commits.awaited;
    if awaited.swap(false, Ordering::SeqCst) && !wake_worker() {
        // The next one tries again.
        awaited.store(true, Ordering::SeqCst);
    }
}

/// How many commits that wrote events were announced.
pub fn commits() -> u64 {
    numbers().commits.count.load(Ordering::SeqCst)
}

/// From now on the next commit wakes the worker; [`commits`] tells of those before.
pub fn await_commit() {
    numbers().commits.awaited.store(true, Ordering::SeqCst);
}

/// Commits wake nobody any more.
pub fn ignore_commits() {
    numbers().commits.awaited.store(false, Ordering::SeqCst);
}

/// Orders the worker to pass over a message.
pub fn request_skip(message_id: &str) {
    update_texts(|texts| texts.skip.set(message_id));
    numbers().skip_requested.store(true, Ordering::Release);
    wake_worker();
}

/// The order to pass over a message, once.
pub fn take_skip_request() -> Option<String> {
    let requested = numbers().skip_requested.swap(false, Ordering::AcqRel);
    requested.then(|| texts().skip.get()).flatten()
}

/// Orders the worker to give up what committed up to `until` and is not confirmed.
pub fn request_giving_up(until: Lsn) {
    numbers().give_up_until.store(until.0, Ordering::Release);
    wake_worker();
}

/// The order to give up the backlog, once.
pub fn take_giving_up_request() -> Option<Lsn> {
    let until = Lsn(numbers().give_up_until.swap(0, Ordering::AcqRel));
    until.is_valid().then_some(until)
}

/// An order to remove the extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemovalOrder {
    /// Once what committed up to here is confirmed.
    pub until: Lsn,
    /// It does not wait for that.
    pub discards: bool,
}

/// Whether the order is this process's.
static HAS_ORDERED: AtomicBool = AtomicBool::new(false);

/// Orders the worker to remove the extension, until [`withdraw_removal`], or until this process ends: a session that
/// is terminated unwinds nothing (elog.c: `errfinish`).
pub fn order_removal(order: RemovalOrder) {
    static IS_WATCHED: Once = Once::new();
    // SAFETY: a callback with the C ABI and no way to unwind, registered once.
    IS_WATCHED.call_once(|| unsafe {
        pg_sys::on_shmem_exit(Some(withdraw_at_exit), pg_sys::Datum::from(0));
    });
    HAS_ORDERED.store(true, Ordering::Relaxed);
    numbers().removal_discards.store(order.discards, Ordering::Relaxed);
    numbers().remove_after.store(order.until.0, Ordering::Release);
    wake_worker();
}

/// The order does not count any more.
pub fn withdraw_removal() {
    if HAS_ORDERED.swap(false, Ordering::Relaxed) {
        numbers().remove_after.store(0, Ordering::Release);
    }
}

unsafe extern "C-unwind" fn withdraw_at_exit(_code: i32, _argument: pg_sys::Datum) {
    withdraw_removal();
}

/// The order to remove the extension, if there is one.
pub fn removal_order() -> Option<RemovalOrder> {
    let until = Lsn(numbers().remove_after.load(Ordering::Acquire));
    let discards = numbers().removal_discards.load(Ordering::Relaxed);
    until.is_valid().then_some(RemovalOrder { until, discards })
}

/// Whether the extension was removed from this server.
pub fn is_removed() -> bool {
    numbers().missing.removed.load(Ordering::Acquire)
}

/// Says whether it was, and wakes the worker, which may have to begin anew.
pub fn set_removed(is_removed: bool) {
    numbers().missing.removed.store(is_removed, Ordering::Release);
    wake_worker();
}

/// What becomes readable when the worker is to wake up.
pub fn doorbell() -> Option<BorrowedFd<'static>> {
    DOORBELL.get().map(|(reader, _)| reader.as_fd())
}

/// To be called when it has become so.
pub fn answer_doorbell() {
    if let Some((reader, _)) = DOORBELL.get() {
        pipe::drain(reader);
    }
}

/// Returns whether it wakes up now, if it sleeps.
pub(super) fn wake_worker() -> bool {
    DOORBELL.get().is_some_and(|(_, writer)| pipe::knock(writer))
}

/// Makes this process known as the worker, until it leaves.
pub(super) fn become_the_worker() {
    // SAFETY: a callback with the C ABI and no way to unwind; reads a variable.
    unsafe {
        pg_sys::on_shmem_exit(Some(leave), pg_sys::Datum::from(0));
        numbers().worker_pid.store(pg_sys::MyProcPid, Ordering::Relaxed);
    }
}

unsafe extern "C-unwind" fn leave(_code: i32, _argument: pg_sys::Datum) {
    numbers().worker_pid.store(0, Ordering::Relaxed);
}
