//! What a run prints at its end.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::session::Errors;
use super::verdict::{Finding, Verdict};
use super::world::World;

/// So many findings are told in full, with all that made their worlds.
const TOLD: usize = 3;

/// So many are named.
const NAMED: usize = 40;

/// What happened in a run, and whether anything was wrong.
#[derive(Debug, Default)]
pub struct Report {
    pub(super) seed: u64,
    pub(super) ran: Duration,
    worlds: usize,
    /// Of them, those with two sessions side by side.
    pairs: usize,
    replicas: usize,
    transactions: usize,
    events: usize,
    truncates: usize,
    messages: usize,
    out_of_firing_order: usize,
    errors: BTreeMap<String, usize>,
    findings: usize,
    /// One line each of the first ones.
    named: Vec<String>,
    told: String,
    /// Worlds in which anything was found.
    touched: usize,
}

impl Report {
    /// Whether all changes stood in their places.
    pub fn is_clean(&self) -> bool {
        self.findings == 0
    }

    /// Transactions with events that were compared.
    pub fn transactions(&self) -> usize {
        self.transactions
    }

    /// Messages of a user's own that were compared.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Events that do not stand where their triggers fired.
    pub fn out_of_firing_order(&self) -> usize {
        self.out_of_firing_order
    }

    /// What was wrong; empty if nothing was.
    pub fn findings(&self) -> String {
        if self.is_clean() {
            return String::new();
        }
        let named: String = self.named.iter().map(|line| format!("  {line}\n")).collect();
        format!(
            "\n{} findings in {} worlds, the first ones:\n{named}{}",
            self.findings, self.touched, self.told
        )
    }

    pub(super) fn enter(&mut self, world: &World, verdict: &Verdict, out_of_firing_order: usize) {
        self.worlds += 1;
        self.pairs += usize::from(world.sessions.len() > 1);
        self.transactions += verdict.transactions;
        self.events += verdict.events;
        self.truncates += verdict.truncates;
        self.messages += verdict.messages;
        self.out_of_firing_order += out_of_firing_order;
        self.tell(world, "", &verdict.findings);
    }

    pub(super) fn enter_replica(&mut self, world: &World, verdict: &Verdict) {
        self.replicas += 1;
        self.tell(world, " at wal_level = replica", &verdict.findings);
    }

    pub(super) fn enter_errors(&mut self, met: &Errors) {
        for (code, times) in &met.counts {
            *self.errors.entry(code.clone()).or_default() += times;
        }
    }

    fn tell(&mut self, world: &World, level: &str, findings: &[Finding]) {
        self.findings += findings.len();
        self.touched += usize::from(!findings.is_empty());
        let head = format!("world {} of seed {}{level}", world.number, self.seed);
        for finding in findings {
            if self.named.len() < NAMED {
                self.named.push(format!("{head}: {}", finding.what));
            }
        }
        let Some(finding) = findings.first() else { return };
        if self.touched <= TOLD {
            let setups = world.sessions.iter().map(|session| session.setup.as_str());
            self.told += &format!(
                "\n=== {head}: {}\n{}\n--- the world:\n{}\n",
                finding.what,
                finding.detail,
                setups.collect::<Vec<_>>().join("\n")
            );
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "| {name} | {value} |");
        line("order test", format!("seed {}, {} s", self.seed, self.ran.as_secs()))?;
        line("---", "---".to_owned())?;
        line("worlds", self.worlds.to_string())?;
        line("with two sessions side by side", self.pairs.to_string())?;
        line("again at wal_level = replica", self.replicas.to_string())?;
        line("transactions compared", self.transactions.to_string())?;
        line("events compared", self.events.to_string())?;
        line("TRUNCATE events", self.truncates.to_string())?;
        line("messages of a user's own", self.messages.to_string())?;
        line("events out of firing order", self.out_of_firing_order.to_string())?;
        line("statements that failed", self.errors.values().sum::<usize>().to_string())?;
        line("**findings**", self.findings.to_string())?;
        write!(f, "\nerrors that sessions met:")?;
        self.errors.iter().try_for_each(|(code, times)| write!(f, " {code} {times}"))?;
        writeln!(f)?;
        f.write_str(&self.findings())
    }
}
