//! When a confirm says that its message was not returned. Pure.
//!
//! The broker returns an unroutable message before it confirms it. lapin hands the returned message
//! out with whichever confirm completes next, and completes the confirms of one acknowledgement in
//! no order (its acknowledgement.rs, `complete_pending_before`), so it may come with the confirm of a
//! later message. By the time every message that had been sent when a confirm was seen is confirmed,
//! it must have come.

/// Counts messages sent, confirmed, and known not to have been returned.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Barrier {
    sent: u64,
    confirmed: u64,
    released: u64,
    /// So many are released ...
    goal: u64,
    /// ... when so many are confirmed.
    wait_for: u64,
}

impl Barrier {
    /// A message was sent.
    pub fn sent(&mut self) {
        self.sent += 1;
    }

    /// The oldest unconfirmed message was confirmed, and no returned message came with that.
    pub fn confirmed(&mut self) {
        self.confirmed += 1;
    }

    /// How many more messages, the oldest, are known to be delivered.
    pub fn release(&mut self) -> u64 {
        let before = self.released;
        while self.confirmed >= self.wait_for {
            self.released = self.goal;
            if self.goal == self.confirmed {
                break;
            }
            (self.goal, self.wait_for) = (self.confirmed, self.sent);
        }
        self.released - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn barrier(sent: u64) -> Barrier {
        let mut barrier = Barrier::default();
        (0..sent).for_each(|_| barrier.sent());
        barrier
    }

    fn confirm(barrier: &mut Barrier, count: u64) -> u64 {
        (0..count).for_each(|_| barrier.confirmed());
        barrier.release()
    }

    #[test]
    fn a_message_sent_alone_is_released_at_once() {
        let mut barrier = barrier(1);
        assert_eq!(barrier.release(), 0);
        assert_eq!(confirm(&mut barrier, 1), 1);
        barrier.sent();
        assert_eq!(confirm(&mut barrier, 1), 1);
    }

    #[test]
    fn a_confirm_counts_when_all_that_was_under_way_is_confirmed() {
        let mut barrier = barrier(10);
        assert_eq!(confirm(&mut barrier, 3), 0);
        (0..5).for_each(|_| barrier.sent());
        assert_eq!(confirm(&mut barrier, 6), 0);
        // The first three; the six after them wait for the fifteen that were sent by now.
        assert_eq!(confirm(&mut barrier, 1), 3);
        assert_eq!(confirm(&mut barrier, 4), 0);
        assert_eq!(confirm(&mut barrier, 1), 12);
        assert_eq!(barrier.release(), 0);
    }
}
