//! What an event is, and its bytes in the WAL.
//!
//! The writing backend encodes an event into the payload of a transactional logical message; the
//! worker decodes it, possibly after an upgrade, so the payload begins with a version. Everything
//! that publishing needs is inside: the worker has no database in which it could look anything up.
//! Decoding never panics, whatever the bytes.

use std::fmt;

use crate::lsn::Lsn;

/// Prefix of the logical message that carries an event. The embedded NUL makes it unforgeable: the
/// prefix argument of the SQL function `pg_logical_emit_message` is text, which cannot hold one.
/// The last byte must be NUL too (PostgreSQL's logicalmsg_desc relies on it).
pub const EVENT_PREFIX: &[u8] = b"amqp_cdc\0event\0";

/// Version of the payload's layout that this code writes.
const VERSION: u8 = 1;

/// The only codec there is: the body as it stands.
const CODEC_PLAIN: u8 = 0;

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

/// One event as the worker reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// All but the body.
    pub head: EventHead,
    /// The message body: UTF-8 JSON.
    pub body: Vec<u8>,
}

/// Why a payload is not an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Written by another version of the extension.
    Version(u8),
    /// Body in an encoding this version does not know.
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
            DecodeError::Codec(c) => write!(f, "body codec {c} is unknown"),
            DecodeError::Operation(o) => write!(f, "operation code {o} is unknown"),
            DecodeError::Truncated => write!(f, "event ends too early"),
            DecodeError::NotUtf8 => write!(f, "event holds a name that is not UTF-8"),
        }
    }
}

impl std::error::Error for DecodeError {}

// The fixed part: version, codec, operation, flags, command id, first LSN. Where a flag says so, the
// bytes of the whole body follow.
const COMMAND_ID: std::ops::Range<usize> = 4..8;
const FIRST_LSN: std::ops::Range<usize> = 8..16;
const FIXED: usize = 16;
const FLAG_LOSSY: u8 = 1;
const FLAG_OVERSIZE: u8 = 2;

impl EventHead {
    /// Appends the head's bytes. The body follows it in the WAL record as it stands, so that it
    /// need not be copied once more.
    ///
    /// # Panics
    ///
    /// Never for names PostgreSQL and AMQP allow: each is cut off at 65,535 bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[
            VERSION,
            CODEC_PLAIN,
            self.operation.code(),
            u8::from(self.lossy) * FLAG_LOSSY + u8::from(self.oversize.is_some()) * FLAG_OVERSIZE,
        ]);
        out.extend_from_slice(&self.command_id.to_le_bytes());
        out.extend_from_slice(&self.first_lsn.0.to_le_bytes());
        if let Some(bytes) = self.oversize {
            out.extend_from_slice(&bytes.to_le_bytes());
        }
        for text in [&self.exchange, &self.routing_key, &self.database, &self.schema, &self.table] {
            let bytes = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
            out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

/// The command id of an encoded event, by which a transaction's events are ordered, without
/// decoding the rest. Zero where the payload is too short to be an event.
pub fn command_id(payload: &[u8]) -> u32 {
    payload.get(COMMAND_ID).map_or(0, |b| u32::from_le_bytes(b.try_into().unwrap_or_default()))
}

impl Event {
    /// Decodes a payload, whose memory becomes the body's.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for bytes that [`EventHead::encode_into`] of this version did not write.
    pub fn decode(mut payload: Vec<u8>) -> Result<Event, DecodeError> {
        let (head, length) = EventHead::decode(&payload)?;
        payload.drain(..length);
        Ok(Event { head, body: payload })
    }
}

impl EventHead {
    /// The head at the front of a payload, and how many bytes it takes.
    fn decode(payload: &[u8]) -> Result<(EventHead, usize), DecodeError> {
        let &version = payload.first().ok_or(DecodeError::Truncated)?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let fixed = payload.get(..FIXED).ok_or(DecodeError::Truncated)?;
        let (codec, operation, flags) = (fixed[1], fixed[2], fixed[3]);
        if codec != CODEC_PLAIN {
            return Err(DecodeError::Codec(codec));
        }
        let operation = Operation::from_code(operation).ok_or(DecodeError::Operation(operation))?;
        let first_lsn = u64::from_le_bytes(fixed[FIRST_LSN].try_into().unwrap_or_default());
        let mut rest = &payload[FIXED..];
        let oversize = match flags & FLAG_OVERSIZE {
            0 => None,
            _ => {
                let (bytes, after) = rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
                rest = after;
                Some(u64::from_le_bytes(*bytes))
            }
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
        Ok((head, payload.len() - rest.len()))
    }
}

/// Takes one length-prefixed text off the front.
fn take_text(rest: &mut &[u8]) -> Result<String, DecodeError> {
    let (length, after) = rest.split_first_chunk::<2>().ok_or(DecodeError::Truncated)?;
    let length = usize::from(u16::from_le_bytes(*length));
    if after.len() < length {
        return Err(DecodeError::Truncated);
    }
    let (text, after) = after.split_at(length);
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
        assert_eq!(event.body, b"{}");
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
            prop_assert_eq!(Event::decode(bytes), Ok(Event { head, body }));
        }

        #[test]
        fn a_damaged_event_is_an_error_or_another_event_but_never_a_panic(
            head in any_head(),
            damage in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..8),
            length in any::<usize>(),
        ) {
            let mut bytes = Vec::new();
            head.encode_into(&mut bytes);
            for (at, value) in damage {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            bytes.truncate(length % (bytes.len() + 1));
            let _ = command_id(&bytes);
            if let Ok(event) = Event::decode(bytes) {
                let mut again = Vec::new();
                event.head.encode_into(&mut again);
                again.extend_from_slice(&event.body);
                prop_assert_eq!(Event::decode(again), Ok(event));
            }
        }
    }
}
