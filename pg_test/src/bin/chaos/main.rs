//! `make chaos`: the ledger test for as long as is asked for. Prints a table, and ends with exit
//! code 1 if anything was lost, invented or out of order.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use pg_test::arguments::Arguments;
use pg_test::chaos::{Plan, run};

const USAGE: &str = "usage: chaos [--seconds N] [--seed N]";

fn main() -> ExitCode {
    let arguments = match Arguments::of_this_process(&["--seconds", "--seed"]) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let report = run(Plan { duration: arguments.duration(), seed: arguments.seed() });
    println!("{report}");
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
