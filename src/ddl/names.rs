//! Checks at CREATE EXTENSION that nobody else has taken the extension's names. The error says what to do.

use pgrx::PgSqlErrorCode;

use crate::pg::catalog::{self, Schema, quoted};
use crate::pg::report::Report;
use crate::pg::rights::Role;

const EXTENSION: &str = "amqp_cdc";
const SCHEMA: &str = "amqp";
const FUNCTION: &str = "amqp_change_data_capture";

/// Raises an error if the schema `amqp`, or a trigger function of our name, is there already. A schema that is left
/// over may be: the script drops it.
pub fn check() {
    if let Some(schema) = catalog::schema(SCHEMA)
        && !is_left_over(&schema)
    {
        let report = Report::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_SCHEMA,
            format!(
                "schema \"{SCHEMA}\" already exists, and amqp_cdc needs one of its own by that name"
            ),
        );
        match schema.extension {
            Some(extension) if extension == EXTENSION => report
                .detail("It is the schema that the extension is to be created in.")
                .hint(format!("CREATE EXTENSION {EXTENSION} SCHEMA public; or another one but {SCHEMA}.")),
            Some(extension) => report
                .detail(format!("Extension \"{extension}\" is in it."))
                .hint(format!(
                    "DROP EXTENSION {} first, in the same transaction if you wish.",
                    quoted(&extension)
                )),
            None => report.detail(format!("It is owned by \"{}\".", schema.owner.name())).hint(format!(
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

/// Whether it is what pg_amqp leaves behind: a schema that CREATE EXTENSION has made for an extension, as the control
/// file says, is none of its members (extension.c: `CreateExtensionInternal`), and outlives it.
fn is_left_over(schema: &Schema) -> bool {
    schema.is_empty && (schema.owner == Role::current() || schema.owner.is_superuser())
}
