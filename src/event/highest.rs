//! Decides which events are late. The writing backend and the worker both ask. Pure.

use crate::place::Trace;

/// The highest commands of which a transaction has written events so far. They decide whether the next
/// event is late. A rollback of a subtransaction does not lower them, because command ids are not used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Highest {
    /// The highest command of all events, as its id plus one; 0 if there is no event.
    pub any: u64,
    /// The same of the events of rows alone.
    pub row: u64,
}

impl Highest {
    /// Returns true if an event that is written now is late. A TRUNCATE is late also behind rows of its own
    /// command: rows that its triggers write may have the same command id, and it empties only those that were
    /// there before it.
    pub fn makes_late(self, command_id: u32, trace: Trace) -> bool {
        let own = u64::from(command_id) + 1;
        self.any > own || (trace == Trace::Storage && self.row >= own)
    }

    /// Notes that an event was written.
    pub fn note(&mut self, command_id: u32, trace: Trace) {
        let own = u64::from(command_id) + 1;
        self.any = self.any.max(own);
        if matches!(trace, Trace::NewVersion | Trace::Deletion) {
            self.row = self.row.max(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Trace = Trace::NewVersion;
    const TRUNCATE: Trace = Trace::Storage;
    const MESSAGE: Trace = Trace::Itself;

    fn after(events: &[(u32, Trace)]) -> Highest {
        let mut highest = Highest::default();
        events.iter().for_each(|&(command_id, trace)| highest.note(command_id, trace));
        highest
    }

    #[test]
    fn an_event_is_late_behind_one_of_a_later_command() {
        assert!(!Highest::default().makes_late(0, ROW));
        assert!(!Highest::default().makes_late(0, TRUNCATE));
        let highest = after(&[(4, ROW), (7, Trace::Deletion), (5, ROW)]);
        assert_eq!([6, 7, 8].map(|id| highest.makes_late(id, ROW)), [true, false, false]);
        assert!(after(&[(u32::MAX, TRUNCATE)]).makes_late(u32::MAX - 1, ROW));
    }

    #[test]
    fn a_truncate_is_late_also_behind_rows_of_its_own_command() {
        assert!(after(&[(4, ROW)]).makes_late(4, TRUNCATE));
        assert!(!after(&[(4, TRUNCATE)]).makes_late(4, TRUNCATE));
        assert!(!after(&[(4, TRUNCATE)]).makes_late(4, ROW));
    }

    #[test]
    fn a_message_makes_late_what_has_a_lower_id_and_nothing_of_its_own() {
        let highest = after(&[(4, MESSAGE)]);
        assert!(highest.makes_late(3, ROW) && highest.makes_late(3, TRUNCATE));
        assert!(![ROW, TRUNCATE, MESSAGE].iter().any(|&trace| highest.makes_late(4, trace)));
        assert!(!after(&[(4, ROW)]).makes_late(5, MESSAGE));
    }
}
