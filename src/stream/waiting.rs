//! The events of one transaction that were not handed out yet. They are in memory, or still in the WAL: then
//! the caller reads each one there and gives it to [`Waiting::load`]. Pure.

use std::iter::Peekable;

use crate::event::{self, Half};
use crate::lsn::Lsn;
use crate::memory;
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

/// The events that wait, in order, each as often as it makes messages.
#[derive(Debug)]
pub struct Waiting {
    events: Events,
    /// Whether what is next is the second message of the event before.
    is_second: bool,
}

#[derive(Debug)]
enum Events {
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

/// An event whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    pub recorded: RecordedEvent,
    /// Which of its messages is to be made, if it makes two.
    pub half: Half,
}

impl Waiting {
    /// All events of a transaction.
    pub fn new(events: OrderedEvents) -> Waiting {
        let events = match events {
            OrderedEvents::Kept(events) => Events::Kept(events.into_iter()),
            OrderedEvents::Spilled(lsns) => {
                Events::Spilled { loaded: None, rest: lsns.into_iter().peekable() }
            }
        };
        Waiting { events, is_second: false }
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        match &self.events {
            Events::Kept(events) => events.len(),
            Events::Spilled { loaded, rest } => usize::from(loaded.is_some()) + rest.len(),
        }
    }

    /// Passes over the first `count` messages.
    pub fn skip(&mut self, count: usize) {
        for _ in 0..count {
            match &mut self.events {
                Events::Kept(_) => drop(self.next()),
                Events::Spilled { rest, .. } => {
                    let passed = rest.next();
                    self.is_second = passed.is_some() && rest.peek() == passed.as_ref();
                }
            }
        }
    }

    /// What is next, if anything is.
    pub fn peek(&mut self) -> Option<Peeked> {
        let in_memory = |event: &RecordedEvent| Peeked::InMemory(event.payload.len());
        match &mut self.events {
            Events::Kept(events) => events.as_slice().first().map(|event| {
                // There was no memory for a copy.
                let is_bare = self.is_second && event.payload.is_empty();
                if is_bare { Peeked::InWal(event.lsn) } else { in_memory(event) }
            }),
            Events::Spilled { loaded: Some(event), .. } => Some(in_memory(event)),
            Events::Spilled { loaded: None, rest } => {
                rest.peek().map(|&[lsn]| Peeked::InWal(Lsn(lsn)))
            }
        }
    }

    /// The payload of the next event, read from the WAL.
    pub fn load(&mut self, payload: Vec<u8>) {
        match &mut self.events {
            Events::Kept(events) => {
                if let Some(event) = events.as_mut_slice().first_mut()
                    && event.payload.is_empty()
                {
                    event.payload = payload;
                }
            }
            Events::Spilled { loaded: loaded @ None, rest } => {
                if let Some([lsn]) = rest.next() {
                    *loaded = Some(RecordedEvent { lsn: Lsn(lsn), payload });
                }
            }
            Events::Spilled { loaded: Some(_), .. } => {}
        }
    }

    /// As if there had been no memory for the next.
    #[cfg(test)]
    pub fn forget_next(&mut self) {
        if let Events::Kept(events) = &mut self.events {
            events.as_mut_slice()[0].payload.clear();
        }
    }

    /// Takes the next event, if it is in memory.
    pub fn next(&mut self) -> Option<Taken> {
        let half = if self.is_second { Half::Insert } else { Half::Delete };
        let recorded = match &mut self.events {
            Events::Kept(events) => {
                let event = events.next()?;
                self.is_second = !self.is_second && event::is_split(&event.payload);
                if self.is_second
                    && let Some(again) = events.as_mut_slice().first_mut()
                {
                    again.payload = memory::try_copy(&event.payload).unwrap_or_default();
                }
                event
            }
            Events::Spilled { loaded, rest } => {
                let event = loaded.take()?;
                self.is_second = rest.peek() == Some(&[event.lsn.0]);
                event
            }
        };
        Some(Taken { recorded, half })
    }
}
