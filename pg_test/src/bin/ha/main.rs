//! `make ha`: what is highly available around the worker fails, part by part, under load: the members of a RabbitMQ
//! cluster, the servers of a PostgreSQL cluster. Nothing may be lost, nothing may come out of order, and the stream may not stand still for longer than its
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

use std::path::Path;
use std::process::ExitCode;

use pg_test::arguments::{Arguments, ONLY, RECORD, SEED};
use pg_test::{machine, network, record};

use report::Report;

const USAGE: &str = "usage: ha [--only broker|patroni] [--seed N] [--record FILE]";

/// What is tried.
struct Subject {
    /// That of `--only`, and with `ha-` before it that of the table's place in the document.
    name: &'static str,
    /// The seed decides what is left to chance.
    run: fn(u64) -> Report,
    /// Whether that changes the network and names of the machine: then it has its own of both.
    is_apart: bool,
}

/// All, in this order.
const SUBJECTS: &[Subject] = &[
    Subject { name: "broker", run: broker::run, is_apart: true },
    Subject { name: "patroni", run: patroni::run, is_apart: false },
];

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
    for subject in SUBJECTS {
        if arguments.only().is_none_or(|only| only == subject.name) {
            is_clean &= match subject.is_apart && !network::is_apart() {
                true => run_apart(subject, seed, arguments.record())?,
                false => run_here(subject, seed, arguments.record())?,
            };
        }
    }
    Ok(is_clean)
}

fn run_here(subject: &Subject, seed: u64, record: Option<&Path>) -> Result<bool, String> {
    eprintln!("{}: seed {seed}", subject.name);
    let report = (subject.run)(seed);
    println!("{report}");
    // At once: what comes after may fail, and this took minutes.
    if let Some(document) = record {
        let text = format!("{}\n\n{}", machine::environment(), report.table);
        record::replace(document, &format!("ha-{}", subject.name), &text)?;
    }
    Ok(report.is_clean())
}

/// By this program, once more, in namespaces of its own.
fn run_apart(subject: &Subject, seed: u64, record: Option<&Path>) -> Result<bool, String> {
    let mut words =
        vec![ONLY.to_owned(), subject.name.to_owned(), SEED.to_owned(), seed.to_string()];
    if let Some(document) = record {
        words.extend([RECORD.to_owned(), document.display().to_string()]);
    }
    Ok(network::run_apart(&words)?.success())
}

fn are_subjects(only: Option<&str>) -> Result<(), String> {
    match only {
        Some(name) if SUBJECTS.iter().all(|subject| subject.name != name) => {
            let known: Vec<_> = SUBJECTS.iter().map(|subject| subject.name).collect();
            Err(format!("there is no subject {name}, but there are {}", known.join(", ")))
        }
        _ => Ok(()),
    }
}
