//! `make chaos`: the chaos test for as long as is asked for. Prints a table, and ends with exit
//! code 1 if anything was lost, invented or out of order. With `--record` a document gets the table, too.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use pg_test::arguments::{Arguments, RECORD, TLS};
use pg_test::chaos::{Plan, run};
use pg_test::{machine, record};

const USAGE: &str = "usage: chaos [--seconds N] [--seed N] [--tls] [--record FILE]";

fn main() -> ExitCode {
    let arguments = match Arguments::of_this_process(&["--seconds", "--seed", RECORD, TLS]) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let (duration, seed, tls) = (arguments.duration(), arguments.seed(), arguments.has(TLS));
    let report = run(Plan { duration, seed, tls });
    println!("{report}");
    if let Some(document) = arguments.record() {
        let text = format!("{}\n\n{}", machine::environment(), report.table());
        if let Err(problem) = record::replace(document, "chaos", &text) {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    }
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
