//! `make bench`: how fast events get from commit to queue, and what that costs, beside what a user
//! would otherwise run. Prints a table that the README can take as it is, and draws its plot.
//!
//! | module | owns |
//! |---|---|
//! | `throughput` | events per second from a backlog and live, beside a raw publisher |
//! | `latency` | from commit to consumer, beside a relay of NOTIFY; what the writer notices |
//! | `ceiling`, `sink` | what the worker does whatever the broker does: into a peer that drops all |
//! | `backlog` | how an outage's events leave: as fast at the end as at the start, in bounded memory |
//! | `transaction` | one of a million rows |
//! | `wal`, `idle` | reading WAL that nobody captures; doing nothing |
//! | `order` | changes in the middle of statements: what it takes to tell their order |
//! | `growth` | more events in a transaction, longer bodies, more writers, more databases |
//! | `server`, `worker` | the servers, and the worker's process |
//! | `captured`, `foreign` | tables that are captured, and WAL that nobody captures |
//! | `raw`, `relay` | what a user would otherwise run, each a process of its own |
//! | `progress`, `writers` | events confirmed, time after time; who writes as fast as possible |
//! | `clients`, `receiver` | who writes by the clock; who receives |
//! | `line`, `report`, `plot` | what is printed and drawn |

#![forbid(unsafe_code)]

mod backlog;
mod captured;
mod ceiling;
mod clients;
mod foreign;
mod growth;
mod idle;
mod latency;
mod line;
mod order;
mod plot;
mod progress;
mod raw;
mod receiver;
mod relay;
mod report;
mod server;
mod sink;
mod throughput;
mod transaction;
mod wal;
mod worker;
mod writers;

use std::path::PathBuf;
use std::process::ExitCode;

use line::Line;
use plot::Plot;
use report::Report;

const USAGE: &str = "usage: bench [--quick] [--only SECTION] [--plot FILE]";

/// Measures one subject, and draws what is worth a picture.
type Measure = fn(&Plan, &mut Plot) -> Vec<Line>;

/// What is measured, in this order.
const SECTIONS: &[(&str, Measure)] = &[
    ("throughput", throughput::run),
    ("latency", latency::run),
    ("ceiling", |plan, _| ceiling::run(plan)),
    ("backlog", |plan, _| backlog::run(plan)),
    ("transaction", |plan, _| transaction::run(plan)),
    ("wal", |plan, _| wal::run(plan)),
    ("idle", |plan, _| idle::run(plan)),
    ("order", |plan, _| order::run(plan)),
    ("growth", |plan, _| growth::run(plan)),
];

/// What a run is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything smaller and shorter, for daily use.
    pub quick: bool,
}

/// What the arguments ask for.
struct Order {
    plan: Plan,
    /// The one section to be measured; none: all.
    only: Option<String>,
    /// Where the plot goes.
    plot: Option<PathBuf>,
}

impl Order {
    /// How to ask for the same again.
    fn command(&self) -> String {
        let target = if self.plan.quick { "make bench-quick" } else { "make bench" };
        let only = self.only.as_ref().map(|only| format!(" ONLY={only}"));
        target.to_owned() + &only.unwrap_or_default()
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // The processes that stand beside ours are this program, too.
    match words[..] {
        [raw::COMMAND, ref rest @ ..] => return raw::main(rest),
        [relay::COMMAND, ref rest @ ..] => return relay::main(rest),
        _ => {}
    }
    let order = match order(arguments) {
        Ok(order) => order,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    run(&order);
    ExitCode::SUCCESS
}

fn run(order: &Order) {
    let mut plot = Plot::default();
    let mut lines = Vec::new();
    for (name, measure) in SECTIONS {
        if order.only.as_ref().is_none_or(|only| only == name) {
            eprintln!("{name}");
            lines.extend(measure(&order.plan, &mut plot));
        }
    }
    let scenery = pg_test::machine::scenery();
    println!("{}", Report { command: order.command(), scenery, lines });
    if let Some(file) = &order.plot {
        std::fs::write(file, plot.to_string())
            .unwrap_or_else(|error| panic!("could not write {}: {error}", file.display()));
    }
}

fn order(arguments: Vec<String>) -> Result<Order, String> {
    let mut order = Order { plan: Plan { quick: false }, only: None, plot: None };
    let mut arguments = arguments.into_iter();
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--quick" => order.plan.quick = true,
            "--only" => order.only = Some(section(value()?)?),
            "--plot" => order.plot = Some(value()?.into()),
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok(order)
}

fn section(name: String) -> Result<String, String> {
    if SECTIONS.iter().any(|(known, _)| *known == name) {
        return Ok(name);
    }
    let known: Vec<_> = SECTIONS.iter().map(|(name, _)| *name).collect();
    Err(format!("there is no section {name}, but there are {}", known.join(", ")))
}
