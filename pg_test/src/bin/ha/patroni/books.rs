//! What a consumer keeps by the messages alone, by the rules of docs/messages.md, and what must be true of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use pg_test::history::{Commit, Ends};
use pg_test::{Message, lsn};

use super::ledger::{Ledger, Outcome};

/// A row's table and key.
pub type RowName = (String, String);

/// The rows, as the leader has them: each with its stamp.
pub type Rows = BTreeMap<RowName, String>;

/// The table into which each transaction writes its tag.
pub const JOURNAL: &str = "journal";

/// One change, as it came.
#[derive(Clone, Debug)]
pub struct Entry {
    pub message_id: String,
    pub commit: Commit,
    pub tx_seq: u64,
    pub tx_size: u64,
    pub row: RowName,
    /// The row's stamp after the change.
    pub after: Option<String>,
}

/// Everything that came, in this order.
#[derive(Clone, Debug, Default)]
pub struct Books {
    pub entries: Vec<Entry>,
    pub ends: Ends,
    /// How many had come when the end of a timeline was told first.
    told: BTreeMap<u64, usize>,
    /// The parts of the stream that are missing, as gap messages say: behind the first place, up to the second.
    pub gaps: Vec<(Option<u64>, u64)>,
}

/// What is wrong, and what a failover took.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The leader has it, and it did not come.
    pub lost: Vec<String>,
    /// It came, is not of a history that is no more, and the leader does not have it.
    pub invented: Vec<String>,
    pub out_of_order: Vec<String>,
    /// Transactions of which a part came.
    pub torn: Vec<String>,
    /// Rows that do not come out of the messages as the leader has them.
    pub diverged: Vec<String>,
    /// What servers said and did not keep, but for what a failover may take.
    pub broken: Vec<String>,
    /// Acknowledged, and gone with the leader.
    pub gone: BTreeSet<String>,
    /// Published, and struck out by what timeline messages say.
    pub struck_out: BTreeSet<String>,
    /// Of these, came after the new leader had told so: it was not the only one that published.
    pub late: BTreeSet<String>,
    /// Lost, as a gap message says.
    pub told_lost: BTreeSet<String>,
}

impl Books {
    /// Takes a message. What is no change tells of others.
    ///
    /// # Panics
    /// If it is not as docs/messages.md has it.
    #[track_caller]
    pub fn take(&mut self, message: &Message) {
        let body = message.json();
        if self.ends.hear(message) {
            let from = body["from"].as_u64().unwrap_or_default();
            self.told.entry(from).or_insert(self.entries.len());
            return;
        }
        if message.kind.as_deref() == Some("gap") {
            let end = |name: &str| body[name].as_str().and_then(lsn::parse);
            let to = end("to").unwrap_or_else(|| panic!("{body}"));
            return self.gaps.push((end("from"), to));
        }
        let number = |name: &str| message.headers.get(name).and_then(|value| value.as_u64());
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let (before, after) = (&body["previous"], &body["current"]);
        let row = if after.is_null() { before } else { after };
        self.entries.push(Entry {
            message_id: message.message_id.clone().unwrap_or_default(),
            commit: Commit::of(message),
            tx_seq: number("tx_seq").unwrap_or_default(),
            tx_size: number("tx_size").unwrap_or_default(),
            row: (text(&body["tablename"]), text(&row["key"])),
            after: (!after.is_null()).then(|| text(&after["stamp"])),
        });
    }

    /// Whether a transaction with this tag came.
    pub fn has(&self, tag: &str) -> bool {
        self.entries.iter().rev().any(|entry| entry.row.0 == JOURNAL && entry.row.1 == tag)
    }

    /// What came first of each message that is not of a history that is no more.
    fn valid(&self) -> Vec<&Entry> {
        let mut seen = BTreeSet::new();
        let entries = self.entries.iter().filter(|entry| !self.ends.exclude(entry.commit));
        entries.filter(|entry| seen.insert(&entry.message_id)).collect()
    }

    /// Holds them against what the leader has, and what the writers were told.
    pub fn judge(&self, rows: &Rows, ledger: &Ledger) -> Verdict {
        let mut verdict = Verdict::default();
        let valid = self.valid();
        verdict.check_order(&valid);
        let transactions = by_commit(valid.iter().copied());
        let came = verdict.tags_of(&transactions);
        let made: BTreeSet<&str> = tags_in(rows).collect();
        verdict.invented.extend(came.iter().filter(|&tag| !made.contains(tag.as_str())).cloned());
        for &tag in made.iter().filter(|&&tag| !came.contains(tag)) {
            match self.is_told_lost(ledger, tag) {
                true => _ = verdict.told_lost.insert(tag.to_owned()),
                false => verdict.lost.push(tag.to_owned()),
            }
        }
        let excluded = self.entries.iter().filter(|entry| self.ends.exclude(entry.commit));
        let struck = by_commit(excluded).into_values().filter_map(|events| tag_of(&events));
        verdict.struck_out = struck.filter(|tag| !came.contains(tag)).collect();
        let late = self.entries.iter().enumerate().filter(|(at, entry)| {
            let told = self.told.get(&entry.commit.timeline);
            self.ends.exclude(entry.commit) && told.is_some_and(|told| at >= told)
        });
        verdict.late = late.filter_map(|(_, entry)| tag_of(&[entry])).collect();
        verdict.check_ledger(&self.ends, &made, ledger);
        verdict.check_rows(&valid, rows, ledger);
        verdict
    }

