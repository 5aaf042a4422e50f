//! How many events were confirmed, time after time, and what that comes to. Ours is watched in
//! `amqp.status`, the raw publisher keeps its own record.

use std::thread;
use std::time::{Duration, Instant};

use pg_test::machine::cpu_time;
use postgres::Client;

use pg_test::numbers::upper_quartile;

/// Time between two looks: each takes some CPU of the server that is measured.
pub const INTERVAL: Duration = Duration::from_millis(50);

/// Long enough for what brokers do in bursts.
const SLICE: Duration = Duration::from_secs(1);

/// For all events.
const PATIENCE: Duration = Duration::from_secs(600);

/// How fast a publisher was, and what that cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Events confirmed per second.
    pub rate: f64,
    /// CPU time of the publisher's process per event, in microseconds.
    pub cpu: f64,
}

/// What was confirmed when, between the first confirm and the last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Times since any beginning, and events confirmed by then.
    pub marks: Vec<(Duration, u64)>,
    /// CPU time of the publisher's process per event, in microseconds.
    pub cpu: f64,
}

impl Progress {
    /// From the first confirm to the last.
    pub fn overall(&self) -> Pace {
        let [first, .., last] = self.marks[..] else { panic!("too few events to be watched") };
        Pace { rate: rate(first, last), cpu: self.cpu }
    }

    /// Events per second between two counts of confirmed ones.
    ///
    /// # Panics
    /// If so many were not watched.
    #[track_caller]
    pub fn between(&self, from: u64, to: u64) -> f64 {
        let when = |count| {
            let mark = self.marks.iter().find(|(_, confirmed)| *confirmed >= count);
            *mark.expect("so many were not confirmed")
        };
        rate(when(from), when(to))
    }

    /// Of the seconds in between the upper quartile counts: what others do on the machine falls on
    /// some of them only, and only ever slows down.
    pub fn undisturbed(&self) -> Pace {
        let Some(&(mut begin)) = self.marks.first() else { return self.overall() };
        let mut rates = Vec::new();
        for &mark in &self.marks {
            if mark.0 - begin.0 >= SLICE {
                rates.push(rate(begin, mark));
                begin = mark;
            }
        }
        if rates.is_empty() {
            return self.overall();
        }
        Pace { rate: upper_quartile(rates), cpu: self.cpu }
    }
}

fn rate(begin: (Duration, u64), end: (Duration, u64)) -> f64 {
    (end.1 - begin.1) as f64 / (end.0 - begin.0).as_secs_f64()
}

/// What one look at our worker showed.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    at: Instant,
    /// Events confirmed since the server started.
    confirmed: u64,
    /// CPU time of the worker's process since it started.
    cpu: Duration,
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

    /// Watches until so many more events than in this look are confirmed.
    ///
    /// # Panics
    /// If it takes too long.
    #[track_caller]
    pub fn watch(self, client: &mut Client, events: u64) -> Progress {
        let end = self.confirmed + events;
        let mut marks = Vec::new();
        loop {
            let look = Look::take(client);
            if look.confirmed >= end {
                // The last event was confirmed some time before this look.
                let cpu = look.cpu - self.cpu;
                return Progress { marks, cpu: cpu.as_secs_f64() * 1e6 / events as f64 };
            }
            if look.confirmed > self.confirmed {
                marks.push((look.at - self.at, look.confirmed));
            }
            let came = look.confirmed - self.confirmed;
            assert!(look.at - self.at < PATIENCE, "{came} of {events} came in {PATIENCE:?}");
            thread::park_timeout(INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_that_were_disturbed_do_not_count() {
        let mark =
            |half_seconds: u64, confirmed| (Duration::from_millis(500 * half_seconds), confirmed);
        let marks =
            vec![mark(0, 1), mark(1, 51), mark(2, 101), mark(3, 111), mark(4, 121), mark(6, 221)];
        let progress = Progress { marks, cpu: 7.0 };
        assert_eq!(progress.undisturbed(), Pace { rate: 100.0, cpu: 7.0 });
        assert_eq!(progress.overall(), Pace { rate: 220.0 / 3.0, cpu: 7.0 });
    }

    #[test]
    fn a_part_has_a_pace_of_its_own() {
        let marks = [(0, 1), (1, 40), (2, 100), (4, 300), (5, 320)];
        let marks = marks.map(|(second, confirmed)| (Duration::from_secs(second), confirmed));
        let progress = Progress { marks: marks.into(), cpu: 0.0 };
        assert_eq!(progress.between(90, 300), 100.0);
        assert_eq!(progress.between(0, 40), 39.0);
    }

    #[test]
    fn what_is_done_within_a_second_counts_whole() {
        let marks = vec![(Duration::ZERO, 1), (Duration::from_millis(250), 26)];
        assert_eq!(Progress { marks, cpu: 0.0 }.undisturbed().rate, 100.0);
    }
}
