//! What capture needs: a server that does not lose the event, and a trigger that sees the final change. Where one
//! of them is missing, an error says so.

use std::sync::atomic::Ordering;

use pgrx::PgSqlErrorCode;

use crate::pg::report::Report;
use crate::pg::trigger::{Action, Timing, TriggerCall};
use crate::pg::worker_process::MISSING_HINT;
use crate::pg::{server, shared};

/// Raises an error if nobody would ever publish the event.
pub fn require_a_server_that_keeps_events() {
    require_preload();
    if server::wal_level_is_minimal() {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "change data capture needs a wal_level of replica or logical",
        )
        .detail("wal_level is minimal, so that no replication slot can retain the events.")
        .hint("Set wal_level = replica and restart the server, or SET amqp.capture = off for a migration.")
        .raise();
    }
    let missing = &shared::numbers().missing;
    if missing.worker.load(Ordering::Relaxed) {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "change data capture has no background worker",
        )
        .detail("The server could not register it when it started, so that nobody would publish the events of this change.")
        .hint(MISSING_HINT)
        .raise();
    }
    if shared::is_removed() {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "amqp_cdc was removed from this server",
        )
        .detail("Since SELECT amqp.uninstall() nobody would publish the events of this change.")
        .hint("DROP EXTENSION amqp_cdc, or have it begin anew: CREATE EXTENSION amqp_cdc in a database that does not have it.")
        .raise();
    }
    if missing.slot.load(Ordering::Relaxed) {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "change data capture has no replication slot",
        )
        .detail("Without its slot \"amqp_cdc\" the events of this change could be lost.")
        .hint("See amqp.status and the server log; max_replication_slots may need to be raised.")
        .raise();
    }
}

/// Raises an error if the library is not preloaded.
pub fn require_preload() {
    if !shared::is_available() {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "amqp_cdc must be loaded via shared_preload_libraries",
        )
        .detail("The worker that publishes the events is started with the server.")
        .hint("Add amqp_cdc to shared_preload_libraries and restart the server.")
        .raise();
    }
}

/// Raises an error if the trigger fires before the change is final, or without its rows.
pub fn require_a_trigger_that_sees_the_outcome(call: &TriggerCall<'_>) {
    let has_its_rows = call.is_for_each_row() || call.action() == Action::Truncate;
    if call.timing() == Timing::After && has_its_rows {
        return;
    }
    if let Some(problem) = timing_problem(&call.trigger_name(), call.timing(), has_its_rows) {
        problem.raise();
    }
}

/// Returns the error if a trigger fires before the change is final, or without the rows that the change has.
pub fn timing_problem(trigger: &str, timing: Timing, has_its_rows: bool) -> Option<Report> {
    let wrong = match (timing, has_its_rows) {
        (Timing::Before, _) => "fires BEFORE the change",
        (Timing::InsteadOf, _) => "fires INSTEAD OF the change",
        (Timing::After, false) => "fires FOR EACH STATEMENT and sees no rows",
        (Timing::After, true) => return None,
    };
    let report = Report::new(
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        "amqp_change_data_capture() must be an AFTER ... FOR EACH ROW trigger",
    )
    .detail(format!("Trigger \"{trigger}\" {wrong}."))
    .hint("Define it AFTER INSERT OR UPDATE OR DELETE ... FOR EACH ROW; only TRUNCATE takes FOR EACH STATEMENT.");
    Some(report)
}

/// Returns the error if a trigger of rows that are messages fires for something else than INSERT, too.
pub fn message_timing_problem(trigger: &str, is_for_insert_alone: bool) -> Option<Report> {
    if is_for_insert_alone {
        return None;
    }
    let report = Report::new(
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        "a row that is a message is sent when it is inserted, and never again",
    )
    .detail(format!(
        "Trigger \"{trigger}\" has capture option \"body\", and does not fire for INSERT alone."
    ))
    .hint("Define it AFTER INSERT ... FOR EACH ROW: to update or delete such a row sends nothing.");
    Some(report)
}
