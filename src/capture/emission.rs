//! Writes events into the WAL, inside the current transaction: those of a trigger, and any others that are to
//! stand among them in order; and those that are to be sent whatever becomes of it.

use crate::event::{Codec, EVENT_PREFIX, HeadStart, Highest, Operation};
use crate::lsn::Lsn;
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
    let is_late = highest().makes_late(command_id, operation.trace());
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
        made: None,
        second: None,
    }
}

/// Writes an event. `parts` are its bytes in order; the first part begins with the encoded head. Returns where it
/// is in the WAL.
pub fn write(head: &HeadStart<'_>, parts: &[&[u8]]) -> Lsn {
    xact::prepare_to_emit();
    let lsn = logical_message::write_transactional(EVENT_PREFIX, parts);
    xact::emitted(lsn);
    let mut highest = highest();
    highest.note(head.command_id, head.operation.trace());
    xact::set_notes([highest.any, highest.row]);
    lsn
}

/// Writes an event that counts at once, whatever becomes of the transaction, and is none of its events. When this
/// returns it is on disk, unless the session does not wait for that at a commit either. Returns where it is.
pub fn write_alone(parts: &[&[u8]]) -> Lsn {
    let written = logical_message::write_plain(EVENT_PREFIX, parts);
    logical_message::flush_as_a_commit(written.end);
    xact::announce(written.end);
    written.start
}

/// The highest commands of which the current transaction has written events.
fn highest() -> Highest {
    let [any, row] = xact::notes();
    Highest { any, row }
}
