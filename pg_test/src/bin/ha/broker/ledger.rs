//! What was committed, in which order, and whether that is what came. Pure.

use std::collections::{BTreeMap, HashMap};

/// What the writers committed: by writer, how many rows each of its transactions inserted.
pub type Ledger = Vec<Vec<u64>>;

/// A message, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Seen {
    pub message_id: String,
    /// Where it stands in the stream: the end of its commit record, and its number in the transaction.
    pub place: (u64, u64),
    pub tx_size: u64,
    pub row: Row,
    /// Whether its header says that it may have been sent before.
    pub is_resent: bool,
    /// Whether the broker says that it delivered it before.
    pub is_redelivered: bool,
}

/// What it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// A writer inserted its row of this number.
    Inserted { writer: usize, number: u64 },
    /// The last change of a transaction: a writer's number of rows.
    Counted { writer: usize, rows: u64 },
}

/// What is wrong with what one queue delivered, and what is to be counted.
#[derive(Debug, Default)]
pub struct Verdict {
    pub lost: Vec<String>,
    pub invented: Vec<String>,
    pub out_of_order: Vec<String>,
    /// Transactions of which something was missing when the next one came.
    pub torn: Vec<String>,
    /// Came more than once without a word of the worker's or the broker's that it may have come before.
    pub unmarked: Vec<String>,
    pub events: usize,
    pub duplicates: usize,
    /// First deliveries after later ones that say that they were sent before.
    pub overtaken: usize,
    /// Came once more without saying so, behind the repetition, which said so: a node had them while it was frozen.
    pub belated: usize,
}

impl Verdict {
    /// On what one queue delivered, in this order.
    pub fn on(seen: &[Seen], ledger: &Ledger) -> Verdict {
        let mut verdict = Verdict::default();
        // Of each message, how often it came without a word that it may have come before.
        let mut known: HashMap<&str, usize> = HashMap::new();
        let mut stream: BTreeMap<(u64, u64), &Seen> = BTreeMap::new();
        for message in seen {
            let is_new = !known.contains_key(message.message_id.as_str());
            let unmarked = known.entry(&message.message_id).or_default();
            if !message.is_resent && !message.is_redelivered {
                *unmarked += 1;
            }
            if !is_new {
                verdict.duplicates += 1;
                match (message.is_resent || message.is_redelivered, *unmarked) {
                    (true, _) => {}
                    (false, 1) => verdict.belated += 1,
                    (false, _) => verdict.unmarked.push(message.message_id.clone()),
                }
                continue;
            }
            let highest = stream.last_key_value().map(|(&place, _)| place);
            if highest.is_some_and(|highest| message.place <= highest) {
                match message.is_resent {
                    true => verdict.overtaken += 1,
                    false => verdict.out_of_order.push(format!("{message:?} after {highest:?}")),
                }
            }
            stream.insert(message.place, message);
        }
        verdict.events = stream.len();
        verdict.check_transactions(&stream);
        verdict.check_rows(&stream, ledger);
        verdict
    }

