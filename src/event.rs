//! What an event is, and its bytes in the WAL.
//!
//! The writing backend encodes an event into the payload of a transactional logical message; the
//! worker decodes it, possibly after an upgrade, so the payload begins with a version. Everything
//! that publishing needs is inside: the worker has no database in which it could look anything up.
//! The rows come as they are stored, for the worker to render, or, where only their database could
//! do that, as a body that is rendered already. Decoding never panics, whatever the bytes.

use std::fmt;
use std::ops::Range;

use crate::lsn::Lsn;

/// Prefix of the logical message that carries an event. The embedded NUL makes it unforgeable: the
/// prefix argument of the SQL function `pg_logical_emit_message` is text, which cannot hold one.
/// The last byte must be NUL too (PostgreSQL's logicalmsg_desc relies on it).
pub const EVENT_PREFIX: &[u8] = b"amqp_cdc\0event\0";

/// Version of the payload's layout that this code writes.
const VERSION: u8 = 1;

/// What follows the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// The body as it stands.
    Body,
    /// [`Images`].
    Images,
}

impl Codec {
    fn code(self) -> u8 {
        match self {
            Codec::Body => 0,
            Codec::Images => 1,
        }
    }

    fn from_code(code: u8) -> Option<Codec> {
        match code {
            0 => Some(Codec::Body),
            1 => Some(Codec::Images),
            _ => None,
        }
    }
}

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

/// One event without its body, as the writing backend emits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventHead {
    /// Command of the transaction that changed the row. A transaction's events are ordered by
    /// (command id, LSN), which is the order of the changes even when triggers nest.
    pub command_id: u32,
    /// LSN of the transaction's first event, or invalid in that first event itself. If it lies
    /// before the WAL that the worker has, the transaction has lost its beginning.
    pub first_lsn: Lsn,
    /// What happened.
    pub operation: Operation,
    /// Exchange to publish to.
    pub exchange: String,
    /// Routing key to publish with.
    pub routing_key: String,
    /// Database in which the change was made.
    pub database: String,
    /// Schema of the table that fired.
    pub schema: String,
    /// The table that fired.
    pub table: String,
    /// Whether bytes of the body that are not valid UTF-8 had to be replaced (SQL_ASCII databases).
    pub lossy: bool,
    /// Bytes of the whole body, if it was too large and this one holds the rows' keys alone.
    pub oversize: Option<u64>,
}

/// What differs between the heads of a trigger's events.
#[derive(Clone, Copy, Debug)]
pub struct HeadStart<'a> {
    pub codec: Codec,
    pub command_id: u32,
    pub first_lsn: Lsn,
    pub operation: Operation,
    pub exchange: &'a str,
    pub lossy: bool,
    pub oversize: Option<u64>,
}

/// One event as the worker reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// All but the body.
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

/// The rows of a change, as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Start of the transaction, in microseconds since 2000-01-01 UTC.
    pub timestamp: i64,
    /// Bytes of the largest body.
    pub limit: usize,
    payload: Vec<u8>,
    shape: Range<usize>,
    given: Range<usize>,
    old: Option<(bool, Range<usize>)>,
    new: Option<(bool, Range<usize>)>,
}

/// One row as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// Whether some of its values are null.
    pub has_nulls: bool,
    /// Its bytes from the bitmap of nulls on.
    pub bytes: &'a [u8],
}

/// What comes between the head and the rows.
#[derive(Clone, Copy, Debug)]
pub struct ImagesStart<'a> {
    pub timestamp: i64,
    pub limit: usize,
    pub shape: &'a [u8],
    pub given: &'a [u8],
    pub old: Option<Image<'a>>,
    pub new: Option<Image<'a>>,
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
            DecodeError::Truncated => write!(f, "event ends too early"),
            DecodeError::NotUtf8 => write!(f, "event holds a name that is not UTF-8"),
        }
    }
}

impl std::error::Error for DecodeError {}

// The fixed part: version, codec, operation, flags, command id, first LSN. Where a flag says so, the
// bytes of the whole body follow; then come the exchange and the names.
const COMMAND_ID: Range<usize> = 4..8;
const FIRST_LSN: Range<usize> = 8..16;
const FIXED: usize = 16;
const FLAG_LOSSY: u8 = 1;
const FLAG_OVERSIZE: u8 = 2;

// Of the images: flags; timestamp, limit, and the lengths of the shape, of the given values and of the
// row before. The shape, the given values and both rows follow.
const FLAG_OLD: u8 = 1;
const FLAG_OLD_NULLS: u8 = 2;
const FLAG_NEW: u8 = 4;
const FLAG_NEW_NULLS: u8 = 8;

