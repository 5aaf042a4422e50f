//! Whether commits come so thick that the worker need not be woken by each. Pure.

use std::time::{Duration, Instant};

/// So many commits within [`INTERVAL`] (2,000 a second) are many: waking a process costs a writer
/// more than all else that an event does. Woken by each, the worker took 1.4 times the CPU an event, and
/// writers that went as fast as they could got on 0.85 times as fast.
const MANY: u64 = 40;

/// Long enough that some commits in a row, at a rate that is not high, are not taken for one.
const INTERVAL: Duration = Duration::from_millis(20);

/// The rate of commits in the last interval.
#[derive(Debug)]
pub struct CommitRate {
    since: Instant,
    /// Commits until then.
    commits: u64,
    is_high: bool,
}

impl CommitRate {
    /// Begins with the number of commits until now.
    pub fn new(now: Instant, commits: u64) -> CommitRate {
        CommitRate { since: now, commits, is_high: false }
    }

    /// Takes the number of commits until now.
    pub fn look(&mut self, now: Instant, commits: u64) {
        let elapsed = now.duration_since(self.since);
        if elapsed < INTERVAL {
            return;
        }
        let many = MANY as f64 * elapsed.as_secs_f64() / INTERVAL.as_secs_f64();
        self.is_high = (commits - self.commits) as f64 >= many;
        (self.since, self.commits) = (now, commits);
    }

    /// Returns true if there were many commits in the last interval.
    pub fn is_high(&self) -> bool {
        self.is_high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at commits that come at these times, in microseconds, as they come.
    fn is_high_after(times: impl IntoIterator<Item = u64>) -> bool {
        let start = Instant::now();
        let mut rate = CommitRate::new(start, 0);
        for (before, time) in times.into_iter().enumerate() {
            rate.look(start + Duration::from_micros(time), before as u64 + 1);
        }
        rate.is_high()
    }

    #[test]
    fn many_are_a_high_rate_until_they_end() {
        let thick = (1..=100).map(|n| n * 400);
        assert!(is_high_after(thick.clone()));
        assert!(!is_high_after(thick.clone().chain([60_000])));
        assert!(!is_high_after(thick.chain([10_000_000])));
    }

    #[test]
    fn few_are_none_even_in_a_row() {
        assert!(!is_high_after((1..=100).map(|n| n * 1000)));
        assert!(!is_high_after((1..=39).map(|n| 1_000_000 + n)));
    }
}
