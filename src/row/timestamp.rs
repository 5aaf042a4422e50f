//! Timestamps as they stand in bodies and headers: as PostgreSQL writes a timestamptz into JSON, in UTC.

use super::moment;
use crate::pg::output_settings::{Moment, Output, push_moment};

/// A timestamp and its text, for many that are the same in turn.
pub struct TimestampText {
    timestamp: i64,
    text: String,
}

impl Default for TimestampText {
    fn default() -> TimestampText {
        TimestampText { timestamp: i64::MIN, text: String::new() }
    }
}

impl TimestampText {
    /// The text of a timestamp, given in microseconds since 2000.
    pub fn of(&mut self, timestamp: i64) -> &str {
        if self.text.is_empty() || self.timestamp != timestamp {
            *self = TimestampText { timestamp, text: json_timestamp(timestamp) };
        }
        &self.text
    }
}

fn json_timestamp(timestamp: i64) -> String {
    let mut text = Vec::with_capacity("2000-01-01T00:00:00.000000+00:00".len());
    if !moment::push_timestamptz(&mut text, timestamp) {
        let output = Output::fix(false);
        push_moment(&mut text, Moment::TimestampTz(timestamp));
        output.undo();
    }
    String::from_utf8_lossy(&text).into_owned()
}
