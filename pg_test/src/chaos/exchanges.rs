//! Which exchange a table's events go to, and what becomes of those that it refuses. Pure.

use super::tables::{LETTERED, LETTERED_AUTONOMOUS, LETTERED_MESSAGE, SKIPPED, SKIPPED_MESSAGE};

/// What most of them go to. The stream stands still at what it refuses.
pub(super) const EXCHANGE: &str = "chaos";

/// What this one refuses is passed over.
pub(super) const SKIPPING: &str = "chaos-skip";

/// What this one refuses goes to [`DEAD`].
pub(super) const LETTERING: &str = "chaos-letter";

/// The dead-letter exchange.
pub(super) const DEAD: &str = "chaos-dead";

/// All of them.
pub(super) const ALL: [&str; 4] = [EXCHANGE, SKIPPING, LETTERING, DEAD];

/// Where the events of a table belong, or messages with that routing key.
pub(super) fn of(table: &str) -> &'static str {
    match table {
        SKIPPED | SKIPPED_MESSAGE => SKIPPING,
        LETTERED | LETTERED_MESSAGE | LETTERED_AUTONOMOUS => LETTERING,
        _ => EXCHANGE,
    }
}

/// As `amqp.exchange_policy` has it.
pub(super) fn policy() -> String {
    format!("{SKIPPING}: skip, {LETTERING}: dead_letter")
}
