//! The consumer, on a thread of its own: it keeps books of all that comes, and when timelines began for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pg_test::Consumer;
use pg_test::end_signal::EndSignal;

use super::books::Books;

/// Between two looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// What it has.
#[derive(Debug, Default)]
pub struct Collected {
    pub books: Books,
    /// When the first message came that was named on this timeline.
    pub began: BTreeMap<u64, Instant>,
}

/// The thread.
#[derive(Debug)]
pub struct Collector {
    shared: Arc<(Mutex<Collected>, EndSignal)>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Takes all that this consumer gets.
    pub fn start(consumer: Consumer) -> Collector {
        let shared: Arc<(Mutex<Collected>, EndSignal)> = Arc::default();
        let thread = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (collected, end_signal) = &*shared;
                while !end_signal.is_given() {
                    let Some(message) = consumer.next_within(LOOK) else { continue };
                    let mut collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
                    let id = message.message_id.as_deref().unwrap_or_default();
                    if let Some(timeline) = id.split('/').nth(1).and_then(|text| text.parse().ok())
                    {
                        collected.began.entry(timeline).or_insert_with(Instant::now);
                    }
                    collected.books.take(&message);
                }
            })
        };
        Collector { shared, thread: Some(thread) }
    }

    /// What it has so far.
    ///
    /// # Panics
    /// If a message made no sense.
    #[track_caller]
    pub fn collected(&self) -> MutexGuard<'_, Collected> {
        let collected = self.shared.0.lock();
        collected.unwrap_or_else(|_| panic!("a message is not as the documentation has it"))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.shared.1.give();
        if let Some(thread) = self.thread.take() {
            // What it panicked with was printed.
            let _ = thread.join();
        }
    }
}