    /// What is wrong, each kind with its name.
    pub fn findings(&self) -> [(&'static str, &[String]); 5] {
        [
            ("lost", &self.lost),
            ("invented", &self.invented),
            ("out of order", &self.out_of_order),
            ("torn", &self.torn),
            ("come again without a word of it", &self.unmarked),
        ]
    }

    fn check_transactions(&mut self, stream: &BTreeMap<(u64, u64), &Seen>) {
        let mut expected = 1;
        for message in stream.values() {
            if message.place.1 != expected {
                self.torn.push(format!("{message:?}, and not event {expected}"));
            }
            expected = if message.place.1 == message.tx_size { 1 } else { message.place.1 + 1 };
        }
    }

    fn check_rows(&mut self, stream: &BTreeMap<(u64, u64), &Seen>, ledger: &Ledger) {
        let mut expected: Vec<Vec<Row>> = ledger.iter().enumerate().map(rows_of).collect();
        expected.iter_mut().for_each(|rows| rows.reverse());
        for message in stream.values() {
            let (Row::Inserted { writer, .. } | Row::Counted { writer, .. }) = message.row;
            let Some(expected) = expected.get_mut(writer) else {
                self.invented.push(format!("{message:?}"));
                continue;
            };
            match expected.iter().rposition(|row| *row == message.row) {
                // The row itself, and those that should have come before it.
                Some(at) => {
                    let passed = expected.split_off(at);
                    self.lost.extend(passed[1..].iter().rev().map(|row| format!("{row:?}")));
                }
                None => self.invented.push(format!("{message:?}")),
            }
        }
        self.lost.extend(expected.iter().flatten().rev().map(|row| format!("{row:?}")));
    }
}

/// What a writer's transactions changed, in order.
fn rows_of((writer, transactions): (usize, &Vec<u64>)) -> Vec<Row> {
    let (mut rows, mut number) = (Vec::new(), 0);
    for inserted in transactions {
        rows.extend((1..=*inserted).map(|n| Row::Inserted { writer, number: number + n }));
        number += inserted;
        rows.push(Row::Counted { writer, rows: number });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two writers' transactions: of two rows, of one, of one.
    const LEDGER: [&[u64]; 2] = [&[2, 1], &[1]];

    fn ledger() -> Ledger {
        LEDGER.iter().map(|transactions| transactions.to_vec()).collect()
    }

    /// What must come.
    fn all() -> Vec<Seen> {
        let inserted = |writer, number| Row::Inserted { writer, number };
        let counted = |writer, rows| Row::Counted { writer, rows };
        let rows = [
            ((10, 1), 3, inserted(0, 1)),
            ((10, 2), 3, inserted(0, 2)),
            ((10, 3), 3, counted(0, 2)),
            ((20, 1), 2, inserted(1, 1)),
            ((20, 2), 2, counted(1, 1)),
            ((30, 1), 2, inserted(0, 3)),
            ((30, 2), 2, counted(0, 3)),
        ];
        let seen = rows.map(|(place, tx_size, row)| Seen {
            message_id: format!("{place:?}"),
            place,
            tx_size,
            row,
            is_resent: false,
            is_redelivered: false,
        });
        seen.to_vec()
    }

    fn found(seen: &[Seen]) -> Vec<&'static str> {
        let verdict = Verdict::on(seen, &ledger());
        verdict.findings().iter().filter(|(_, f)| !f.is_empty()).map(|(name, _)| *name).collect()
    }

    #[test]
    fn what_was_committed_and_came_in_order_is_right() {
        assert!(found(&all()).is_empty());
        assert_eq!(Verdict::on(&all(), &ledger()).events, 7);
    }

    #[test]
    fn what_did_not_come_is_lost() {
        let mut seen = all();
        seen.pop();
        assert_eq!(found(&seen), ["lost"]);
        let mut seen = all();
        seen.remove(1);
        assert_eq!(found(&seen), ["lost", "torn"]);
        assert_eq!(Verdict::on(&seen, &ledger()).lost, ["Inserted { writer: 0, number: 2 }"]);
        assert_eq!(found(&all()[..3]), ["lost"]);
    }

    #[test]
    fn what_was_not_committed_is_invented() {
        let mut seen = all();
        let row = Row::Inserted { writer: 0, number: 4 };
        seen.push(Seen {
            message_id: "x".to_owned(),
            place: (40, 1),
            tx_size: 1,
            row,
            ..seen[0].clone()
        });
        assert_eq!(found(&seen), ["invented"]);
    }

    #[test]
    fn what_comes_after_later_ones_is_out_of_order_unless_it_says_why() {
        let mut seen = all();
        seen.swap(5, 6);
        assert_eq!(found(&seen), ["out of order"]);
        seen[6].is_resent = true;
        assert!(found(&seen).is_empty());
        assert_eq!(Verdict::on(&seen, &ledger()).overtaken, 1);
    }

    #[test]
    fn what_comes_again_says_so() {
        let mut seen = all();
        seen.push(seen[6].clone());
        assert_eq!(found(&seen), ["come again without a word of it"]);
        seen[7].is_resent = true;
        assert!(found(&seen).is_empty());
        assert_eq!(Verdict::on(&seen, &ledger()).duplicates, 1);
    }

    #[test]
    fn what_a_frozen_node_had_may_come_behind_its_repetition() {
        let mut seen = all();
        seen.push(seen[6].clone());
        seen[6].is_resent = true;
        assert!(found(&seen).is_empty());
        assert_eq!(Verdict::on(&seen, &ledger()).belated, 1);
        seen.push(seen[7].clone());
        assert_eq!(found(&seen), ["come again without a word of it"]);
    }
}
