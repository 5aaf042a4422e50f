//! How long events take from their commit to a consumer, while nothing is broken. Pure.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// Now, in microseconds since 1970.
pub(super) fn micros_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_micros() as i64
}

/// A time in UTC as the messages have it, `2026-11-21T22:10:13.123456+00:00`, in microseconds since 1970.
pub(super) fn micros(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix("+00:00")?.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let numbers = |text: &str, separator| {
        text.split(separator).map(|part| part.parse::<i64>().ok()).collect::<Option<Vec<_>>>()
    };
    let (&[year, month, day], &[hour, minute, second]) =
        (&*numbers(date, '-')?, &*numbers(time, ':')?)
    else {
        return None;
    };
    // Years that begin in March end with the day that may be missing.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let seconds = ((days - 719_468) * 24 + hour) * 3600 + minute * 60 + second;
    Some(seconds * 1_000_000 + format!("{fraction:0<6}").parse::<i64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        assert_eq!(micros("1970-01-01T00:00:00+00:00"), Some(0));
        assert_eq!(micros("2000-02-29T12:00:00.5+00:00"), Some(951_825_600_500_000));
        assert_eq!(micros("2026-11-30T16:35:05.123456+00:00"), Some(1_796_056_505_123_456));
        assert_eq!(micros("2026-11-30 16:35:05"), None);
    }

    #[test]
    fn half_of_the_events_are_below_the_first_figure_and_one_of_a_hundred_above_the_second() {
        let sorted = (0..=200).map(Duration::from_millis).collect();
        assert_eq!(Latency { sorted }.to_string(), "100.0 / 198.0 / 200 ms (201 events)");
        assert_eq!(Latency::default().to_string(), "0.0 / 0.0 / 0 ms (0 events)");
    }
}
