//! Extends the 32 bits of the xids in WAL records to 64 bits, so that an older xid is always less. Pure.
//!
//! Every xid in a record is within 2^31 of those around it, because PostgreSQL assigns no others. So counting on
//! from one xid to the next is right however many there are. The epoch of the first xids is not known at first. It
//! comes with the first checkpoint record that is read, or, if there is none up to the end of the WAL, from the
//! server's own counter, which agrees with the WAL there. Until then an assumed epoch tells the xids apart; nothing
//! has to be read again when the real one is known.

/// The first xid that a transaction can have; those below mean something else (access/transam.h:
/// `FirstNormalTransactionId`).
const FIRST_NORMAL: u32 = 3;

/// Where counting begins. Not at zero: xids older than the first one that is read may follow.
const ASSUMED_EPOCH: u64 = 1 << 32;

/// Counts on with each record.
#[derive(Clone, Debug, Default)]
pub struct XidCounter {
    /// Greater than each xid so far; 0 if there was none.
    next: u64,
    /// What must be added to a counted xid to get the server's own; None while that is not known.
    to_real: Option<u64>,
}

impl XidCounter {
    /// Counts the xid of a transaction that has written a record.
    pub fn count(&mut self, xid: u32) -> u64 {
        let counted = self.near(xid);
        if xid >= FIRST_NORMAL {
            self.next = self.next.max(counted + 1);
        }
        counted
    }

    /// Counts the xids of a record that says which xid comes next and which is the oldest that runs. Returns the
    /// oldest.
    pub fn count_running(&mut self, next: u32, oldest: u32) -> u64 {
        let counted = self.near(next);
        self.next = self.next.max(counted);
        counted - u64::from(next.wrapping_sub(oldest))
    }

    /// Learns the epoch from the server's own counter, as it was a short while ago.
    pub fn learn(&mut self, real_next: u64) {
        let near = self.near(real_next as u32);
        let to_real = *self.to_real.get_or_insert(real_next.wrapping_sub(near));
        self.next = self.next.max(real_next.wrapping_sub(to_real));
    }

    /// Takes the epoch from a counter that counted on from here, if that has found it.
    pub fn know_from(&mut self, ahead: &XidCounter) {
        self.to_real = self.to_real.or(ahead.to_real);
    }

    /// Returns true if the epoch is known.
    pub fn is_known(&self) -> bool {
        self.to_real.is_some()
    }

    /// Returns the server's own xid, epoch included, for a counted one, if the epoch is known; 0, which is no
    /// transaction's, stays 0.
    pub fn real(&self, counted: u64) -> Option<u64> {
        match counted {
            0 => Some(0),
            _ => self.to_real.map(|to_real| counted.wrapping_add(to_real)),
        }
    }

    /// Returns the nearest xid with these 32 bits.
    fn near(&self, xid: u32) -> u64 {
        if self.next == 0 {
            return ASSUMED_EPOCH | u64::from(xid);
        }
        let distance = xid.wrapping_sub(self.next as u32) as i32;
        self.next.wrapping_add_signed(i64::from(distance))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const EPOCH: u64 = 1 << 32;

    #[test]
    fn age_is_counted_across_the_wraparound() {
        let mut xids = XidCounter::default();
        let old = xids.count(u32::MAX - 1);
        let young = xids.count(5);
        assert!(old < young);
        assert_eq!(xids.count(u32::MAX - 1), old);
        let oldest = xids.count_running(7, u32::MAX);
        assert!(old < oldest && oldest < young);
        assert_eq!(xids.count_running(6, 6), young + 1);
    }

    #[test]
    fn what_was_read_before_the_checkpoint_is_known_with_it() {
        let mut xids = XidCounter::default();
        let before = [u32::MAX - 7, 100].map(|xid| xids.count(xid));
        assert_eq!(xids.real(before[0]), None);
        xids.learn(7 * EPOCH + 101);
        let after = xids.count(102);
        let real = [before[0], before[1], after].map(|xid| xids.real(xid).unwrap());
        assert_eq!(real, [7 * EPOCH - 8, 7 * EPOCH + 100, 7 * EPOCH + 102]);
    }

    #[test]
    fn a_checkpoint_says_where_the_counter_is_even_if_no_record_led_there() {
        let mut xids = XidCounter::default();
        xids.learn(3 * EPOCH + 50);
        let before = xids.count(50);
        xids.learn(9 * EPOCH + 40);
        assert_eq!(xids.real(before), Some(3 * EPOCH + 50));
        let after = xids.count(41);
        assert_eq!(xids.real(after), Some(9 * EPOCH + 41));
        // It is written at the end of a checkpoint, and says what was so at its beginning.
        xids.learn(9 * EPOCH + 40);
        assert_eq!(xids.count(41), after);
    }

    #[test]
    fn what_is_no_transaction_counts_for_nothing() {
        let mut xids = XidCounter::default();
        xids.count(u32::MAX);
        let next = xids.next;
        for xid in 0..FIRST_NORMAL {
            xids.count(xid);
            assert_eq!(xids.next, next);
        }
        assert_eq!(xids.real(0), Some(0));
        xids.learn(5);
        assert_eq!(xids.real(0), Some(0));
    }

    proptest! {
        /// Steps ahead of the server's counter, which are less than 2^31 less what runs.
        #[test]
        fn the_real_ones_come_back(
            first in 0..u64::MAX / 4,
            steps in vec((0..1u64 << 30, 0..1u64 << 30), 1..50),
            checkpoint in 0..50usize,
        ) {
            let mut next = first + (1 << 32);
            let mut xids = XidCounter::default();
            let mut counted = Vec::new();
            for (number, (ahead, behind)) in steps.into_iter().enumerate() {
                next += ahead;
                let real = next - behind;
                counted.push((xids.count(real as u32), real));
                xids.count_running(next as u32, real as u32);
                if number == checkpoint {
                    xids.learn(next);
                }
            }
            xids.learn(next);
            for (counted, real) in counted {
                prop_assert_eq!(xids.real(counted), Some(real));
            }
        }
    }
}
