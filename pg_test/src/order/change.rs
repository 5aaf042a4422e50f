//! One change of a row, one TRUNCATE of one table, or one message of a user's own, as both sides tell it: PostgreSQL
//! through `test_decoding`, and we in our messages. Both are brought into this one form, so that they can be compared
//! and applied.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use serde_json::Value;

/// A row: its columns without the nulls, which `test_decoding` leaves out of old rows.
pub(super) type Row = BTreeMap<String, String>;

/// Where a table's name would stand.
pub(super) const MESSAGE: &str = "message";

/// What is done to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Insert,
    Update,
    Delete,
    Truncate,
    /// Not done to a table: see [`Change::message`].
    Message,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Change {
    /// With its schema.
    pub table: String,
    /// Tells the messages of two capture triggers on one table apart.
    pub resource: String,
    pub operation: Operation,
    pub old: Option<Row>,
    pub new: Option<Row>,
}

/// The changes of a transaction, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    pub xid: u32,
    pub schema: String,
    pub changes: Vec<Change>,
}

impl Operation {
    /// By its name in any case.
    pub fn named(name: &str) -> Option<Operation> {
        match name.to_ascii_lowercase().as_str() {
            "insert" => Some(Operation::Insert),
            "update" => Some(Operation::Update),
            "delete" => Some(Operation::Delete),
            "truncate" => Some(Operation::Truncate),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Truncate => "truncate",
            Operation::Message => "message",
        }
    }
}

impl Change {
    /// A message of a user's own that a session with this schema sent.
    pub fn message(schema: &str, body: &str) -> Change {
        Change {
            table: format!("{schema}.{MESSAGE}"),
            resource: MESSAGE.to_owned(),
            operation: Operation::Message,
            old: None,
            new: Some([("body".to_owned(), body.to_owned())].into()),
        }
    }
}

/// The row that a member of a message's body is.
pub(super) fn row(member: &Value) -> Option<Row> {
    let columns = member.as_object()?.iter();
    let columns = columns.filter(|(_, value)| !value.is_null());
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Some(columns.map(|(name, value)| (name.clone(), text(value))).collect())
}

/// The schema of a table's full name.
pub(super) fn schema_of(table: &str) -> &str {
    table.split_once('.').map_or(table, |(schema, _)| schema)
}

/// The name of a table without its schema.
pub(super) fn bare(table: &str) -> &str {
    table.split_once('.').map_or(table, |(_, name)| name)
}

impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let table = bare(&self.table);
        write!(f, "{} {table}", self.operation.name())?;
        if self.resource != table {
            write!(f, " as {}", self.resource)?;
        }
        write_row(f, " ", &self.old)?;
        write_row(f, if self.old.is_some() { " -> " } else { " " }, &self.new)
    }
}

fn write_row(f: &mut Formatter<'_>, before: &str, row: &Option<Row>) -> fmt::Result {
    let Some(row) = row else { return Ok(()) };
    let columns: Vec<_> = row.iter().map(|(name, value)| format!("{name}={value}")).collect();
    write!(f, "{before}({})", columns.join(" "))
}
