//! How long events take from their commit to a consumer, while nothing is broken. Pure.

use std::fmt;
use std::time::Duration;

use super::clock::micros_now;
use super::delivery::Delivery;

/// Part of a run, in microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    from: i64,
    to: i64,
}

/// What was measured of the events that committed in a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Latency {
    /// From the shortest to the longest.
    sorted: Vec<Duration>,
}

impl Span {
    /// For as long as this takes.
    pub fn of(pass: impl FnOnce()) -> Span {
        let from = micros_now();
        pass();
        Span { from, to: micros_now() }
    }

    /// Whether something arrived that committed afterwards.
    pub fn is_over(self, deliveries: &[Delivery]) -> bool {
        deliveries.last().is_some_and(|last| last.committed_at >= self.to)
    }

    fn holds(self, time: i64) -> bool {
        (self.from..self.to).contains(&time)
    }
}

impl Latency {
    /// Of the events that committed in this span, but for those of the client with this number.
    pub fn within(span: Span, deliveries: &[Delivery], but_client: u64) -> Latency {
        // Its rows are its own: all of its events carry its stamps.
        let stamps = format!("c{but_client}-");
        let is_meant = |delivery: &&Delivery| {
            span.holds(delivery.committed_at) && !delivery.change.stamp.starts_with(&stamps)
        };
        let mut sorted: Vec<_> =
            deliveries.iter().filter(is_meant).map(Delivery::latency).collect();
        sorted.sort_unstable();
        Latency { sorted }
    }

    fn percentile(&self, percent: usize) -> Duration {
        let last = self.sorted.len().saturating_sub(1);
        self.sorted.get(last * percent / 100).copied().unwrap_or_default()
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |percent| self.percentile(percent).as_secs_f64() * 1e3;
        write!(f, "{:.1} / {:.1} / {:.0} ms", millis(50), millis(99), millis(100))?;
        write!(f, " ({} events)", self.sorted.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_events_are_below_the_first_figure_and_one_of_a_hundred_above_the_second() {
        let sorted = (0..=200).map(Duration::from_millis).collect();
        assert_eq!(Latency { sorted }.to_string(), "100.0 / 198.0 / 200 ms (201 events)");
        assert_eq!(Latency::default().to_string(), "0.0 / 0.0 / 0 ms (0 events)");
    }
}
