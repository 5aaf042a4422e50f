//! What the extension does at DDL, by two event triggers: it refuses what would make every later write to a
//! captured table fail, and says so where the command is given, with what to run instead. Columns that an option
//! of a capture trigger names cannot go or change their name ([`lost_column`]); what cannot be captured as it is
//! said is refused by CREATE TRIGGER ([`new_trigger`]).
//!
//! Nothing but these refusals ever raises here: an event trigger that fails locks out the very command that would
//! help. Where another server has decided already (`session_replication_role = replica`) they are warnings.

mod lost_column;
mod names;
mod new_trigger;

pub use names::check as check_names;

use crate::pg::report::Report;
use crate::pg::{catalog, event_trigger, server};

/// A command has dropped something, and is about to end.
pub fn dropped() {
    // pg_upgrade puts old catalogs together piece by piece.
    if !server::is_binary_upgrade() {
        event_trigger::note_dropped();
    }
}

/// A command ends.
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

/// Ends the command with this error.
fn refuse(report: Report) {
    if event_trigger::is_replica() {
        report.warn();
    } else {
        report.raise();
    }
}
