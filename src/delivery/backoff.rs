//! How long to wait before the next attempt to reach the broker. Pure.

use std::time::Duration;

use super::failure::FailureKind;

/// Doubles the delay before each attempt, from nothing over 100 ms up to a limit that depends on the failure.
#[derive(Debug, Default)]
pub struct Backoff {
    delay: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);
    /// Where one queue of several is full, the others get the message again at each attempt.
    const LONGEST_AFTER_NACK: Duration = Duration::from_secs(30);

    /// How long to wait before the next attempt.
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// An attempt failed so.
    pub fn grow(&mut self, kind: FailureKind) {
        let longest = match kind {
            FailureKind::Nacked => Self::LONGEST_AFTER_NACK,
            _ => Self::LONGEST,
        };
        self.delay = (self.delay * 2).clamp(Self::FIRST, longest);
    }

    /// An attempt got somewhere.
    pub fn reset(&mut self) {
        self.delay = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_a_limit_and_starts_again() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.delay(), Duration::ZERO);
        let mut delays = |kind, count| {
            let mut delays = Vec::new();
            for _ in 0..count {
                backoff.grow(kind);
                delays.push(backoff.delay().as_millis());
            }
            delays
        };
        let found = delays(FailureKind::Connection, 8);
        assert_eq!(found, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(delays(FailureKind::Nacked, 4), [10_000, 20_000, 30_000, 30_000]);
        assert_eq!(delays(FailureKind::Connection, 1), [5000]);
        backoff.reset();
        assert_eq!(backoff.delay(), Duration::ZERO);
    }
}
