//! Which transactions were running when somebody looked. Pure: [`crate::pg::visibility`] looks.

/// The running transactions, with all 64 bits of their xids where these are told from old ones.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    /// All before it had ended.
    pub xmin: u64,
    /// None from it on had ended.
    pub xmax: u64,
    /// None from it on had begun, a moment later.
    pub next: u64,
    /// Lower 32 bits of those between `xmin` and `xmax` that were running, without subtransactions.
    pub xids: &'a [u32],
}

impl Running<'_> {
    /// Whether the transaction was running.
    pub fn contains(&self, xid: u64) -> bool {
        xid >= self.xmin && (xid >= self.xmax || self.xids.contains(&(xid as u32)))
    }

    /// The youngest transaction that can have these lower 32 bits.
    pub fn youngest(&self, xid: u32) -> u64 {
        let last = self.next.saturating_sub(1);
        last.saturating_sub(u64::from((last as u32).wrapping_sub(xid)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: u64 = 1 << 32;
    const RUNNING: Running<'static> = Running {
        xmin: 5 * EPOCH + 10,
        xmax: 5 * EPOCH + 20,
        next: 5 * EPOCH + 25,
        xids: &[10, 15],
    };

    #[test]
    fn those_run_that_are_listed_or_were_not_over_when_the_last_one_ended() {
        let running = |xid| RUNNING.contains(5 * EPOCH + xid);
        assert!(running(10) && running(15) && running(20) && running(24));
        assert!(!running(9) && !running(11) && !running(19));
    }

    #[test]
    fn an_old_one_does_not_run_whoever_has_its_number_now() {
        for age in [1 << 31, EPOCH, 2 * EPOCH, 5 * EPOCH] {
            for xid in [10, 15, 19, 20, 24] {
                assert!(!RUNNING.contains(5 * EPOCH + xid - age), "{xid} {age}");
            }
        }
    }

    #[test]
    fn a_number_is_taken_for_the_youngest_that_has_it() {
        assert_eq!(RUNNING.youngest(24), 5 * EPOCH + 24);
        assert_eq!(RUNNING.youngest(25), 4 * EPOCH + 25);
        assert_eq!(RUNNING.youngest(0), 5 * EPOCH);
    }
}
