//! The events of one transaction that were not handed out yet. They are in memory, or still in the WAL: then
//! the caller reads each one there and gives it to [`Waiting::load`]. Pure.

use std::iter::Peekable;

use crate::lsn::Lsn;
use crate::wal::committed::{OrderedEvents, RecordedEvent};
use crate::wal::numbers;

/// What is next.
#[derive(Debug, PartialEq, Eq)]
pub enum Peeked {
    /// An event with a payload of so many bytes. [`Waiting::next`] returns it.
    InMemory(usize),
    /// An event whose WAL record begins here. [`Waiting::load`] needs its payload first.
    InWal(Lsn),
}

/// The events that wait, in order.
#[derive(Debug)]
pub enum Waiting {
    /// In memory.
    Kept(std::vec::IntoIter<RecordedEvent>),
    /// In the WAL.
    Spilled {
        /// The first, read from there.
        loaded: Option<RecordedEvent>,
        /// Those after it.
        rest: Peekable<numbers::IntoIter<1>>,
    },
}

impl Waiting {
    /// All events of a transaction.
    pub fn new(events: OrderedEvents) -> Waiting {
        match events {
            OrderedEvents::Kept(events) => Waiting::Kept(events.into_iter()),
            OrderedEvents::Spilled(lsns) => {
                Waiting::Spilled { loaded: None, rest: lsns.into_iter().peekable() }
            }
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        match self {
            Waiting::Kept(events) => events.len(),
            Waiting::Spilled { loaded, rest } => usize::from(loaded.is_some()) + rest.len(),
        }
    }

    /// Passes over the first `count`.
    pub fn skip(&mut self, count: usize) {
        match self {
            Waiting::Kept(events) => events.by_ref().take(count).for_each(drop),
            Waiting::Spilled { rest, .. } => rest.by_ref().take(count).for_each(drop),
        }
    }

    /// What is next, if anything is.
    pub fn peek(&mut self) -> Option<Peeked> {
        let in_memory = |event: &RecordedEvent| Peeked::InMemory(event.payload.len());
        match self {
            Waiting::Kept(events) => events.as_slice().first().map(in_memory),
            Waiting::Spilled { loaded: Some(event), .. } => Some(in_memory(event)),
            Waiting::Spilled { loaded: None, rest } => {
                rest.peek().map(|&[lsn]| Peeked::InWal(Lsn(lsn)))
            }
        }
    }

    /// The payload of the next event, read from the WAL.
    pub fn load(&mut self, payload: Vec<u8>) {
        if let Waiting::Spilled { loaded: loaded @ None, rest } = self
            && let Some([lsn]) = rest.next()
        {
            *loaded = Some(RecordedEvent { lsn: Lsn(lsn), payload });
        }
    }

    /// Takes the next event, if it is in memory.
    pub fn next(&mut self) -> Option<RecordedEvent> {
        match self {
            Waiting::Kept(events) => events.next(),
            Waiting::Spilled { loaded, .. } => loaded.take(),
        }
    }
}
