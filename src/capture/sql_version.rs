//! Compares the version of a database's SQL with that of the library. A restart of the server brings the new
//! library, ALTER EXTENSION UPDATE in each database the new SQL. Until somebody runs it, the old SQL works with the
//! new library, and the server log says what is left to do.

use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::PgSqlErrorCode;

use crate::pg::catalog;
use crate::pg::report::Report;
use crate::pg::trigger::{self, TriggerCall};

const LIBRARY: &str = env!("CARGO_PKG_VERSION");

/// Compares the versions once in a session, at the first captured change, which is expensive anyway.
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
