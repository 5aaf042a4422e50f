//! The checks: what a queue delivered against what the clients know and the tables hold. Pure, so
//! that the tests below can show that each of them can fail.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::delivery::{Delivery, Place, Row};
use super::exchanges::{self, DEAD, LETTERING, SKIPPING};
use super::gaps::Gaps;
use super::giants;
use super::ledger::{Change, Ledger, Outcome, RowName, Transaction};
use super::messages::{is_autonomous, is_message};
use super::replica::Replica;
use super::timelines::Switches;

/// What one queue delivered.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// In the order of delivery.
    pub deliveries: Vec<Delivery>,
    /// What the messages make of empty tables.
    pub replica: Replica,
    pub gaps: Gaps,
    /// What it was told of failovers.
    pub switches: Switches,
    /// Messages that could not be understood.
    pub unreadable: Vec<String>,
    /// Bytes of the longest body.
    pub longest: usize,
}

/// What is wrong with one queue's messages. All empty: nothing.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Committed and not received.
    pub lost: Vec<String>,
    /// Received and not committed.
    pub invented: Vec<String>,
    /// First deliveries, or a transaction's changes, in another order than they were made.
    pub out_of_order: Vec<String>,
    /// Transactions whose tx_seq does not run from 1 to tx_size.
    pub torn: Vec<String>,
    /// Messages with the message_id of another, and not its body.
    pub altered: Vec<String>,
    /// Rows that do not come out of the messages as they are in the source, and changes that do
    /// not begin with the row that the change before left.
    pub diverged: Vec<String>,
    /// Messages that came to an exchange where they do not belong, or as dead letters that are none.
    pub misdirected: Vec<String>,
    /// Messages that hold the key alone where they should be whole, or the other way round.
    pub misrendered: Vec<String>,
    /// Messages that could not be understood.
    pub unreadable: Vec<String>,
    /// Messages that came twice or more often.
    pub duplicates: usize,
    /// Messages with the header `resent`.
    pub resent: usize,
    /// First deliveries after later ones that say that they were sent before, and after which these
    /// came again. The broker took them and lost them without a confirm, or returned them while it
    /// took later ones: what it has not confirmed it may lose piecemeal.
    pub overtaken: usize,
    /// Events that did not come, as their exchange was told: its policy is to skip them.
    pub passed_over: usize,
    /// Events that came to the dead-letter exchange alone, as theirs was told.
    pub dead_lettered: usize,
    /// Gap events, those that came again among them.
    pub gaps: usize,
    /// Messages of a history that is no more, as was told.
    pub undone: usize,
}

impl Verdict {
    /// Compares.
    pub fn on(received: &Received, ledger: &Ledger, source: &BTreeMap<RowName, Row>) -> Verdict {
        let mut verdict = Verdict {
            resent: received.deliveries.iter().filter(|d| d.resent.is_some()).count(),
            unreadable: received.unreadable.clone(),
            gaps: received.gaps.len(),
            overtaken: received.switches.overtaken(&received.deliveries),
            ..Verdict::default()
        };
        let is_undone = |event: &&Delivery| received.switches.undo(event.place);
        let (undone, deliveries): (Vec<&Delivery>, Vec<&Delivery>) =
            received.deliveries.iter().partition(is_undone);
        verdict.undone = undone.len();
        verdict.check_undone(undone, ledger);
        let mut events = verdict.first_deliveries(&deliveries);
        verdict.check_message_ids(&events, ledger);
        verdict.check_order(&deliveries, &received.gaps);
        verdict.check_exchanges(&deliveries, received);
        verdict.check_renderings(&events);
        events.sort_by_key(|delivery| delivery.place);
        let passed_over = verdict.check_transactions(&events, ledger, &received.gaps);
        let unknown = verdict.check_chains(&events, &passed_over);
        verdict.passed_over = passed_over.len();
        let is_undone = |place| received.switches.undo(place);
        verdict.diverged.extend(received.replica.differences(source, &unknown, is_undone));
        verdict
    }

