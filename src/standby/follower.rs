//! What a standby knows of the stream: the last position that was replayed, and from where on it has the WAL. Pure.

use crate::lsn::Lsn;
use crate::pg::slot::SlotData;
use crate::position::Position;

/// So many segments without a position record: nobody publishes there, and what is retained for nobody would fill the
/// disk.
const SILENCE: u64 = 64;

/// What is known.
#[derive(Debug)]
pub struct Follower {
    segment_size: u64,
    /// From where on the WAL is here.
    start: Lsn,
    /// The last position that is known. Of one that is known from the slot alone R may be missing.
    last: Option<Position>,
    /// Where that was heard of, or where listening began.
    heard_at: Lsn,
    /// Whether the last that was heard is that nobody publishes any more.
    is_removed: bool,
}

/// Whether the stream could be taken over now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// From this position on.
    Ready(Position),
    /// What is needed lies before the WAL that is here. C is known.
    Lacking { confirmed: Lsn, start: Lsn },
    /// No position was heard of: there may be nothing to take over.
    Unknown { start: Lsn },
}

impl Follower {
    /// The WAL is here from `start` on, and this is what the slot knew.
    pub fn new(start: Lsn, last: Option<Position>, segment_size: u64) -> Follower {
        Follower { segment_size, start, last, heard_at: start, is_removed: false }
    }

    /// A position record was replayed, which ends there. One that cannot be read, or says nothing, has no position;
    /// somebody publishes all the same.
    pub fn hear(&mut self, position: Option<Position>, at: Lsn) {
        self.heard_at = at;
        let Some(position) = position else { return };
        self.is_removed = position.is_removal();
        let known = self.last.unwrap_or_default();
        let is_further = (position.confirmed, position.tx_seq) >= (known.confirmed, known.tx_seq);
        // A primary that crashed goes on from an older position than it had recorded. What was confirmed by then
        // stays so, and no later transaction needs what lies before that R.
        let last = if is_further { position } else { known };
        self.last = Some(Position { restart: position.restart.max(known.restart), ..last });
    }

    /// Where things stand, when all WAL up to `read` was read.
    pub fn standing(&mut self, read: Lsn) -> Standing {
        if read.0.saturating_sub(self.heard_at.max(self.start).0) > SILENCE * self.segment_size {
            self.start = read;
        }
        let start = self.start;
        match self.last {
            Some(position) if position.restart >= start => Standing::Ready(position),
            Some(Position { confirmed, .. }) => Standing::Lacking { confirmed, start },
            None => Standing::Unknown { start },
        }
    }

    /// Whether the extension was removed upstream.
    pub fn is_removed(&self) -> bool {
        self.is_removed
    }

    /// What lies before this is gone.
    pub fn lose(&mut self, start: Lsn) {
        self.start = start;
    }

    /// This was saved: what lies before its R may be removed.
    pub fn note_saved(&mut self, stored: SlotData) {
        self.start = stored.restart;
    }
}

impl Standing {
    /// As the slot has it.
    pub fn to_stored(self) -> SlotData {
        let before = |confirmed, restart| {
            Position { restart, ..Position::default() }.to_stored_before_gap(confirmed)
        };
        match self {
            Standing::Ready(position) => position.to_stored(),
            Standing::Lacking { confirmed, start } => before(Some(confirmed), start),
            Standing::Unknown { start } => before(None, start),
        }
    }

    /// For the operator.
    pub fn words(self) -> String {
        match self {
            Standing::Ready(Position { confirmed, .. }) => {
                format!("can take over: everything up to {confirmed} is confirmed")
            }
            Standing::Lacking { confirmed, start } => format!(
                "cannot take over yet: of what is not confirmed, after {confirmed}, there is WAL from {start} on alone"
            ),
            Standing::Unknown { .. } => {
                "can take over what the WAL here holds: no position was recorded in it".to_owned()
            }
        }
    }

