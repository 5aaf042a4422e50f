//! The checks: our messages against what `test_decoding` says, against themselves applied to empty
//! tables, and against the same world at another `wal_level`.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::captured::Promise;
use super::change::{Change, Operation, Row, Transaction};
use super::decoded::{Decoded, Line};
use super::replay::replay;
use super::server::Observed;
use super::world::World;

/// So many lines of a comparison are shown, from a little before the first difference.
const SHOWN: usize = 60;

/// So many findings of a world's replay are told.
const REPLAYED: usize = 2;

/// Something that must not be.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    /// One line.
    pub what: String,
    /// What led to it: statements, and both sides of a comparison.
    pub detail: String,
}

/// What was compared, and what was wrong.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub findings: Vec<Finding>,
    /// Transactions with events.
    pub transactions: usize,
    pub events: usize,
    pub truncates: usize,
    pub messages: usize,
}

/// What a transaction must have sent, in one piece.
#[derive(Debug)]
struct Expected {
    changes: Vec<Change>,
    /// All that one TRUNCATE emptied: in any order among themselves.
    is_any_order: bool,
}

/// Judges a world that ran at `wal_level = logical`.
pub(super) fn on(world: &World, observed: &Observed) -> Verdict {
    let published = &observed.published;
    let mut verdict = Verdict::default();
    let mut bench = Bench::new(world, &published.transactions);
    bench.promises(observed);
    let expected = expected(world, &observed.decoded);
    bench.transactions(&expected, &published.transactions);
    for (xid, expected) in &expected {
        let ours = published.transactions.iter().find(|transaction| transaction.xid == *xid);
        let Some(ours) = ours else { continue };
        bench.order(ours, expected);
        verdict.transactions += 1;
        verdict.events += ours.changes.len();
        let count =
            |operation| ours.changes.iter().filter(|change| change.operation == operation).count();
        verdict.truncates += count(Operation::Truncate);
        verdict.messages += count(Operation::Message);
    }
    bench.replay(observed);
    verdict.findings = bench.findings;
    verdict
}

/// Judges a world that ran at `wal_level = replica` by how it went at `logical`.
pub(super) fn on_replica(world: &World, logical: &Observed, replica: &Observed) -> Verdict {
    let mut bench = Bench::new(world, &replica.published.transactions);
    bench.promises(replica);
    bench.replay(replica);
    for session in &world.sessions {
        let of = |observed: &Observed| -> Vec<Transaction> {
            let all = observed.published.transactions.iter();
            all.filter(|transaction| transaction.schema == session.schema).cloned().collect()
        };
        let (before, now) = (of(logical), of(replica));
        for (before, now) in before.iter().zip(&now) {
            if before.changes != now.changes {
                let sides = side_by_side(
                    ("at wal_level = logical", &lines(&before.changes)),
                    ("at wal_level = replica", &lines(&now.changes)),
                );
                bench.find(now.xid, "another order at wal_level = replica", sides);
                break;
            }
        }
        if before.len() != now.len() {
            let what = format!(
                "{}: {} transactions at wal_level = logical, {} at replica",
                session.schema,
                before.len(),
                now.len()
            );
            bench.findings.push(Finding { what, detail: String::new() });
        }
    }
    Verdict { findings: bench.findings, ..Verdict::default() }
}

/// Of each transaction with events, in commit order.
fn expected(world: &World, decoded: &[Decoded]) -> Vec<(u32, Vec<Expected>)> {
    let of_one = |transaction: &Decoded| {
        let lines = transaction.lines.iter();
        let expected: Vec<_> = lines.map(|line| announced(world, line)).collect();
        let with_events = expected.into_iter().filter(|expected| !expected.changes.is_empty());
        (transaction.xid, with_events.collect::<Vec<_>>())
    };
    decoded.iter().map(of_one).filter(|(_, expected)| !expected.is_empty()).collect()
}

/// What capture triggers make of a line.
fn announced(world: &World, line: &Line) -> Expected {
    let is_truncate = line.operation == Operation::Truncate;
    let mut changes = Vec::new();
    for table in &line.tables {
        let Some(captured) = world.captured(table) else { continue };
        let resources = if is_truncate { captured.truncates } else { captured.rows };
        changes.extend(resources.into_iter().map(|resource| Change {
            table: table.clone(),
            resource,
            operation: line.operation,
            old: line.old.clone(),
            new: line.new.clone(),
        }));
    }
    Expected { changes, is_any_order: is_truncate }
}

/// Where findings are written down, with what is known of their transactions.
struct Bench<'a> {
    world: &'a World,
    /// Which planned transaction each one is: its schema, and the number.
    planned: BTreeMap<u32, (String, usize)>,
    findings: Vec<Finding>,
}

