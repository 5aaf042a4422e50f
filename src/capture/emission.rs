//! Writes events into the WAL, inside the current transaction: those of a trigger, and any others that are to
//! stand among them in order.

use crate::event::{Codec, EVENT_PREFIX, HeadStart, Highest, Operation};
use crate::pg::{logical_message, xact};
use crate::place::Place;

/// Returns the head of an event that the command with this id writes now. `place` returns where the change left
/// its trace in the WAL; it is called for a late event only.
pub fn head<'a>(
    operation: Operation,
    codec: Codec,
    command_id: u32,
    place: impl FnOnce() -> Option<Place>,
    lossy: bool,
    exchange: &'a str,
) -> HeadStart<'a> {
    let is_late = highest().makes_late(command_id, operation == Operation::Truncate);
    HeadStart {
        codec,
        command_id,
        first_lsn: xact::first_event(),
        place: if is_late { place() } else { None },
        operation,
        exchange,
        lossy,
        oversize: None,
        key: None,
    }
}

/// Writes an event. `parts` are its bytes in order; the first part begins with the encoded head.
pub fn write(head: &HeadStart<'_>, parts: &[&[u8]]) {
    xact::prepare_to_emit();
    xact::emitted(logical_message::write_transactional(EVENT_PREFIX, parts));
    let mut highest = highest();
    highest.note(head.command_id, head.operation == Operation::Truncate);
    xact::set_notes([highest.any, highest.row]);
}

/// The highest commands of which the current transaction has written events.
fn highest() -> Highest {
    let [any, row] = xact::notes();
    Highest { any, row }
}
