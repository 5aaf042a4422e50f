//! Messages of a user's own: `amqp.publish` and `amqp.autonomous_publish`. All that a broker could object to is
//! checked in the calling session; then the message is an event among those of rows ([`crate::capture::emission`]).
//!
//! A message is of the command that follows the one that sends it. So it is never late, and the rows of the next
//! command are not late either ([`crate::wal::order`]). A row that is a message is checked and written here, too, but
//! has the place of a row ([`crate::capture::message_row`]).
//!
//! | file | owns |
//! |---|---|
//! | [`arguments`] | what the functions are called with |
//! | [`draft`], [`headers`] | what a broker takes, and how it is written |
//! | [`reserved`] | what is not a user's to say |
//! | [`rights`] | who may send where |
//! | [`pg_amqp`] | the functions of the extension pg_amqp, for who comes from there |
//! | [`sender`] | what the messages of a session have in common; writes them |

pub mod arguments;
pub mod draft;
pub mod headers;
pub mod pg_amqp;
pub mod reserved;
mod rights;
pub mod sender;

use pgrx::PgSqlErrorCode;

use crate::capture::require_a_server_that_keeps_events;
use crate::memory;
use crate::pg::entry_points::{BodyType, When};
use crate::pg::function_call::{Answer, FunctionCall};
use crate::pg::report::Report;
use crate::pg::{server, xact};
use crate::settings;
use draft::Draft;

/// Sends a message. Answers its message_id.
pub fn publish(call: FunctionCall<'_>, body: BodyType, when: When) -> Answer {
    require_a_session_that_may_send(when);
    send(&arguments::draft(call, body), when)
}

fn send(draft: &Draft<'_>, when: When) -> Answer {
    let made = draft.check(settings::max_message_size()).unwrap_or_else(|problem| problem.raise());
    let answer = sender::with(|sender| {
        sender.choose_exchange(draft.exchange.as_deref());
        let lsn = sender.write(draft, &made, when);
        Answer::text(sender.message_id(lsn))
    });
    // The statement fails if memory came from the allocator's reserve: none of that may be kept.
    memory::check();
    answer
}

fn require_a_session_that_may_send(when: When) {
    let function = match when {
        When::AtCommit => "amqp.publish()",
        When::AtOnce => "amqp.autonomous_publish()",
    };
    if server::in_recovery() {
        Report::new(
            PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION,
            format!("cannot execute {function} during recovery"),
        )
        .detail("A standby writes no WAL, which is what messages are sent by.")
        .hint("Call it on the primary.")
        .raise();
    }
    if xact::is_read_only() {
        Report::new(
            PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION,
            format!("cannot execute {function} in a read-only transaction"),
        )
        .raise();
    }
    if xact::is_parallel() {
        Report::new(
            PgSqlErrorCode::ERRCODE_INVALID_TRANSACTION_STATE,
            format!("cannot execute {function} during a parallel operation"),
        )
        .hint("Functions that call it must be PARALLEL UNSAFE, which is the default.")
        .raise();
    }
    require_a_server_that_keeps_events();
}
