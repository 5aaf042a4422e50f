//! `make chaos`: the chaos test for as long as is asked for. Prints a table, and ends with exit
//! code 1 if anything was lost, invented or out of order. With `--record` a document gets the table, too.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use pg_test::arguments::{Arguments, RECORD, STANDBY, SYNCHRONOUS, TLS};
use pg_test::chaos::{Plan, Replication, run};
use pg_test::{machine, record};

const USAGE: &str =
    "usage: chaos [--seconds N] [--seed N] [--tls] [--standby [--synchronous]] [--record FILE]";

const KNOWN: [&str; 6] = ["--seconds", "--seed", RECORD, STANDBY, SYNCHRONOUS, TLS];

fn main() -> ExitCode {
    let arguments = match Arguments::of_this_process(&KNOWN) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let (duration, seed, tls) = (arguments.duration(), arguments.seed(), arguments.has(TLS));
    let (replication, table) = match (arguments.has(STANDBY), arguments.has(SYNCHRONOUS)) {
        (false, false) => (Replication::None, "chaos"),
        (true, false) => (Replication::Asynchronous, "chaos-standby"),
        (_, true) => (Replication::Synchronous, "chaos-synchronous"),
    };
    let report = run(Plan { duration, seed, tls, replication });
    println!("{report}");
    if let Some(document) = arguments.record() {
        let text = format!("{}\n\n{}", machine::environment(), report.table());
        if let Err(problem) = record::replace(document, table, &text) {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    }
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
