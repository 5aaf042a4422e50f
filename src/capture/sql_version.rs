//! Whether the SQL of a database is of the version that the library is of. The library is exchanged with a
//! restart of the server, the SQL by ALTER EXTENSION, in each database: in between, and for as long as somebody
//! forgets, an old SQL works with a new library, and the server log says what is left to do.

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::PgSqlErrorCode;

use crate::pg::catalog;
use crate::pg::report::Report;
use crate::pg::trigger::{self, TriggerCall};

const LIBRARY: &str = env!("CARGO_PKG_VERSION");

/// Looks once in the life of a session, at the first captured change: that is where it costs nothing beside what
/// the first change costs anyway.
pub fn look_once(call: &TriggerCall<'_>) {
    static LOOKED: AtomicBool = AtomicBool::new(false);
    if LOOKED.swap(true, Ordering::Relaxed) {
        return;
    }
    if let Some(sql) = catalog::version_of_extension_of(call.function())
        && sql != LIBRARY
    {
        Report::new(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!(
                "database \"{}\" has the SQL of amqp_cdc {sql}, and the library is {LIBRARY}",
                trigger::database()
            ),
        )
        .hint("Run ALTER EXTENSION amqp_cdc UPDATE in this database.")
        .log();
    }
}
