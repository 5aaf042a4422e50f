//! The rule in small cases, and against the same rule written down as plainly as possible.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const FILE: TableFile = TableFile { tablespace: 1663, database: 5, number: 16_384 };

fn place(offset: u16) -> Place {
    Place { file: FILE, block: 0, offset }
}

fn event(lsn: u64, command_id: u32, trace: Trace, place: Option<Place>) -> Entry {
    let (is_of_layout_1, is_split) = (false, false);
    Entry { lsn: Lsn(lsn), key: ChangeKey { command_id, trace, place, is_of_layout_1, is_split } }
}

/// A row's event, with the offset of the row.
fn row(lsn: u64, command_id: u32, offset: u16) -> Entry {
    event(lsn, command_id, Trace::NewVersion, Some(place(offset)))
}

fn truncate(lsn: u64, command_id: u32) -> Entry {
    event(lsn, command_id, Trace::Storage, Some(place(0)))
}

fn message(lsn: u64, command_id: u32) -> Entry {
    event(lsn, command_id, Trace::Itself, None)
}

/// A record of a change: LSN, trace and place.
type Record = (u64, Trace, Place);

fn new_version(lsn: u64, offset: u16) -> Record {
    (lsn, Trace::NewVersion, place(offset))
}

/// The LSNs in order, with `most` events looked for at a time.
fn order(entries: &[Entry], records: &[Record], most: usize) -> Vec<u64> {
    let mut order = Order::of(entries.iter().copied());
    while !order.is_known() {
        let mut search = order.search(most);
        assert!((1..=most).contains(&search.len()));
        for &(lsn, trace, place) in records {
            // What a pass reads for others lies between the ranges.
            search.take(Lsn(lsn), trace, place);
        }
        order.settle(search);
    }
    order.lsns().map(|lsn| lsn.0).collect()
}

#[test]
fn what_is_on_time_needs_no_reading() {
    let entries = [row(10, 1, 1), row(20, 1, 2), truncate(30, 2), row(40, 3, 1)];
    assert!(is_in_order(entries.into_iter()));
    // An AFTER trigger that sorts behind ours logs each row: its events stand behind those of the statement.
    let entries = [row(10, 1, 1), row(20, 2, 9), row(30, 1, 2), row(40, 3, 9)];
    assert!(!is_in_order(entries.into_iter()));
    let order = Order::of(entries.into_iter());
    assert!(order.is_known());
    assert_eq!(order.lsns().map(|lsn| lsn.0).collect::<Vec<_>>(), [10, 30, 20, 40]);
}

#[test]
fn a_row_that_a_before_trigger_wrote_comes_before_the_row_that_fired_it() {
    // Two rows (command 1), each of which has its parent inserted first (2, 3).
    let entries = [row(20, 2, 11), row(50, 3, 12), row(70, 1, 1), row(80, 1, 2)];
    let records =
        [new_version(10, 11), new_version(30, 1), new_version(40, 12), new_version(60, 2)];
    for most in [1, 2, 9] {
        assert_eq!(order(&entries, &records, most), [20, 70, 50, 80]);
    }
}

#[test]
fn what_makes_two_messages_comes_twice_wherever_it_stands() {
    let split = |mut entry: Entry| {
        entry.key.is_split = true;
        entry
    };
    // On time; late with a place that is found; late of a statement that is on time.
    let entries = [row(10, 1, 1), split(row(20, 2, 2)), row(30, 3, 1)];
    assert!(is_in_order(entries.into_iter()));
    assert_eq!(order(&entries, &[], 9), [10, 20, 20, 30]);
    let entries = [row(20, 2, 11), row(50, 3, 12), split(row(70, 1, 1)), row(80, 1, 2)];
    let records = [new_version(30, 1), new_version(60, 2)];
    assert_eq!(order(&entries, &records, 9), [20, 70, 70, 50, 80]);
    let entries = [row(10, 1, 1), row(20, 2, 9), split(row(30, 1, 2)), split(row(40, 3, 9))];
    assert_eq!(order(&entries, &[], 9), [10, 30, 30, 20, 40, 40]);
    // One whose statement is not on time, and which names no place.
    let unlogged = split(event(70, 1, Trace::NewVersion, None));
    assert_eq!(order(&[row(20, 2, 11), unlogged], &[], 9), [70, 70, 20]);
}

