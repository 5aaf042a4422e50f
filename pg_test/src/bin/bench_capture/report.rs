//! What a run prints, and docs/benchmarks.md has: one table, the ratios and their goals first.

use std::fmt::{self, Display, Formatter};

use crate::contenders::Contender;
use crate::growth::Shape;
use crate::meter::Cost;
use crate::pgbench::{Pgbench, Throughput};
use crate::plan::Plan;
use crate::rounds::Lowest;
use crate::workload::{Costs, OPERATIONS};

/// Added CPU of ours in that of the cheapest trigger of others in C, by operation.
const OF_C_PEER: [f64; 3] = [0.12, 0.22, 0.12];

/// Added CPU of ours in that of PL/pgSQL that makes the same JSON.
const OF_PLPGSQL: [f64; 3] = [0.15; 3];

/// Throughput with the trigger in that without.
const OF_THROUGHPUT: f64 = 0.95;

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    pub plan: Plan,
    pub environment: String,
    /// How disturbed the machine was.
    pub unrest: f64,
    pub contenders: Lowest<Contender>,
    pub growth: Lowest<(Shape, bool)>,
    pub pgbench: Pgbench,
}

impl Report {
    /// Per row, in all.
    fn costs(&self, contender: Contender) -> Result<Costs, &str> {
        let (_, found) =
            self.contenders.iter().find(|(one, _)| *one == contender).expect("all were measured");
        found.as_ref().map(|costs| *costs).map_err(String::as_str)
    }

    /// Per row, over no trigger.
    fn added(&self, contender: Contender) -> Result<Costs, &str> {
        Ok(over(self.costs(contender)?, self.costs(Contender::None)?))
    }

    /// Added microseconds of the cheapest, operation by operation.
    fn cheapest_c_peer(&self) -> Option<[f64; 3]> {
        let peers = Contender::C_PEERS.into_iter().filter_map(|peer| self.added(peer).ok());
        peers.map(micros).reduce(|one, other| zip(one, other, f64::min))
    }

    fn write_ratios(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ours = micros(self.added(Contender::Ours).expect("ours needs nothing else"));
        let message = self.added(Contender::Message).ok().map(micros);
        let peers = [
            ("the cheapest other trigger in C", self.cheapest_c_peer(), OF_C_PEER),
            ("PL/pgSQL that makes the same JSON", message, OF_PLPGSQL),
        ];
        for (name, peer, goals) in peers {
            let cells = match peer {
                Some(peer) => {
                    let ratios = zip(ours, peer, |ours, peer| ours / peer);
                    [0, 1, 2].map(|number| at_most(ratios[number], goals[number]))
                }
                None => ["not installed".to_owned(), String::new(), String::new()],
            };
            write_line(f, &format!("**added CPU: ours ÷ {name}**"), cells)?;
        }
        for peer in Contender::C_PEERS {
            if let Ok(costs) = self.added(peer) {
                let ratios = zip(ours, micros(costs), |ours, peer| ours / peer);
                let cells = ratios.map(|ratio| format!("{ratio:.2}"));
                write_line(f, &format!("added CPU: ours ÷ {}", peer.name()), cells)?;
            }
        }
        let throughput = |f: &mut Formatter<'_>, name: &str, throughput: Throughput, cell| {
            let name = format!("**pgbench: throughput with ÷ without the trigger**, {name}");
            let tps = format!("{:.0} ÷ {:.0} tps", throughput.with, throughput.without);
            write_line(f, &name, [tps, cell, String::new()])
        };
        let Pgbench { apart, without_disk, floor, together, broker_down } = self.pgbench;
        for (name, wanted) in [
            ("worker and broker on a core of their own", apart),
            ("the same with `fsync = off`", without_disk),
        ] {
            throughput(f, name, wanted, at_least(wanted.ratio(), OF_THROUGHPUT))?;
        }
        for (name, beside) in [
            ("the same with `fsync = off` and `amqp.capture = off`", floor),
            ("all on the same cores", together),
            ("broker down", broker_down),
        ] {
            throughput(f, name, beside, format!("{:.2}", beside.ratio()))?;
        }
        Ok(())
    }

    fn write_contenders(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let bare = self.costs(Contender::None).expect("no trigger needs nothing");
        write_line(f, "**CPU per row, µs**: no trigger", micros(bare).map(two_digits))?;
        self.write_added(f, "CPU", |cost| two_digits(cost.micros))?;
        write_line(f, "**WAL per row, bytes**: no trigger", bare.map(|cost| whole(cost.wal)))?;
        self.write_added(f, "WAL", |cost| whole(cost.wal))
    }

    fn write_added(
        &self,
        f: &mut Formatter<'_>,
        what: &str,
        cell: impl Fn(Cost) -> String,
    ) -> fmt::Result {
        for contender in Contender::ALL.into_iter().skip(1) {
            let cells = match self.added(contender) {
                Ok(costs) => costs.map(|cost| signed(&cell(cost))),
                Err(reason) => [reason.to_owned(), String::new(), String::new()],
            };
            write_line(f, &format!("{what}: {}", contender.name()), cells)?;
        }
        Ok(())
    }

    fn write_growth(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for pair in self.growth.chunks_exact(2) {
            let [((shape, _), Ok(bare)), (_, Ok(captured))] = pair else {
                continue;
            };
            let added = micros(over(*captured, *bare));
            let cells = added.map(|micros| signed(&two_digits(micros)));
            write_line(f, &format!("ours, CPU: {}", shape.name()), cells)?;
        }
        Ok(())
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Plan { rows, rounds, pgbench_seconds, .. } = self.plan;
        writeln!(
            f,
            "`make bench-capture ROWS={rows} ROUNDS={rounds} PGBENCH_SECONDS={pgbench_seconds}`: \
             {}; medians {:.0} % above the lowest\n",
            self.environment,
            self.unrest * 100.0
        )?;
        let [insert, update, delete] = OPERATIONS;
        writeln!(f, "| capture | {insert} | {update} | {delete} |\n| --- | --- | --- | --- |")?;
        self.write_ratios(f)?;
        self.write_contenders(f)?;
        self.write_growth(f)
    }
}

