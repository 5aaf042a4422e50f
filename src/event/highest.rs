//! Decides which events are late. The writing backend and the worker both ask. Pure.

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
    pub fn makes_late(self, command_id: u32, is_truncate: bool) -> bool {
        let own = u64::from(command_id) + 1;
        self.any > own || (is_truncate && self.row >= own)
    }

    /// Notes that an event was written.
    pub fn note(&mut self, command_id: u32, is_truncate: bool) {
        let own = u64::from(command_id) + 1;
        self.any = self.any.max(own);
        if !is_truncate {
            self.row = self.row.max(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(events: &[(u32, bool)]) -> Highest {
        let mut highest = Highest::default();
        events.iter().for_each(|&(command_id, is_truncate)| highest.note(command_id, is_truncate));
        highest
    }

    #[test]
    fn an_event_is_late_behind_one_of_a_later_command() {
        assert!(!Highest::default().makes_late(0, false));
        assert!(!Highest::default().makes_late(0, true));
        let highest = after(&[(4, false), (7, false), (5, false)]);
        assert_eq!([6, 7, 8].map(|id| highest.makes_late(id, false)), [true, false, false]);
        assert!(after(&[(u32::MAX, true)]).makes_late(u32::MAX - 1, false));
    }

    #[test]
    fn a_truncate_is_late_also_behind_rows_of_its_own_command() {
        assert!(after(&[(4, false)]).makes_late(4, true));
        assert!(!after(&[(4, true)]).makes_late(4, true));
        assert!(!after(&[(4, true)]).makes_late(4, false));
    }
}
