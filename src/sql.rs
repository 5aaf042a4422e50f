//! Every function that SQL calls, but for the trigger ([`crate::pg::trigger`]) and the event triggers
//! ([`crate::pg::event_trigger`]), which are called in ways of their own.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use self::amqp::worker_status_0_2;

/// What `amqp.status` of 0.1.0 calls, until ALTER EXTENSION UPDATE has run: the columns that there were then.
///
/// # Errors
///
/// If the library is not preloaded.
#[pg_extern(volatile, parallel_restricted, sql = false)]
#[allow(clippy::type_complexity)]
fn worker_status() -> TableIterator<
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
    ),
> {
    #[rustfmt::skip]
    let rows = worker_status_0_2().map(
        |(pid, state, reason, broker, held, error, error_at, published, confirmed, returned, resent, skipped,
          current, read, safe, restart, bytes, seconds, catch_up, gap_from, gap_to, gap_at, ..)| {
            (pid, state, reason, broker, held, error, error_at, published, confirmed, returned, resent, skipped,
             current, read, safe, restart, bytes, seconds, catch_up, gap_from, gap_to, gap_at)
        },
    );
    TableIterator::new(rows)
}

#[pgrx::pg_schema]
pub mod amqp {
    use std::sync::atomic::Ordering;

    use pgrx::PgSqlErrorCode;
    use pgrx::datum::TimestampWithTimeZone;
    use pgrx::prelude::*;

    use crate::capture::require_preload;
    use crate::lsn::Lsn;
    use crate::memory;
    use crate::pg::report::Report;
    use crate::pg::worker_process::MISSING_HINT;
    use crate::pg::{server, shared};
    use crate::position::beginning;
    use crate::removal;
    use crate::status::Status;

    /// One row: the state of the worker. `amqp.status` is the view to use. Columns are only ever added, at the
    /// end, here and in the view: views that users have built on that one stay as they are. A version with
    /// other columns than the one before needs another name in C, since the SQL of that one calls its own until
    /// ALTER EXTENSION UPDATE ran ([`super::worker_status`]).
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
        require_preload();
        let status = Status::read();
        let time = |at: Option<i64>| at.and_then(|at| TimestampWithTimeZone::try_from(at).ok());
        let lsn = |lsn: Option<Lsn>| lsn.map(|lsn| lsn.to_string());
        TableIterator::once((
            status.worker_pid,
            status.state.as_str().to_owned(),
            status.reason,
            status.broker,
            status.held_message,
            status.last_error,
            time(status.last_error_at),
            status.events_published,
            status.events_confirmed,
            status.events_returned,
            status.events_resent,
            status.events_skipped,
            status.current_lsn.to_string(),
            lsn(status.read_lsn),
            lsn(status.confirmed_lsn),
            lsn(status.restart_lsn),
            status.lag.bytes as i64,
            status.lag.seconds,
            status.catch_up_seconds,
            lsn(status.gap_from),
            lsn(status.gap_to),
            time(status.gap_at),
            status.password_source.as_str().to_owned(),
            status.events_passed_over,
            status.events_dead_lettered,
            status.refusing_exchanges,
            status.gaps_owed,
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
        require_preload();
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
        require_preload();
        if server::in_recovery() {
            Report::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the server is a standby: it publishes nothing, and has no backlog",
            )
            .hint("Call it on the primary.")
            .raise();
        }
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

    /// Ends the stream of the cluster: nothing retains WAL any more, here and on standbys. Returns when that is so.
    /// What comes after it is DROP EXTENSION, or CREATE EXTENSION, which begins anew.
    ///
    /// # Errors
    ///
    /// If a capture trigger is there in this database, or if events are not confirmed, unless they are to be
    /// discarded.
    #[pg_extern(sql = "
        CREATE FUNCTION amqp.uninstall(discard_unconfirmed boolean DEFAULT false) RETURNS void
            STRICT VOLATILE PARALLEL UNSAFE
            LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
    ")]
    fn uninstall(discard_unconfirmed: bool) {
        removal::remove(discard_unconfirmed);
    }

    /// Checks that this server can capture changes.
    ///
    /// # Errors
    ///
    /// If the library is not preloaded. At wal_level minimal, and if no worker runs, it only warns:
    /// dumps are restored so.
    #[pg_extern(volatile, parallel_restricted)]
    fn check_server() {
        require_preload();
        if server::is_being_installed() {
            note_installation();
            shared::set_removed(false);
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
