//! Two event triggers check DDL. A command that would make every later write to a captured table fail is refused
//! at once, with an error that says what to run instead. A column that an option of a capture trigger names cannot
//! be dropped or renamed ([`lost_column`]), nor get a type that the option cannot use ([`wrong_type`]). A capture
//! trigger that could not do what its arguments say cannot be created ([`new_trigger`]).
//!
//! Nothing else raises an error here: an event trigger that fails would lock out the very command that could help.
//! Where another server has decided already (`session_replication_role = replica`) the refusals are warnings.

mod lost_column;
mod names;
mod new_trigger;
mod wrong_type;

pub use names::check as check_names;

use crate::pg::report::Report;
use crate::pg::{catalog, event_trigger, server};

/// Runs when a command has dropped something, just before it ends.
pub fn dropped() {
    // pg_upgrade puts old catalogs together piece by piece.
    if !server::is_binary_upgrade() {
        event_trigger::note_dropped();
    }
}

/// Runs when a command ends.
pub fn command_ended() {
    if server::is_binary_upgrade() {
        return;
    }
    let touched = event_trigger::touched();
    for loss in lost_column::find(&touched.relations, event_trigger::last_end()) {
        refuse(loss);
    }
    for id in touched.new_triggers {
        if let Some(trigger) = catalog::capture_trigger(id)
            && let Some(table) = catalog::relation(trigger.table)
        {
            if let Some(problem) = new_trigger::problem(&trigger, &table) {
                refuse(problem);
            }
            new_trigger::advise(&trigger, &table);
        }
    }
    event_trigger::end_command();
}

/// Raises this error, or warns where another server has decided already.
fn refuse(report: Report) {
    if event_trigger::is_replica() {
        report.warn();
    } else {
        report.raise();
    }
}