    /// Whether this is another case than that.
    pub fn differs_from(self, other: Standing) -> bool {
        std::mem::discriminant(&self) != std::mem::discriminant(&other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1000;

    fn position(confirmed: u64, restart: u64) -> Position {
        Position { confirmed: Lsn(confirmed), restart: Lsn(restart), tx_seq: 3 }
    }

    #[test]
    fn a_position_whose_wal_is_here_can_be_gone_on_from() {
        let mut follower = Follower::new(Lsn(5000), None, SEGMENT);
        assert_eq!(follower.standing(Lsn(5100)), Standing::Unknown { start: Lsn(5000) });
        follower.hear(Some(position(5100, 5050)), Lsn(5200));
        let standing = follower.standing(Lsn(5300));
        assert_eq!(standing, Standing::Ready(position(5100, 5050)));
        let stored = standing.to_stored();
        assert_eq!(Position::from_stored(stored), (position(5100, 5050), true));
    }

    #[test]
    fn what_was_confirmed_once_stays_so_when_the_primary_goes_on_from_an_older_position() {
        let mut follower = Follower::new(Lsn(5000), None, SEGMENT);
        follower.hear(Some(position(5100, 5050)), Lsn(5200));
        let known = follower.standing(Lsn(5300));
        follower.note_saved(known.to_stored());
        let older = [position(5090, 5049), Position { tx_seq: 2, ..position(5100, 5050) }];
        for (n, older) in (0..).zip(older) {
            follower.hear(Some(older), Lsn(5400 + n));
            assert_eq!(follower.standing(Lsn(5500)), known, "{older:?}");
        }
        // Its WAL may be gone by now, and is not needed.
        follower.hear(Some(position(5110, 5049)), Lsn(5500));
        assert_eq!(follower.standing(Lsn(5600)), Standing::Ready(position(5110, 5050)));
        follower.hear(Some(position(5120, 5115)), Lsn(5600));
        assert_eq!(follower.standing(Lsn(5700)), Standing::Ready(position(5120, 5115)));
    }

    #[test]
    fn what_lies_before_the_wal_that_is_here_is_missed_until_it_is_confirmed() {
        let mut follower = Follower::new(Lsn(5000), None, SEGMENT);
        follower.hear(Some(position(4000, 3000)), Lsn(5200));
        let standing = follower.standing(Lsn(5300));
        assert_eq!(standing, Standing::Lacking { confirmed: Lsn(4000), start: Lsn(5000) });
        let stored = standing.to_stored();
        assert_eq!((stored.restart, stored.confirmed_flush), (Lsn(5000), Lsn::INVALID));
        // A later life knows C from that.
        let (known, _) = Position::from_stored(stored);
        let mut follower = Follower::new(stored.restart, Some(known), SEGMENT);
        assert_eq!(follower.standing(Lsn(5300)), standing);
        follower.hear(Some(position(5600, 5500)), Lsn(5700));
        assert_eq!(follower.standing(Lsn(5800)), Standing::Ready(position(5600, 5500)));
    }

    #[test]
    fn the_last_word_of_a_stream_is_taken_for_one_until_there_is_another() {
        let mut follower = Follower::new(Lsn(5000), None, SEGMENT);
        follower.hear(Some(position(5100, 5050)), Lsn(5200));
        assert!(!follower.is_removed());
        follower.hear(Some(position(5200, 0)), Lsn(5300));
        assert!(follower.is_removed());
        follower.hear(None, Lsn(5310));
        assert!(follower.is_removed());
        follower.hear(Some(position(5400, 5350)), Lsn(5420));
        assert!(!follower.is_removed());
        assert_eq!(follower.standing(Lsn(5500)), Standing::Ready(position(5400, 5350)));
    }

    #[test]
    fn where_nobody_publishes_nothing_is_retained() {
        let mut follower = Follower::new(Lsn(5000), None, SEGMENT);
        let end = Lsn(5000 + SILENCE * SEGMENT);
        assert_eq!(follower.standing(end), Standing::Unknown { start: Lsn(5000) });
        let later = Lsn(end.0 + 1);
        assert_eq!(follower.standing(later), Standing::Unknown { start: later });
        // Nor where somebody did once. What was confirmed then is still known.
        follower.hear(Some(position(70_000, 70_000)), Lsn(70_000));
        assert!(matches!(follower.standing(Lsn(70_000 + SILENCE * SEGMENT)), Standing::Ready(_)));
        // A record that says nothing shows that somebody is there.
        follower.hear(None, Lsn(70_001));
        assert!(matches!(follower.standing(Lsn(70_001 + SILENCE * SEGMENT)), Standing::Ready(_)));
        let end = Lsn(70_002 + SILENCE * SEGMENT);
        let standing = follower.standing(end);
        assert_eq!(standing, Standing::Lacking { confirmed: Lsn(70_000), start: end });
    }
}
