//! What a run prints at its end: a table, which docs/guarantees.md has of a long run, and what was found.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::fault::Fault;
use super::latency::Latency;
use super::monitor::Observed;
use super::pair::Replication;
use super::verdict::Verdict;

/// So many findings of a kind are told in full.
const TOLD: usize = 10;

/// What happened in a run, and whether anything was wrong.
#[derive(Debug)]
pub struct Report {
    pub(super) seed: u64,
    pub(super) tls: bool,
    pub(super) replication: Replication,
    pub(super) ran: Duration,
    pub(super) faults: BTreeMap<Fault, usize>,
    pub(super) committed: usize,
    pub(super) rolled_back: usize,
    pub(super) resolved: usize,
    pub(super) promotions: usize,
    /// Transactions that committed and are gone with the primary.
    pub(super) undone: usize,
    pub(super) events: usize,
    /// Those of them that were made by what a statement called.
    pub(super) midway: usize,
    /// Those of them that were messages of the clients' own.
    pub(super) messages: usize,
    /// Messages that were sent at once: that must have come, and that may have.
    pub(super) autonomous: [usize; 2],
    /// Bytes of the longest message.
    pub(super) longest_message: usize,
    pub(super) errors: BTreeMap<String, usize>,
    /// Events of enormous values: whole, and with their key alone.
    pub(super) giants: [usize; 2],
    /// Of all other events while nothing was broken, without and with the client of enormous values.
    pub(super) latencies: [Latency; 2],
    pub(super) observed: Observed,
    /// What was not as it should be besides.
    pub(super) broken: Vec<String>,
    /// Transactions of which PostgreSQL said one thing and its table says another.
    pub(super) contradictions: Vec<String>,
    /// By queue.
    pub(super) verdicts: Vec<(String, Verdict)>,
}

impl Report {
    /// Whether everything that is promised was kept.
    pub fn is_clean(&self) -> bool {
        let may_overtake = self.faults.keys().any(|fault| fault.lets_messages_overtake());
        let is_clean = |verdict: &Verdict| {
            let was_overtaken = verdict.overtaken > 0 && !may_overtake;
            verdict.findings().iter().all(|(_, found)| found.is_empty()) && !was_overtaken
        };
        let is_sound = self.contradictions.is_empty() && self.broken.is_empty();
        let is_lossless = self.replication != Replication::Asynchronous;
        let was_undone = self.verdicts.iter().any(|(_, verdict)| verdict.undone > 0);
        is_sound && !(is_lossless && was_undone) && self.verdicts.iter().all(|(_, v)| is_clean(v))
    }

    /// Kinds of faults that were injected.
    pub fn kinds_of_faults(&self) -> usize {
        self.faults.len()
    }

    /// How often a standby was promoted.
    pub fn promotions(&self) -> usize {
        self.promotions
    }

    /// Transactions that committed.
    pub fn committed(&self) -> usize {
        self.committed
    }

    /// Messages of the clients' own that came: with their transactions, and at once.
    pub fn messages(&self) -> [usize; 2] {
        [self.messages, self.autonomous[0]]
    }

    fn met(&self, code: &str) -> usize {
        self.errors.get(code).copied().unwrap_or_default()
    }