    /// Whether a gap message tells of what may be this transaction: its writer knows where it was committed at the
    /// latest.
    fn is_told_lost(&self, ledger: &Ledger, tag: &str) -> bool {
        let known = ledger.acknowledged().find(|(transaction, _)| transaction.tag == tag);
        known.is_some_and(|(_, commit)| {
            self.gaps.iter().any(|&(from, _)| from.is_none_or(|from| commit.lsn > from))
        })
    }
}

impl Verdict {
    /// Each kind of finding with its name.
    pub fn findings(&self) -> [(&'static str, &[String]); 6] {
        [
            ("lost", &self.lost),
            ("invented", &self.invented),
            ("out of order", &self.out_of_order),
            ("torn", &self.torn),
            ("diverged", &self.diverged),
            ("broken", &self.broken),
        ]
    }

    /// What comes for the first time comes in the order of the stream.
    fn check_order(&mut self, valid: &[&Entry]) {
        let place = |entry: &Entry| (entry.commit.lsn, entry.tx_seq);
        let wrong = valid.windows(2).filter(|pair| place(pair[0]) >= place(pair[1]));
        self.out_of_order.extend(wrong.map(|pair| {
            format!("{:?} at {:?} came after {:?}", pair[1].row, pair[1].commit, pair[0].commit)
        }));
    }

    fn tags_of(&mut self, transactions: &BTreeMap<Commit, Vec<&Entry>>) -> BTreeSet<String> {
        let mut tags = BTreeSet::new();
        for (commit, events) in transactions {
            let is_whole = events.iter().map(|event| event.tx_seq).eq(1..=events[0].tx_size);
            match tag_of(events) {
                Some(tag) if is_whole => {
                    if !tags.insert(tag.clone()) {
                        self.invented.push(format!("{tag}, again, at {commit:?}"));
                    }
                }
                tag => self.torn.push(format!("{tag:?} at {commit:?}: {} events", events.len())),
            }
        }
        tags
    }

    /// What was acknowledged the leader has, or it was committed behind the end of its timeline.
    fn check_ledger(&mut self, ends: &Ends, made: &BTreeSet<&str>, ledger: &Ledger) {
        for (transaction, commit) in ledger.acknowledged() {
            let tag = &transaction.tag;
            if made.contains(tag.as_str()) {
                continue;
            }
            self.gone.insert(tag.clone());
            if !ends.exclude(commit) {
                self.broken.push(format!("{tag}, acknowledged at {commit:?}, is gone"));
            }
        }
        let rolled_back = ledger.all().filter(|known| known.outcome == Outcome::RolledBack);
        let there = rolled_back.filter(|known| made.contains(known.tag.as_str()));
        self.broken
            .extend(there.map(|known| format!("{} was rolled back and is there", known.tag)));
    }

    /// Applied one after the other, what came gives the leader's rows, but for those that lost transactions changed.
    fn check_rows(&mut self, valid: &[&Entry], rows: &Rows, ledger: &Ledger) {
        let mut copy = Rows::new();
        for entry in valid {
            match &entry.after {
                Some(stamp) => copy.insert(entry.row.clone(), stamp.clone()),
                None => copy.remove(&entry.row),
            };
        }
        let told = ledger.all().filter(|known| self.told_lost.contains(&known.tag));
        let unknown: BTreeSet<&str> = told
            .flat_map(|known| known.keys.iter().chain([&known.tag]))
            .map(String::as_str)
            .collect();
        let names: BTreeSet<&RowName> = copy.keys().chain(rows.keys()).collect();
        let differs =
            |name: &&&RowName| copy.get(**name) != rows.get(**name) && !unknown.contains(&*name.1);
        self.diverged.extend(names.iter().filter(differs).map(|name| {
            format!("{name:?} is {:?} and came as {:?}", rows.get(*name), copy.get(*name))
        }));
    }
}

fn by_commit<'a>(entries: impl Iterator<Item = &'a Entry>) -> BTreeMap<Commit, Vec<&'a Entry>> {
    let mut transactions: BTreeMap<Commit, Vec<&Entry>> = BTreeMap::new();
    entries.for_each(|entry| transactions.entry(entry.commit).or_default().push(entry));
    transactions
}

/// Each transaction writes its tag.
fn tag_of(events: &[&Entry]) -> Option<String> {
    let signature = events.iter().find(|event| event.row.0 == JOURNAL)?;
    Some(signature.row.1.clone())
}

fn tags_in(rows: &Rows) -> impl Iterator<Item = &str> {
    rows.keys().filter(|(table, _)| table == JOURNAL).map(|(_, tag)| tag.as_str())
}

#[cfg(test)]
mod tests;
