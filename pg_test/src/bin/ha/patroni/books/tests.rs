//! That each check can fail.

use pg_test::Message;
use pg_test::history::{Commit, Ends};
use serde_json::json;

use super::*;
use crate::patroni::ledger::Transaction;

/// A transaction that gives row `key` its tag for a stamp.
fn events(tag: &str, key: &str, timeline: u64, lsn: u64) -> Vec<Entry> {
    let entry = |tx_seq, table: &str, key: &str| Entry {
        message_id: format!("{timeline}/{lsn}/{tx_seq}"),
        commit: Commit { timeline, lsn },
        tx_seq,
        tx_size: 2,
        row: (table.to_owned(), key.to_owned()),
        after: Some(tag.to_owned()),
    };
    vec![entry(1, "rows", key), entry(2, JOURNAL, tag)]
}

fn ended_at(at: &str) -> Ends {
    let mut ends = Ends::default();
    let body = json!({"from": 1, "to": 2, "at": at}).to_string().into_bytes();
    let kind = Some("timeline".to_owned());
    ends.hear(&Message { body, kind, ..Message::default() });
    ends
}

fn rows(of: &[(&str, &str)]) -> Rows {
    let name = |table: &str, key: &str| (table.to_owned(), key.to_owned());
    let row = |&(tag, key): &(&str, &str)| {
        [(name("rows", key), tag.to_owned()), (name(JOURNAL, tag), tag.to_owned())]
    };
    of.iter().flat_map(row).collect()
}

fn ledger(acknowledged: &[(&str, &str, u64)]) -> Ledger {
    let mut ledger = Ledger::default();
    for &(tag, key, lsn) in acknowledged {
        let outcome = Outcome::Acknowledged(Commit { timeline: 1, lsn });
        ledger.enter(Transaction { tag: tag.to_owned(), keys: vec![key.to_owned()], outcome });
    }
    ledger
}

/// Of two transactions on timeline 1, of which the failover took the second, and one on timeline 2.
fn books() -> Books {
    let entries = [events("a", "1", 1, 0x10), events("b", "2", 1, 0x20), events("c", "3", 2, 0x18)];
    Books {
        entries: entries.concat(),
        ends: ended_at("0/10"),
        told: [(1, 4)].into(),
        gaps: Vec::new(),
    }
}

fn judge(books: &Books) -> Verdict {
    let known = ledger(&[("a", "1", 0x10), ("b", "2", 0x20)]);
    books.judge(&rows(&[("a", "1"), ("c", "3")]), &known)
}

fn names(verdict: &Verdict) -> Vec<&str> {
    let found = verdict.findings().into_iter().filter(|(_, found)| !found.is_empty());
    found.map(|(name, _)| name).collect()
}

#[test]
fn what_the_failover_took_is_struck_out_and_nothing_else() {
    let verdict = judge(&books());
    assert_eq!(names(&verdict), [""; 0], "{verdict:?}");
    let set = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!((&verdict.gone, &verdict.struck_out), (&set(&["b"]), &set(&["b"])));
    assert_eq!(verdict.late, set(&[]));
    let earlier = Books { told: [(1, 2)].into(), ..books() };
    assert_eq!(judge(&earlier).late, set(&["b"]));
}

#[test]
fn an_end_at_a_wrong_place_is_noticed() {
    let too_late = Books { ends: ended_at("0/20"), ..books() };
    // It was acknowledged before that end, and is gone.
    assert_eq!(names(&judge(&too_late)), ["invented", "out of order", "diverged", "broken"]);
    let too_early = Books { ends: ended_at("0/8"), ..books() };
    assert_eq!(names(&judge(&too_early)), ["lost", "diverged"]);
    let untold = Books { ends: Ends::default(), ..books() };
    assert_eq!(names(&judge(&untold)), ["invented", "out of order", "diverged", "broken"]);
}

#[test]
fn what_is_missing_torn_or_in_another_order_is_noticed() {
    let with = |change: fn(&mut Vec<Entry>)| {
        let mut changed = books();
        change(&mut changed.entries);
        judge(&changed)
    };
    assert_eq!(names(&with(|entries| drop(entries.drain(4..)))), ["lost", "diverged"]);
    assert_eq!(names(&with(|entries| drop(entries.remove(4)))), ["lost", "torn", "diverged"]);
    assert_eq!(names(&with(|entries| entries.rotate_left(4))), ["out of order"]);
    // Again, after a restart.
    assert_eq!(names(&with(|entries| entries.extend_from_within(4..))), [""; 0]);
}

#[test]
fn a_gap_excuses_what_is_lost_behind_its_beginning() {
    let known = ledger(&[("a", "1", 0x10), ("b", "2", 0x20)]);
    let all = rows(&[("a", "1"), ("b", "2")]);
    let entries = events("a", "1", 1, 0x10);
    let told =
        |from| Books { entries: entries.clone(), gaps: vec![(from, 0x30)], ..Books::default() };
    let verdict = told(Some(0x10)).judge(&all, &known);
    assert_eq!((names(&verdict), verdict.told_lost.len()), (vec![], 1));
    assert_eq!(names(&told(Some(0x20)).judge(&all, &known)), ["lost", "diverged"]);
    assert_eq!(names(&told(None).judge(&all, &known)), [""; 0]);
}
