//! `make ha`: what is highly available around the worker fails, part by part, under load: the members of a RabbitMQ
//! cluster. Nothing may be lost, nothing may come out of order, and the stream may not stand still for longer than its
//! settings explain. Prints a table for each subject, and ends with exit code 1 if anything was not as promised. With
//! `--record` a document gets the tables, too.
//!
//! | module | owns |
//! |---|---|
//! | `broker` | a RabbitMQ cluster of three nodes |
//! | `patroni` | a PostgreSQL cluster of two servers, by Patroni |
//! | `report` | what a subject has to tell in the end |

#![forbid(unsafe_code)]

mod broker;
mod patroni;
mod report;

use std::process::ExitCode;

use pg_test::arguments::{Arguments, ONLY, RECORD, SEED};
use pg_test::{machine, record};

use report::Report;

const USAGE: &str = "usage: ha [--only broker|patroni] [--seed N] [--record FILE]";

/// Tries one subject. The seed decides what is left to chance.
type Try = fn(u64) -> Report;

/// What is tried, in this order; the name is the one of `--only`, and with `ha-` before it that of the table's place
/// in the document.
const SUBJECTS: &[(&str, Try)] = &[("broker", broker::run), ("patroni", patroni::run)];

fn main() -> ExitCode {
    let known = Arguments::of_this_process(&[ONLY, SEED, RECORD]);
    let arguments =
        match known.and_then(|arguments| are_subjects(arguments.only()).map(|()| arguments)) {
            Ok(arguments) => arguments,
            Err(problem) => {
                eprintln!("{problem}\n{USAGE}");
                return ExitCode::from(2);
            }
        };
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was as promised.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let seed = arguments.seed();
    let mut is_clean = true;
    for (name, try_subject) in SUBJECTS {
        if arguments.only().is_none_or(|only| only == *name) {
            eprintln!("{name}: seed {seed}");
            let report = try_subject(seed);
            println!("{report}");
            is_clean &= report.is_clean();
            // At once: what comes after may fail, and this took minutes.
            if let Some(document) = arguments.record() {
                let text = format!("{}\n\n{}", machine::environment(), report.table);
                record::replace(document, &format!("ha-{name}"), &text)?;
            }
        }
    }
    Ok(is_clean)
}

fn are_subjects(only: Option<&str>) -> Result<(), String> {
    match only {
        Some(name) if SUBJECTS.iter().all(|(known, _)| *known != name) => {
            let known: Vec<_> = SUBJECTS.iter().map(|(name, _)| *name).collect();
            Err(format!("there is no subject {name}, but there are {}", known.join(", ")))
        }
        _ => Ok(()),
    }
}
