//! What many measurements come to, and how figures are written.

use std::time::Duration;

/// The middle one.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 {
        return numbers[middle];
    }
    (numbers[middle - 1] + numbers[middle]) / 2.0
}

/// Of four the lowest, of eight the second lowest.
pub fn lower_quartile(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    numbers[(numbers.len() - 1) / 4]
}

/// Of four the highest, of eight the second highest.
pub fn upper_quartile(numbers: impl IntoIterator<Item = f64>) -> f64 {
    -lower_quartile(numbers.into_iter().map(|number| -number))
}

/// What this part (of 1) of the times does not exceed, in microseconds.
pub fn percentile(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    let rank = (times.len() as f64 * part).ceil() as usize;
    times[rank.clamp(1, times.len()) - 1].as_secs_f64() * 1e6
}

/// A number without decimals, thousands apart: `12,345`.
pub fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_quarter_is_not_above_the_lower_quartile() {
        assert_eq!(lower_quartile([3.0]), 3.0);
        assert_eq!(lower_quartile([4.0, 1.0, 2.0, 3.0]), 1.0);
        assert_eq!(lower_quartile([5.0, 8.0, 7.0, 6.0, 4.0, 1.0, 2.0, 3.0]), 2.0);
        assert_eq!(upper_quartile([4.0, 1.0, 2.0, 3.0]), 4.0);
    }

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let mut times: Vec<_> = (1..=200).rev().map(Duration::from_micros).collect();
        assert_eq!(percentile(&mut times, 0.5), 100.0);
        assert_eq!(percentile(&mut times, 0.99), 198.0);
        assert_eq!(percentile(&mut times[..1], 0.99), 1.0);
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped(7.4), "7");
        assert_eq!(grouped(999.6), "1,000");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
    }
}
