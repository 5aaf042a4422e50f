//! An event without its content, and its place among the events of its transaction. Pure.

use std::rc::Rc;

use super::operation::Operation;
use crate::lsn::Lsn;
use crate::place::{Place, Trace};

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
    /// Routing key to publish with; of an event that makes two messages, that of the first. Empty where the worker
    /// makes it of the rows.
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
    /// What the second message says otherwise, if the event makes two of which the bodies are rendered.
    pub second: Option<Second>,
}

/// What the second of two messages says otherwise than the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Second {
    pub routing_key: Rc<str>,
    /// As [`EventHead::oversize`].
    pub oversize: Option<u64>,
}

impl EventHead {
    /// A head with nothing else in it.
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
            second: None,
        }
    }
}

/// Which content follows the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// The body as it stands.
    Body,
    /// [`Images`].
    Images,
    /// [`Properties`](super::Properties), and the body.
    Message,
    /// The bodies of two messages, as they stand.
    Bodies,
}

/// A head, the kind of the content that follows it, and where that begins.
pub(super) struct Decoded {
    pub(super) head: EventHead,
    pub(super) codec: Codec,
    pub(super) content_at: usize,
}

/// What decides the place of an event among those of its transaction ([`crate::wal::order`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeKey {
    /// Command of the transaction that made the change.
    pub command_id: u32,
    /// What the change left in the WAL.
    pub trace: Trace,
    /// Where the change left its trace, if the event says so.
    pub place: Option<Place>,
    /// Whether the event is of layout 1, which could not say where: then the events are in the order of their
    /// commands, and of their LSNs within a command.
    pub is_of_layout_1: bool,
    /// Whether the event makes two messages.
    pub is_split: bool,
}
