//! The checks: what a queue delivered against what the clients know and the tables hold. Pure, so
//! that the tests below can show that each of them can fail.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::delivery::{Delivery, Place, Row};
use super::exchanges::{self, DEAD, LETTERING, SKIPPING};
use super::gaps::Gaps;
use super::giants;
use super::ledger::{Change, Ledger, Outcome, RowName, Transaction};
use super::replica::Replica;

/// What one queue delivered.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// In the order of delivery.
    pub deliveries: Vec<Delivery>,
    /// What the messages make of empty tables.
    pub replica: Replica,
    pub gaps: Gaps,
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
}

impl Verdict {
    /// Compares.
    pub fn on(received: &Received, ledger: &Ledger, source: &BTreeMap<RowName, Row>) -> Verdict {
        let mut verdict = Verdict {
            resent: received.deliveries.iter().filter(|d| d.resent.is_some()).count(),
            unreadable: received.unreadable.clone(),
            gaps: received.gaps.len(),
            ..Verdict::default()
        };
        let mut events = verdict.first_deliveries(&received.deliveries);
        verdict.check_order(&received.deliveries, &received.gaps);
        verdict.check_exchanges(&received.deliveries, &received.gaps);
        verdict.check_renderings(&events);
        events.sort_by_key(|delivery| delivery.place);
        let passed_over = verdict.check_transactions(&events, ledger, &received.gaps);
        let unknown = verdict.check_chains(&events, &passed_over);
        verdict.passed_over = passed_over.len();
        verdict.diverged.extend(received.replica.differences(source, &unknown));
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
    /// after later ones if these come again behind it: a resend repeats a suffix, but for what is passed over by then.
    fn check_order(&mut self, deliveries: &[Delivery], gaps: &Gaps) {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut places: BTreeMap<Place, &Change> = BTreeMap::new();
        let mut owed: BTreeMap<Place, (&Change, &Delivery)> = BTreeMap::new();
        for event in deliveries {
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
    fn check_exchanges(&mut self, deliveries: &[Delivery], gaps: &Gaps) {
        let mut arrived: HashSet<&str> = HashSet::new();
        let mut letters: BTreeMap<&str, &Delivery> = BTreeMap::new();
        for event in deliveries {
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
        let others =
            gaps.exchanges().filter(|&exchange| ![SKIPPING, LETTERING].contains(&exchange));
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
        let mut came = HashSet::new();
        let mut excused = BTreeMap::new();
        for transaction in events.chunk_by(|a, b| a.place.commit_lsn == b.place.commit_lsn) {
            let tag = tag(transaction);
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
                Some(_) if !came.insert(tag.clone()) => self.invented.push(format!(
                    "transaction {tag} came again under another commit at {}",
                    transaction[0].place
                )),
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
        for known in ledger.committed().filter(|known| !came.contains(&known.tag)) {
            let (tag, events) = (&known.tag, known.changes.len());
            self.lost.push(format!("transaction {tag} of {events} events"));
        }
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
    let commit_lsn = transaction[0].place.commit_lsn;
    if !gaps.tell(SKIPPING, commit_lsn) {
        return BTreeMap::new();
    }
    let came: HashSet<u64> = transaction.iter().map(|event| event.place.tx_seq).collect();
    let numbered = (1..).zip(&known.changes);
    numbered
        .filter(|(tx_seq, change)| {
            !came.contains(tx_seq) && exchanges::of(&change.table) == SKIPPING
        })
        .map(|(tx_seq, change)| (Place { commit_lsn, tx_seq }, change))
        .collect()
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
    use super::super::exchanges::EXCHANGE;
    use super::super::gaps::Gap;
    use super::super::tables;
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
        let source = [(deliveries[3].change.row_name(), image("b#2"))].into();
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
            exchange: EXCHANGE.to_owned(),
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
            refused: None,
            is_oversize: false,
            committed_at: 0,
            arrived_at: 0,
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

    /// When the suffix came again, its exchange was gone.
    #[test]
    fn what_was_passed_over_by_then_need_not_come_again() {
        let (ledger, mut deliveries, source) = story();
        deliveries.swap(2, 3);
        deliveries[3].resent = Some("restart".to_owned());
        deliveries[2].change.table = tables::SKIPPED.to_owned();
        let mut received = receive(deliveries);
        let mut out_of_order = |to| {
            let gap = Gap { exchange: SKIPPING.to_owned(), from: Some(10), to };
            received.gaps = Gaps::from(vec![gap]);
            Verdict::on(&received, &ledger, &source).out_of_order.len()
        };
        assert!(out_of_order(20) < out_of_order(19));
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

    /// The story's first transaction changes a row of this table in between: the kinds of findings if its event
    /// comes like this, and its exchange is told of a gap.
    fn findings_apart(
        table: &str,
        gap: Option<(&str, u64, u64)>,
        event: impl FnOnce(&mut Vec<Delivery>),
    ) -> (Vec<&'static str>, usize, usize) {
        let (mut ledger, mut deliveries, mut source) = story();
        let mut apart = self::event(10, 2, 3, "insert 7 a#3", None, Some(7));
        apart.change.table = table.to_owned();
        apart.exchange = exchanges::of(table).to_owned();
        source.insert(apart.change.row_name(), image("a#3"));
        let mut first = ledger.get("a").cloned().unwrap();
        first.changes.insert(1, apart.change.clone());
        ledger.enter(first);
        deliveries[1] = self::event(10, 3, 3, "update 1 a#2", Some(1), Some(2));
        deliveries[0].tx_size = 3;
        deliveries.insert(1, apart);
        event(&mut deliveries);
        let mut received = receive(deliveries);
        let told = gap.map(|(exchange, from, to)| {
            let (exchange, from) = (exchange.to_owned(), Some(from));
            Gap { exchange, from, to }
        });
        received.gaps = Gaps::from(Vec::from_iter(told));
        let verdict = Verdict::on(&received, &ledger, &source);
        let found = verdict.findings();
        let found = found.iter().filter(|(_, list)| !list.is_empty()).map(|(name, _)| *name);
        (found.collect(), verdict.passed_over, verdict.dead_lettered)
    }

    const GONE: fn(&mut Vec<Delivery>) = |deliveries| drop(deliveries.remove(1));

    #[test]
    fn what_is_skipped_may_be_missing_only_within_a_gap_that_its_exchange_was_told_of() {
        let findings = |gap| findings_apart(tables::SKIPPED, gap, GONE);
        assert_eq!(findings(Some((SKIPPING, 5, 10))), (vec![], 1, 0));
        let lost = (vec!["lost", "torn", "diverged"], 0, 0);
        assert_eq!(findings(None), lost);
        assert_eq!(findings(Some((SKIPPING, 10, 20))), lost);
        assert_eq!(findings(Some((SKIPPING, 5, 9))), lost);
        assert_eq!(findings(Some((LETTERING, 5, 10))), lost);
        // Another exchange refuses nothing.
        let elsewhere = vec!["lost", "torn", "diverged", "misdirected"];
        assert_eq!(findings(Some((EXCHANGE, 5, 10))), (elsewhere, 0, 0));
    }

    #[test]
    fn within_a_gap_no_other_exchange_may_lack_anything() {
        let gap = Some((SKIPPING, 5, 10));
        let lost = (vec!["lost", "torn", "diverged"], 0, 0);
        assert_eq!(findings_apart("t", gap, GONE), lost);
        assert_eq!(findings_apart(tables::LETTERED, gap, GONE), lost);
        // That its own was told does not help what goes to the dead-letter exchange.
        assert_eq!(findings_apart(tables::LETTERED, Some((LETTERING, 5, 10)), GONE), lost);
        // What came is compared as ever.
        let other = |deliveries: &mut Vec<Delivery>| deliveries[1].change.stamp = "a#9".to_owned();
        let found = (vec!["lost", "invented", "diverged"], 0, 0);
        assert_eq!(findings_apart(tables::SKIPPED, gap, other), found);
        let (found, ..) = findings_apart(tables::SKIPPED, gap, |deliveries| {
            deliveries.remove(1);
            deliveries.remove(1);
        });
        assert_eq!(found, ["lost", "torn", "diverged"]);
    }

    #[test]
    fn a_row_whose_change_was_passed_over_is_unknown_until_it_changes_again() {
        let mut events = [
            event(10, 1, 4, "insert 1 a#1", None, Some(1)),
            event(10, 2, 4, "update 1 a#2", Some(1), Some(2)),
            event(10, 3, 4, "update 1 a#3", Some(2), Some(3)),
            event(10, 4, 4, "insert 2 a#4", None, Some(4)),
        ];
        for event in &mut events[..3] {
            event.change.table = tables::SKIPPED.to_owned();
            event.exchange = SKIPPING.to_owned();
        }
        let changes: Vec<Change> = events.iter().map(|event| event.change.clone()).collect();
        let names = [events[0].change.row_name(), events[3].change.row_name()];
        let mut ledger = Ledger::default();
        let (tag, outcome) = ("a".to_owned(), Outcome::Committed);
        ledger.enter(Transaction { tag, changes, midway: 0, outcome });
        let findings = |came: &[usize], stamp: &str| {
            let mut received = receive(came.iter().map(|&at| events[at].clone()).collect());
            let gap = Gap { exchange: SKIPPING.to_owned(), from: Some(5), to: 10 };
            received.gaps = Gaps::from(vec![gap]);
            let [apart, other] = names.clone();
            let source = [(apart, image(stamp)), (other, image("a#4"))].into();
            let verdict = Verdict::on(&received, &ledger, &source);
            let found = verdict.findings();
            let found = found.iter().filter(|(_, list)| !list.is_empty()).map(|(name, _)| *name);
            (found.collect::<Vec<_>>(), verdict.passed_over)
        };
        assert_eq!(findings(&[0, 1, 2, 3], "a#3"), (vec![], 0));
        assert_eq!(findings(&[0, 2, 3], "a#3"), (vec![], 1));
        assert_eq!(findings(&[0, 2, 3], "x"), (vec!["diverged"], 1));
        assert_eq!(findings(&[0, 3], "x"), (vec![], 2));
    }

    #[test]
    fn a_dead_letter_says_what_refused_it_which_was_told() {
        let letter = |exchange: &str, refused: Option<&str>| {
            let (exchange, refused) = (exchange.to_owned(), refused.map(str::to_owned));
            move |deliveries: &mut Vec<Delivery>| {
                (deliveries[1].exchange, deliveries[1].refused) = (exchange, refused);
            }
        };
        let why = format!("exchange \"{LETTERING}\": NOT_FOUND");
        let right = || letter(DEAD, Some(&why));
        let gap = Some((LETTERING, 5, 10));
        assert_eq!(findings_apart(tables::LETTERED, gap, right()), (vec![], 0, 1));
        assert_eq!(findings_apart(tables::LETTERED, None, right()), (vec!["lost"], 0, 1));
        let wrong = (vec!["misdirected"], 0, 0);
        let findings = |table, event| findings_apart(table, gap, event);
        assert_eq!(findings(tables::LETTERED, letter(DEAD, None)), wrong);
        assert_eq!(findings(tables::LETTERED, letter(DEAD, Some("exchange \"x\": y"))), wrong);
        assert_eq!(findings(tables::LETTERED, letter(LETTERING, Some(&why))), wrong);
        assert_eq!(findings(tables::LETTERED, letter(EXCHANGE, None)), wrong);
        assert_eq!(findings("t", letter(LETTERING, None)), wrong);
        assert_eq!(findings("t", right()), wrong);
        // One that came to its exchange, too, after all.
        let both = |deliveries: &mut Vec<Delivery>| {
            let mut again = deliveries[1].clone();
            right()(deliveries);
            again.resent = Some("reconnect".to_owned());
            deliveries.push(again);
        };
        assert_eq!(findings_apart(tables::LETTERED, None, both), (vec![], 0, 0));
    }

    #[test]
    fn a_key_alone_where_a_row_should_be_is_found_and_the_other_way_round() {
        let findings = |key: &str, is_oversize: bool| {
            findings_of_rows(|deliveries| {
                deliveries[3].change.table = tables::ENORMOUS.to_owned();
                deliveries[3].change.key = key.to_owned();
                deliveries[3].is_oversize = is_oversize;
            })
        };
        assert_eq!((findings("2", true), findings("1", false)), (0, 0));
        assert_eq!((findings("2", false), findings("1", true)), (1, 1));
        assert_eq!(findings_of_rows(|deliveries| deliveries[3].is_oversize = true), 1);
    }

    /// How many events of the story are misrendered then.
    fn findings_of_rows(change: impl FnOnce(&mut Vec<Delivery>)) -> usize {
        let (ledger, mut deliveries, source) = story();
        change(&mut deliveries);
        Verdict::on(&receive(deliveries), &ledger, &source).misrendered.len()
    }
}
