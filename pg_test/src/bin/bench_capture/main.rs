//! `make bench-capture`: what a captured change costs its writer, beside other change triggers and
//! as rows and tables grow, and what that does to pgbench. Prints a table; with `--record` a document gets it, too.
//!
//! | module | owns |
//! |---|---|
//! | `servers` | the servers, the one session that writes, and putting everything back |
//! | `meter` | what a statement cost: CPU time of the writing backend, bytes of WAL |
//! | `workload`, `rounds` | three statements on a table, and running several such in turn |
//! | `contenders`, `slony` | the triggers that are compared, on one table each |
//! | `growth` | ours alone: more columns, longer values, more tables |
//! | `pgbench` | throughput with and without the trigger |
//! | `plan`, `report` | what a run is to be, and what is printed |

#![forbid(unsafe_code)]

mod contenders;
mod growth;
mod meter;
mod pgbench;
mod plan;
mod report;
mod rounds;
mod servers;
mod slony;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use pg_test::record;

use contenders::Contender;
use growth::Shape;
use pgbench::Pgbench;
use plan::Plan;
use report::Report;
use rounds::Rounds;
use servers::Servers;

const USAGE: &str =
    "usage: bench_capture [--rows N] [--rounds N] [--pgbench-seconds N] [--record FILE]";

fn main() -> ExitCode {
    let (plan, document) = match plan(std::env::args().skip(1)) {
        Ok(order) => order,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let report = run(plan).to_string();
    println!("{report}");
    if let Some(document) = document
        && let Err(problem) = record::replace(&document, "capture", &report)
    {
        eprintln!("{problem}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(plan: Plan) -> Report {
    let mut servers = Servers::start();
    let contenders = Contender::workloads(plan.rows, servers.postgres().folder());
    let contenders = Rounds::run(&mut servers, contenders, plan.rounds);
    let growth = Rounds::run(&mut servers, Shape::workloads(plan.rows), plan.rounds);
    let pgbench = Pgbench::run(&mut servers, plan);
    Report {
        plan,
        environment: pg_test::machine::environment(),
        unrest: contenders.unrest(),
        contenders: contenders.lowest(),
        growth: growth.lowest(),
        pgbench,
    }
}

/// What the arguments ask for, and the document that gets the table.
fn plan(mut arguments: impl Iterator<Item = String>) -> Result<(Plan, Option<PathBuf>), String> {
    let mut document = None;
    let mut plan = Plan { rows: 100_000, rounds: 5, pgbench_seconds: 30 };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        if name == "--record" {
            document = Some(PathBuf::from(value));
            continue;
        }
        let value: u64 = match value.parse() {
            Ok(value) if value > 0 => value,
            _ => return Err(format!("{name} {value}: not a number above 0")),
        };
        match name.as_str() {
            "--rows" => plan.rows = value,
            "--rounds" => plan.rounds = value as usize,
            "--pgbench-seconds" => plan.pgbench_seconds = value,
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok((plan, document))
}
