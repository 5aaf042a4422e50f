//! Names that AMQP can carry: routing key and exchange.

use pgrx::PgSqlErrorCode;

use crate::event::{MAX_SHORT_STRING, Operation};
use crate::pg::report::Report;

/// Returns the routing key of the events of a resource with this operation.
pub fn routing_key(prefix: &str, resource: &str, operation: Operation) -> String {
    format!("{prefix}.{resource}.{}", operation.as_str()).to_lowercase()
}

/// Shortens a user's text for an error message.
pub fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(4 * MAX_SHORT_STRING)]
}

/// Raises an error if AMQP cannot carry this name.
pub fn require_short_string(what: &str, value: &str) {
    if let Some(problem) = short_string_problem(what, value) {
        problem.raise();
    }
}

/// Returns the error if AMQP cannot carry this name: names are at most 255 bytes (AMQP 0-9-1, 4.2.5.3).
pub fn short_string_problem(what: &str, value: &str) -> Option<Report> {
    if value.len() <= MAX_SHORT_STRING {
        return None;
    }
    let report = Report::new(
        PgSqlErrorCode::ERRCODE_NAME_TOO_LONG,
        format!("{what} is longer than {MAX_SHORT_STRING} bytes"),
    )
    .detail(format!("\"{}\" has {} bytes.", cut(value), value.len()))
    .hint("Shorten the trigger's arguments or amqp.exchange; AMQP allows no more.");
    Some(report)
}

/// Returns the error if a prefix or a resource is so long that its routing key must be too long: a letter may
/// shrink to a third of its bytes in lower case, but no further.
pub fn long_part_problem(prefix: &str, resource: &str) -> Option<Report> {
    let longest = if prefix.len() > resource.len() { prefix } else { resource };
    (longest.len() > 3 * MAX_SHORT_STRING)
        .then(|| short_string_problem("routing key", longest))
        .flatten()
}
