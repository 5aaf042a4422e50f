//! What `amqp.status` showed, look after look: how many events were confirmed when, and at which node.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pg_test::Postgres;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// A look that saw something new.
#[derive(Clone, Debug)]
pub struct Look {
    pub at: Instant,
    pub confirmed: i64,
    pub state: String,
    /// The node, while it is connected.
    pub broker: String,
    pub reason: String,
}

/// All that was seen.
#[derive(Debug, Default)]
pub struct Monitor {
    looks: Mutex<Vec<Look>>,
}

impl Monitor {
    /// Watches until the run ends.
    pub fn watch(&self, postgres: &Postgres, database: &str, is_over: &AtomicBool) {
        let mut client = postgres.connect(database);
        let statement = client
            .prepare(
                "SELECT events_confirmed, state, coalesce(broker, ''), coalesce(reason, '')
                 FROM amqp.status",
            )
            .expect("could not ask for the status");
        while !is_over.load(Ordering::Relaxed) {
            let row = client.query_one(&statement, &[]).expect("could not ask for the status");
            let look = Look {
                at: Instant::now(),
                confirmed: row.get(0),
                state: row.get(1),
                broker: row.get(2),
                reason: row.get(3),
            };
            self.note(look);
            thread::park_timeout(LOOK);
        }
    }

    fn note(&self, look: Look) {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = looks.last().is_none_or(|last| {
            (last.confirmed, &last.state, &last.broker, &last.reason)
                != (look.confirmed, &look.state, &look.broker, &look.reason)
        });
        if is_new {
            looks.push(look);
        }
    }

    /// What was seen last.
    pub fn last(&self) -> Option<Look> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// What was seen since then.
    pub fn since(&self, begin: Instant) -> Vec<Look> {
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks[looks.partition_point(|look| look.at < begin)..].to_vec()
    }

    /// The longest time since then in which nothing was confirmed.
    pub fn standstill(&self, begin: Instant) -> Duration {
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_progress = |pair: &&[Look]| pair[0].confirmed != pair[1].confirmed;
        let progress = looks.windows(2).filter(is_progress).map(|pair| pair[1].at);
        let (mut last, mut longest) = (begin, Duration::ZERO);
        for at in progress.filter(|&at| at > begin) {
            longest = longest.max(at - last);
            last = at;
        }
        longest.max(last.elapsed())
    }
}
