//! `make chaos`: the ledger test for as long as is asked for. Prints a table, and ends with exit
//! code 1 if anything was lost, invented or out of order.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pg_test::chaos::{Plan, run};

const USAGE: &str = "usage: chaos [--seconds N] [--seed N]";

fn main() -> ExitCode {
    let plan = match plan(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let report = run(plan);
    println!("{report}");
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the arguments ask for: without a seed, another run each time.
fn plan(mut arguments: impl Iterator<Item = String>) -> Result<Plan, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut plan = Plan { duration: Duration::from_secs(60), seed: now.as_secs() };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let value = value.parse().map_err(|error| format!("{name} {value}: {error}"))?;
        match name.as_str() {
            "--seconds" => plan.duration = Duration::from_secs(value),
            "--seed" => plan.seed = value,
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok(plan)
}
