//! What happened: to a row, or that a user has something to say. Pure.

use crate::place::Trace;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Insert,
    Update,
    Delete,
    Truncate,
    /// A row was changed so that its routing key is another one: to consumers that is a delete, and an insert
    /// ([`Half`]).
    Split,
    /// Not a change: a message of a user's own.
    Published,
    /// Not a change either, to consumers: a row that is a message of a user's own was inserted. It stands where any
    /// other row's event would stand.
    PublishedRow,
    /// Not a change: events may be missing before this one. Only the worker makes these, and never
    /// writes them into the WAL.
    Gap,
    /// Likewise: another server has taken the stream over, on a timeline of its own.
    Timeline,
}

impl Operation {
    /// Whether it is a change of a row, or of a table's rows.
    pub fn is_change(self) -> bool {
        !matches!(self, Operation::Published | Operation::PublishedRow) && !self.is_notice()
    }

    /// Whether it tells of the stream itself.
    pub fn is_notice(self) -> bool {
        matches!(self, Operation::Gap | Operation::Timeline)
    }

    /// What it leaves in the WAL.
    pub fn trace(self) -> Trace {
        match self {
            Operation::Delete => Trace::Deletion,
            Operation::Truncate => Trace::Storage,
            Operation::Published => Trace::Itself,
            Operation::Insert
            | Operation::Update
            | Operation::Split
            | Operation::PublishedRow
            | Operation::Gap
            | Operation::Timeline => Trace::NewVersion,
        }
    }

    /// The word for it in routing keys, bodies and the AMQP property `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Insert => "insert",
            Operation::Update | Operation::Split => "update",
            Operation::Delete => "delete",
            Operation::Truncate => "truncate",
            Operation::Published | Operation::PublishedRow => "message",
            Operation::Gap => "gap",
            Operation::Timeline => "timeline",
        }
    }

    /// The byte for it.
    pub(super) fn code(self) -> u8 {
        match self {
            Operation::Insert => 1,
            Operation::Update => 2,
            Operation::Delete => 3,
            Operation::Truncate => 4,
            Operation::Gap => 5,
            Operation::Published => 6,
            Operation::Timeline => 8,
            Operation::Split => 9,
            Operation::PublishedRow => 10,
        }
    }

    /// The inverse of [`Operation::code`].
    pub(super) fn from_code(code: u8) -> Option<Operation> {
        match code {
            1 => Some(Operation::Insert),
            2 => Some(Operation::Update),
            3 => Some(Operation::Delete),
            4 => Some(Operation::Truncate),
            5 => Some(Operation::Gap),
            6 => Some(Operation::Published),
            8 => Some(Operation::Timeline),
            9 => Some(Operation::Split),
            10 => Some(Operation::PublishedRow),
            _ => None,
        }
    }
}

/// A message of an event that makes two: first the row leaves its old routing key, then it comes to the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Delete,
    Insert,
}

impl Half {
    /// What happened, as this message has it.
    pub fn operation(self) -> Operation {
        match self {
            Half::Delete => Operation::Delete,
            Half::Insert => Operation::Insert,
        }
    }
}

/// Returns what a change with this operation code leaves in the WAL. An event with an unknown code is held when
/// its turn comes; its place among the others is that of a row.
pub(super) fn trace_of(operation: u8) -> Trace {
    Operation::from_code(operation).map_or(Trace::NewVersion, Operation::trace)
}
