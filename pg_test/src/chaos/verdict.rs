//! The checks: what a queue delivered against what the clients know and the tables hold. Pure, so
//! that the tests below can show that each of them can fail.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::delivery::{Delivery, Place, Row, RowName};
use super::ledger::{Change, Ledger, Outcome};
use super::replica::Replica;

/// What one queue delivered.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// In the order of delivery.
    pub deliveries: Vec<Delivery>,
    /// What the messages make of empty tables.
    pub replica: Replica,
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
}

impl Verdict {
    /// Compares.
    pub fn on(received: &Received, ledger: &Ledger, source: &BTreeMap<RowName, Row>) -> Verdict {
        let mut verdict = Verdict {
            resent: received.deliveries.iter().filter(|d| d.resent.is_some()).count(),
            unreadable: received.unreadable.clone(),
            ..Verdict::default()
        };
        let mut events = verdict.first_deliveries(&received.deliveries);
        verdict.check_order(&received.deliveries);
        events.sort_by_key(|delivery| delivery.place);
        verdict.check_transactions(&events, ledger);
        verdict.check_chains(&events);
        verdict.diverged.extend(received.replica.differences(source));
        verdict
    }

    /// Each kind of finding with its name.
    pub fn findings(&self) -> [(&'static str, &[String]); 7] {
        [
            ("lost", &self.lost),
            ("invented", &self.invented),
            ("out of order", &self.out_of_order),
            ("torn", &self.torn),
            ("altered", &self.altered),
            ("diverged", &self.diverged),
            ("unreadable", &self.unreadable),
        ]
    }

    /// The first delivery of each message.
    fn first_deliveries<'a>(&mut self, deliveries: &'a [Delivery]) -> Vec<&'a Delivery> {
        let mut seen: HashMap<&str, &Delivery> = HashMap::new();
        let mut first = Vec::new();
        for delivery in deliveries {
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
    /// after later ones if these come again behind it: a resend repeats a suffix.
    fn check_order(&mut self, deliveries: &[Delivery]) {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut places: BTreeSet<Place> = BTreeSet::new();
        let mut owed: BTreeSet<Place> = BTreeSet::new();
        for event in deliveries {
            owed.remove(&event.place);
            if !seen.insert(&event.message_id) {
                continue;
            }
            let later = places.range(event.place..);
            if let Some(highest) = places.last().filter(|&&highest| event.place <= highest) {
                if event.resent.is_some() && !places.contains(&event.place) {
                    self.overtaken += 1;
                    owed.extend(later);
                } else {
                    self.out_of_order.push(format!(
                        "{} at {} came first after {highest}, resent: {:?}",
                        event.change, event.place, event.resent
                    ));
                }
            }
            places.insert(event.place);
        }
        let never_again = owed.iter().map(|place| format!("{place} overtook and came not again"));
        self.out_of_order.extend(never_again);
    }

    /// Each transaction that committed came, once, whole, with just its changes; no other came.
    fn check_transactions(&mut self, events: &[&Delivery], ledger: &Ledger) {
        let mut came = HashSet::new();
        for transaction in events.chunk_by(|a, b| a.place.commit_lsn == b.place.commit_lsn) {
            let tag = tag(transaction);
            self.check_whole(&tag, transaction);
            match ledger.get(&tag).filter(|known| known.outcome == Outcome::Committed) {
                None => self.invented.push(format!(
                    "transaction {tag} of {} events at {} was not committed",
                    transaction.len(),
                    transaction[0].place
                )),
                Some(_) if !came.insert(tag.clone()) => self.invented.push(format!(
                    "transaction {tag} came again under another commit at {}",
                    transaction[0].place
                )),
                Some(known) => self.check_changes(&tag, transaction, &known.changes),
            }
        }
        for known in ledger.committed().filter(|known| !came.contains(&known.tag)) {
            let (tag, events) = (&known.tag, known.changes.len());
            self.lost.push(format!("transaction {tag} of {events} events"));
        }
    }

    fn check_whole(&mut self, tag: &str, transaction: &[&Delivery]) {
        let size = transaction.len() as u64;
        let is_whole = (1..=size)
            .zip(transaction)
            .all(|(seq, event)| event.place.tx_seq == seq && event.tx_size == size);
        if !is_whole {
            let parts: Vec<String> = transaction
                .iter()
                .map(|event| format!("{}/{}", event.place.tx_seq, event.tx_size))
                .collect();
            self.torn.push(format!("transaction {tag} came as {}", parts.join(" ")));
        }
    }

    fn check_changes(&mut self, tag: &str, transaction: &[&Delivery], expected: &[Change]) {
        let came: Vec<&Change> = transaction.iter().map(|event| &event.change).collect();
        let expected: Vec<&Change> = expected.iter().collect();
        if came == expected {
            return;
        }
        let (lost, invented) = (without(&expected, &came), without(&came, &expected));
        if lost.is_empty() && invented.is_empty() {
            let right = came.iter().zip(&expected).take_while(|(came, made)| came == made).count();
            let name = |changes: &[&Change]| {
                changes.get(right).map_or("nothing".to_owned(), |change| change.to_string())
            };
            self.out_of_order.push(format!(
                "changes of transaction {tag} came in a wrong order: event {} is {}, where the \
                 change was {}",
                right + 1,
                name(&came),
                name(&expected)
            ));
        }
        self.lost.extend(lost.iter().map(|change| format!("{change} of transaction {tag}")));
        self.invented
            .extend(invented.iter().map(|change| format!("{change} in transaction {tag}")));
    }

    /// Each change of a row begins with what the change before left: per key, the stream is in
    /// commit order, and nothing is missing in between.
    fn check_chains(&mut self, events: &[&Delivery]) {
        let mut rows: HashMap<RowName, (Option<u64>, &Delivery)> = HashMap::new();
        for event in events {
            if event.is_truncate() {
                rows.retain(|(table, _), _| *table != event.change.table);
                continue;
            }
            let last = rows.insert(event.row_name(), (event.after, event));
            if event.before != last.and_then(|(after, _)| after) {
                let last = last.map_or("nothing".to_owned(), |(_, last)| last.change.to_string());
                self.diverged.push(format!(
                    "{} at {} does not begin with what {last} left",
                    event.change, event.place
                ));
            }
        }
    }
}

/// The tag of the transaction that these events belong to: each transaction writes its tag into
/// the journal, and as the first part of every stamp.
fn tag(transaction: &[&Delivery]) -> String {
    let own = |event: &&&Delivery| matches!(&*event.change.operation, "insert" | "update");
    let stamp = transaction.iter().find(own).map_or("", |event| event.change.stamp.as_str());
    stamp.split('#').next().unwrap_or_default().to_owned()
}

/// `changes` less `others`, each of which takes one away.
fn without<'a>(changes: &[&'a Change], others: &[&Change]) -> Vec<&'a Change> {
    let others: BTreeSet<&Change> = others.iter().copied().collect();
    changes.iter().copied().filter(|change| !others.contains(change)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Transaction;
    use super::*;

    /// Two transactions: `a` inserts row 1 and updates it, `b` deletes it and inserts row 2.
    fn story() -> (Ledger, Vec<Delivery>, BTreeMap<RowName, Row>) {
        let deliveries = vec![
            event(10, 1, 2, "insert 1 a#1", None, Some(1)),
            event(10, 2, 2, "update 1 a#2", Some(1), Some(2)),
            event(20, 1, 2, "delete 1 a#2", Some(2), None),
            event(20, 2, 2, "insert 2 b#2", None, Some(3)),
        ];
        let mut ledger = Ledger::default();
        for (tag, range) in [("a", 0..2), ("b", 2..4)] {
            let changes = deliveries[range].iter().map(|d| d.change.clone()).collect();
            let outcome = Outcome::Committed;
            ledger.enter(Transaction { tag: tag.to_owned(), changes, midway: 0, outcome });
        }
        let source = [(deliveries[3].row_name(), image("b#2"))].into();
        (ledger, deliveries, source)
    }

    fn event(
        commit_lsn: u64,
        tx_seq: u64,
        tx_size: u64,
        change: &str,
        before: Option<u64>,
        after: Option<u64>,
    ) -> Delivery {
        let [operation, key, stamp] = change.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{change}");
        };
        Delivery {
            message_id: format!("{commit_lsn}/{tx_seq}"),
            body: 7,
            place: Place { commit_lsn, tx_seq },
            tx_size,
            change: Change {
                table: "t".to_owned(),
                operation: operation.to_owned(),
                key: key.to_owned(),
                stamp: stamp.to_owned(),
            },
            before,
            after,
            resent: None,
        }
    }

    fn image(stamp: &str) -> Row {
        [("stamp".to_owned(), stamp.to_owned())].into()
    }

    /// The kinds of findings if these messages come instead.
    fn findings(change: impl FnOnce(&mut Vec<Delivery>)) -> Vec<&'static str> {
        let (ledger, mut deliveries, source) = story();
        change(&mut deliveries);
        let verdict = Verdict::on(&receive(deliveries), &ledger, &source);
        let found = verdict.findings();
        found.iter().filter(|(_, list)| !list.is_empty()).map(|(name, _)| *name).collect()
    }

    fn receive(deliveries: Vec<Delivery>) -> Received {
        let mut received = Received::default();
        for delivery in &deliveries {
            let after = delivery.after.map(|_| image(&delivery.change.stamp));
            received.replica.apply(delivery, after);
        }
        received.deliveries = deliveries;
        received
    }

    #[test]
    fn what_is_right_passes() {
        assert_eq!(findings(|_| ()), [""; 0]);
    }

    #[test]
    fn a_resent_suffix_passes_and_is_counted() {
        let (ledger, mut deliveries, source) = story();
        let mut suffix = deliveries[1..].to_vec();
        suffix.iter_mut().for_each(|d| d.resent = Some("reconnect".to_owned()));
        deliveries.extend(suffix);
        let verdict = Verdict::on(&receive(deliveries), &ledger, &source);
        assert!(verdict.findings().iter().all(|(_, list)| list.is_empty()), "{verdict:?}");
        assert_eq!((verdict.duplicates, verdict.resent, verdict.overtaken), (3, 3, 0));
    }

    #[test]
    fn a_lost_transaction_is_found() {
        assert_eq!(findings(|d| drop(d.drain(2..))), ["lost", "diverged"]);
    }

    #[test]
    fn a_lost_event_is_found_and_its_transaction_is_torn() {
        assert_eq!(findings(|d| drop(d.remove(1))), ["lost", "torn", "diverged"]);
    }

    #[test]
    fn an_event_that_was_lost_before_it_was_counted_is_found() {
        let found = findings(|d| {
            d.remove(1);
            d[0].tx_size = 1;
        });
        assert_eq!(found, ["lost", "diverged"]);
    }

    #[test]
    fn a_transaction_that_nobody_committed_is_found() {
        let found = findings(|d| d.push(event(30, 1, 1, "insert 3 c#1", None, Some(9))));
        assert_eq!(found, ["invented", "diverged"]);
    }

    #[test]
    fn a_transaction_that_was_rolled_back_is_found() {
        let (mut ledger, deliveries, source) = story();
        let mut undone = ledger.get("b").cloned().unwrap();
        undone.outcome = Outcome::RolledBack;
        ledger.enter(undone);
        let verdict = Verdict::on(&receive(deliveries), &ledger, &source);
        assert_eq!((verdict.invented.len(), verdict.lost.len()), (1, 0));
    }

    #[test]
    fn a_change_that_a_savepoint_rolled_back_is_found() {
        let found = findings(|d| {
            d.insert(4, event(20, 3, 3, "insert 3 b#3", None, Some(9)));
            d[2].tx_size = 3;
            d[3].tx_size = 3;
        });
        assert_eq!(found, ["invented", "diverged"]);
    }

    #[test]
    fn a_transaction_that_comes_under_two_commits_is_found() {
        let found = findings(|d| {
            let again = ["insert 1 a#1", "update 1 a#2", "delete 1 a#2"];
            d.push(event(30, 1, 3, again[0], None, Some(1)));
            d.push(event(30, 2, 3, again[1], Some(1), Some(2)));
            d.push(event(30, 3, 3, again[2], Some(2), None));
        });
        assert_eq!(found, ["invented"]);
    }

    #[test]
    fn transactions_in_another_order_are_found() {
        assert_eq!(findings(|d| d.rotate_left(2)), ["out of order"]);
    }

    #[test]
    fn events_in_another_order_are_found() {
        assert_eq!(findings(|d| d.swap(0, 1)), ["out of order"]);
    }

    #[test]
    fn commits_in_another_order_than_the_row_changed_are_found() {
        let found = findings(|d| {
            d.rotate_left(2);
            d[..2].iter_mut().for_each(|d| d.place.commit_lsn = 5);
        });
        assert_eq!(found, ["diverged"]);
    }

    #[test]
    fn changes_numbered_in_another_order_than_made_are_found() {
        let found = findings(|d| {
            d.swap(2, 3);
            d[2].place.tx_seq = 1;
            d[3].place.tx_seq = 2;
        });
        assert_eq!(found, ["out of order"]);
    }

    /// The kinds of findings if these are the events of one transaction that was to make these
    /// changes, and left these rows.
    fn findings_of(
        events: &[(&str, Option<u64>, Option<u64>)],
        made: &[&str],
        left: &[(&str, &str)],
    ) -> Vec<&'static str> {
        let size = events.len() as u64;
        let numbered = (1..=size).zip(events);
        let event = |change, seq, before, after| event(10, seq, size, change, before, after);
        let deliveries =
            numbered.map(|(seq, &(change, before, after))| event(change, seq, before, after));
        let changes = made.iter().map(|change| event(change, 1, None, None).change).collect();
        let mut ledger = Ledger::default();
        let (tag, outcome) = ("a".to_owned(), Outcome::Committed);
        ledger.enter(Transaction { tag, changes, midway: 0, outcome });
        let row = |&(key, stamp): &(&str, &str)| (("t".to_owned(), key.to_owned()), image(stamp));
        let source = left.iter().map(row).collect();
        let verdict = Verdict::on(&receive(deliveries.collect()), &ledger, &source);
        let found = verdict.findings();
        found.iter().filter(|(_, list)| !list.is_empty()).map(|(name, _)| *name).collect()
    }

    #[test]
    fn a_new_version_that_comes_before_the_old_one_goes_is_found() {
        let first = ("insert 1 a#1", None, Some(1));
        let (delete, insert) = (("delete 1 a#1", Some(1), None), ("insert 1 a#2", None, Some(2)));
        let findings = |events: &[_]| {
            let made = ["insert 1 a#1", "delete 1 a#1", "insert 1 a#2"];
            findings_of(events, &made, &[("1", "a#2")])
        };
        assert_eq!(findings(&[first, delete, insert]), [""; 0]);
        assert_eq!(findings(&[first, insert, delete]), ["out of order", "diverged"]);
    }

    #[test]
    fn a_truncate_on_the_wrong_side_of_a_row_is_found() {
        let (last, truncate) = (("insert 1 a#1", None, Some(1)), ("truncate  ", None, None));
        let first = ("insert 2 a#1", None, Some(2));
        let findings = |events: &[_]| {
            let made = ["insert 1 a#1", "truncate  ", "insert 2 a#1"];
            findings_of(events, &made, &[("2", "a#1")])
        };
        assert_eq!(findings(&[last, truncate, first]), [""; 0]);
        assert_eq!(findings(&[last, first, truncate]), ["out of order", "diverged"]);
        assert_eq!(findings(&[truncate, last, first]), ["out of order", "diverged"]);
    }

    #[test]
    fn overtaking_is_excused_only_if_it_was_sent_before_and_repeats_a_suffix() {
        let (ledger, mut deliveries, source) = story();
        deliveries.swap(2, 3);
        deliveries[3].resent = Some("reconnect".to_owned());
        let verdict = Verdict::on(&receive(deliveries.clone()), &ledger, &source);
        assert_eq!((verdict.overtaken, verdict.out_of_order.len()), (1, 1));
        deliveries.push(deliveries[2].clone());
        let verdict = Verdict::on(&receive(deliveries), &ledger, &source);
        assert_eq!((verdict.overtaken, verdict.out_of_order.len()), (1, 0));
    }

    #[test]
    fn another_body_under_the_same_message_id_is_found() {
        let found = findings(|d| {
            let mut again = d[3].clone();
            again.body = 8;
            d.push(again);
        });
        assert_eq!(found, ["altered"]);
    }

    #[test]
    fn one_event_under_two_message_ids_is_found() {
        let found = findings(|d| {
            let mut again = d[3].clone();
            again.message_id = "another".to_owned();
            d.push(again);
        });
        assert_eq!(found, ["out of order", "torn", "diverged"]);
    }

    #[test]
    fn a_row_that_differs_is_found() {
        let (ledger, deliveries, mut source) = story();
        *source.values_mut().next().unwrap() = image("x");
        let verdict = Verdict::on(&receive(deliveries), &ledger, &source);
        assert_eq!(verdict.diverged.len(), 1);
    }
}
