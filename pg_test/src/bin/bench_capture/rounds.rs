//! Workloads in turn, several times: what disturbs the machine for a while disturbs all of them,
//! and the lowest cost of each is what it costs undisturbed.

use crate::meter::{Cost, Meter};
use crate::stage::Stage;
use crate::workload::{Costs, Setup, Workload};

/// The lowest cost per row of each workload, or why there is none.
pub type Measured<Subject> = Vec<(Subject, Result<Costs, String>)>;

/// Measures each workload `rounds` times after a first time that does not count: it makes the
/// files of tables and WAL, and maps the server's memory.
pub fn lowest<Subject>(
    stage: &mut Stage,
    workloads: Vec<(Subject, Workload)>,
    rounds: usize,
) -> Measured<Subject> {
    let meter = Meter::of(&mut stage.client);
    for (_, workload) in &workloads {
        if let Setup::Sql(statements) = &workload.setup {
            stage.run(statements);
        }
    }
    let mut lowest = vec![[Cost::INFINITE; 3]; workloads.len()];
    for round in 0..=rounds {
        for turn in 0..workloads.len() {
            // Each round begins with another one: what a predecessor leaves is not always the same.
            let number = (turn + round) % workloads.len();
            let workload = &workloads[number].1;
            if let Setup::Impossible(_) = workload.setup {
                continue;
            }
            let costs = workload.measure(stage, &meter);
            tell(round, workload, &costs);
            if round > 0 {
                let pairs = lowest[number].iter_mut().zip(costs);
                pairs.for_each(|(lowest, cost)| *lowest = lowest.lowest(cost));
            }
        }
    }
    let results = workloads.into_iter().zip(lowest);
    results.map(|((subject, workload), costs)| (subject, workload.outcome(costs))).collect()
}

impl Workload {
    fn outcome(self, costs: Costs) -> Result<Costs, String> {
        match self.setup {
            Setup::Sql(_) => Ok(costs),
            Setup::Impossible(reason) => Err(reason),
        }
    }
}

fn tell(round: usize, workload: &Workload, costs: &Costs) {
    let round = if round == 0 { "warm-up".to_owned() } else { format!("round {round}") };
    let micros = costs.map(|cost| format!("{:.2}", cost.micros)).join(" / ");
    eprintln!("{round}: {}: {micros} µs per row", workload.name);
}
