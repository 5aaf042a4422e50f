//! What the bodies of a trigger's events have in common, and the same as bytes, for the worker.
//!
//! The bytes: flags; the resource, with its length (u16) ahead; how many columns identify a row (u16)
//! and which of those that are published they are (u16 each); the layout ([`layout`]); if a flag says so, what routing
//! keys are made by, with its length (u16) ahead. In the order of this machine's bytes.

use super::columns::Columns;
use super::entry::{put_bytes, put_number, take_bytes, take_number};
use super::layout::{self, Layout};
use crate::memory;
use crate::routing_key::Pattern;

const FLAG_WITHOUT_PREVIOUS: u8 = 1;
const FLAG_ONLY_CHANGED: u8 = 2;
const FLAG_PATTERN: u8 = 4;

/// What the bodies of a trigger's events have in common.
pub struct Shape {
    /// The columns that are published.
    pub columns: Columns,
    /// Which of them identify a row.
    pub key: Vec<bool>,
    /// The member `targets` that names all columns.
    pub all_targets: Vec<u8>,
    /// Whether `previous` holds no more than what says which row it was, where `current` does not.
    pub without_previous: bool,
    /// Whether `current` holds only what an update changed, and the key, unless it changed that.
    pub only_changed: bool,
}

/// A shape with what else its bytes hold.
pub struct DecodedShape {
    pub shape: Shape,
    pub resource: String,
    pub layout: Layout,
    /// What the routing keys are made by; none if the events hold them.
    pub pattern: Option<Pattern>,
}

impl Shape {
    /// The shape of bodies with these columns.
    pub fn new(
        columns: Columns,
        key: Vec<bool>,
        without_previous: bool,
        only_changed: bool,
    ) -> Shape {
        let all_targets = columns.all_targets();
        Shape { columns, key, all_targets, without_previous, only_changed }
    }

    /// Returns whether there are columns that identify a row.
    pub fn has_key(&self) -> bool {
        self.key.contains(&true)
    }

    /// Returns whether an update that changed these columns changed the key.
    pub fn changes_key(&self, changed: &[bool]) -> bool {
        self.key.iter().zip(changed).any(|(&key, &changed)| key && changed)
    }

    /// The same of what identifies the row, which is all of it where there is no key.
    pub fn changes_identity(&self, changed: &[bool]) -> bool {
        if self.has_key() { self.changes_key(changed) } else { changed.contains(&true) }
    }

    /// Names of the columns that identify a row, as a JSON array.
    pub fn key_names(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let is_key = |&column: &usize| self.key[column];
        self.columns.push_names(is_key, |piece| memory::append(&mut out, piece));
        out
    }

    /// The shape as bytes, given the layout of the table's rows, and what routing keys are made by, if that is needed.
    pub fn encode(&self, resource: &str, layout: &[u8], pattern: Option<&Pattern>) -> Vec<u8> {
        let mut out = vec![
            u8::from(self.without_previous) * FLAG_WITHOUT_PREVIOUS
                + u8::from(self.only_changed) * FLAG_ONLY_CHANGED
                + u8::from(pattern.is_some()) * FLAG_PATTERN,
        ];
        put_bytes(&mut out, resource.as_bytes());
        let key = || (0..self.key.len()).filter(|&column| self.key[column]);
        put_number(&mut out, key().count());
        key().for_each(|column| put_number(&mut out, column));
        memory::append(&mut out, layout);
        if let Some(pattern) = pattern {
            put_bytes(&mut out, pattern.as_bytes());
        }
        out
    }

    /// The shape that the bytes are of. Returns none if they are of none.
    pub fn decode(mut bytes: &[u8]) -> Option<DecodedShape> {
        let rest = &mut bytes;
        let flags = *rest.split_off_first()?;
        let resource = String::from_utf8(memory::copy(take_bytes(rest)?)).ok()?;
        let count = take_number(rest)?;
        let mut key_columns = memory::with_room(count);
        for _ in 0..count {
            key_columns.push(take_number(rest)?);
        }
        let (layout, columns) = layout::decode(rest)?;
        let is_key = |column| key_columns.contains(&column);
        let key = memory::collect((0..columns.count()).map(is_key));
        let without_previous = flags & FLAG_WITHOUT_PREVIOUS != 0;
        let only_changed = flags & FLAG_ONLY_CHANGED != 0;
        let shape = Shape::new(columns, key, without_previous, only_changed);
        let pattern = match flags & FLAG_PATTERN {
            0 => None,
            _ => Some(Pattern::decode(take_bytes(rest)?)?),
        };
        rest.is_empty().then_some(DecodedShape { shape, resource, layout, pattern })
    }
}
