//! What the operator sees: the worker tells it to shared memory, `amqp.status` reads it from there.

pub mod condition;
mod log_limit;
pub mod standstill;

use std::sync::atomic::Ordering;

use crate::delivery::Published;
use crate::lsn::Lsn;
use crate::pg::{server, shared};
use crate::position::Position;
use crate::stream::gap::Gap;

/// What the worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No worker runs.
    Stopped = 0,
    /// The worker looks for its position.
    Starting = 1,
    /// It tries to reach the broker.
    Connecting = 2,
    /// It publishes, or would if there were something to publish.
    Streaming = 3,
    /// The stream stands still; the reason says why.
    StandingStill = 4,
    /// The WAL cannot be read on, or the worker failed and will be started again; reason or last error say
    /// why.
    Stuck = 5,
    /// Events were lost with their WAL, and the consumers are not told so yet.
    Lost = 6,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Starting => "starting",
            State::Connecting => "connecting",
            State::Streaming => "streaming",
            State::StandingStill => "standing still",
            State::Stuck => "stuck",
            State::Lost => "lost",
        }
    }

    fn from_number(number: u8) -> State {
        match number {
            1 => State::Starting,
            2 => State::Connecting,
            3 => State::Streaming,
            4 => State::StandingStill,
            5 => State::Stuck,
            6 => State::Lost,
            _ => State::Stopped,
        }
    }
}

/// Says what the worker is doing; `reason` is for [`State::StandingStill`] and [`State::Lost`], `held`
/// is the message_id of the message whose fault it is.
pub fn set_state(state: State, reason: Option<&str>, held: Option<&str>) {
    shared::numbers().state.store(state as u8, Ordering::Relaxed);
    shared::update_texts(|texts| {
        texts.reason.set(reason.unwrap_or_default());
        texts.held.set(held.unwrap_or_default());
    });
}

/// Says where events may be missing.
pub fn set_gap(gap: Gap) {
    let numbers = shared::numbers();
    numbers.gap_from.store(gap.from.unwrap_or_default().0, Ordering::Relaxed);
    numbers.gap_to.store(gap.to.0, Ordering::Relaxed);
    numbers.gap_at.store(server::now(), Ordering::Relaxed);
}

/// Says which broker the worker talks to.
pub fn set_broker(broker: &str) {
    shared::update_texts(|texts| texts.broker.set(broker));
}

/// Remembers an error.
pub fn set_last_error(error: &str) {
    shared::update_texts(|texts| texts.last_error.set(error));
    shared::numbers().last_error_at.store(server::now(), Ordering::Relaxed);
}

/// Says whether the worker has read all WAL that was there when it started.
pub fn set_caught_up(caught_up: bool) {
    shared::numbers().caught_up.store(caught_up, Ordering::Relaxed);
}

/// Adds what the delivery did since `before`.
pub fn add_counts(now: Published, before: Published) {
    let numbers = shared::numbers();
    for (counter, now, before) in [
        (&numbers.published, now.published, before.published),
        (&numbers.confirmed, now.taken(), before.taken()),
        (&numbers.skipped, now.skipped, before.skipped),
        (&numbers.returned, now.returned, before.returned),
        (&numbers.resent, now.resent, before.resent),
        (&numbers.passed_over, now.passed_over, before.passed_over),
        (&numbers.dead_lettered, now.dead_lettered, before.dead_lettered),
    ] {
        if now > before {
            counter.fetch_add(now - before, Ordering::Relaxed);
        }
    }
}

/// Says how many exchanges are to be told that events are missing.
pub fn set_gaps_owed(count: usize) {
    shared::numbers().gaps_owed.store(count as u64, Ordering::Relaxed);
}

/// Says which exchanges refuse everything, and why.
pub fn set_refusing(exchanges: &str) {
    shared::update_texts(|texts| texts.refusing.set(exchanges));
}

/// Counts an event that was passed over before it was handed to the delivery.
pub fn add_skipped() {
    shared::numbers().skipped.fetch_add(1, Ordering::Relaxed);
}

/// Says in how many seconds nothing will be unconfirmed, if that can be told.
pub fn set_catch_up(seconds: Option<f64>) {
    let bits = seconds.unwrap_or(f64::NAN).to_bits();
    shared::numbers().catch_up_seconds.store(bits, Ordering::Relaxed);
}

/// What is committed and not confirmed.
pub struct Lag {
    /// Of WAL, from the first such event on.
    pub bytes: u64,
    /// Age of the oldest such commit; none if there is none.
    pub seconds: Option<f64>,
}

