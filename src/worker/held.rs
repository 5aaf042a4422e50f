//! An event that the stream stands still at, since no message can be made of it.

use std::time::{Duration, Instant};

/// How long the stream stands still at an event that there is no memory for, before a new life of the worker
/// tries it again.
const MEMORY_RETRY: Duration = Duration::from_secs(30);

/// The event, which is the next one of the stream.
pub struct Held {
    pub message_id: String,
    /// What the operator is told about it.
    pub description: String,
    /// Whether an operator wants it to be passed over.
    pub is_unwanted: bool,
    /// When it is to be tried again, if only memory is missing.
    pub retry_at: Option<Instant>,
}

impl Held {
    /// Holds the event from now on. `is_for_memory`: whether only memory is missing, and may be there some day.
    pub fn new(message_id: String, description: String, is_for_memory: bool) -> Held {
        let retry_at = is_for_memory.then(|| Instant::now() + MEMORY_RETRY);
        Held { message_id, description, is_unwanted: false, retry_at }
    }
}
