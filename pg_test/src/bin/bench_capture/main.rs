//! `make bench-capture`: what a captured change costs its writer, beside other change triggers and
//! as rows and tables grow, what that does to pgbench, and what a message of a user's own costs. Prints a table of each
//! part; with `--record` a document gets them, too.
//!
//! | module | owns |
//! |---|---|
//! | `servers` | the servers, the one session that writes, and putting everything back |
//! | `meter` | what a statement cost: CPU time of the writing backend, bytes of WAL |
//! | `workload`, `rounds` | three statements on a table, and running several such in turn |
//! | `contenders`, `slony` | the triggers that are compared, on one table each |
//! | `growth` | ours alone: more columns, longer values, more tables |
//! | `pgbench` | throughput with and without the trigger |
//! | `messages`, `at_once` | messages of a user's own, by the many and very many in one statement |
//! | `pg_amqp` | the same with pg_amqp |
//! | `plan`, `report`, `message_report` | what a run is to be, and what is printed |

#![forbid(unsafe_code)]

mod at_once;
mod contenders;
mod growth;
mod message_report;
mod messages;
mod meter;
mod pg_amqp;
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

use at_once::AtOnce;
use contenders::Contender;
use growth::Shape;
use message_report::MessageReport;
use messages::{Listener, Way};
use pgbench::Pgbench;
use plan::{Part, Plan};
use report::Report;
use rounds::Rounds;
use servers::Servers;

const USAGE: &str = "usage: bench_capture [--rows N] [--rounds N] [--pgbench-seconds N] [--only capture|messages] [--record FILE]";

fn main() -> ExitCode {
    let (plan, document) = match plan(std::env::args().skip(1)) {
        Ok(order) => order,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut servers = Servers::start();
    for part in Part::ALL.into_iter().filter(|part| plan.only.is_none_or(|only| only == *part)) {
        let report = match part {
            Part::Capture => capture(&mut servers, plan).to_string(),
            Part::Messages => messages(&mut servers, plan).to_string(),
        };
        println!("{report}");
        if let Some(document) = &document
            && let Err(problem) = record::replace(document, part.name(), &report)
        {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn messages(servers: &mut Servers, plan: Plan) -> MessageReport {
    let _listener = Listener::start(servers.postgres(), servers.database());
    let ways = Rounds::run(servers, Way::workloads(plan.rows), plan.rounds);
    MessageReport {
        plan,
        environment: pg_test::machine::environment(),
        unrest: ways.unrest(),
        ways: ways.lowest(),
        pg_amqp: pg_amqp::costs(servers, plan.rows, plan.rounds),
        at_once: AtOnce::run(servers, plan.rows),
    }
}

fn capture(servers: &mut Servers, plan: Plan) -> Report {
    let contenders = Contender::workloads(plan.rows, servers.postgres().folder());
    let contenders = Rounds::run(servers, contenders, plan.rounds);
    let growth = Rounds::run(servers, Shape::workloads(plan.rows), plan.rounds);
    let pgbench = Pgbench::run(servers, plan);
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
    let mut plan = Plan { rows: 100_000, rounds: 5, pgbench_seconds: 30, only: None };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        if name == "--record" {
            document = Some(PathBuf::from(value));
            continue;
        }
        if name == "--only" {
            let part = Part::ALL.into_iter().find(|part| part.name() == value);
            plan.only = Some(part.ok_or_else(|| format!("--only {value} is not known"))?);
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
