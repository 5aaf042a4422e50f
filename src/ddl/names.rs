//! Checks at CREATE EXTENSION that nobody else has taken the extension's names. The error says what to do.

use pgrx::PgSqlErrorCode;

use crate::pg::catalog::{self, quoted};
use crate::pg::report::Report;

const SCHEMA: &str = "amqp";
const FUNCTION: &str = "amqp_change_data_capture";

/// Raises an error if the schema `amqp`, or a trigger function of our name, is there already.
pub fn check() {
    if let Some((owner, extension)) = catalog::owner_of_schema(SCHEMA) {
        let report = Report::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_SCHEMA,
            format!(
                "schema \"{SCHEMA}\" already exists, and amqp_cdc needs one of its own by that name"
            ),
        );
        match extension {
            Some(extension) => report
                .detail(format!("Extension \"{extension}\" is in it."))
                .hint(format!("DROP EXTENSION {} and the schema first.", quoted(&extension))),
            None => report.detail(format!("It is owned by \"{}\".", owner.name())).hint(format!(
                "Rename it (ALTER SCHEMA {SCHEMA} RENAME TO ...), or drop it if nothing in it is needed."
            )),
        }
        .raise();
    }
    if let Some((schema, true)) = catalog::creation_schema_with_function(FUNCTION) {
        let function = format!("{}.{FUNCTION}()", quoted(&schema));
        Report::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_FUNCTION,
            format!("function {function} already exists, and amqp_cdc brings one by that name"),
        )
        .detail("Triggers that call it keep calling it under whatever name it has.")
        .hint(format!(
            "ALTER FUNCTION {function} RENAME TO {FUNCTION}_old; or choose another schema for the extension's: \
             CREATE EXTENSION amqp_cdc SCHEMA ..."
        ))
        .raise();
    }
}
