//! `make bench`: how fast events get from commit to queue, and what that costs, beside what a user
//! would otherwise run. Prints a table for each subject, records them in a document, and draws a plot.
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
//! | `tls` | the same way with the broker's connection secured, beside one in clear |
//! | `growth` | more events in a transaction, longer bodies, more writers, more databases |
//! | `server`, `worker` | the servers, and the worker's process |
//! | `captured`, `foreign` | tables that are captured, and WAL that nobody captures |
//! | `raw`, `relay` | what a user would otherwise run, each a process of its own |
//! | `progress`, `writers` | events confirmed, time after time; who writes as fast as possible |
//! | `clients`, `receiver` | who writes by the clock; who receives |
//! | `plan` | what a run is to be |
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
mod plan;
mod plot;
mod progress;
mod raw;
mod receiver;
mod relay;
mod report;
mod server;
mod sink;
mod throughput;
mod tls;
mod transaction;
mod wal;
mod worker;
mod writers;

use std::path::PathBuf;
use std::process::ExitCode;

use pg_test::record;

use line::Line;
use plan::Plan;
use plot::Plot;
use report::Report;

const USAGE: &str = "usage: bench [--quick] [--only SECTION] [--plot FILE] [--record FILE]";

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
    ("tls", |plan, _| tls::run(plan)),
];

/// What the arguments ask for.
struct Order {
    plan: Plan,
    /// The one section to be measured; none: all.
    only: Option<String>,
    /// Where the plot goes.
    plot: Option<PathBuf>,
    /// The document that gets the tables.
    record: Option<PathBuf>,
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
    match run(&order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(order: &Order) -> Result<(), String> {
    let mut plot = Plot::default();
    for (name, measure) in SECTIONS {
        if order.only.as_ref().is_none_or(|only| only == name) {
            eprintln!("{name}");
            let lines = measure(&order.plan, &mut plot);
            let environment = pg_test::machine::environment();
            let report = Report { command: order.command(), environment, lines }.to_string();
            println!("{report}");
            // At once: what comes after may fail, and this took minutes.
            if let Some(document) = &order.record {
                record::replace(document, name, &report)?;
            }
        }
    }
    if let Some(file) = &order.plot {
        let written = std::fs::write(file, plot.to_string());
        written.map_err(|error| format!("could not write {}: {error}", file.display()))?;
    }
    Ok(())
}

fn order(arguments: Vec<String>) -> Result<Order, String> {
    let mut order = Order { plan: Plan { quick: false }, only: None, plot: None, record: None };
    let mut arguments = arguments.into_iter();
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--quick" => order.plan.quick = true,
            "--only" => order.only = Some(section(value()?)?),
            "--plot" => order.plot = Some(value()?.into()),
            "--record" => order.record = Some(value()?.into()),
            _ => return Err(format!("{name} is not known")),
        }
    }
    if order.plan.quick && order.record.is_some() {
        return Err("figures of --quick are not worth a --record".to_owned());
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
