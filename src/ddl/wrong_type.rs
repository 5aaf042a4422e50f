//! Refuses a command that gives a column another type, where rows are messages and the column, which an option of
//! their trigger names, cannot be of that type: from then on the trigger would fail at every write.

use pgrx::PgSqlErrorCode;

use crate::capture::Arguments;
use crate::capture::message_columns::{is_taken, taken_types};
use crate::memory;
use crate::pg::catalog::{CaptureTrigger, Relation};
use crate::pg::report::Report;
use crate::pg::worker_types::WorkerType;

/// Returns the error if the command that ends now would break the trigger. `before` is as for
/// [`super::lost_column::find`].
pub fn refusal(table: &Relation, trigger: &CaptureTrigger, before: u32) -> Option<Report> {
    let arguments = Arguments::parse(memory::texts(&trigger.arguments)).ok()?;
    if !arguments.options.message.is_there() {
        return None;
    }
    let now = table.columns();
    let wrong = |&(option, name): &(&'static str, &str)| {
        let column = now.iter().find(|column| column.name == name);
        column.is_some_and(|column| {
            !WorkerType::of(column.of.base()).is_some_and(|of| is_taken(option, of))
        })
    };
    let (option, name) = arguments.options.message.named_columns().find(wrong)?;
    let type_now = now.iter().find(|column| column.name == name)?.of;
    // What was wrong before is not this command's doing. A type that was there before may be gone.
    let before = table.columns_before(before);
    let type_before = before.iter().find(|column| column.name == name)?.of;
    let was_wrong = WorkerType::of(type_before).is_some_and(|of| !is_taken(option, of));
    if type_now == type_before || was_wrong {
        return None;
    }
    let table = table.quoted_name();
    let report = Report::new(
        PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
        format!("cannot change the type of column \"{name}\" of table {table}: a capture trigger names it"),
    )
    .detail(format!(
        "Option \"{option}\" of trigger \"{}\" names the column; with another type every write to the table would \
         fail.",
        trigger.name
    ))
    .hint(taken_types(option));
    Some(report)
}
