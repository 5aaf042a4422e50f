//! How many events are confirmed, time after time, as `amqp.status` shows it, and the CPU that the
//! worker's process, the publisher in it, has used by then.

use std::thread;
use std::time::{Duration, Instant};

use pg_test::machine::cpu_time;
use postgres::Client;

use crate::raw::Pace;

/// Time between two looks: each takes some CPU of the server that is measured.
const INTERVAL: Duration = Duration::from_millis(50);

/// For all events.
const PATIENCE: Duration = Duration::from_secs(600);

/// What one look showed.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub at: Instant,
    /// Events confirmed since the server started.
    pub confirmed: u64,
    /// CPU time of the worker's process since it started.
    pub cpu: Duration,
}

impl Look {
    pub fn take(client: &mut Client) -> Look {
        const STATUS: &str = "SELECT events_confirmed, worker_pid FROM amqp.status";
        let row = client.query_one(STATUS, &[]).expect("could not read amqp.status");
        let (confirmed, worker): (i64, Option<i32>) = (row.get(0), row.get(1));
        Look {
            at: Instant::now(),
            confirmed: confirmed as u64,
            cpu: worker.map_or(Duration::ZERO, |pid| cpu_time(pid as u32)),
        }
    }

    /// Nothing was confirmed and nothing used yet.
    pub fn at_birth() -> Look {
        Look { at: Instant::now(), confirmed: 0, cpu: Duration::ZERO }
    }
}

/// How fast these events were confirmed after `before`, up to `before + events`, and what that cost.
/// The rate is that between the first and the last look while they were: the last event was
/// confirmed some time before the look that showed it.
///
/// # Panics
/// If it takes too long, or no time at all.
#[track_caller]
pub fn pace(client: &mut Client, before: Look, events: u64) -> Pace {
    let end = before.confirmed + events;
    let looks = watch(client, end);
    let cpu = looks[looks.len() - 1].cpu - before.cpu;
    let under_way = |look: &&Look| look.confirmed > before.confirmed && look.confirmed < end;
    let looks: Vec<_> = looks.iter().filter(under_way).collect();
    let [first, .., last] = looks[..] else {
        panic!("{events} events are too few to be watched");
    };
    Pace {
        rate: (last.confirmed - first.confirmed) as f64 / (last.at - first.at).as_secs_f64(),
        cpu: cpu.as_secs_f64() * 1e6 / events as f64,
    }
}

/// Looks until so many events are confirmed since the server started.
///
/// # Panics
/// If it takes too long.
#[track_caller]
fn watch(client: &mut Client, events: u64) -> Vec<Look> {
    let end = Instant::now() + PATIENCE;
    let mut looks = Vec::new();
    loop {
        let look = Look::take(client);
        looks.push(look);
        if look.confirmed >= events {
            return looks;
        }
        assert!(look.at < end, "{} of {events} events arrived in {PATIENCE:?}", look.confirmed);
        thread::park_timeout(INTERVAL);
    }
}
