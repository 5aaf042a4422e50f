//! What an event is, and its bytes in the WAL.
//!
//! The writing backend encodes an event into the payload of a transactional logical message, and the
//! worker decodes it, possibly after an upgrade. So the payload begins with the version of its layout:
//! [`fields`] is the layout that is written, [`layout_1`] an older one that is still read. An event holds
//! everything that publishing needs: the worker has no database in which it could look anything up. An
//! event holds the rows as they are stored, for the worker to render, or, where only their database can
//! render them, the finished body, or both bodies where it makes two messages; a message of a user's own holds its [`Properties`] and its body. Decoding
//! never panics, whatever the bytes.

mod error;
mod fields;
mod head;
mod highest;
mod images;
mod layout_1;
mod names;
mod operation;
mod properties;
#[cfg(test)]
mod tests;

use std::rc::Rc;

pub use error::DecodeError;
pub use fields::{EncodedNames, HeadStart};
use head::Decoded;
pub use head::{ChangeKey, Codec, EventHead, Second};
pub use highest::Highest;
pub use images::{Image, Images, ImagesStart};
pub use names::Names;
pub use operation::{Half, Operation};
pub use properties::{Properties, PropertiesStart};

use crate::bytes::Reader;
use crate::memory;
use crate::place::Trace;

/// Prefix of the logical message that carries an event. The embedded NUL makes it unforgeable: the
/// prefix argument of the SQL function `pg_logical_emit_message` is text, which cannot hold one.
/// The last byte must be NUL too (PostgreSQL's logicalmsg_desc relies on it).
pub const EVENT_PREFIX: &[u8] = b"amqp_cdc\0event\0";

/// Longest body in bytes. PostgreSQL 15 would write a WAL record that it cannot read again above
/// one gigabyte (xlogreader.c allocates the record with palloc); later versions refuse it.
pub const MAX_BODY: usize = 256 * 1024 * 1024;

/// Longest AMQP short string in bytes: exchange and routing key (AMQP 0-9-1, 4.2.5.3).
pub const MAX_SHORT_STRING: usize = 255;

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
    /// A message of a user's own: what it says of itself, and its body, which is of any kind.
    Message(Box<Properties>, Vec<u8>),
    /// The bodies of two messages: of the delete, and of the insert.
    Bodies(Vec<u8>, Vec<u8>),
}

/// Whether an event with these bytes makes two messages, if it can be read. All that count messages ask here.
pub fn is_split(payload: &[u8]) -> bool {
    matches!(payload, &[fields::VERSION, code, ..] if code == Operation::Split.code())
}

/// The exchange that an event with these bytes goes to, if they can be read.
pub fn exchange_of(payload: &[u8], names: &mut Names) -> Option<Rc<str>> {
    decode_head(payload, names).ok().map(|decoded| decoded.head.exchange)
}

fn decode_head(payload: &[u8], names: &mut Names) -> Result<Decoded, DecodeError> {
    match version(payload)? {
        fields::VERSION => fields::decode(payload, names),
        layout_1::VERSION => layout_1::decode(payload, names),
        other => Err(DecodeError::Version(other)),
    }
}

impl Event {
    /// Decodes a payload; the content takes over its memory. `names` are the names of the events before.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for bytes that this version cannot read.
    pub fn decode(mut payload: Vec<u8>, names: &mut Names) -> Result<Event, DecodeError> {
        let Decoded { head, codec, content_at } = decode_head(&payload, names)?;
        let content = match codec {
            Codec::Body => {
                payload.drain(..content_at);
                Content::Body(payload)
            }
            Codec::Images => Content::Images(Images::decode(payload, content_at)?),
            Codec::Bodies => {
                let mut reader = Reader::new(&payload[content_at..]);
                let length = reader.number().and_then(|length| usize::try_from(length).ok());
                let start = payload.len() - reader.rest().len();
                let end = length.and_then(|length| start.checked_add(length));
                let end = end.filter(|&end| end <= payload.len()).ok_or(DecodeError::Truncated)?;
                let second = memory::copy(&payload[end..]);
                payload.truncate(end);
                payload.drain(..start);
                Content::Bodies(payload, second)
            }
            Codec::Message => {
                let (properties, length) = Properties::decode(&payload[content_at..], names)?;
                payload.drain(..content_at + length);
                Content::Message(Box::new(properties), payload)
            }
        };
        Ok(Event { head, content })
    }
}

impl ChangeKey {
    /// How many messages the event makes.
    pub fn messages(&self) -> usize {
        if self.is_split { 2 } else { 1 }
    }

    /// Returns the key of an encoded event, without decoding the rest. Bytes that are no event get one,
    /// too: they are held when their turn comes.
    pub fn of(payload: &[u8]) -> ChangeKey {
        let key = match version(payload) {
            Ok(layout_1::VERSION) => layout_1::change_key(payload),
            _ => fields::change_key(payload),
        };
        let key = key.unwrap_or(ChangeKey {
            command_id: 0,
            trace: Trace::NewVersion,
            place: None,
            is_of_layout_1: false,
            is_split: false,
        });
        ChangeKey { is_split: is_split(payload), ..key }
    }
}

/// When a message was written that is no transaction's, in microseconds since 2000-01-01 UTC, as far as the bytes
/// tell.
pub fn time_of_message(payload: &[u8]) -> Option<i64> {
    match version(payload) {
        Ok(fields::VERSION) => properties::time(fields::message_content(payload)?),
        _ => None,
    }
}

fn version(payload: &[u8]) -> Result<u8, DecodeError> {
    payload.first().copied().ok_or(DecodeError::Truncated)
}
