//! What an event is, and its bytes in the WAL.
//!
//! The writing backend encodes an event into the payload of a transactional logical message; the
//! worker decodes it, possibly after an upgrade, so the payload begins with the version of its layout
//! ([`fields`] is the one that is written, [`layout_1`] an older one that is read). Everything that
//! publishing needs is inside: the worker has no database in which it could look anything up.
//! The rows come as they are stored, for the worker to render, or, where only their database could
//! do that, as a body that is rendered already. Decoding never panics, whatever the bytes.

mod fields;
mod highest;
mod images;
mod layout_1;
mod names;
#[cfg(test)]
mod tests;

use std::fmt;
use std::rc::Rc;

use crate::lsn::Lsn;
use crate::place::{Place, Trace};
pub use fields::{EncodedNames, HeadStart};
pub use highest::Highest;
pub use images::{Image, Images, ImagesStart};
pub use names::Names;

/// Prefix of the logical message that carries an event. The embedded NUL makes it unforgeable: the
/// prefix argument of the SQL function `pg_logical_emit_message` is text, which cannot hold one.
/// The last byte must be NUL too (PostgreSQL's logicalmsg_desc relies on it).
pub const EVENT_PREFIX: &[u8] = b"amqp_cdc\0event\0";

/// Longest body in bytes. PostgreSQL 15 would write a WAL record that it cannot read again above
/// one gigabyte (xlogreader.c allocates the record with palloc); later versions refuse it.
pub const MAX_BODY: usize = 256 * 1024 * 1024;

/// Longest AMQP short string in bytes: exchange and routing key (AMQP 0-9-1, 4.2.5.3).
pub const MAX_SHORT_STRING: usize = 255;

/// What happened to the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Insert,
    Update,
    Delete,
    Truncate,
    /// Not a change: events may be missing before this one. Only the worker makes these, and never
    /// writes them into the WAL.
    Gap,
}

impl Operation {
    /// The word for it in routing keys, bodies and the AMQP property `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Truncate => "truncate",
            Operation::Gap => "gap",
        }
    }

    fn code(self) -> u8 {
        match self {
            Operation::Insert => 1,
            Operation::Update => 2,
            Operation::Delete => 3,
            Operation::Truncate => 4,
            Operation::Gap => 5,
        }
    }

    fn from_code(code: u8) -> Option<Operation> {
        match code {
            1 => Some(Operation::Insert),
            2 => Some(Operation::Update),
            3 => Some(Operation::Delete),
            4 => Some(Operation::Truncate),
            5 => Some(Operation::Gap),
            _ => None,
        }
    }
}

/// One event without its content, as the worker reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventHead {
    /// Command of the transaction that changed the row.
    pub command_id: u32,
    /// LSN of the transaction's first event, or invalid in that first event itself. If it lies
    /// before the WAL that the worker has, the transaction has lost its beginning.
    pub first_lsn: Lsn,
    /// Where the change left its trace in the WAL. Only a late event says so, one that was written after
    /// the event of a later command ([`crate::wal::order`]).
    pub place: Option<Place>,
    /// What happened.
    pub operation: Operation,
    /// Exchange to publish to.
    pub exchange: Rc<str>,
    /// Routing key to publish with.
    pub routing_key: Rc<str>,
    /// Database in which the change was made.
    pub database: Rc<str>,
    /// Schema of the table that fired.
    pub schema: Rc<str>,
    /// The table that fired.
    pub table: Rc<str>,
    /// Whether bytes of the body that are not valid UTF-8 had to be replaced (SQL_ASCII databases).
    pub lossy: bool,
    /// Bytes of the whole body, if it was too large and this one holds the rows' keys alone.
    pub oversize: Option<u64>,
    /// Names of the columns that identify the rows of a large body, as a JSON array.
    pub key: Option<Rc<String>>,
}

/// One event as the worker reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// All but the content.
    pub head: EventHead,
    /// The body, or what it is made of.
    pub content: Content,
}

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The message body: UTF-8 JSON.
    Body(Vec<u8>),
    /// The rows, to be rendered.
    Images(Images),
}