    /// The table alone.
    pub fn table(&self) -> String {
        struct Table<'a>(&'a Report);
        impl Display for Table<'_> {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                self.0.write_table(f)
            }
        }
        Table(self).to_string()
    }

    fn write_table(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "| {name} | {value} |");
        let way = if self.tls { ", over TLS" } else { "" };
        let standby = self.replication.name();
        line("chaos test", format!("seed {}, {} s{way}{standby}", self.seed, self.ran.as_secs()))?;
        line("---", "---".to_owned())?;
        for (fault, times) in &self.faults {
            line(fault.name(), times.to_string())?;
        }
        line("**faults**", self.faults.values().sum::<usize>().to_string())?;
        line("transactions committed", self.committed.to_string())?;
        line("transactions rolled back", self.rolled_back.to_string())?;
        line("of both, answer cut off and looked up", self.resolved.to_string())?;
        line("deadlocks", self.met("40P01").to_string())?;
        line("serialization failures", self.met("40001").to_string())?;
        line("events committed", self.events.to_string())?;
        line("of them, made in the middle of a statement", self.midway.to_string())?;
        line("of them, messages of clients' own", self.messages.to_string())?;
        let [sent, unknown] = self.autonomous;
        line(
            "messages sent at once: returned / the answer did not come",
            format!("{sent} / {unknown}"),
        )?;
        if self.replication != Replication::None {
            line("promotions", self.promotions.to_string())?;
            line(
                "transactions that committed and are gone with the primary",
                self.undone.to_string(),
            )?;
        }
        let [whole, keys_only] = self.giants;
        line(
            "of them, of enormous values: whole / with the key alone",
            format!("{whole} / {keys_only}"),
        )?;
        let megabytes = self.longest_message as f64 / 1e6;
        line("longest message", format!("{megabytes:.1} MB"))?;
        line("messages returned", self.observed.returned.to_string())?;
        line("writes refused, as there was no worker", self.met("55000").to_string())?;
        let mut by_queue = |what: &str, number: &dyn Fn(&Verdict) -> usize| {
            let numbers: Vec<_> =
                self.verdicts.iter().map(|(_, v)| number(v).to_string()).collect();
            line(&format!("{what} ({})", self.queues()), numbers.join(" / "))
        };
        by_queue("received with header `resent`", &|verdict| verdict.resent)?;
        by_queue("received again", &|verdict| verdict.duplicates)?;
        by_queue("received after later ones, with header `resent`", &|verdict| verdict.overtaken)?;
        by_queue("gap events", &|verdict| verdict.gaps)?;
        by_queue("passed over, and told by a gap event", &|verdict| verdict.passed_over)?;
        by_queue("dead letters, and told by a gap event", &|verdict| verdict.dead_lettered)?;
        if self.replication != Replication::None {
            by_queue("of a history that is no more, as `timeline` events told", &|v| v.undone)?;
        }
        for (number, (name, _)) in Verdict::default().findings().iter().enumerate() {
            by_queue(&format!("**{name}**"), &|verdict| verdict.findings()[number].1.len())?;
        }
        let [without, with] = &self.latencies;
        let latency =
            "undisturbed, from commit to the classic queue's consumer, p50 / p99 / longest";
        line(&format!("{latency}: all"), without.to_string())?;
        line(&format!("{latency}: all others, beside enormous values"), with.to_string())?;
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        line("longest wait of a transaction for its confirms", seconds(self.observed.longest_lag))?;
        line("longest stand-still", seconds(self.observed.longest_standstill))
    }

    fn queues(&self) -> String {
        self.verdicts.iter().map(|(queue, _)| queue.as_str()).collect::<Vec<_>>().join(" / ")
    }

    /// For who tunes the clients: what they met, by SQLSTATE.
    fn write_errors(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\nerrors that clients met:")?;
        self.errors.iter().try_for_each(|(code, times)| write!(f, " {code} {times}"))?;
        writeln!(f)
    }

    /// What was wrong; empty if nothing was.
    pub fn findings(&self) -> String {
        let mut told = tell("PostgreSQL contradicts itself", &self.contradictions);
        told += &tell("not as it should be", &self.broken);
        for (queue, verdict) in &self.verdicts {
            for (name, findings) in verdict.findings() {
                told += &tell(&format!("{queue} queue, {name}"), findings);
            }
        }
        told
    }
}

fn tell(name: &str, findings: &[String]) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let told = findings.iter().take(TOLD).map(|finding| format!("  {finding}\n"));
    format!("\n{name}: {}\n", findings.len()) + &told.collect::<String>()
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write_table(f)?;
        self.write_errors(f)?;
        f.write_str(&self.findings())
    }
}
