//! An argument of a trigger that makes no sense.

use pgrx::PgSqlErrorCode;

use super::names::cut;
use crate::memory;
use crate::pg::report::Report;

/// Why the arguments make no sense.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    pub argument: String,
    pub message: String,
    pub hint: String,
}

impl Problem {
    /// What is wrong with this argument, and what to do.
    pub fn new(argument: &str, message: String, hint: &str) -> Problem {
        Problem { argument: cut(argument).to_owned(), message, hint: hint.to_owned() }
    }

    /// Returns the error, for the trigger of this name.
    pub fn of_trigger(self, name: &str) -> Report {
        Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, self.message)
            .detail(format!("Trigger \"{name}\" has argument \"{}\".", self.argument))
            .hint(self.hint)
    }
}

/// Finds the column that an option names among those of the table, and returns its number.
///
/// # Errors
///
/// A [`Problem`] if it is none of them.
pub fn find_column(
    argument: &str,
    option: &str,
    wanted: &str,
    columns: &[(usize, String)],
) -> Result<usize, Problem> {
    if let Some(&(number, _)) = columns.iter().find(|(_, name)| name == wanted) {
        return Ok(number);
    }
    let mut names = String::new();
    for (number, (_, name)) in columns.iter().enumerate() {
        memory::append_text(&mut names, if number == 0 { "" } else { ", " });
        memory::append_text(&mut names, name);
    }
    Err(Problem::new(
        argument,
        format!("column \"{}\" of capture option \"{option}\" does not exist", cut(wanted)),
        &format!("Columns of the table: {}.", cut(&names)),
    ))
}
