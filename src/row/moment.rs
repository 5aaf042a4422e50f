//! Dates and timestamps as they stand in JSON: ISO 8601, in UTC, as PostgreSQL's
//! `JsonEncodeDateTime` (json.c) writes them in the time zone UTC. Pure. Only years of four digits
//! after Christ: all else is left to PostgreSQL.

use super::escape::push_integer;
use crate::memory;

/// Days from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const EPOCH: i64 = 10_957;

/// Days since 1970 of 0001-01-01 and 9999-12-31.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

const MICROSECONDS_A_DAY: i64 = 86_400_000_000;

/// Bytes of the longest text.
const LONGEST: usize = "2000-01-01T00:00:00.000000+00:00".len();

/// Appends a date, given in days since 2000. Returns whether it could.
pub fn push_date(out: &mut Vec<u8>, days: i32) -> bool {
    let days = i64::from(days) + EPOCH;
    if !DAYS.contains(&days) {
        return false;
    }
    memory::reserve(out, LONGEST);
    push_day(out, days);
    true
}

/// Appends a timestamp, given in microseconds since 2000, without an offset. Returns whether it could.
pub fn push_timestamp(out: &mut Vec<u8>, microseconds: i64) -> bool {
    let days = microseconds.div_euclid(MICROSECONDS_A_DAY) + EPOCH;
    if !DAYS.contains(&days) {
        return false;
    }
    let of_day = microseconds.rem_euclid(MICROSECONDS_A_DAY);
    let (seconds, mut fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    memory::reserve(out, LONGEST);
    push_day(out, days);
    out.push(b'T');
    push_two(out, seconds / 3600);
    out.push(b':');
    push_two(out, seconds / 60 % 60);
    out.push(b':');
    push_two(out, seconds % 60);
    if fraction != 0 {
        out.push(b'.');
        // Six digits without the zeros at the end.
        let mut unit = 100_000;
        while fraction != 0 {
            out.push(b'0' + (fraction / unit) as u8);
            fraction %= unit;
            unit /= 10;
        }
    }
    true
}

/// Appends a timestamp with the offset of UTC. Returns whether it could.
pub fn push_timestamptz(out: &mut Vec<u8>, microseconds: i64) -> bool {
    let done = push_timestamp(out, microseconds);
    if done {
        out.extend_from_slice(b"+00:00");
    }
    done
}

/// The Gregorian date of a day after 0001-01-01, counted from 1970.
fn push_day(out: &mut Vec<u8>, days: i64) {
    // Years begin in March here, so that the leap day is the last of its year; eras of 400 years are
    // all alike (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    push_two(out, year / 100);
    push_two(out, year % 100);
    out.push(b'-');
    push_two(out, month);
    out.push(b'-');
    push_two(out, day);
}

fn push_two(out: &mut Vec<u8>, number: i64) {
    if number < 10 {
        out.push(b'0');
    }
    push_integer(out, number);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(days: i32) -> Option<String> {
        let mut out = Vec::new();
        push_date(&mut out, days).then(|| String::from_utf8(out).unwrap())
    }

    fn timestamp(microseconds: i64) -> Option<String> {
        let mut out = Vec::new();
        push_timestamp(&mut out, microseconds).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn days_are_dates_of_the_gregorian_calendar() {
        for (days, expected) in [
            (0, "2000-01-01"),
            (59, "2000-02-29"),
            (60, "2000-03-01"),
            (-1, "1999-12-31"),
            (-730_119, "0001-01-01"),
            (2_921_939, "9999-12-31"),
        ] {
            assert_eq!(date(days).as_deref(), Some(expected));
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1, 1, 1);
        for days in -730_119..=2_921_939 {
            assert_eq!(date(days), Some(format!("{year:04}-{month:02}-{day:02}")));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + i32::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    #[test]
    fn fractions_end_with_their_last_digit() {
        for (microseconds, expected) in [
            (0, "2000-01-01T00:00:00"),
            (1, "2000-01-01T00:00:00.000001"),
            (500_000, "2000-01-01T00:00:00.5"),
            (86_399_999_990, "2000-01-01T23:59:59.99999"),
            (-1, "1999-12-31T23:59:59.999999"),
        ] {
            assert_eq!(timestamp(microseconds).as_deref(), Some(expected));
        }
    }

    #[test]
    fn infinities_and_years_of_other_lengths_are_left_to_postgresql() {
        for days in [i32::MIN, i32::MAX, -730_120, 2_921_940] {
            assert_eq!(date(days), None);
        }
        for microseconds in [i64::MIN, i64::MAX, -730_119 * MICROSECONDS_A_DAY - 1] {
            assert_eq!(timestamp(microseconds), None);
        }
    }
}
