//! An event's bytes as they are written: a fixed head, then fields in any order, then the content.
//!
//! | | bytes |
//! |---|---|
//! | head | version (2), operation, command id (u32), LSN of the transaction's first event (u64) |
//! | field | tag, length ([`crate::bytes::put_number`]), that many bytes |
//! | content | tag, then all that follows |
//!
//! Numbers have their lowest byte first. A field that is missing has its default. New fields get tags of
//! their own. A reader that does not know a tag passes the field over if the tag says that it
//! [may be ignored](MAY_BE_IGNORED), and holds the event otherwise.

use std::rc::Rc;

use super::error::DecodeError;
use super::head::{ChangeKey, Codec, Decoded, EventHead, Second};
use super::names::Names;
use super::operation::{Operation, trace_of};
use crate::bytes::{Reader, put_number};
use crate::lsn::Lsn;
use crate::memory;
use crate::place::Place;

/// Version of this layout.
pub(super) const VERSION: u8 = 2;

/// Bytes of the head.
pub(super) const HEAD: usize = 14;

// The tags of fields.
const PLACE: u8 = 1;
const EXCHANGE: u8 = 2;
const ROUTING_KEY: u8 = 3;
const DATABASE: u8 = 4;
const SCHEMA: u8 = 5;
const TABLE: u8 = 6;
const LOSSY: u8 = 7;
const OVERSIZE: u8 = 8;
const KEY: u8 = 9 | MAY_BE_IGNORED;
const SECOND_ROUTING_KEY: u8 = 10;
const SECOND_OVERSIZE: u8 = 11;

// The tags of contents.
const BODY: u8 = 0x40;
const IMAGES: u8 = 0x41;
const MESSAGE: u8 = 0x42;
const BODIES: u8 = 0x43;

/// The bit of a tag that says that a field may be ignored.
pub(super) const MAY_BE_IGNORED: u8 = 0x80;

/// What differs between the heads of a trigger's events.
#[derive(Clone, Copy, Debug)]
pub struct HeadStart<'a> {
    pub codec: Codec,
    pub command_id: u32,
    pub first_lsn: Lsn,
    pub place: Option<Place>,
    pub operation: Operation,
    pub exchange: &'a str,
    pub lossy: bool,
    pub oversize: Option<u64>,
    /// Names of the columns that identify the rows, as a JSON array; only with a large body.
    pub key: Option<&'a [u8]>,
    /// The routing key, where the names do not hold it.
    pub made: Option<&'a str>,
    /// The routing key of the second message, if the event makes two, and [`HeadStart::oversize`] of that.
    pub second: Option<(&'a str, Option<u64>)>,
}

/// The names in an event, as fields.
#[derive(Clone, Debug)]
pub struct EncodedNames(Box<[u8]>);

impl EncodedNames {
    /// The fields of a message's names: it is of no table.
    pub fn of_message(routing_key: &str, database: &str) -> EncodedNames {
        let mut out = Vec::new();
        put_field(&mut out, ROUTING_KEY, routing_key.as_bytes());
        put_field(&mut out, DATABASE, database.as_bytes());
        EncodedNames(out.into_boxed_slice())
    }

    /// The fields of a table's names.
    pub fn of_table(database: &str, schema: &str, table: &str) -> EncodedNames {
        let mut out = Vec::new();
        for (tag, name) in [(DATABASE, database), (SCHEMA, schema), (TABLE, table)] {
            put_field(&mut out, tag, name.as_bytes());
        }
        EncodedNames(out.into_boxed_slice())
    }

    /// The fields of these names.
    pub fn new(routing_key: &str, database: &str, schema: &str, table: &str) -> EncodedNames {
        let mut out = Vec::new();
        let names =
            [(ROUTING_KEY, routing_key), (DATABASE, database), (SCHEMA, schema), (TABLE, table)];
        for (tag, name) in names {
            put_field(&mut out, tag, name.as_bytes());
        }
        EncodedNames(out.into_boxed_slice())
    }
}

impl HeadStart<'_> {
    /// Appends all of an event but its content. The content follows in the WAL record from where it is, so
    /// that it is not copied once more.
    pub fn encode_into(&self, names: &EncodedNames, out: &mut Vec<u8>) {
        let mut head = [VERSION; HEAD];
        head[1] = self.operation.code();
        head[2..6].copy_from_slice(&self.command_id.to_le_bytes());
        head[6..].copy_from_slice(&self.first_lsn.0.to_le_bytes());
        memory::append(out, &head);
        if let Some(place) = self.place {
            put_field(out, PLACE, &place.to_bytes());
        }
        put_field(out, EXCHANGE, self.exchange.as_bytes());
        memory::append(out, &names.0);
        if let Some(routing_key) = self.made {
            put_field(out, ROUTING_KEY, routing_key.as_bytes());
        }
        if let Some((routing_key, oversize)) = self.second {
            put_field(out, SECOND_ROUTING_KEY, routing_key.as_bytes());
            if let Some(bytes) = oversize {
                put_field(out, SECOND_OVERSIZE, &bytes.to_le_bytes());
            }
        }
        if self.lossy {
            put_field(out, LOSSY, &[]);
        }
        if let Some(bytes) = self.oversize {
            put_field(out, OVERSIZE, &bytes.to_le_bytes());
        }
        if let Some(key) = self.key {
            put_field(out, KEY, key);
        }
        let tag = match self.codec {
            Codec::Body => BODY,
            Codec::Images => IMAGES,
            Codec::Message => MESSAGE,
            Codec::Bodies => BODIES,
        };
        memory::push(out, tag);
    }
}

