//! Errors and log lines in PostgreSQL's manner: SQLSTATE, lower-case message, the offending value
//! in the detail, what to do in the hint.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

use super::text;

/// One thing to tell the user or the server log.
#[derive(Clone, Debug)]
pub struct Report {
    pub sqlstate: PgSqlErrorCode,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

/// Writes a line to the server log.
pub fn log(message: String) {
    Report::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message).log();
}

impl Report {
    /// A report without detail and hint.
    pub fn new(sqlstate: PgSqlErrorCode, message: impl Into<String>) -> Report {
        Report { sqlstate, message: message.into(), detail: None, hint: None }
    }

    /// Adds the offending value.
    pub fn detail(mut self, detail: impl Into<String>) -> Report {
        self.detail = Some(detail.into());
        self
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Report {
        self.hint = Some(hint.into());
        self
    }

    /// Aborts the current statement (in a worker: the process, which the postmaster restarts).
    pub fn raise(self) -> ! {
        self.send(PgLogLevel::ERROR);
        unreachable!("ERROR does not return");
    }

    /// Writes to the client as a warning and to the server log.
    pub fn warn(self) {
        self.send(PgLogLevel::WARNING);
    }

    /// Writes to the server log.
    pub fn log(self) {
        self.send(PgLogLevel::LOG);
    }

    fn send(self, level: PgLogLevel) {
        let message = text::for_report(self.message);
        let mut report = ErrorReport::new(self.sqlstate, message, "amqp_cdc");
        if let Some(detail) = self.detail {
            report = report.set_detail(text::for_report(detail));
        }
        if let Some(hint) = self.hint {
            report = report.set_hint(text::for_report(hint));
        }
        report.report(level);
    }
}