    /// Each kind of finding with its name.
    pub fn findings(&self) -> [(&'static str, &[String]); 9] {
        [
            ("lost", &self.lost),
            ("invented", &self.invented),
            ("out of order", &self.out_of_order),
            ("torn", &self.torn),
            ("altered", &self.altered),
            ("diverged", &self.diverged),
            ("misdirected", &self.misdirected),
            ("misrendered", &self.misrendered),
            ("unreadable", &self.unreadable),
        ]
    }

    /// What is of a history that is no more committed there, too.
    fn check_undone(&mut self, mut undone: Vec<&Delivery>, ledger: &Ledger) {
        undone.sort_by_key(|delivery| delivery.place);
        for transaction in undone.chunk_by(|a, b| a.is_of_one_with(b)) {
            let (tag, place) = (tag(transaction), transaction[0].place);
            let change = &transaction[0].change;
            if is_autonomous(&change.table) {
                if ledger.must_be_sent(change).is_none() {
                    self.invented.push(format!("{change} at {place}, which is no more"));
                }
                continue;
            }
            // Of one that came in part nobody may know which it was.
            if !tag.is_empty() && ledger.never_committed(&tag) {
                self.invented.push(format!("transaction {tag} at {place}, which is no more"));
            }
        }
    }

    /// The first delivery of each message.
    fn first_deliveries<'a>(&mut self, deliveries: &[&'a Delivery]) -> Vec<&'a Delivery> {
        let mut seen: HashMap<&str, &Delivery> = HashMap::new();
        let mut first = Vec::new();
        for &delivery in deliveries {
            match seen.get(delivery.message_id.as_str()) {
                None => {
                    seen.insert(&delivery.message_id, delivery);
                    first.push(delivery);
                }
                Some(before) => {
                    self.duplicates += 1;
                    if (before.body, before.place) != (delivery.body, delivery.place) {
                        self.altered.push(format!(
                            "{}: {} at {}, then {} at {}",
                            delivery.message_id,
                            before.change,
                            before.place,
                            delivery.change,
                            delivery.place
                        ));
                    }
                }
            }
        }
        first
    }

    /// First deliveries are in the order of the stream. One that says that it was sent before may come
    /// after later ones if these come again behind it: a resend repeats a suffix, but for what is passed over by then.
    fn check_order(&mut self, deliveries: &[&Delivery], gaps: &Gaps) {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut places: BTreeMap<Place, &Change> = BTreeMap::new();
        let mut owed: BTreeMap<Place, (&Change, &Delivery)> = BTreeMap::new();
        for &event in deliveries {
            owed.remove(&event.place);
            if !seen.insert(&event.message_id) {
                continue;
            }
            let later = places.range(event.place..);
            let highest = places.last_key_value().map(|(&highest, _)| highest);
            if let Some(highest) = highest.filter(|&highest| event.place <= highest) {
                if event.resent.is_some() && !places.contains_key(&event.place) {
                    self.overtaken += 1;
                    owed.extend(later.map(|(&place, &change)| (place, (change, event))));
                } else {
                    self.out_of_order.push(format!(
                        "{} at {} came first after {highest}, resent: {:?}",
                        event.change, event.place, event.resent
                    ));
                }
            }
            places.insert(event.place, &event.change);
        }
        owed.retain(|place, (change, _)| {
            exchanges::of(&change.table) != SKIPPING || !gaps.tell(SKIPPING, place.commit_lsn)
        });
        let never_again = owed.iter().map(|(place, (change, late))| {
            format!(
                "{change} at {place} overtook {} at {}, resent: {:?}, refused: {:?}, and came not again",
                late.change, late.place, late.resent, late.refused
            )
        });
        self.out_of_order.extend(never_again);
    }

    /// Each message came to the exchange of its table. What that has refused came to the dead-letter exchange
    /// and says why, and its own was told.
    fn check_exchanges(&mut self, deliveries: &[&Delivery], received: &Received) {
        let gaps = &received.gaps;
        let mut arrived: HashSet<&str> = HashSet::new();
        let mut letters: BTreeMap<&str, &Delivery> = BTreeMap::new();
        for &event in deliveries {
            let home = exchanges::of(&event.change.table);
            let says_why =
                |refused: &String| refused.starts_with(&format!("exchange \"{home}\": "));
            if event.exchange == home && event.refused.is_none() {
                arrived.insert(&event.message_id);
            } else if event.exchange == DEAD
                && home == LETTERING
                && event.refused.as_ref().is_some_and(says_why)
            {
                letters.insert(&event.message_id, event);
            } else {
                self.misdirected.push(format!(
                    "{} at {} came to exchange {}, refused: {:?}",
                    event.change, event.place, event.exchange, event.refused
                ));
            }
        }
        letters.retain(|message_id, _| !arrived.contains(message_id));
        self.dead_lettered = letters.len();
        let untold =
            letters.values().filter(|letter| !gaps.tell(LETTERING, letter.place.commit_lsn));
        self.lost.extend(untold.map(|letter| {
            format!(
                "{} at {} is a dead letter, and its exchange was not told",
                letter.change, letter.place
            )
        }));
        // Where an exchange was not there when a failover was to be told of, it is told of a gap instead.
        let may_owe =
            |exchange| [SKIPPING, LETTERING].contains(&exchange) || !received.switches.is_empty();
        let others = gaps.exchanges().filter(|&exchange| !may_owe(exchange));
        self.misdirected
            .extend(others.map(|exchange| format!("exchange {exchange} was told of a gap")));
    }

    /// What is enormous as text came with its key alone, and nothing else did.
    fn check_renderings(&mut self, events: &[&Delivery]) {
        let is_wrong = |event: &&&Delivery| {
            event.is_oversize != giants::is_keys_only(&event.change.table, &event.change.key)
        };
        self.misrendered.extend(events.iter().filter(is_wrong).map(|event| {
            let what = if event.is_oversize { "its key alone" } else { "all of it" };
            format!("{} at {} came with {what}", event.change, event.place)
        }));
    }

    /// Each transaction that committed came, once, whole, with just its changes; no other came. Returned is
    /// what need not come, since its exchange has refused it and was told.
    fn check_transactions<'a>(
        &mut self,
        events: &[&Delivery],
        ledger: &'a Ledger,
        gaps: &Gaps,
    ) -> BTreeMap<Place, &'a Change> {
        let mut came: HashMap<String, Place> = HashMap::new();
        let mut autonomous = Vec::new();
        let mut excused = BTreeMap::new();
        for transaction in events.chunk_by(|a, b| a.is_of_one_with(b)) {
            let tag = tag(transaction);
            let first = transaction[0];
            if is_autonomous(&first.change.table) {
                self.check_whole(&tag, transaction, &BTreeMap::new());
                autonomous.push(first);
                continue;
            }
            let known = ledger.get(&tag).filter(|known| known.outcome == Outcome::Committed);
            let missing =
                known.map(|known| passed_over(known, transaction, gaps)).unwrap_or_default();
            self.check_whole(&tag, transaction, &missing);
            match known {
                None => self.invented.push(format!(
                    "transaction {tag} of {} events at {} was not committed",
                    transaction.len(),
                    transaction[0].place
                )),
                Some(_) if came.insert(tag.clone(), first.place).is_some() => {
                    self.invented.push(format!(
                        "transaction {tag} came again under another commit at {}",
                        transaction[0].place
                    ))
                }
                Some(known) => {
                    let numbered = (1..).zip(&known.changes);
                    let expected: Vec<_> = numbered
                        .filter(|(tx_seq, _)| {
                            !missing.iter().any(|(place, _)| place.tx_seq == *tx_seq)
                        })
                        .map(|(_, change)| change)
                        .collect();
                    self.check_changes(&tag, transaction, &expected);
                }
            }
            excused.extend(missing);
        }
        for known in ledger.committed().filter(|known| !came.contains_key(&known.tag)) {
            let (tag, events) = (&known.tag, known.changes.len());
            self.lost.push(format!("transaction {tag} of {events} events"));
        }
        self.check_autonomous(&autonomous, &came, ledger);
        excused
    }

    fn check_whole(
        &mut self,
        tag: &str,
        transaction: &[&Delivery],
        missing: &BTreeMap<Place, &Change>,
    ) {
        let size = (transaction.len() + missing.len()) as u64;
        let came = transaction.iter().map(|event| event.place);
        let mut numbers: Vec<u64> =
            came.chain(missing.keys().copied()).map(|place| place.tx_seq).collect();
        numbers.sort_unstable();
        let is_whole = numbers.into_iter().eq(1..=size)
            && transaction.iter().all(|event| event.tx_size == size);
        if !is_whole {
            let parts: Vec<String> = transaction
                .iter()
                .map(|event| format!("{}/{}", event.place.tx_seq, event.tx_size))
                .collect();
            self.torn.push(format!("transaction {tag} came as {}", parts.join(" ")));
        }
    }

    fn check_changes(&mut self, tag: &str, transaction: &[&Delivery], expected: &[&Change]) {
        let came: Vec<&Change> = transaction.iter().map(|event| &event.change).collect();
        if came == expected {
            return;
        }
        let (lost, invented) = (without(expected, &came), without(&came, expected));
        if lost.is_empty() && invented.is_empty() {
            let right = came.iter().zip(expected).take_while(|(came, made)| came == made).count();
            let name = |changes: &[&Change]| {
                changes.get(right).map_or("nothing".to_owned(), |change| change.to_string())
            };
            self.out_of_order.push(format!(
                "changes of transaction {tag} came in a wrong order: event {} is {}, where the \
                 change was {}",
                right + 1,
                name(&came),
                name(expected)
            ));
        }
        self.lost.extend(lost.iter().map(|change| format!("{change} of transaction {tag}")));
        self.invented
            .extend(invented.iter().map(|change| format!("{change} in transaction {tag}")));
    }

    /// Each change of a row begins with what the change before left: per key, the stream is in
    /// commit order, and nothing is missing in between but what was passed over. Returned are the rows whose last
    /// change was.
    fn check_chains(
        &mut self,
        events: &[&Delivery],
        passed_over: &BTreeMap<Place, &Change>,
    ) -> BTreeSet<RowName> {
        let mut rows: HashMap<RowName, (Option<u64>, &Delivery)> = HashMap::new();
        let mut unknown = BTreeSet::new();
        let mut passed_over = passed_over.iter().peekable();
        for event in events {
            while let Some((_, change)) = passed_over.next_if(|(place, _)| **place < event.place) {
                unknown.insert(change.row_name());
            }
            if is_message(&event.change) {
                continue;
            }
            if event.is_truncate() {
                rows.retain(|(table, _), _| *table != event.change.table);
                continue;
            }
            let name = event.change.row_name();
            let is_known = !unknown.remove(&name);
            let last = rows.insert(name, (event.after, event));
            if is_known && event.before != last.and_then(|(after, _)| after) {
                let last = last.map_or("nothing".to_owned(), |(_, last)| last.change.to_string());
                self.diverged.push(format!(
                    "{} at {} does not begin with what {last} left",
                    event.change, event.place
                ));
            }
        }
        unknown.extend(passed_over.map(|(_, change)| change.row_name()));
        unknown
    }
}