impl<'a> Bench<'a> {
    fn new(world: &'a World, transactions: &[Transaction]) -> Bench<'a> {
        let mut planned = BTreeMap::new();
        let mut current: BTreeMap<&str, usize> = BTreeMap::new();
        for transaction in transactions {
            let number = current.entry(&transaction.schema).or_default();
            let tag = transaction.changes.iter().find(|change| change.table.ends_with(".tag"));
            if let Some(row) = tag.and_then(|change| change.new.as_ref()) {
                *number = row["id"].parse().unwrap_or_default();
            }
            planned.insert(transaction.xid, (transaction.schema.clone(), *number));
        }
        Bench { world, planned, findings: Vec::new() }
    }

    fn find(&mut self, xid: u32, what: &str, detail: String) {
        let (schema, number) = self.planned.get(&xid).cloned().unwrap_or_default();
        let planned = self.world.session(&schema).and_then(|s| s.transactions.get(number));
        let planned = planned.map(ToString::to_string).unwrap_or_default();
        self.findings.push(Finding {
            what: format!("{schema}, number {number}, transaction {xid}: {what}"),
            detail: format!("{}\n{detail}", indented(&planned)),
        });
    }

    /// What each message says of its own place, and what statements must not fail with.
    fn promises(&mut self, observed: &Observed) {
        let failed = observed.errors.unexpected.iter();
        let failed = failed.map(|what| format!("a statement failed with {what}"));
        let all = observed.published.findings.iter().cloned().chain(failed);
        self.findings.extend(all.map(|what| Finding { what, detail: String::new() }));
    }

    /// The transactions are those that committed, in that order.
    fn transactions(&mut self, expected: &[(u32, Vec<Expected>)], ours: &[Transaction]) {
        // Nothing in the WAL tells of rows of unlogged tables.
        let is_seen = |transaction: &&Transaction| {
            transaction.changes.iter().any(|change| self.promise(change) != Promise::Unseen)
        };
        let ours: Vec<u32> =
            ours.iter().filter(is_seen).map(|transaction| transaction.xid).collect();
        let theirs: Vec<u32> = expected.iter().map(|(xid, _)| *xid).collect();
        if ours != theirs {
            let what = "the transactions are not those that committed, or not in that order";
            let lines = |xids: &[u32]| xids.iter().map(u32::to_string).collect::<Vec<_>>();
            let detail =
                side_by_side(("test_decoding", &lines(&theirs)), ("messages", &lines(&ours)));
            self.findings.push(Finding { what: what.to_owned(), detail });
        }
    }

    fn promise(&self, change: &Change) -> Promise {
        self.world.captured(&change.table).map_or(Promise::Ordered, |captured| captured.promise)
    }

    /// The changes of one transaction.
    fn order(&mut self, ours: &Transaction, expected: &[Expected]) {
        let with = |promise| {
            let mut changes = ours.changes.clone();
            changes.retain(|change| self.promise(change) == promise);
            changes
        };
        let (mut ordered, mut counted) = (with(Promise::Ordered), with(Promise::Counted));
        let mut wanted: Vec<Change> = Vec::new();
        let mut wanted_counted: Vec<Change> = Vec::new();
        for expected in expected {
            let (some, others): (Vec<Change>, Vec<Change>) = expected
                .changes
                .iter()
                .cloned()
                .partition(|change| self.promise(change) == Promise::Ordered);
            wanted_counted.extend(others);
            let (from, until) = (wanted.len(), wanted.len() + some.len());
            wanted.extend(some);
            if expected.is_any_order {
                wanted[from..].sort_unstable();
                if let Some(same) = ordered.get_mut(from..until) {
                    same.sort_unstable();
                }
            }
        }
        if ordered != wanted {
            let mut sorted = (ordered.clone(), wanted.clone());
            sorted.0.sort_unstable();
            sorted.1.sort_unstable();
            let what = if sorted.0 == sorted.1 { "another order" } else { "other changes" };
            let detail =
                side_by_side(("test_decoding", &lines(&wanted)), ("messages", &lines(&ordered)));
            self.find(ours.xid, what, detail);
        }
        counted.sort_unstable();
        wanted_counted.sort_unstable();
        if counted != wanted_counted {
            let detail = side_by_side(
                ("test_decoding", &lines(&wanted_counted)),
                ("messages", &lines(&counted)),
            );
            self.find(ours.xid, "other changes under a deferred trigger", detail);
        }
    }

    /// What a consumer makes of the messages.
    fn replay(&mut self, observed: &Observed) {
        let mut findings = Vec::new();
        let replayed = replay(self.world, &observed.published.transactions, &mut findings);
        let is_broken = !findings.is_empty();
        // What follows from the first ones says nothing new.
        for (xid, what) in findings.into_iter().take(REPLAYED) {
            self.find(xid, &what, String::new());
        }
        for table in observed.tables.keys().chain(replayed.keys()) {
            let (there, here) = (observed.tables.get(table), replayed.get(table));
            if there != here && !is_broken {
                let rows = |rows: Option<&BTreeMap<String, Row>>| {
                    let rows = rows.into_iter().flat_map(BTreeMap::values);
                    rows.map(|row| format!("{row:?}")).collect::<Vec<String>>()
                };
                let what = format!("replay gives another table {table}");
                let detail = side_by_side(("the table", &rows(there)), ("replayed", &rows(here)));
                self.findings.push(Finding { what, detail });
            }
        }
    }
}

fn lines(changes: &[Change]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// Two lists next to each other, with a mark where they differ.
fn side_by_side(left: (&str, &[String]), right: (&str, &[String])) -> String {
    let same = left.1.iter().zip(right.1).take_while(|(left, right)| left == right).count();
    let from = same.saturating_sub(8);
    let until = left.1.len().max(right.1.len()).min(from + SHOWN);
    let width = left.1.iter().map(|line| line.chars().count()).max().unwrap_or(0).clamp(20, 70);
    let mut text = String::new();
    let _ = writeln!(text, "         {:width$} | {}", left.0, right.0);
    for place in from..until {
        let [left, right] = [left.1, right.1].map(|lines| lines.get(place).map_or("", |line| line));
        let mark = if left == right { ' ' } else { '>' };
        let _ = writeln!(text, "  {mark} {:4} {left:width$} | {right}", place + 1);
    }
    text
}
