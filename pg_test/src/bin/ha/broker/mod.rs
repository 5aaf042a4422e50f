//! A RabbitMQ cluster of three nodes, each of which fails in turn in each way there is, while rows are committed all the
//! time. A quorum queue and a stream have to get all of them, in order; and each stand-still has to be explained by
//! the settings.
//!
//! | module | owns |
//! |---|---|
//! | `stage` | the network, the cluster, PostgreSQL |
//! | `load`, `tap` | who writes, who receives |
//! | `ledger` | what must have come, pure |
//! | `monitor` | what amqp.status showed |
//! | `probe` | who publishes beside the worker, and finds out what the cluster itself takes |
//! | `fault`, `rounds` | what befalls a node; one fault after the other, timed |
//! | `whole` | what befalls the cluster as a whole |
//! | `names` | what `amqp.host` may say: dead hosts, several addresses, addresses that change, a load balancer |

mod fault;
mod ledger;
mod load;
mod monitor;
mod names;
mod probe;
mod rounds;
mod stage;
mod tap;
mod whole;

use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use pg_test::wait_until;

use crate::report::Report;
use ledger::{Ledger, Verdict};
use load::WRITERS;
use rounds::{Round, Rounds, let_last};
use stage::{DATABASE, EXCHANGE, Stage};

/// Until everything that was committed has been consumed.
const DRAINING: Duration = Duration::from_secs(120);

/// Tries it.
pub fn run(seed: u64) -> Report {
    let stage = Stage::set();
    let (rounds, findings) = thread::scope(|scope| {
        let stage = &stage;
        let _end = EndOnDrop(stage);
        for tap in &stage.taps {
            scope.spawn(move || tap.run(&stage.brokers(), &stage.is_over));
        }
        scope.spawn(move || stage.monitor.watch(&stage.postgres, DATABASE, &stage.is_over));
        for broker in stage.brokers() {
            scope.spawn(move || stage.probe.run(&broker, EXCHANGE, &stage.is_over));
        }
        let write =
            |writer| scope.spawn(move || stage.load.write(&stage.postgres, DATABASE, writer, seed));
        let writers: Vec<_> = (0..WRITERS).map(write).collect();
        let mut rounds = Rounds::new(stage);
        faults(&mut rounds);
        whole::rolling_restart(&mut rounds);
        whole::without_quorum(&mut rounds);
        names::run(&mut rounds);
        stage.load.end();
        writers.into_iter().for_each(|writer| writer.join().expect("a writer failed"));
        drain(stage);
        (rounds.done, rounds.findings)
    });
    report(&stage, &rounds, findings)
}

/// Ends the threads when the scope is left, by a panic, too.
struct EndOnDrop<'a>(&'a Stage);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.tell();
        }
        self.0.load.end();
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// Each fault, the worker's node first.
fn faults(rounds: &mut Rounds<'_>) {
    for fault in fault::ALL {
        let connected = rounds.stage.connected().unwrap_or_default();
        for place in (0..fault.befalls()).map(|n| (connected + n) % 3) {
            rounds.stage.wait_until_healed();
            let is_connected = rounds.stage.connected() == Some(place);
            let whom = if is_connected { "the worker's node" } else { "another node" };
            rounds.run(fault.name(), whom.to_owned(), fault.bound(), |stage| {
                let node = &stage.cluster.nodes[place];
                fault.inject(node);
                let_last(fault.lasts());
                fault.heal(node);
                None
            });
        }
    }
}

/// Waits until the taps have had everything.
fn drain(stage: &Stage) {
    let ledger = stage.load.ledger();
    for tap in &stage.taps {
        wait_until(&format!("the {} is drained", tap.name), DRAINING, || {
            let verdict = Verdict::on(&tap.seen(), &ledger);
            verdict.lost.is_empty().then_some(()).or_else(|| {
                let_last(Duration::from_secs(1));
                None
            })
        });
    }
}

fn report(stage: &Stage, rounds: &[Round], mut findings: Vec<String>) -> Report {
    let ledger: Ledger = stage.load.ledger();
    let mut table = String::new();
    let mut line = |line: String| writeln!(table, "{line}").expect("a String takes any text");
    line(
        "| what happened | to whom | stand-still | of it, the cluster | the rest at most | |"
            .to_owned(),
    );
    line("| --- | --- | --- | --- | --- | --- |".to_owned());
    let seconds = |time: &Duration| format!("{:.1} s", time.as_secs_f64());
    for Round { fault, whom, standstill, of_the_cluster, bound: (because, most) } in rounds {
        let times = [standstill, of_the_cluster, most].map(seconds).join(" | ");
        line(format!("| {fault} | {whom} | {times} | {because} |"));
    }
    line(String::new());
    for tap in &stage.taps {
        let verdict = Verdict::on(&tap.seen(), &ledger);
        line(format!("| {} | |\n| --- | --- |", tap.name));
        line(format!("| events | {} |", verdict.events));
        line(format!("| came again | {} |", verdict.duplicates));
        line(format!("| after later ones, and said so | {} |", verdict.overtaken));
        line(format!(
            "| once more from a node that had been frozen, behind the repetition that said so | {} |",
            verdict.belated
        ));
        for (name, found) in verdict.findings() {
            line(format!("| **{name}** | {} |", found.len()));
            let told = found.iter().take(5).map(|found| format!("{}, {name}: {found}", tap.name));
            findings.extend(told);
        }
        line(String::new());
        findings.extend(tap.problems().into_iter().take(5));
    }
    Report { table, findings }
}