impl HeadStart<'_> {
    /// Appends the head's bytes, given those of its names. What it is the head of follows it in the
    /// WAL record as it stands, so that it need not be copied once more.
    pub fn encode_into(&self, names: &EncodedNames, out: &mut Vec<u8>) {
        let mut fixed = [0; FIXED];
        fixed[..COMMAND_ID.start].copy_from_slice(&[
            VERSION,
            self.codec.code(),
            self.operation.code(),
            u8::from(self.lossy) * FLAG_LOSSY + u8::from(self.oversize.is_some()) * FLAG_OVERSIZE,
        ]);
        fixed[COMMAND_ID].copy_from_slice(&self.command_id.to_le_bytes());
        fixed[FIRST_LSN].copy_from_slice(&self.first_lsn.0.to_le_bytes());
        out.extend_from_slice(&fixed);
        if let Some(bytes) = self.oversize {
            out.extend_from_slice(&bytes.to_le_bytes());
        }
        put_text(out, self.exchange);
        out.extend_from_slice(&names.0);
    }
}

/// The names in the head of an event, as bytes.
#[derive(Clone, Debug)]
pub struct EncodedNames(Box<[u8]>);

impl EncodedNames {
    /// Each name is cut off at 65,535 bytes, which is more than PostgreSQL and AMQP allow.
    pub fn new(routing_key: &str, database: &str, schema: &str, table: &str) -> EncodedNames {
        let mut out = Vec::new();
        for text in [routing_key, database, schema, table] {
            put_text(&mut out, text);
        }
        EncodedNames(out.into_boxed_slice())
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

impl EventHead {
    /// Appends the head's bytes; the body is to follow.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let EventHead { command_id, first_lsn, operation, lossy, oversize, .. } = *self;
        let (codec, exchange) = (Codec::Body, self.exchange.as_str());
        let start =
            HeadStart { codec, command_id, first_lsn, operation, exchange, lossy, oversize };
        let names = EncodedNames::new(&self.routing_key, &self.database, &self.schema, &self.table);
        start.encode_into(&names, out);
    }
}

impl ImagesStart<'_> {
    /// Appends all that comes before the given values and the rows, which are to follow: the one
    /// before, then the one after.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let flag = |image: Option<Image<'_>>, is_there: u8, has_nulls: u8| {
            image.map_or(0, |image| is_there + u8::from(image.has_nulls) * has_nulls)
        };
        out.push(
            flag(self.old, FLAG_OLD, FLAG_OLD_NULLS) + flag(self.new, FLAG_NEW, FLAG_NEW_NULLS),
        );
        out.extend_from_slice(&self.timestamp.to_le_bytes());
        let old = self.old.map_or(0, |old| old.bytes.len());
        for number in [self.limit, self.shape.len(), self.given.len(), old] {
            out.extend_from_slice(&(number as u32).to_le_bytes());
        }
        out.extend_from_slice(self.shape);
    }
}

/// The command id of an encoded event, by which a transaction's events are ordered, without
/// decoding the rest. Zero where the payload is too short to be an event.
pub fn command_id(payload: &[u8]) -> u32 {
    payload.get(COMMAND_ID).map_or(0, |b| u32::from_le_bytes(b.try_into().unwrap_or_default()))
}

impl Event {
    /// Decodes a payload, whose memory becomes the content's.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for bytes that this version's encoding did not write.
    pub fn decode(mut payload: Vec<u8>) -> Result<Event, DecodeError> {
        let (head, codec, length) = EventHead::decode(&payload)?;
        let content = match codec {
            Codec::Body => {
                payload.drain(..length);
                Content::Body(payload)
            }
            Codec::Images => Content::Images(Images::decode(payload, length)?),
        };
        Ok(Event { head, content })
    }
}

impl Images {
    fn decode(payload: Vec<u8>, at: usize) -> Result<Images, DecodeError> {
        let mut rest = &payload[at..];
        let [flags] = take_bytes(&mut rest)?;
        let timestamp = i64::from_le_bytes(take_bytes(&mut rest)?);
        let mut number = || take_bytes(&mut rest).map(|bytes| u32::from_le_bytes(bytes) as usize);
        let (limit, shape, given, old) = (number()?, number()?, number()?, number()?);
        let mut end = payload.len() - rest.len();
        let mut range = |length: usize| {
            let start = end;
            end = start.saturating_add(length);
            (end <= payload.len()).then_some(start..end).ok_or(DecodeError::Truncated)
        };
        let (shape, given, old) = (range(shape)?, range(given)?, range(old)?);
        let new = old.end..payload.len();
        let image = |range, is_there: u8, has_nulls: u8| {
            (flags & is_there != 0).then_some((flags & has_nulls != 0, range))
        };
        Ok(Images {
            timestamp,
            limit,
            shape,
            given,
            old: image(old, FLAG_OLD, FLAG_OLD_NULLS),
            new: image(new, FLAG_NEW, FLAG_NEW_NULLS),
            payload,
        })
    }

