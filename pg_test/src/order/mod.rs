//! The order of changes inside transactions: random worlds of triggers and functions that write in
//! the middle of statements, run on a server with `wal_level = logical`, where `test_decoding`
//! says in which order the changes were made; a third of them again at `replica`, where the same
//! order must come.
//!
//! | module | owns |
//! |---|---|
//! | `world` | what happens in a world: for each session a schema and transactions, decided before it begins |
//! | `tables`, `schema`, `captured` | tables; triggers and functions around them; what is captured |
//! | `statement_generator`, `planned_transaction` | random statements, and the transactions that are made of them |
//! | `server`, `session` | the servers, and running a world on one |
//! | `change` | the form that both sides are brought into |
//! | `decoded`, `published` | what `test_decoding` says, what our messages say |
//! | `replay`, `verdict` | the checks, pure |
//! | `report` | what is printed |

mod captured;
mod change;
mod decoded;
mod planned_transaction;
mod published;
mod replay;
mod report;
mod schema;
mod server;
mod session;
mod statement_generator;
mod tables;
mod verdict;
mod world;

use std::time::{Duration, Instant};

pub use report::Report;
use server::Server;
use world::World;

use crate::Testbed;

/// Every so manieth world is run again at `wal_level = replica`.
const AGAIN: u64 = 3;

/// What a run is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long worlds are run.
    pub duration: Duration,
    /// Decides the worlds.
    pub seed: u64,
    /// Runs this world alone, at both levels.
    pub world: Option<u64>,
}

/// Runs it.
///
/// # Panics
/// If a server fails, or the stream does not go on.
pub fn run(plan: Plan) -> Report {
    eprintln!("order test: seed {}, {} s", plan.seed, plan.duration.as_secs());
    // What moves rows is said by us: no vacuum that nobody asked for.
    let logical = Testbed::private(&["wal_level = logical", "autovacuum = off"]);
    let replica = Testbed::beside(&logical.rabbitmq, &["autovacuum = off"]);
    let (mut first, mut second) =
        (Server::prepare(&logical, true), Server::prepare(&replica, false));
    let mut report = Report::default();
    (report.seed, report.ran) = (plan.seed, plan.duration);
    let end = Instant::now() + plan.duration;
    for number in plan.world.unwrap_or(1).. {
        let world = World::new(plan.seed, number);
        let observed = first.run_world(&world);
        let verdict = verdict::on(&world, &observed);
        report.enter(&world, &verdict, observed.published.out_of_firing_order);
        report.enter_errors(&observed.errors);
        if number.is_multiple_of(AGAIN) || plan.world.is_some() {
            let again = second.run_world(&world);
            report.enter_replica(&world, &verdict::on_replica(&world, &observed, &again));
        }
        if plan.world.is_some() || Instant::now() >= end {
            break;
        }
    }
    report
}