#[test]
fn a_change_without_a_record_in_the_range_was_made_before_it() {
    let entries = [row(20, 2, 11), row(70, 1, 1)];
    assert_eq!(order(&entries, &[new_version(10, 1)], 9), [70, 20]);
    // Nor does the place of another kind of change count, nor one behind the event.
    let other = [(30, Trace::Deletion, place(1)), new_version(80, 1)];
    assert_eq!(order(&entries, &other, 9), [70, 20]);
    let unlogged = event(70, 1, Trace::NewVersion, None);
    assert_eq!(order(&[entries[0], unlogged], &[new_version(30, 1)], 9), [70, 20]);
}

#[test]
fn the_last_record_counts_where_a_place_was_used_twice() {
    let entries = [row(20, 2, 11), row(45, 3, 12), row(70, 1, 1)];
    let records = [new_version(30, 1), new_version(60, 1)];
    assert_eq!(order(&entries, &records, 9), [20, 45, 70]);
}

#[test]
fn a_truncate_stands_where_its_file_was_made() {
    // A trigger that sorts first puts a row back; it bears the same command id, or the next one.
    for command_id in [1, 2] {
        let entries = [row(20, command_id, 1), truncate(30, 1)];
        assert!(!is_in_order(entries.into_iter()));
        assert_eq!(order(&entries, &[(10, Trace::Storage, place(0))], 9), [30, 20]);
        assert_eq!(order(&entries, &[(25, Trace::Storage, place(0))], 9), [20, 30]);
    }
}

#[test]
fn a_message_stands_where_it_is_among_rows_that_have_their_own_places() {
    // Between two commands: the next one has its id.
    let entries = [row(10, 1, 1), message(20, 2), message(30, 2), row(40, 2, 2), truncate(50, 3)];
    assert!(is_in_order(entries.into_iter()));
    let entries = [message(20, 2), truncate(30, 2), message(40, 3), row(50, 3, 1)];
    assert!(is_in_order(entries.into_iter()));
    // In the select list of command 1: each comes before its row.
    let entries = [message(20, 2), message(40, 2), row(60, 1, 1), row(70, 1, 2)];
    assert!(!is_in_order(entries.into_iter()));
    assert_eq!(order(&entries, &[new_version(30, 1), new_version(50, 2)], 9), [20, 60, 40, 70]);
    // In RETURNING, behind it.
    assert_eq!(order(&entries, &[new_version(10, 1), new_version(30, 2)], 9), [60, 20, 70, 40]);
    // It is in no statement's group: the rows of its id are not on time with it.
    let entries = [message(20, 2), row(50, 3, 9), row(60, 2, 1), row(70, 2, 2)];
    assert_eq!(order(&entries, &[new_version(55, 1), new_version(58, 2)], 9), [20, 50, 60, 70]);
    // Nor does one that comes behind the rows of its id stand with them.
    let entries = [row(20, 2, 1), row(25, 2, 2), message(40, 2), row(60, 1, 3)];
    assert_eq!(order(&entries, &[new_version(30, 3)], 9), [20, 25, 60, 40]);
    // One of the id of a late TRUNCATE comes before it.
    let entries = [message(10, 1), row(20, 2, 1), truncate(30, 1)];
    assert_eq!(order(&entries, &[], 9), [10, 30, 20]);
}