    /// How the rows are to be rendered.
    pub fn shape(&self) -> &[u8] {
        &self.payload[self.shape.clone()]
    }

    /// Values that are rendered already, of both rows.
    pub fn given(&self) -> &[u8] {
        &self.payload[self.given.clone()]
    }

    /// The row before the change.
    pub fn old_row(&self) -> Option<Image<'_>> {
        self.image(self.old.as_ref())
    }

    /// The row after it.
    pub fn new_row(&self) -> Option<Image<'_>> {
        self.image(self.new.as_ref())
    }

    /// Bytes that the body is likely to take at most: labels come twice, and most values are a little
    /// longer as text.
    pub fn likely_size(&self) -> usize {
        (2 * self.payload.len() + 256).min(self.limit)
    }

    fn image(&self, place: Option<&(bool, Range<usize>)>) -> Option<Image<'_>> {
        place.map(|(has_nulls, range)| Image {
            has_nulls: *has_nulls,
            bytes: &self.payload[range.clone()],
        })
    }
}

impl EventHead {
    /// The head at the front of a payload, what follows it, and how many bytes it takes.
    fn decode(payload: &[u8]) -> Result<(EventHead, Codec, usize), DecodeError> {
        let &version = payload.first().ok_or(DecodeError::Truncated)?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let fixed = payload.get(..FIXED).ok_or(DecodeError::Truncated)?;
        let (codec, operation, flags) = (fixed[1], fixed[2], fixed[3]);
        let codec = Codec::from_code(codec).ok_or(DecodeError::Codec(codec))?;
        let operation = Operation::from_code(operation).ok_or(DecodeError::Operation(operation))?;
        let first_lsn = u64::from_le_bytes(fixed[FIRST_LSN].try_into().unwrap_or_default());
        let mut rest = &payload[FIXED..];
        let oversize = match flags & FLAG_OVERSIZE {
            0 => None,
            _ => Some(u64::from_le_bytes(take_bytes(&mut rest)?)),
        };
        let head = EventHead {
            command_id: command_id(payload),
            first_lsn: Lsn(first_lsn),
            operation,
            exchange: take_text(&mut rest)?,
            routing_key: take_text(&mut rest)?,
            database: take_text(&mut rest)?,
            schema: take_text(&mut rest)?,
            table: take_text(&mut rest)?,
            lossy: flags & FLAG_LOSSY != 0,
            oversize,
        };
        Ok((head, codec, payload.len() - rest.len()))
    }
}

/// Takes so many bytes off the front.
fn take_bytes<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (&bytes, after) = rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
    *rest = after;
    Ok(bytes)
}