/// The changes of a transaction that did not come and need not.
fn passed_over<'a>(
    known: &'a Transaction,
    transaction: &[&Delivery],
    gaps: &Gaps,
) -> BTreeMap<Place, &'a Change> {
    let Place { timeline, commit_lsn, .. } = transaction[0].place;
    if !gaps.tell(SKIPPING, commit_lsn) {
        return BTreeMap::new();
    }
    let came: HashSet<u64> = transaction.iter().map(|event| event.place.tx_seq).collect();
    let numbered = (1..).zip(&known.changes);
    numbered
        .filter(|(tx_seq, change)| {
            !came.contains(tx_seq) && exchanges::of(&change.table) == SKIPPING
        })
        .map(|(tx_seq, change)| (Place { timeline, commit_lsn, tx_seq }, change))
        .collect()
}

/// The tag of the transaction that these events belong to: each transaction writes its tag into
/// the journal, and as the first part of every stamp.
fn tag(transaction: &[&Delivery]) -> String {
    let own = |event: &&&Delivery| {
        matches!(&*event.change.operation, "insert" | "update") || is_message(&event.change)
    };
    let stamp = transaction.iter().find(own).map_or("", |event| event.change.stamp.as_str());
    stamp.split('#').next().unwrap_or_default().to_owned()
}

/// `changes` less `others`, each of which takes one away.
fn without<'a>(changes: &[&'a Change], others: &[&Change]) -> Vec<&'a Change> {
    let others: BTreeSet<&Change> = others.iter().copied().collect();
    changes.iter().copied().filter(|change| !others.contains(change)).collect()
}

mod messages;
#[cfg(test)]
mod tests;
