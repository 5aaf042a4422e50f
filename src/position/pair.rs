//! The position: C, R and how much of the transaction after C is confirmed; and how it is stored in the slot. Pure.

use crate::lsn::Lsn;
use crate::pg::slot::SlotData;

/// How far the stream got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// C: every event of transactions whose commit record ends here or earlier is confirmed.
    pub confirmed: Lsn,
    /// R: the WAL from here on rebuilds every transaction after C whole.
    pub restart: Lsn,
    /// So many events of the transaction after C are confirmed, too.
    pub tx_seq: u64,
}

/// Bits of the slot's number that hold `tx_seq`; the seal is in those above.
const TX_SEQ_BITS: u32 = 40;

impl Position {
    /// Returns bits that depend on `restart`, to be stored beside it. They show whether `restart` is still
    /// the one that was saved: anybody with the REPLICATION attribute may move a slot's restart_lsn while
    /// no worker holds it (pg_replication_slot_advance, START_REPLICATION), but can change nothing else.
    fn seal(&self) -> u64 {
        // Fibonacci hashing: the upper bits depend on all bits.
        self.restart.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> TX_SEQ_BITS
    }

    /// Returns what is stored in the slot.
    pub fn to_stored(self) -> SlotData {
        let tx_seq = self.tx_seq & ((1 << TX_SEQ_BITS) - 1);
        SlotData {
            confirmed_flush: self.confirmed,
            restart: self.restart,
            number: self.seal() << TX_SEQ_BITS | tx_seq,
        }
    }

    /// Returns what is stored while a gap is not announced: no C, so that the next start finds the same
    /// loss again, or a larger one. The slot's number holds the C before the gap.
    pub fn to_stored_before_gap(self, from: Option<Lsn>) -> SlotData {
        let number = from.unwrap_or_default().0;
        SlotData { confirmed_flush: Lsn::INVALID, restart: self.restart, number }
    }

    /// Returns the stored position, and whether its seal is unbroken. If no C is stored, the position has
    /// nothing but the C before the gap, if that is known: R is only what an earlier life of the worker, or
    /// somebody else, reserved.
    pub fn from_stored(stored: SlotData) -> (Position, bool) {
        if !stored.confirmed_flush.is_valid() {
            return (Position { confirmed: Lsn(stored.number), ..Position::default() }, true);
        }
        let position = Position {
            confirmed: stored.confirmed_flush,
            restart: stored.restart,
            tx_seq: stored.number & ((1 << TX_SEQ_BITS) - 1),
        };
        (position, position.seal() == stored.number >> TX_SEQ_BITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_somebody_moved_is_told_from_one_that_was_saved() {
        let position = Position { confirmed: Lsn(70), restart: Lsn(50), tx_seq: 3 };
        let stored = position.to_stored();
        assert_eq!(Position::from_stored(stored), (position, true));
        for moved in [1, 49, 51, 1 << 24] {
            assert!(
                !Position::from_stored(SlotData { restart: Lsn(moved), ..stored }).1,
                "{moved}"
            );
        }
    }

    #[test]
    fn before_a_gap_is_announced_only_the_c_before_it_is_known() {
        let position = Position { confirmed: Lsn::INVALID, restart: Lsn(90), tx_seq: 0 };
        let known = |from| Position::from_stored(position.to_stored_before_gap(from)).0;
        assert_eq!(known(Some(Lsn(1 << 50))).confirmed, Lsn(1 << 50));
        assert_eq!(known(None), Position::default());
        assert_eq!(known(Some(Lsn(70))).restart, Lsn::INVALID);
    }
}
