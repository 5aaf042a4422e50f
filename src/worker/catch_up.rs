//! How fast the lag falls, so that the operator can be told when it will be gone. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks before that say nothing about now.
const MEMORY: Duration = Duration::from_secs(10);

/// The lag as it was in the last seconds.
#[derive(Debug, Default)]
pub struct CatchUp {
    /// When, and how many bytes.
    looks: VecDeque<(Instant, u64)>,
}

impl CatchUp {
    /// Returns true if it is time to look at the lag again.
    pub fn is_due(&self, now: Instant) -> bool {
        self.looks.back().is_none_or(|&(last, _)| now.duration_since(last) >= INTERVAL)
    }

    /// Takes the lag in bytes as it is now. Returns in how many seconds it will be gone, if it falls.
    pub fn look(&mut self, now: Instant, lag: u64) -> Option<f64> {
        self.looks.retain(|&(at, _)| now.duration_since(at) <= MEMORY);
        self.looks.push_back((now, lag));
        // What came before it began to fall says nothing about how fast it falls.
        while self.looks.len() > 1 && self.looks[1].1 >= self.looks[0].1 {
            self.looks.pop_front();
        }
        let &(since, before) = self.looks.front()?;
        let fallen = before.checked_sub(lag).filter(|&fallen| fallen > 0)?;
        Some(lag as f64 * now.duration_since(since).as_secs_f64() / fallen as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(lags: &[(u64, u64)]) -> Option<f64> {
        let (mut catch_up, start) = (CatchUp::default(), Instant::now());
        let mut outlook = None;
        for &(second, lag) in lags {
            let now = start + Duration::from_secs(second);
            assert!(catch_up.is_due(now));
            outlook = catch_up.look(now, lag);
            assert!(!catch_up.is_due(now));
        }
        outlook
    }

    #[test]
    fn what_falls_will_be_gone() {
        assert_eq!(looks(&[(0, 1000)]), None);
        assert_eq!(looks(&[(0, 1000), (1, 900)]), Some(9.0));
        assert_eq!(looks(&[(0, 1000), (2, 900), (4, 600)]), Some(6.0));
        assert_eq!(looks(&[(0, 1000), (1, 0)]), Some(0.0));
    }

    #[test]
    fn what_grows_or_stands_still_has_no_end() {
        assert_eq!(looks(&[(0, 1000), (1, 1000)]), None);
        assert_eq!(looks(&[(0, 1000), (1, 900), (2, 1100)]), None);
    }

    #[test]
    fn an_outage_before_does_not_count() {
        assert_eq!(looks(&[(0, 0), (1, 500), (2, 1000), (3, 1000), (4, 900)]), Some(9.0));
        assert_eq!(looks(&[(0, 1000), (100, 900)]), None);
        assert_eq!(looks(&[(0, 9000), (100, 900), (101, 600)]), Some(2.0));
    }
}