/// Takes one length-prefixed text off the front.
fn take_text(rest: &mut &[u8]) -> Result<String, DecodeError> {
    let length = usize::from(u16::from_le_bytes(take_bytes(rest)?));
    let (text, after) = rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
    *rest = after;
    String::from_utf8(text.to_vec()).map_err(|_| DecodeError::NotUtf8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head() -> EventHead {
        EventHead {
            command_id: 7,
            first_lsn: Lsn(0x1234),
            operation: Operation::Update,
            exchange: "pg-messaging".into(),
            routing_key: "cdc.article.update".into(),
            database: "blog".into(),
            schema: "public".into(),
            table: "blog_articles \u{1F980}".into(),
            lossy: true,
            oversize: Some(20_000_000),
        }
    }

    fn payload() -> Vec<u8> {
        let mut bytes = Vec::new();
        head().encode_into(&mut bytes);
        bytes.extend_from_slice(b"{}");
        bytes
    }

    #[test]
    fn comes_back_as_it_was_written() {
        let event = Event::decode(payload()).unwrap();
        assert_eq!(event.head, head());
        assert_eq!(event.content, Content::Body(b"{}".to_vec()));
        assert_eq!(command_id(&payload()), 7);
        let plain = EventHead { lossy: false, oversize: None, ..head() };
        let mut bytes = Vec::new();
        plain.encode_into(&mut bytes);
        assert_eq!(Event::decode(bytes).unwrap().head, plain);
    }

    #[test]
    fn every_operation_has_a_code_of_its_own() {
        for operation in [
            Operation::Insert,
            Operation::Update,
            Operation::Delete,
            Operation::Truncate,
            Operation::Gap,
        ] {
            assert_eq!(Operation::from_code(operation.code()), Some(operation));
        }
        assert_eq!(Operation::from_code(0), None);
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_an_error_and_never_a_panic() {
        let whole = payload();
        let head_length = whole.len() - 2;
        for length in 0..head_length {
            assert_eq!(Event::decode(whole[..length].to_vec()), Err(DecodeError::Truncated));
        }
        for (at, value, error) in [
            (0, 9, DecodeError::Version(9)),
            (1, 9, DecodeError::Codec(9)),
            (2, 9, DecodeError::Operation(9)),
            (FIXED + 8 + 2, 0xFF, DecodeError::NotUtf8),
        ] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            assert_eq!(Event::decode(bytes), Err(error));
        }
        assert_eq!(command_id(&[1, 2, 3]), 0);
    }

    #[test]
    fn the_prefix_cannot_be_given_in_sql() {
        assert!(EVENT_PREFIX[..EVENT_PREFIX.len() - 1].contains(&0));
        assert_eq!(EVENT_PREFIX.last(), Some(&0));
    }

    fn images(head: &EventHead, start: &ImagesStart<'_>) -> Vec<u8> {
        let EventHead { command_id, first_lsn, operation, lossy, oversize, .. } = *head;
        let (codec, exchange) = (Codec::Images, head.exchange.as_str());
        let names = EncodedNames::new(&head.routing_key, &head.database, &head.schema, &head.table);
        let mut bytes = Vec::new();
        HeadStart { codec, command_id, first_lsn, operation, exchange, lossy, oversize }
            .encode_into(&names, &mut bytes);
        start.encode_into(&mut bytes);
        bytes.extend_from_slice(start.given);
        for image in [start.old, start.new].into_iter().flatten() {
            bytes.extend_from_slice(image.bytes);
        }
        bytes
    }

    fn any_head() -> impl Strategy<Value = EventHead> {
        let operation = prop_oneof![
            Just(Operation::Insert),
            Just(Operation::Update),
            Just(Operation::Delete),
            Just(Operation::Truncate),
            Just(Operation::Gap),
        ];
        let numbers = (any::<u32>(), any::<u64>(), any::<Option<u64>>(), any::<bool>());
        let texts = (".{0,80}", ".{0,80}", ".{0,30}", ".{0,30}", ".{0,30}");
        (operation, numbers, texts).prop_map(|(operation, numbers, texts)| EventHead {
            command_id: numbers.0,
            first_lsn: Lsn(numbers.1),
            operation,
            exchange: texts.0,
            routing_key: texts.1,
            database: texts.2,
            schema: texts.3,
            table: texts.4,
            lossy: numbers.3,
            oversize: numbers.2,
        })
    }

    proptest! {
        #[test]
        fn every_event_comes_back_as_it_was_written(
            head in any_head(),
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = Vec::new();
            head.encode_into(&mut bytes);
            bytes.extend_from_slice(&body);
            prop_assert_eq!(command_id(&bytes), head.command_id);
            prop_assert_eq!(Event::decode(bytes), Ok(Event { head, content: Content::Body(body) }));
        }

        #[test]
        fn rows_come_back_as_they_were_written(
            head in any_head(),
            numbers in (any::<i64>(), any::<u32>()),
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 4),
            rows in any::<[Option<bool>; 2]>(),
        ) {
            let image = |n: usize| {
                rows[n].map(|has_nulls| Image { has_nulls, bytes: &parts[2 + n] })
            };
            let (old, new) = (image(0), image(1));
            let start = ImagesStart {
                timestamp: numbers.0,
                limit: numbers.1 as usize,
                shape: &parts[0],
                given: &parts[1],
                old,
                new,
            };
            let bytes = images(&head, &start);
            prop_assert_eq!(command_id(&bytes), head.command_id);
            let event = Event::decode(bytes).unwrap();
            prop_assert_eq!(event.head, head);
            let Content::Images(images) = event.content else { panic!("it is a body") };
            prop_assert_eq!((images.timestamp, images.limit), (start.timestamp, start.limit));
            prop_assert_eq!((images.shape(), images.given()), (start.shape, start.given));
            prop_assert_eq!((images.old_row(), images.new_row()), (old, new));
        }

        #[test]
        fn a_damaged_event_is_an_error_or_another_event_but_never_a_panic(
            head in any_head(),
            damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..8),
            length in any::<usize>(),
        ) {
            let image = Some(Image { has_nulls: true, bytes: b"row" });
            let (shape, given) = (b"shape".as_slice(), b"given".as_slice());
            let (timestamp, limit) = (1, 1);
            let start = ImagesStart { timestamp, limit, shape, given, old: image, new: image };
            let mut bytes = images(&head, &start);
            for (at, value) in damage {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            bytes.truncate(length % (bytes.len() + 1));
            let _ = command_id(&bytes);
            match Event::decode(bytes) {
                Ok(Event { head, content: Content::Body(body) }) => {
                    let mut again = Vec::new();
                    head.encode_into(&mut again);
                    again.extend_from_slice(&body);
                    let content = Content::Body(body);
                    prop_assert_eq!(Event::decode(again), Ok(Event { head, content }));
                }
                Ok(Event { content: Content::Images(images), .. }) => {
                    let _ = (images.shape(), images.given(), images.old_row(), images.new_row());
                }
                Err(_) => {}
            }
        }
    }
}