/// The lag as it is now.
pub fn lag() -> Lag {
    let numbers = shared::numbers();
    // Before all else: what is read later can only be newer.
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

/// Says how far the worker has got. `oldest_unconfirmed` is the LSN of the first event, and
/// the commit time, of the oldest transaction that is not wholly confirmed.
pub fn set_progress(read: Lsn, saved: Position, oldest_unconfirmed: Option<(Lsn, i64)>) {
    let numbers = shared::numbers();
    let (done, time) = oldest_unconfirmed.unwrap_or((read, 0));
    numbers.confirmed_lsn.store(saved.confirmed.0, Ordering::Relaxed);
    numbers.restart_lsn.store(saved.restart.0, Ordering::Relaxed);
    numbers.done_lsn.store(done.0, Ordering::Relaxed);
    numbers.oldest_unconfirmed.store(time, Ordering::Relaxed);
    // Last: who sees that a commit was read must see that it is unconfirmed, too.
    numbers.read_lsn.store(read.0, Ordering::Release);
}

#[pgrx::pg_schema]
pub mod amqp {
    use std::sync::atomic::Ordering;

    use pgrx::PgSqlErrorCode;
    use pgrx::datum::TimestampWithTimeZone;
    use pgrx::prelude::*;

    use super::{State, lag};
    use crate::lsn::Lsn;
    use crate::memory;
    use crate::pg::report::Report;
    use crate::pg::worker_process::MISSING_HINT;
    use crate::pg::{server, shared};
    use crate::position::beginning;
    use crate::settings;

    /// Why nothing is published where the postmaster has not taken the worker.
    const MISSING: &str = "no background worker could be registered: raise max_worker_processes and restart the server";

    /// One row: the state of the worker. `amqp.status` is the view to use. Columns are only ever added, at the
    /// end, here and in the view: views that users have built on that one stay as they are. A version with
    /// other columns than the one before needs another name in C, since the SQL of that one calls its own until
    /// ALTER EXTENSION UPDATE ran ([`crate::status_0_1`]).
    ///
    /// # Errors
    ///
    /// If the library is not preloaded.
    #[pg_extern(volatile, parallel_restricted, name = "worker_status")]
    #[allow(clippy::type_complexity)]
    pub fn worker_status_0_2() -> TableIterator<
        'static,
        (
            name!(worker_pid, Option<i32>),
            name!(state, String),
            name!(reason, Option<String>),
            name!(broker, Option<String>),
            name!(held_message, Option<String>),
            name!(last_error, Option<String>),
            name!(last_error_at, Option<TimestampWithTimeZone>),
            name!(events_published, i64),
            name!(events_confirmed, i64),
            name!(events_returned, i64),
            name!(events_resent, i64),
            name!(events_skipped, i64),
            name!(current_lsn, String),
            name!(read_lsn, Option<String>),
            name!(confirmed_lsn, Option<String>),
            name!(restart_lsn, Option<String>),
            name!(lag_bytes, i64),
            name!(lag_seconds, Option<f64>),
            name!(catch_up_seconds, Option<f64>),
            name!(gap_from, Option<String>),
            name!(gap_to, Option<String>),
            name!(gap_at, Option<TimestampWithTimeZone>),
            name!(password_source, String),
            name!(events_passed_over, i64),
            name!(events_dead_lettered, i64),
            name!(refusing_exchanges, Option<String>),
            name!(gaps_owed, i64),
        ),
    > {
        crate::capture::require_preload();
        let numbers = shared::numbers();
        let texts = shared::texts();
        let is_missing = numbers.missing.worker.load(Ordering::Relaxed);
        let reason = if is_missing { Some(MISSING.to_owned()) } else { texts.reason.get() };
        let read = Lsn(numbers.read_lsn.load(Ordering::Acquire));
        let pid = numbers.worker_pid.load(Ordering::Relaxed);
        let state = match State::from_number(numbers.state.load(Ordering::Relaxed)) {
            State::Stuck => State::Stuck,
            _ if pid == 0 => State::Stopped,
            state => state,
        };
        let lag = lag();
        let catch_up = f64::from_bits(numbers.catch_up_seconds.load(Ordering::Relaxed));
        let is_falling = state == State::Streaming && lag.bytes > 0 && !catch_up.is_nan();
        let time = |at: &std::sync::atomic::AtomicI64| {
            let at = at.load(Ordering::Relaxed);
            (at != 0).then(|| TimestampWithTimeZone::try_from(at).ok()).flatten()
        };
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as i64;
        let lsn = |number: u64| (number != 0).then(|| Lsn(number).to_string());
        TableIterator::once((
            (pid != 0).then_some(pid),
            state.as_str().to_owned(),
            reason,
            texts.broker.get(),
            texts.held.get(),
            texts.last_error.get(),
            time(&numbers.last_error_at),
            count(&numbers.published),
            count(&numbers.confirmed),
            count(&numbers.returned),
            count(&numbers.resent),
            count(&numbers.skipped),
            server::flushed_lsn().to_string(),
            lsn(read.0),
            lsn(numbers.confirmed_lsn.load(Ordering::Relaxed)),
            lsn(numbers.restart_lsn.load(Ordering::Relaxed)),
            lag.bytes as i64,
            lag.seconds,
            is_falling.then_some(catch_up),
            lsn(numbers.gap_from.load(Ordering::Relaxed)),
            lsn(numbers.gap_to.load(Ordering::Relaxed)),
            time(&numbers.gap_at),
            settings::password_source().as_str().to_owned(),
            count(&numbers.passed_over),
            count(&numbers.dead_lettered),
            texts.refusing.get(),
            count(&numbers.gaps_owed),
        ))
    }

    /// Orders the worker to pass over the message that the stream stands still at, which is lost
    /// then to its consumers. The worker logs that it did.
    ///
    /// # Errors
    ///
    /// If the stream does not stand still at this message.
    #[pg_extern(volatile, parallel_restricted)]
    fn skip(message_id: &str) {
        crate::capture::require_preload();
        let held = shared::texts().held.get();
        if held.as_deref() != Some(message_id) {
            Report::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the stream does not stand still at message \"{message_id}\""),
            )
            .detail(match held {
                Some(held) => format!("It stands still at message \"{held}\"."),
                None => "It does not stand still at a message.".to_owned(),
            })
            .hint("See held_message and reason in amqp.status.")
            .raise();
        }
        shared::request_skip(message_id);
    }

    /// Orders the worker to give up what committed up to `current_lsn` and is not confirmed, and to go on from
    /// there. The worker logs that it did, and consumers are told by an event of type gap. `current_lsn`, as
    /// amqp.status shows it, is the confirmation that this is meant.
    ///
    /// # Errors
    ///
    /// If that is not a place in the backlog, or no worker runs.
    #[pg_extern(sql = "
        CREATE FUNCTION amqp.give_up_backlog(current_lsn pg_lsn) RETURNS void
            STRICT VOLATILE PARALLEL RESTRICTED
            LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
    ")]
    fn give_up_backlog(current_lsn: i64) {
        crate::capture::require_preload();
        let numbers = shared::numbers();
        let until = Lsn(current_lsn as u64);
        let confirmed = Lsn(numbers.confirmed_lsn.load(Ordering::Relaxed));
        if numbers.worker_pid.load(Ordering::Relaxed) == 0 {
            Report::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "no amqp_cdc worker is running",
            )
            .hint("It is started again within seconds; see the server log.")
            .raise();
        }
        if until > server::flushed_lsn() || until <= confirmed {
            Report::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("there is no backlog that ends at {until}"),
            )
            .detail(format!(
                "What committed up to {confirmed} is confirmed, and the WAL ends at {}.",
                server::flushed_lsn()
            ))
            .hint("Give current_lsn as amqp.status shows it.")
            .raise();
        }
        shared::request_giving_up(until);
    }

    /// Checks that this server can capture changes.
    ///
    /// # Errors
    ///
    /// If the library is not preloaded. At wal_level minimal, and if no worker runs, it only warns:
    /// dumps are restored so.
    #[pg_extern(volatile, parallel_restricted)]
    fn check_server() {
        crate::capture::require_preload();
        if server::is_being_installed() {
            note_installation();
        }
        if server::wal_level_is_minimal() {
            Report::new(
                PgSqlErrorCode::ERRCODE_WARNING,
                "amqp_cdc needs a wal_level of replica or logical",
            )
            .detail("wal_level is minimal: capture triggers will raise an error.")
            .hint("Set wal_level = replica and restart the server.")
            .warn();
        } else if shared::numbers().missing.worker.load(Ordering::Relaxed) {
            Report::new(PgSqlErrorCode::ERRCODE_WARNING, "amqp_cdc has no background worker")
                .detail("The server could not register it: capture triggers will raise an error.")
                .hint(MISSING_HINT)
                .warn();
        } else if shared::numbers().worker_pid.load(Ordering::Relaxed) == 0 {
            Report::new(PgSqlErrorCode::ERRCODE_WARNING, "no amqp_cdc worker is running")
                .detail("Captured changes are not published, and their WAL may not be retained.")
                .hint("See the server log; max_worker_processes may need to be raised.")
                .warn();
        }
    }

    /// Before anything can be captured: where no worker has begun yet, the first one is to know from when on
    /// events may be missing.
    fn note_installation() {
        let (begin, database) = (server::flushed_lsn(), server::database_oid());
        match memory::attempt(|| beginning::note_installation(begin, database)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => Report::new(
                PgSqlErrorCode::ERRCODE_IO_ERROR,
                format!("could not write file \"{}\": {error}", beginning::FILE),
            )
            .raise(),
            Err(_) => {
                Report::new(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY, "out of memory").raise();
            }
        }
    }
}
