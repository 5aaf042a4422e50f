//! What `test_decoding` says: its lines, taken apart. It prints the heap records of a transaction in
//! the order in which they stand in the WAL, which is the order of the changes. Of our own messages it says nothing:
//! right before each of them the function `told` has PostgreSQL write one with the same body, which it prints at the end
//! of that one's record, where ours begins.

use super::change::{Change, Operation, Row, schema_of};

/// One line: a row's change, all tables that one TRUNCATE emptied, or a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub tables: Vec<String>,
    pub operation: Operation,
    pub old: Option<Row>,
    pub new: Option<Row>,
}

/// A transaction that committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    pub xid: u32,
    pub lines: Vec<Line>,
}

impl Decoded {
    /// The schema that its first change is in.
    pub fn schema(&self) -> &str {
        self.lines.first().map_or("", |line| schema_of(&line.tables[0]))
    }
}

/// The transactions that these lines are, in commit order.
///
/// # Panics
/// If a line is not what `test_decoding` prints.
#[track_caller]
pub(super) fn transactions(lines: &[String]) -> Vec<Decoded> {
    let mut transactions: Vec<Decoded> = Vec::new();
    for text in lines {
        if let Some(xid) = text.strip_prefix("BEGIN ") {
            let xid = xid.parse().unwrap_or_else(|_| panic!("no xid: {text}"));
            transactions.push(Decoded { xid, lines: Vec::new() });
        } else if !text.starts_with("COMMIT") {
            let line = line(text).unwrap_or_else(|| panic!("not understood: {text}"));
            transactions.last_mut().expect("changes come after BEGIN").lines.push(line);
        }
    }
    transactions
}

/// `table s.t: UPDATE: old-key: … new-tuple: …`, `table s.t, s.u: TRUNCATE: …`,
/// `message: transactional: 1 prefix: s, sz: 2 content:m5`
fn line(text: &str) -> Option<Line> {
    if let Some(message) = text.strip_prefix("message: transactional: 1 prefix: ") {
        let (schema, rest) = message.split_once(", sz: ")?;
        let (_, body) = rest.split_once(" content:")?;
        let Change { table, operation, old, new, .. } = Change::message(schema, body);
        return Some(Line { tables: vec![table], operation, old, new });
    }
    let (tables, rest) = text.strip_prefix("table ")?.split_once(": ")?;
    let tables: Vec<String> = tables.split(", ").map(str::to_owned).collect();
    let (name, columns) = rest.split_once(": ")?;
    let operation = Operation::named(name)?;
    let (old, new) = match operation {
        Operation::Insert => (None, Some(row(columns)?)),
        Operation::Delete => (Some(row(columns)?), None),
        Operation::Update => {
            let columns = columns.strip_prefix("old-key: ")?;
            // No value that tests write holds these words.
            let (old, new) = columns.split_once(" new-tuple: ")?;
            (Some(row(old)?), Some(row(new)?))
        }
        Operation::Truncate => (None, None),
        Operation::Message => return None,
    };
    Some(Line { tables, operation, old, new })
}

/// `id[integer]:1 v[text]:'it''s' n[integer]:null`
fn row(mut text: &str) -> Option<Row> {
    let mut row = Row::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once('[')?;
        let (_, rest) = rest.split_once("]:")?;
        let (value, rest) = match rest.strip_prefix('\'') {
            Some(quoted) => {
                let (value, rest) = unquoted(quoted)?;
                (Some(value), rest)
            }
            None => {
                let (value, rest) = rest.split_at(rest.find(' ').unwrap_or(rest.len()));
                ((value != "null").then(|| value.to_owned()), rest)
            }
        };
        row.extend(value.map(|value| (name.to_owned(), value)));
        text = rest.trim_start();
    }
    Some(row)
}

/// The value up to the closing quote, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('\'')?;
        value.push_str(part);
        match after.strip_prefix('\'') {
            Some(after) => {
                value.push('\'');
                rest = after;
            }
            None => return Some((value, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(columns: &[(&str, &str)]) -> Option<Row> {
        Some(
            columns.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        )
    }

    #[test]
    fn lines_are_taken_apart() {
        let lines = [
            "BEGIN 7",
            "table s.a: INSERT: id[integer]:1 n[integer]:null v[text]:'it''s [x]: y'",
            "table s.a: UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:-2 v[text]:''",
            "table s.a: DELETE: id[integer]:1",
            "message: transactional: 1 prefix: s, sz: 2 content:m5",
            "table s.a, s.b: TRUNCATE: (no-flags)",
            "COMMIT 7",
        ];
        let transactions = transactions(&lines.map(str::to_owned));
        assert_eq!(transactions.len(), 1);
        assert_eq!((transactions[0].xid, transactions[0].schema()), (7, "s"));
        let [insert, update, delete, message, truncate] = &transactions[0].lines[..] else {
            panic!("five lines, not {transactions:?}")
        };
        assert_eq!(insert.new, given(&[("id", "1"), ("v", "it's [x]: y")]));
        assert_eq!(update.old, given(&[("id", "1")]));
        assert_eq!(update.new, given(&[("id", "-2"), ("v", "")]));
        assert_eq!((&delete.old, &delete.new), (&given(&[("id", "1")]), &None));
        assert_eq!(
            (message.operation, &message.new),
            (Operation::Message, &given(&[("body", "m5")]))
        );
        assert_eq!(message.tables, ["s.message"]);
        assert_eq!(truncate.tables, ["s.a", "s.b"]);
    }
}