#[test]
fn what_0_1_0_wrote_keeps_the_order_of_commands() {
    let by_command = |mut entry: Entry| {
        entry.key.is_of_layout_1 = true;
        entry
    };
    let entries = [row(20, 2, 11), row(30, 2, 12), truncate(40, 2), row(70, 1, 1)].map(by_command);
    assert!(!is_in_order(entries.into_iter()));
    assert_eq!(order(&entries, &[], 9), [70, 20, 30, 40]);
    assert!(is_in_order(entries[..3].iter().copied()));
}

#[test]
fn many_files_take_more_than_one_search() {
    let files = MOST_FILES as u32 + 10;
    let place = |number| Place { file: TableFile { number, ..FILE }, ..place(1) };
    let late = |n: u32| event(1000 + u64::from(n), 1, Trace::NewVersion, Some(place(n)));
    let entries: Vec<_> = std::iter::once(row(20, 2, 11)).chain((0..files).map(late)).collect();
    // Each row was changed after the one whose event comes behind it.
    let mut records: Vec<_> =
        (0..files).map(|n| (u64::from(999 - n % 900), Trace::NewVersion, place(n))).collect();
    records.sort_unstable();
    let mut expected: Vec<_> =
        (0..files).map(|n| (u64::from(999 - n % 900), 1000 + u64::from(n))).collect();
    expected.retain(|&(record, _)| record >= 20);
    expected.sort_unstable();
    let found = order(&entries, &records, usize::MAX);
    assert_eq!(found[0], 20);
    assert_eq!(found[1..], expected.into_iter().map(|(_, lsn)| lsn).collect::<Vec<_>>());
}

/// The rule as the module's header has it, for few events.
mod plain {
    use super::*;

    struct Placed {
        place: u64,
        has_record: bool,
        entry: Entry,
    }

    fn is_truncate(entry: &Entry) -> bool {
        entry.key.trace == Trace::Storage
    }

    fn is_message(entry: &Entry) -> bool {
        entry.key.trace == Trace::Itself
    }

    fn is_row(entry: &Entry) -> bool {
        !is_truncate(entry) && !is_message(entry)
    }

    /// The first event of a later command, for a TRUNCATE also of a row of the same.
    fn first_later(entries: &[Entry], of: &Entry) -> Option<Lsn> {
        let is_later = |other: &&Entry| {
            other.key.command_id > of.key.command_id
                || (other.key.command_id == of.key.command_id && is_truncate(of) && is_row(other))
        };
        entries.iter().find(is_later).map(|entry| entry.lsn)
    }

    fn is_on_time(entries: &[Entry], entry: &Entry) -> bool {
        first_later(entries, entry).is_none_or(|lsn| lsn > entry.lsn)
    }

