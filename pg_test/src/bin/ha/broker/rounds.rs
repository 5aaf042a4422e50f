//! One fault after the other, each timed: from when it is injected until everything is as before, how long was nothing
//! confirmed although rows were committed all the time?

use std::thread;
use std::time::{Duration, Instant};

use super::stage::Stage;

/// One fault, and what came of it.
#[derive(Debug)]
pub struct Round {
    pub fault: String,
    /// Whom it befell.
    pub whom: String,
    pub standstill: Duration,
    /// What explains the longest stand-still, in words.
    pub because: &'static str,
    pub bound: Duration,
}

/// The rounds of a run.
#[derive(Debug)]
pub struct Rounds<'a> {
    pub stage: &'a Stage,
    pub done: Vec<Round>,
    pub findings: Vec<String>,
    began: Instant,
}

impl<'a> Rounds<'a> {
    /// None yet.
    pub fn new(stage: &'a Stage) -> Rounds<'a> {
        Rounds { stage, done: Vec::new(), findings: Vec::new(), began: Instant::now() }
    }

    /// Runs one. `act` injects and heals, and may say that the clock is to begin later.
    pub fn run(
        &mut self,
        fault: &str,
        whom: String,
        (because, bound): (&'static str, Duration),
        act: impl FnOnce(&Stage) -> Option<Instant>,
    ) {
        self.stage.wait_until_streaming();
        let leaders = self.stage.leaders();
        let begin = Instant::now();
        let begin = act(self.stage).unwrap_or(begin);
        self.stage.wait_until_streaming();
        let standstill = self.stage.monitor.standstill(begin);
        eprintln!(
            "{:6.1} s: {fault}, {whom}: {:.2} s of {:.0} s ({leaders})",
            self.began.elapsed().as_secs_f64(),
            standstill.as_secs_f64(),
            bound.as_secs_f64()
        );
        for look in self.stage.monitor.since(begin).iter().filter(|look| look.state != "streaming")
        {
            let after = look.at.duration_since(begin).as_secs_f64();
            eprintln!("          {after:5.2} s {} {} {}", look.state, look.broker, look.reason);
        }
        if standstill > bound {
            self.findings.push(format!("{fault}, {whom}: stood still for {standstill:?}"));
        }
        self.done.push(Round { fault: fault.to_owned(), whom, standstill, because, bound });
    }
}

/// Lets something last.
pub fn let_last(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        thread::park_timeout(end - Instant::now());
    }
}
