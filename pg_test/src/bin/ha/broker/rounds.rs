//! One fault after the other, each timed: from when it is injected until everything is as before, how long was nothing
//! confirmed although rows were committed all the time?

use std::thread;
use std::time::{Duration, Instant};

use super::fault::Bound;
use super::probe;
use super::stage::Stage;

/// One fault, and what came of it.
#[derive(Debug)]
pub struct Round {
    pub fault: String,
    /// Whom it befell.
    pub whom: String,
    pub standstill: Duration,
    /// The longest time in which nobody else could publish either.
    pub of_the_cluster: Duration,
    /// What explains the rest.
    pub bound: Bound,
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
        bound: Bound,
        act: impl FnOnce(&Stage) -> Option<Instant>,
    ) {
        self.stage.wait_until_streaming();
        let leaders = self.stage.leaders();
        let begin = Instant::now();
        let begin = act(self.stage).unwrap_or(begin);
        self.stage.wait_until_streaming();
        let standstill = self.stage.monitor.standstill(begin);
        let of_the_cluster = self.stage.probe.standstill(begin);
        let most = of_the_cluster + probe::PATIENCE + bound.1;
        eprintln!(
            "{:6.1} s: {fault}, {whom}: {:.2} s, the cluster {:.2} s, at most {:.0} s ({leaders})",
            self.began.elapsed().as_secs_f64(),
            standstill.as_secs_f64(),
            of_the_cluster.as_secs_f64(),
            most.as_secs_f64()
        );
        for look in self.stage.monitor.since(begin).iter().filter(|look| look.state != "streaming")
        {
            let after = look.at.duration_since(begin).as_secs_f64();
            eprintln!("          {after:5.2} s {} {} {}", look.state, look.broker, look.reason);
        }
        if standstill > most {
            self.findings.push(format!(
                "{fault}, {whom}: stood still for {standstill:?}, more than {most:?}"
            ));
        }
        self.done.push(Round { fault: fault.to_owned(), whom, standstill, of_the_cluster, bound });
    }
}

/// Lets something last.
pub fn let_last(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        thread::park_timeout(end - Instant::now());
    }
}
