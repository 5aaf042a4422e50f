//! Each check, and what it finds.

use super::*;
use crate::chaos::exchanges::EXCHANGE;
use crate::chaos::gaps::Gap;
use crate::chaos::tables;

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
        ledger.enter(Transaction {
            tag: tag.to_owned(),
            changes,
            midway: 0,
            outcome,
            commit: None,
        });
    }
    let source = [(deliveries[3].change.row_name(), image("b#2"))].into();
    (ledger, deliveries, source)
}

pub(super) fn event(
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
        place: Place { timeline: 1, commit_lsn, tx_seq },
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

pub(super) fn receive(deliveries: Vec<Delivery>) -> Received {
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
    ledger.enter(Transaction { tag, changes, midway: 0, outcome, commit: None });
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
    ledger.enter(Transaction { tag, changes, midway: 0, outcome, commit: None });
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