pub fn write_line(f: &mut Formatter<'_>, name: &str, cells: [String; 3]) -> fmt::Result {
    writeln!(f, "| {name} | {} |", cells.join(" | "))
}

pub fn over(costs: Costs, floor: Costs) -> Costs {
    [0, 1, 2].map(|number| costs[number].over(floor[number]))
}

fn micros(costs: Costs) -> [f64; 3] {
    costs.map(|cost| cost.micros)
}

pub fn zip(one: [f64; 3], other: [f64; 3], what: impl Fn(f64, f64) -> f64) -> [f64; 3] {
    [0, 1, 2].map(|number| what(one[number], other[number]))
}

pub fn at_most(ratio: f64, goal: f64) -> String {
    format!("**{ratio:.2}** (goal ≤ {goal:.2}: {})", verdict(ratio <= goal))
}

fn at_least(ratio: f64, goal: f64) -> String {
    format!("**{ratio:.2}** (goal ≥ {goal:.2}: {})", verdict(ratio >= goal))
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}

/// A difference: also one that is within the noise.
pub fn signed(number: &str) -> String {
    match number.strip_prefix('-') {
        Some(digits) if digits.chars().all(|digit| matches!(digit, '0' | '.')) => {
            format!("+{digits}")
        }
        Some(digits) => format!("−{digits}"),
        None => format!("+{number}"),
    }
}

pub fn two_digits(number: f64) -> String {
    if number.abs() < 100.0 { format!("{number:.2}") } else { whole(number) }
}

pub fn whole(number: f64) -> String {
    format!("{number:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_says_its_sign_unless_it_is_zero() {
        assert_eq!(signed(&two_digits(1.5)), "+1.50");
        assert_eq!(signed(&two_digits(-1.5)), "−1.50");
        assert_eq!(signed(&two_digits(-0.001)), "+0.00");
    }

    #[test]
    fn a_goal_that_is_just_reached_is_met() {
        assert_eq!(at_most(0.12, 0.12), "**0.12** (goal ≤ 0.12: met)");
        assert_eq!(at_most(0.13, 0.12), "**0.13** (goal ≤ 0.12: missed)");
        assert_eq!(at_least(0.95, 0.95), "**0.95** (goal ≥ 0.95: met)");
    }
}
