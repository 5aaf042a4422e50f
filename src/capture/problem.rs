//! An argument of a trigger that makes no sense.

use pgrx::PgSqlErrorCode;

use crate::pg::report::Report;

/// Why the arguments make no sense.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    pub argument: String,
    pub message: String,
    pub hint: String,
}

impl Problem {
    /// Returns the error, for the trigger of this name.
    pub fn of_trigger(self, name: &str) -> Report {
        Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, self.message)
            .detail(format!("Trigger \"{name}\" has argument \"{}\".", self.argument))
            .hint(self.hint)
    }
}