    pub fn order(entries: &[Entry], records: &[Record]) -> Vec<u64> {
        // The first event of the statement, if that is on time; of a TRUNCATE itself, and of a message.
        let stand = |entry: &Entry| {
            let is_of_it =
                |other: &&Entry| other.key.command_id == entry.key.command_id && is_row(other);
            let first = if is_row(entry) { entries.iter().find(is_of_it) } else { Some(entry) };
            first.filter(|first| is_on_time(entries, first)).map(|first| first.lsn.0)
        };
        let mut on_time: Vec<(u64, Entry)> =
            entries.iter().filter_map(|&entry| Some((stand(&entry)?, entry))).collect();
        let late: Vec<Entry> =
            entries.iter().filter(|entry| stand(entry).is_none()).copied().collect();
        let start = |entry: &Entry| first_later(entries, entry).map_or(0, |lsn| lsn.0);
        let mut ranges: Vec<(u64, u64)> = late
            .iter()
            .filter(|entry| entry.key.place.is_some())
            .map(|entry| (start(entry), entry.lsn.0))
            .collect();
        // Until no two overlap.
        while let Some((a, b)) = (0..ranges.len())
            .flat_map(|a| (0..a).map(move |b| (a, b)))
            .find(|&(a, b)| ranges[a].0 <= ranges[b].1 && ranges[b].0 <= ranges[a].1)
        {
            let (a, b) = (ranges.remove(a), ranges.remove(b));
            ranges.push((a.0.min(b.0), a.1.max(b.1)));
        }
        let find = |entry: &Entry| {
            let Some(place) = entry.key.place else {
                return Placed { place: start(entry), has_record: false, entry: *entry };
            };
            let lsn = entry.lsn.0;
            let range = ranges.iter().find(|range| range.0 <= lsn && lsn <= range.1).unwrap();
            let record = records.iter().rfind(|&&(at, trace, of)| {
                range.0 <= at && at < lsn && (trace, of) == (entry.key.trace, place)
            });
            let place = record.map_or(range.0, |record| record.0);
            Placed { place, has_record: record.is_some(), entry: *entry }
        };
        let mut placed: Vec<Placed> = late.iter().map(find).collect();
        placed.sort_by_key(|late| {
            let command_id = if late.has_record { 0 } else { late.entry.key.command_id };
            (late.place, late.has_record, command_id, late.entry.lsn)
        });
        on_time.sort_by_key(|&(stand, entry)| (stand, entry.lsn));
        let (mut on_time, mut placed) =
            (on_time.into_iter().peekable(), placed.into_iter().peekable());
        let mut lsns = Vec::new();
        loop {
            let comes_first = match (on_time.peek(), placed.peek()) {
                (Some((stand, a)), Some(late)) => {
                    let b = &late.entry;
                    a.key.command_id < b.key.command_id
                        || (a.key.command_id == b.key.command_id
                            && (is_message(a) || is_truncate(a) == is_truncate(b)))
                        || *stand < late.place
                }
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => return lsns,
            };
            let next = if comes_first {
                on_time.next().map(|o| o.1)
            } else {
                placed.next().map(|p| p.entry)
            };
            lsns.extend(next.map(|entry| entry.lsn.0));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Event(Entry),
    Record(Trace, Place),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let trace = || prop_oneof![4 => Just(Trace::NewVersion), 2 => Just(Trace::Deletion), 1 => Just(Trace::Storage)];
    let message = (0..6u32).prop_map(|command_id| Step::Event(message(0, command_id)));
    let spot = |(trace, number, offset): (Trace, u32, u16)| {
        let offset = if trace == Trace::Storage { 0 } else { offset };
        (trace, Place { file: TableFile { number, ..FILE }, block: 0, offset })
    };
    let spots = move || (trace(), 0..2u32, 1..4u16).prop_map(spot);
    let step = prop_oneof![
        (0..6u32, spots(), proptest::bool::weighted(0.9)).prop_map(
            |(command_id, (trace, place), has_place)| {
                Step::Event(event(0, command_id, trace, has_place.then_some(place)))
            }
        ),
        spots().prop_map(|(trace, place)| Step::Record(trace, place)),
        message,
    ];
    vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_order_is_what_the_rule_says(steps in steps(), most in 1..5usize) {
        let (mut entries, mut records, mut next) = (Vec::new(), Vec::new(), 0);
        for (number, step) in steps.into_iter().enumerate() {
            let lsn = 8 * (number as u64 + 1);
            match step {
                Step::Event(mut entry) => {
                    // A message is never late, and of a later command than all rows before it.
                    let is_message = entry.key.trace == Trace::Itself;
                    if is_message {
                        entry.key.command_id = entry.key.command_id.max(next);
                    }
                    next = next.max(entry.key.command_id + u32::from(!is_message));
                    entries.push(Entry { lsn: Lsn(lsn), ..entry });
                }
                Step::Record(trace, place) => records.push((lsn, trace, place)),
            }
        }
        let expected = plain::order(&entries, &records);
        prop_assert_eq!(order(&entries, &records, most), &expected[..]);
        if is_in_order(entries.iter().copied()) {
            prop_assert_eq!(expected, entries.iter().map(|e| e.lsn.0).collect::<Vec<_>>());
        }
    }
}
