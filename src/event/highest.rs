//! Which events are late: the writing backend and the worker both ask. Pure.

/// The highest commands of which a transaction has written events so far: what tells whether the next
/// event is late. Not lowered when a subtransaction is rolled back, as command ids are not given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Highest {
    /// Of all events. One more than the id; 0 if there is none.
    pub any: u64,
    /// Of rows alone. One more than the id; 0 if there is none.
    pub row: u64,
}

impl Highest {
    /// Whether an event that is written now is late. A TRUNCATE is so also behind rows of its own command:
    /// what its triggers write may bear the same id, and only rows that were there before are gone.
    pub fn makes_late(self, command_id: u32, is_truncate: bool) -> bool {
        let own = u64::from(command_id) + 1;
        self.any > own || (is_truncate && self.row >= own)
    }

    /// An event was written.
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
