//! Decides when a position is saved: soon once it rests, and now and then while it moves. Pure.

use std::time::{Duration, Instant};

use super::pair::Position;

/// Shortest time between two looks at the position.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Longest time without a save while confirms keep coming, counted from the last look at which everything
/// was saved. A save is four fsyncs (slot.c: `SaveSlotToPath`): the stream waits for them, and commits
/// of others may wait behind them.
const LONGEST: Duration = Duration::from_secs(10);

/// What is to be done with a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It is saved, and recorded in the WAL.
    Save,
    /// It is only recorded in the WAL.
    Record,
    Nothing,
}

/// What was seen of the position, and when.
#[derive(Debug)]
pub struct Schedule {
    segment_size: u64,
    saved: Position,
    /// When everything confirmed was last seen to be saved.
    saved_until: Instant,
    seen: Position,
    looked_at: Instant,
}

impl Schedule {
    /// A schedule whose first look is due in a while. `saved` is the position that is saved already.
    pub fn new(now: Instant, saved: Position, segment_size: u64) -> Schedule {
        Schedule { segment_size, saved, saved_until: now, seen: saved, looked_at: now }
    }

    /// How long it is until the next look; zero if one is due.
    pub fn until_next_look(&self, now: Instant) -> Duration {
        LOOK_INTERVAL.saturating_sub(now.duration_since(self.looked_at))
    }

    /// Returns what is to be done with the position as it is now.
    pub fn look(&mut self, now: Instant, position: Position) -> Due {
        self.looked_at = now;
        let rests = position.is_as_far_as(self.seen);
        self.seen = position;
        if self.frees_wal(position) {
            Due::Save
        } else if position.is_as_far_as(self.saved) {
            self.saved_until = now;
            Due::Nothing
        } else if rests || now.duration_since(self.saved_until) >= LONGEST {
            Due::Save
        } else {
            Due::Record
        }
    }

    /// Returns true if a crash would lose something that the position knows.
    pub fn is_worth_saving(&self, position: Position) -> bool {
        self.frees_wal(position) || !position.is_as_far_as(self.saved)
    }

    /// Notes that this position is saved.
    pub fn set_saved(&mut self, now: Instant, position: Position) {
        (self.saved, self.saved_until) = (position, now);
    }

    /// The position that is saved.
    pub fn saved(&self) -> Position {
        self.saved
    }

    /// Returns true if WAL files can be removed once the position is saved.
    fn frees_wal(&self, position: Position) -> bool {
        let segment = |position: Position| position.restart.segment(self.segment_size);
        segment(position) != segment(self.saved)
    }
}

impl Position {
    /// Returns true if both have the same events confirmed.
    fn is_as_far_as(&self, other: Position) -> bool {
        (self.confirmed, self.tx_seq) == (other.confirmed, other.tx_seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    const SEGMENT: u64 = 1000;

    fn position(confirmed: u64) -> Position {
        Position { confirmed: Lsn(confirmed), restart: Lsn(confirmed), tx_seq: 0 }
    }

    /// What is due with each of these, a second apart.
    fn dues(confirmed: impl IntoIterator<Item = u64>) -> Vec<Due> {
        let begin = Instant::now();
        let mut schedule = Schedule::new(begin, position(1), SEGMENT);
        let mut now = begin;
        let look = |confirmed| {
            now += LOOK_INTERVAL;
            assert_eq!(schedule.until_next_look(now), Duration::ZERO);
            let position = position(confirmed);
            let due = schedule.look(now, position);
            assert_eq!(schedule.until_next_look(now), LOOK_INTERVAL);
            if due == Due::Save {
                schedule.set_saved(now, position);
            }
            due
        };
        confirmed.into_iter().map(look).collect()
    }

    #[test]
    fn what_rests_is_saved_once() {
        assert_eq!(
            dues([1, 2, 2, 2, 2]),
            [Due::Nothing, Due::Record, Due::Save, Due::Nothing, Due::Nothing]
        );
    }

    #[test]
    fn what_moves_is_saved_now_and_then_and_recorded_meanwhile() {
        let found = dues(2..=31);
        assert_eq!(found.iter().filter(|&&due| due == Due::Save).count(), 3);
        assert_eq!([found[9], found[19], found[29]], [Due::Save; 3]);
        assert!(!found.contains(&Due::Nothing));
    }

    #[test]
    fn what_moves_again_is_not_saved_at_once() {
        let found = dues([1; 20].into_iter().chain(2..=11));
        assert_eq!(found[..20], [Due::Nothing; 20]);
        assert_eq!(found[20..29], [Due::Record; 9]);
        assert_eq!(found[29], Due::Save);
    }

    #[test]
    fn wal_that_can_go_does_not_wait() {
        assert_eq!(dues([2, 1002, 1003, 2004]), [Due::Record, Due::Save, Due::Record, Due::Save]);
    }
}