impl EventHead {
    /// Appends all of an event but its body. The caller appends that.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let EventHead { command_id, first_lsn, place, operation, lossy, oversize, .. } = *self;
        let start = HeadStart {
            codec: Codec::Body,
            command_id,
            first_lsn,
            place,
            operation,
            exchange: &self.exchange,
            lossy,
            oversize,
            key: self.key.as_ref().map(|key| key.as_bytes()),
            made: None,
            second: self.second.as_ref().map(|second| (&*second.routing_key, second.oversize)),
        };
        let names = EncodedNames::new(&self.routing_key, &self.database, &self.schema, &self.table);
        start.encode_into(&names, out);
    }
}

pub(super) fn put_field(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    memory::push(out, tag);
    put_number(out, value.len() as u64);
    memory::append(out, value);
}

/// A field, or the content that ends them.
enum Part<'a> {
    Field(u8, &'a [u8]),
    Content(Codec),
}

/// Takes the next part. Returns None if the bytes end too early.
fn take_part<'a>(reader: &mut Reader<'a>) -> Option<Part<'a>> {
    Some(match reader.byte()? {
        BODY => Part::Content(Codec::Body),
        IMAGES => Part::Content(Codec::Images),
        MESSAGE => Part::Content(Codec::Message),
        BODIES => Part::Content(Codec::Bodies),
        tag => {
            let length = usize::try_from(reader.number()?).ok()?;
            Part::Field(tag, reader.bytes(length)?)
        }
    })
}

/// Decodes everything up to the content, of a payload of this version.
pub(super) fn decode(payload: &[u8], names: &mut Names) -> Result<Decoded, DecodeError> {
    let mut reader = Reader::new(payload);
    let [_, operation] = reader.array().ok_or(DecodeError::Truncated)?;
    let command_id = reader.u32().ok_or(DecodeError::Truncated)?;
    let first_lsn = Lsn(reader.u64().ok_or(DecodeError::Truncated)?);
    let operation = Operation::from_code(operation).ok_or(DecodeError::Operation(operation))?;
    let mut head = EventHead { first_lsn, ..EventHead::new(operation, command_id) };
    loop {
        match take_part(&mut reader).ok_or(DecodeError::Truncated)? {
            Part::Field(tag, value) => head.take_field(tag, value, names)?,
            Part::Content(codec) => {
                let content_at = payload.len() - reader.rest().len();
                return Ok(Decoded { head, codec, content_at });
            }
        }
    }
}

impl EventHead {
    fn take_field(&mut self, tag: u8, value: &[u8], names: &mut Names) -> Result<(), DecodeError> {
        match tag {
            PLACE => self.place = Some(Place::from_bytes(value).ok_or(DecodeError::Truncated)?),
            EXCHANGE => self.exchange = names.name(value)?,
            ROUTING_KEY => self.routing_key = names.name(value)?,
            DATABASE => self.database = names.name(value)?,
            SCHEMA => self.schema = names.name(value)?,
            TABLE => self.table = names.name(value)?,
            LOSSY => self.lossy = true,
            OVERSIZE => {
                self.oversize = Some(Reader::new(value).u64().ok_or(DecodeError::Truncated)?);
            }
            SECOND_ROUTING_KEY => {
                let routing_key = names.name(value)?;
                self.second = Some(Second { routing_key, oversize: None });
            }
            SECOND_OVERSIZE => {
                let second = self.second.as_mut().ok_or(DecodeError::Field(tag))?;
                second.oversize = Some(Reader::new(value).u64().ok_or(DecodeError::Truncated)?);
            }
            KEY => {
                let names = std::str::from_utf8(value).map_err(|_| DecodeError::NotUtf8)?;
                self.key = Some(Rc::new(memory::text(names)));
            }
            tag if tag & MAY_BE_IGNORED != 0 => {}
            tag => return Err(DecodeError::Field(tag)),
        }
        Ok(())
    }
}

/// Returns the event's key, as far as the bytes tell, or None if they end within the head.
pub(super) fn change_key(payload: &[u8]) -> Option<ChangeKey> {
    let mut reader = Reader::new(payload);
    let [_, operation] = reader.array()?;
    let command_id = reader.u32()?;
    reader.u64()?;
    let mut place = None;
    while let Some(Part::Field(tag, value)) = take_part(&mut reader) {
        if tag == PLACE {
            place = Place::from_bytes(value);
        }
    }
    let trace = trace_of(operation);
    Some(ChangeKey { command_id, trace, place, is_of_layout_1: false, is_split: false })
}

/// The content of a message, from the fields of its own on. Returns None for any other payload.
pub(super) fn message_content(payload: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(payload.get(HEAD..)?);
    loop {
        match take_part(&mut reader)? {
            Part::Content(Codec::Message) => return Some(reader.rest()),
            Part::Content(_) => return None,
            Part::Field(..) => {}
        }
    }
}