/// Which content follows the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// The body as it stands.
    Body,
    /// [`Images`].
    Images,
}

/// What tells an event's place among those of its transaction ([`crate::wal::order`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeKey {
    /// Command of the transaction that made the change.
    pub command_id: u32,
    /// What the change left in the WAL.
    pub trace: Trace,
    /// Where it left that, if the event says so.
    pub place: Option<Place>,
    /// Whether the event is of the layout that could not say so: such a transaction's events keep the order
    /// that they had then, by command and LSN.
    pub is_of_layout_1: bool,
}

/// Why a payload is not an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Written by another version of the extension.
    Version(u8),
    /// Content in an encoding this version does not know.
    Codec(u8),
    /// Operation this version does not know.
    Operation(u8),
    /// A field that this version does not know and must not pass over.
    Field(u8),
    /// The payload ends too early.
    Truncated,
    /// A name is not UTF-8.
    NotUtf8,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Version(v) => write!(f, "event version {v} is unknown"),
            DecodeError::Codec(c) => write!(f, "codec {c} is unknown"),
            DecodeError::Operation(o) => write!(f, "operation code {o} is unknown"),
            DecodeError::Field(tag) => write!(f, "field {tag} is unknown"),
            DecodeError::Truncated => write!(f, "event ends too early"),
            DecodeError::NotUtf8 => write!(f, "event holds a name that is not UTF-8"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl EventHead {
    /// One that says no more than this.
    pub fn new(operation: Operation, command_id: u32) -> EventHead {
        EventHead {
            command_id,
            first_lsn: Lsn::INVALID,
            place: None,
            operation,
            exchange: Rc::default(),
            routing_key: Rc::default(),
            database: Rc::default(),
            schema: Rc::default(),
            table: Rc::default(),
            lossy: false,
            oversize: None,
            key: None,
        }
    }
}

/// A head, which content comes behind it, and where that begins.
struct Decoded {
    head: EventHead,
    codec: Codec,
    content_at: usize,
}

impl Event {
    /// Decodes a payload, whose memory becomes the content's. `names` are those of the events before.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for bytes that this version cannot read.
    pub fn decode(mut payload: Vec<u8>, names: &mut Names) -> Result<Event, DecodeError> {
        let Decoded { head, codec, content_at } = match version(&payload)? {
            fields::VERSION => fields::decode(&payload, names)?,
            layout_1::VERSION => layout_1::decode(&payload, names)?,
            other => return Err(DecodeError::Version(other)),
        };
        let content = match codec {
            Codec::Body => {
                payload.drain(..content_at);
                Content::Body(payload)
            }
            Codec::Images => Content::Images(Images::decode(payload, content_at)?),
        };
        Ok(Event { head, content })
    }
}

impl ChangeKey {
    /// The key of an encoded event, without decoding the rest. Bytes that are no event have one, too:
    /// the event is held when its turn comes.
    pub fn of(payload: &[u8]) -> ChangeKey {
        let key = match version(payload) {
            Ok(layout_1::VERSION) => layout_1::change_key(payload),
            _ => fields::change_key(payload),
        };
        key.unwrap_or(ChangeKey {
            command_id: 0,
            trace: Trace::NewVersion,
            place: None,
            is_of_layout_1: false,
        })
    }
}

fn version(payload: &[u8]) -> Result<u8, DecodeError> {
    payload.first().copied().ok_or(DecodeError::Truncated)
}

/// What a change with this operation code leaves in the WAL. One that is not known is held when its turn
/// comes; its place among the others is that of a row.
fn trace_of(operation: u8) -> Trace {
    match Operation::from_code(operation) {
        Some(Operation::Delete) => Trace::Deletion,
        Some(Operation::Truncate) => Trace::Storage,
        Some(Operation::Insert | Operation::Update | Operation::Gap) | None => Trace::NewVersion,
    }
}
