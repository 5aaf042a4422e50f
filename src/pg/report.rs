//! Errors and log lines in PostgreSQL's manner: SQLSTATE, lower-case message, the offending value
//! in the detail, what to do in the hint.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

use super::{guard, text};

/// One thing to tell the user or the server log.
#[derive(Clone, Debug)]
pub struct Report {
    pub sqlstate: PgSqlErrorCode,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

/// Keeps Rust's backtraces out of reports: pgrx appends one to the detail of every error of PostgreSQL's own
/// that passed through Rust, for the client to read, where RUST_BACKTRACE is set in the server's
/// environment. The library has a standard library to itself, which asks the environment once and then
/// remembers. Only from `_PG_init`, before anything was raised.
pub fn keep_backtraces_out() {
    const NAME: &str = "RUST_LIB_BACKTRACE";
    let before = std::env::var_os(NAME);
    // SAFETY: no thread of ours was started yet, and PostgreSQL itself changes the environment so
    // (pg_perm_setlocale) while others' threads might read it.
    unsafe { std::env::set_var(NAME, "0") };
    let _asked = std::backtrace::Backtrace::capture();
    // Nothing of this is for the processes that the server starts.
    // SAFETY: still no thread of ours, and the same that PostgreSQL itself does.
    match before {
        Some(value) => unsafe { std::env::set_var(NAME, value) },
        None => unsafe { std::env::remove_var(NAME) },
    }
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
        let mut report =
            ErrorReport::new(self.sqlstate, text::for_report(self.message), "amqp_cdc");
        if let Some(detail) = self.detail {
            report = report.set_detail(text::for_report(detail));
        }
        if let Some(hint) = self.hint {
            report = report.set_hint(text::for_report(hint));
        }
        report.report(PgLogLevel::ERROR);
        unreachable!("ERROR does not return");
    }

    /// Writes to the client as a warning and to the server log.
    pub fn warn(self) {
        self.tell(PgLogLevel::WARNING);
    }

    /// Writes to the client as a notice.
    pub fn notice(self) {
        self.tell(PgLogLevel::NOTICE);
    }

    /// Writes to the server log.
    pub fn log(self) {
        self.tell(PgLogLevel::LOG);
    }

    fn tell(self, level: PgLogLevel) {
        let message = text::for_report(self.message);
        let (detail, hint) = (self.detail.map(text::for_report), self.hint.map(text::for_report));
        guard::tell(level, self.sqlstate, &message, detail.as_deref(), hint.as_deref());
    }
}
