//! How many messages were sent, confirmed, returned, sent again. Pure.

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages sent, those sent again included.
    pub published: u64,
    /// Messages confirmed or skipped, without a gap from the first.
    pub confirmed: u64,
    /// Messages skipped.
    pub skipped: u64,
    /// Messages the broker returned.
    pub returned: u64,
    /// Messages sent again.
    pub resent: u64,
    /// Messages passed over by the policy of their exchange.
    pub passed_over: u64,
    /// Messages that went to the dead-letter exchange instead.
    pub dead_lettered: u64,
}

impl Counts {
    /// Messages that the broker took, without a gap from the first.
    pub fn taken(&self) -> u64 {
        self.confirmed - self.skipped - self.passed_over
    }
}
