//! How many events did not go to their exchange, told once a minute. Pure.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::memory;

/// Shortest time between two words about the same exchange.
const INTERVAL: Duration = Duration::from_secs(60);

/// Exchanges above which those are forgotten of which nothing was said lately.
const MANY: usize = 1000;

/// Events that were not told of yet.
#[derive(Debug, Default)]
pub struct Tally(HashMap<Rc<str>, (u64, Instant)>);

impl Tally {
    /// One more for this exchange. How many there were since the last word, if one is due now.
    pub fn add(&mut self, exchange: &Rc<str>, now: Instant) -> Option<u64> {
        if let Some((count, told_at)) = self.0.get_mut(exchange) {
            *count += 1;
            let is_due = now.duration_since(*told_at) >= INTERVAL;
            return is_due.then(|| {
                *told_at = now;
                std::mem::take(count)
            });
        }
        if self.0.len() >= MANY {
            self.0.retain(|_, (_, told_at)| now.duration_since(*told_at) < INTERVAL);
        }
        memory::reserve_entry(&mut self.0);
        self.0.insert(Rc::clone(exchange), (0, now));
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_then_how_many_came_in_a_minute() {
        let now = Instant::now();
        let mut tally = Tally::default();
        assert_eq!(tally.add(&"a".into(), now), Some(1));
        assert_eq!((tally.add(&"a".into(), now), tally.add(&"a".into(), now)), (None, None));
        assert_eq!(tally.add(&"b".into(), now), Some(1));
        assert_eq!(tally.add(&"a".into(), now + INTERVAL), Some(3));
        assert_eq!(tally.add(&"a".into(), now + INTERVAL), None);
    }
}
