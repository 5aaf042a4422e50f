//! The state of the worker as the operator sees it, read from shared memory.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::state::State;
use crate::lsn::Lsn;
use crate::pg::{server, shared};
use crate::settings::{self, PasswordSource};

/// The reason that is shown if the postmaster could not register the worker.
const NO_WORKER: &str =
    "no background worker could be registered: raise max_worker_processes and restart the server";

/// What `amqp.status` shows. Times are in microseconds since 2000-01-01 UTC.
pub struct Status {
    pub worker_pid: Option<i32>,
    pub state: State,
    pub reason: Option<String>,
    pub broker: Option<String>,
    pub held_message: Option<String>,
    pub last_error: Option<String>,
    pub last_error_at: Option<i64>,
    pub events_published: i64,
    pub events_confirmed: i64,
    pub events_returned: i64,
    pub events_resent: i64,
    pub events_skipped: i64,
    pub events_passed_over: i64,
    pub events_dead_lettered: i64,
    pub current_lsn: Lsn,
    pub read_lsn: Option<Lsn>,
    pub confirmed_lsn: Option<Lsn>,
    pub restart_lsn: Option<Lsn>,
    pub lag: Lag,
    pub catch_up_seconds: Option<f64>,
    pub gap_from: Option<Lsn>,
    pub gap_to: Option<Lsn>,
    pub gap_at: Option<i64>,
    pub password_source: PasswordSource,
    pub refusing_exchanges: Option<String>,
    pub gaps_owed: i64,
}

impl Status {
    /// The status as it is now.
    pub fn read() -> Status {
        let (numbers, texts) = (shared::numbers(), shared::texts());
        let is_missing = numbers.missing.worker.load(Ordering::Relaxed);
        let read = numbers.read_lsn.load(Ordering::Acquire);
        let pid = numbers.worker_pid.load(Ordering::Relaxed);
        let state = match State::from_number(numbers.state.load(Ordering::Relaxed)) {
            State::Stuck => State::Stuck,
            _ if pid == 0 => State::Stopped,
            state => state,
        };
        let lag = lag();
        let catch_up = f64::from_bits(numbers.catch_up_seconds.load(Ordering::Relaxed));
        let is_falling = state == State::Streaming && lag.bytes > 0 && !catch_up.is_nan();
        Status {
            worker_pid: (pid != 0).then_some(pid),
            state,
            reason: if is_missing { Some(NO_WORKER.to_owned()) } else { texts.reason.get() },
            broker: texts.broker.get(),
            held_message: texts.held.get(),
            last_error: texts.last_error.get(),
            last_error_at: time(&numbers.last_error_at),
            events_published: count(&numbers.published),
            events_confirmed: count(&numbers.confirmed),
            events_returned: count(&numbers.returned),
            events_resent: count(&numbers.resent),
            events_skipped: count(&numbers.skipped),
            events_passed_over: count(&numbers.passed_over),
            events_dead_lettered: count(&numbers.dead_lettered),
            current_lsn: server::flushed_lsn(),
            read_lsn: known(read),
            confirmed_lsn: lsn(&numbers.confirmed_lsn),
            restart_lsn: lsn(&numbers.restart_lsn),
            lag,
            catch_up_seconds: is_falling.then_some(catch_up),
            gap_from: lsn(&numbers.gap_from),
            gap_to: lsn(&numbers.gap_to),
            gap_at: time(&numbers.gap_at),
            password_source: settings::password_source(),
            refusing_exchanges: texts.refusing.get(),
            gaps_owed: count(&numbers.gaps_owed),
        }
    }
}

fn count(counter: &AtomicU64) -> i64 {
    counter.load(Ordering::Relaxed) as i64
}

fn time(at: &AtomicI64) -> Option<i64> {
    Some(at.load(Ordering::Relaxed)).filter(|&at| at != 0)
}

fn lsn(place: &AtomicU64) -> Option<Lsn> {
    known(place.load(Ordering::Relaxed))
}

fn known(lsn: u64) -> Option<Lsn> {
    Some(Lsn(lsn)).filter(|lsn| lsn.is_valid())
}

/// What is committed and not confirmed.
pub struct Lag {
    /// Bytes of WAL from the first such event on.
    pub bytes: u64,
    /// Age of the oldest such commit; None if there is none.
    pub seconds: Option<f64>,
}

/// The lag as it is now.
pub fn lag() -> Lag {
    let numbers = shared::numbers();
    // Read first: all that is read later can only be newer.
    let read = Lsn(numbers.read_lsn.load(Ordering::Acquire));
    let oldest = numbers.oldest_unconfirmed.load(Ordering::Relaxed);
    let flushed = server::flushed_lsn();
    let is_behind =
        oldest != 0 || shared::last_commit() > read || !numbers.caught_up.load(Ordering::Relaxed);
    let done = numbers.done_lsn.load(Ordering::Relaxed);
    Lag {
        bytes: if is_behind { flushed.0.saturating_sub(done) } else { 0 },
        seconds: match oldest {
            0 => is_behind.then_some(0.0),
            since => Some((server::now() - since).max(0) as f64 / 1e6),
        },
    }
}
