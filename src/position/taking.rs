//! The slot as it is found.

use pgrx::PgSqlErrorCode;

use crate::lsn::Lsn;
use crate::pg::report::Report;
use crate::pg::slot::{self, Found, Slot, SlotData};

/// Takes the slot, or makes it, and tells what it stores. Of one that had lost its WAL that is what it stored, but
/// for R.
///
/// # Errors
///
/// Raises if the slot cannot be had.
pub fn take_slot() -> (Slot, SlotData) {
    match slot::find() {
        Found::Usable => {
            let slot = Slot::acquire();
            let stored = slot.stored();
            (slot, stored)
        }
        Found::Nothing => (Slot::create(), SlotData::default()),
        Found::Invalidated(stored) => {
            Report::new(
                PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
                format!("replication slot \"{}\" was invalidated and is made anew", slot::NAME),
            )
            .hint("Raise max_slot_wal_keep_size (and idle_replication_slot_timeout, if it is set) to bear longer outages of the broker.")
            .warn();
            slot::drop_it();
            (Slot::create(), SlotData { restart: Lsn::INVALID, ..stored })
        }
        Found::Logical => {
            slot::say_missing();
            Report::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("replication slot \"{}\" is a logical one", slot::NAME),
            )
            .hint("Drop it; amqp_cdc needs this name for a physical slot of its own.")
            .raise()
        }
    }
}
