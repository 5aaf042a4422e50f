//! Keeps the log from filling up with what happens over and over: no text is written twice within a minute.
//! Pure, but for the clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Shortest time between two log lines that say the same.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

/// The texts of the last minute, and when they were written.
#[derive(Debug, Default)]
pub struct LogLimit(HashMap<String, Instant>);

impl LogLimit {
    /// Returns true if the text is to be written now, and counts it as written.
    pub fn is_news(&mut self, text: &str) -> bool {
        self.0.retain(|_, at| at.elapsed() < REPEAT_INTERVAL);
        if self.0.contains_key(text) {
            return false;
        }
        self.0.insert(text.to_owned(), Instant::now());
        true
    }
}
