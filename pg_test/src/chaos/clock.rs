//! Times in microseconds since 1970: now, and as the messages have them.

use std::time::{SystemTime, UNIX_EPOCH};

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
}
