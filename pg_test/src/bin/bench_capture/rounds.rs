//! Workloads in turn, several times: what disturbs the machine for a while disturbs all of them,
//! and the lowest cost of each is what it costs undisturbed.

use crate::meter::{Cost, Meter};
use crate::stage::Stage;
use crate::workload::{Costs, Setup, Workload};

/// The lowest cost per row of each workload, or why there is none.
pub type Lowest<Subject> = Vec<(Subject, Result<Costs, String>)>;

/// Several measurements of each of several workloads.
pub struct Rounds<Subject> {
    workloads: Vec<(Subject, Workload)>,
    /// For each workload what it cost in each round.
    costs: Vec<Vec<Costs>>,
}

impl<Subject> Rounds<Subject> {
    /// Measures each workload `rounds` times after a first time that does not count: it makes the
    /// files of tables and WAL, and maps the server's memory.
    pub fn run(stage: &mut Stage, workloads: Vec<(Subject, Workload)>, rounds: usize) -> Self {
        let meter = Meter::of(&mut stage.client);
        for (_, workload) in &workloads {
            if let Setup::Sql(statements) = &workload.setup {
                stage.run(statements);
            }
        }
        let mut all = vec![Vec::new(); workloads.len()];
        for round in 0..=rounds {
            for turn in 0..workloads.len() {
                // Each round begins with another one: what a predecessor leaves is not always the
                // same.
                let number = (turn + round) % workloads.len();
                let workload = &workloads[number].1;
                if let Setup::Impossible(_) = workload.setup {
                    continue;
                }
                let costs = workload.measure(stage, &meter);
                tell(round, workload, &costs);
                if round > 0 {
                    all[number].push(costs);
                }
            }
        }
        Rounds { workloads, costs: all }
    }

    /// By how much the medians are above the lowest, on average: near 0 on a machine that did
    /// nothing else.
    pub fn unrest(&self) -> f64 {
        let measured = self.costs.iter().filter(|rounds| !rounds.is_empty());
        let excess = measured.flat_map(|rounds| {
            [0, 1, 2].map(|operation| {
                let mut micros: Vec<_> =
                    rounds.iter().map(|costs| costs[operation].micros).collect();
                micros.sort_by(f64::total_cmp);
                micros[micros.len() / 2] / micros[0] - 1.0
            })
        });
        let excess: Vec<_> = excess.collect();
        excess.iter().sum::<f64>() / excess.len() as f64
    }

    pub fn lowest(self) -> Lowest<Subject> {
        let results = self.workloads.into_iter().zip(self.costs);
        results.map(|((subject, workload), rounds)| (subject, outcome(workload, &rounds))).collect()
    }
}

fn outcome(workload: Workload, rounds: &[Costs]) -> Result<Costs, String> {
    match workload.setup {
        Setup::Sql(_) => Ok([0, 1, 2].map(|operation| {
            let costs = rounds.iter().map(|costs| costs[operation]);
            costs.fold(Cost::INFINITE, Cost::lowest)
        })),
        Setup::Impossible(reason) => Err(reason),
    }
}

fn tell(round: usize, workload: &Workload, costs: &Costs) {
    let round = if round == 0 { "warm-up".to_owned() } else { format!("round {round}") };
    let micros = costs.map(|cost| format!("{:.2}", cost.micros)).join(" / ");
    eprintln!("{round}: {}: {micros} µs per row", workload.name);
}
