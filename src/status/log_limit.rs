//! What the log says already: nothing is said twice within a minute, so that what happens over and
//! over does not fill it. Pure, but for the clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Shortest time between two log lines that say the same.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

/// Texts, and when they were said.
#[derive(Debug, Default)]
pub struct LogLimit(HashMap<String, Instant>);

impl LogLimit {
    /// Whether the text is to be said now; then it counts as said.
    pub fn is_news(&mut self, text: &str) -> bool {
        self.0.retain(|_, at| at.elapsed() < REPEAT_INTERVAL);
        if self.0.contains_key(text) {
            return false;
        }
        self.0.insert(text.to_owned(), Instant::now());
        true
    }
}
