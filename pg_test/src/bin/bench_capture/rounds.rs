//! Workloads in turn, slice by slice, several times: what disturbs the machine for a while disturbs
//! all of them, and the lowest cost of a slice is what it costs undisturbed.

use crate::meter::{Cost, Meter};
use crate::servers::Servers;
use crate::workload::{Costs, OPERATIONS, SLICES, Setup, Workload};

/// The lowest cost per row of each workload, or why there is none.
pub type Lowest<Subject> = Vec<(Subject, Result<Costs, String>)>;

/// Several measurements of each of several workloads.
pub struct Rounds<Subject> {
    workloads: Vec<(Subject, Workload)>,
    /// For each workload what each slice of each operation cost in each round.
    costs: Vec<[[Vec<Cost>; SLICES]; 3]>,
}

impl<Subject> Rounds<Subject> {
    /// Measures each workload `rounds` times after a first time that does not count: it makes the
    /// files of tables and WAL, and maps the server's memory.
    pub fn run(servers: &mut Servers, workloads: Vec<(Subject, Workload)>, rounds: usize) -> Self {
        let meter = Meter::of(&mut servers.client);
        for (_, workload) in &workloads {
            if let Setup::Sql(statements) = &workload.setup {
                servers.run(statements);
            }
        }
        let costs = workloads.iter().map(|_| Default::default()).collect();
        let mut rounds_run = Rounds { workloads, costs };
        for round in 0..=rounds {
            eprintln!("round {round} of {rounds}");
            rounds_run.round(servers, &meter, round);
            if round == 0 {
                rounds_run.costs.fill_with(Default::default);
            }
        }
        rounds_run
    }

    /// Every row of every workload once, in an order that depends on the number.
    fn round(&mut self, servers: &mut Servers, meter: &Meter, round: usize) {
        let possible: Vec<_> = (0..self.workloads.len())
            .filter(|number| matches!(self.workloads[*number].1.setup, Setup::Sql(_)))
            .collect();
        for number in &possible {
            self.workloads[*number].1.clear(servers);
        }
        // No checkpoint in a measurement, and none that was just before one: what is written to a
        // page for the first time after it, is written to the WAL whole.
        servers.run("CHECKPOINT");
        for number in &possible {
            self.workloads[*number].1.warm(servers);
        }
        for operation in 0..OPERATIONS.len() {
            for slice in 0..SLICES {
                for turn in 0..possible.len() {
                    // Each slice begins with another one, and every other one goes backwards: what
                    // a predecessor leaves is not always the same.
                    let place = (turn + slice + round) % possible.len();
                    let is_backwards = (slice + round) % 2 == 1;
                    let number =
                        possible[if is_backwards { possible.len() - 1 - place } else { place }];
                    let cost = self.workloads[number].1.measure(servers, meter, operation, slice);
                    self.costs[number][operation][slice].push(cost);
                }
            }
        }
        for number in &possible {
            self.workloads[*number].1.check(servers);
        }
    }

    /// By how much the medians are above the lowest, on average: near 0 on a machine that did
    /// nothing else.
    pub fn unrest(&self) -> f64 {
        let slices = self.costs.iter().flatten().flatten().filter(|rounds| !rounds.is_empty());
        let excess: Vec<_> = slices
            .map(|rounds| {
                let mut micros: Vec<_> = rounds.iter().map(|cost| cost.micros).collect();
                micros.sort_by(f64::total_cmp);
                micros[micros.len() / 2] / micros[0] - 1.0
            })
            .collect();
        excess.iter().sum::<f64>() / excess.len() as f64
    }

    pub fn lowest(self) -> Lowest<Subject> {
        let results = self.workloads.into_iter().zip(self.costs);
        results.map(|((subject, workload), costs)| (subject, outcome(workload, costs))).collect()
    }
}

fn outcome(workload: Workload, costs: [[Vec<Cost>; SLICES]; 3]) -> Result<Costs, String> {
    let lowest = |rounds: Vec<Cost>| rounds.into_iter().fold(Cost::INFINITE, Cost::lowest);
    match workload.setup {
        Setup::Sql(_) => Ok(costs.map(|slices| {
            slices.map(lowest).into_iter().fold(Cost::ZERO, Cost::and).per(workload.rows)
        })),
        Setup::Impossible(reason) => Err(reason),
    }
}
