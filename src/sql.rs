//! What `amqp.status` of 0.1.0 calls, until ALTER EXTENSION UPDATE has run: the columns that there were then.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use crate::status::amqp::worker_status_0_2;

/// One row: the state of the worker.
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
