//! What kind of event it is, and the number that it makes with an LSN or a command id. Pure.

use crate::event::ChangeKey;
use crate::lsn::Lsn;
use crate::place::Trace;

/// What the rules tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Row = 0,
    Truncate = 1,
    Message = 2,
    /// A row whose event makes two messages.
    SplitRow = 3,
}

impl Kind {
    pub fn of(key: ChangeKey) -> Kind {
        match key.trace {
            Trace::NewVersion | Trace::Deletion if key.is_split => Kind::SplitRow,
            Trace::NewVersion | Trace::Deletion => Kind::Row,
            Trace::Storage => Kind::Truncate,
            Trace::Itself => Kind::Message,
        }
    }

    /// The kind and the LSN that were put into one number.
    pub fn from_number(number: u64) -> (Kind, Lsn) {
        let kind = match number & 3 {
            1 => Kind::Truncate,
            2 => Kind::Message,
            3 => Kind::SplitRow,
            _ => Kind::Row,
        };
        (kind, Lsn(number >> 2))
    }

    pub fn with(self, lsn: Lsn) -> u64 {
        lsn.0 << 2 | self as u64
    }

    pub fn is_row(self) -> bool {
        matches!(self, Kind::Row | Kind::SplitRow)
    }

    /// How many messages the event makes.
    pub fn messages(self) -> usize {
        if self == Kind::SplitRow { 2 } else { 1 }
    }
}
