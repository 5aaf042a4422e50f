//! `make order`: the order of changes inside transactions against `test_decoding`, for as long as is
//! asked for, or in one world of a seed. Prints a table, and ends with exit code 1 if any change
//! stood in another place.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use pg_test::arguments::Arguments;
use pg_test::order::{Plan, run};

const USAGE: &str = "usage: order [--seconds N] [--seed N] [--world N]";

fn main() -> ExitCode {
    let arguments = match Arguments::of_this_process(&["--seconds", "--seed", "--world"]) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let report = run(Plan {
        duration: arguments.duration(),
        seed: arguments.seed(),
        world: arguments.number("--world"),
    });
    println!("{report}");
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
