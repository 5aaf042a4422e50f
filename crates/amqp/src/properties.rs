//! What a message is: the properties of class `basic` (AMQP 0-9-1, 1.8), and the frame that carries them.

use crate::bytes::{Malformed, Reader, put_short_bytes, put_table, put_u16, put_u64};
use crate::method::BASIC;
use crate::table::Table;
use crate::text::Text;

/// The properties of a message. To send, texts are at most 255 bytes; what is longer is cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Properties<'a> {
    /// MIME type of the body.
    pub content_type: Option<Text<'a>>,
    /// Its encoding.
    pub content_encoding: Option<Text<'a>>,
    /// Whatever the application wants to say.
    pub headers: Option<Table<'a>>,
    /// 2: the message outlives a restart of the broker.
    pub delivery_mode: Option<u8>,
    /// 0 to 255.
    pub priority: Option<u8>,
    /// What it answers.
    pub correlation_id: Option<Text<'a>>,
    /// Where to send an answer.
    pub reply_to: Option<Text<'a>>,
    /// After so many milliseconds, as text, nobody wants it any more.
    pub expiration: Option<Text<'a>>,
    /// Its name.
    pub message_id: Option<Text<'a>>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    /// The property `type`.
    pub kind: Option<Text<'a>>,
    /// Who sent it; the broker compares that with who is logged in.
    pub user_id: Option<Text<'a>>,
    /// The application that sent it.
    pub app_id: Option<Text<'a>>,
    /// Reserved.
    pub cluster_id: Option<Text<'a>>,
}

/// Runs `$with!(field, flag, type)` for each property, in the order that they have on the wire.
macro_rules! for_each_property {
    ($with:ident) => {
        $with!(content_type, 15, short);
        $with!(content_encoding, 14, short);
        $with!(headers, 13, table);
        $with!(delivery_mode, 12, u8);
        $with!(priority, 11, u8);
        $with!(correlation_id, 10, short);
        $with!(reply_to, 9, short);
        $with!(expiration, 8, short);
        $with!(message_id, 7, short);
        $with!(timestamp, 6, u64);
        $with!(kind, 5, short);
        $with!(user_id, 4, short);
        $with!(app_id, 3, short);
        $with!(cluster_id, 2, short);
    };
}

/// Flags of no property. The lowest one says that more flags follow, which class `basic` has not.
const NO_PROPERTY: u16 = 0b11;

/// The payload of a header frame: the size of the body, and the properties.
pub(crate) fn parse(payload: &[u8]) -> Result<(u64, Properties<'_>), Malformed> {
    let mut reader = Reader::new(payload);
    if reader.u16()? != BASIC {
        return Err(Malformed);
    }
    let _weight = reader.u16()?;
    let body_size = reader.u64()?;
    let flags = reader.u16()?;
    if flags & NO_PROPERTY != 0 {
        return Err(Malformed);
    }
    let mut properties = Properties::default();
    macro_rules! read {
        ($field:ident, $bit:literal, $type:ident) => {
            if flags & 1 << $bit != 0 {
                properties.$field = Some(reader.$type()?);
            }
        };
    }
    for_each_property!(read);
    reader.end()?;
    Ok((body_size, properties))
}

/// Adds the payload of a header frame.
pub(crate) fn put(out: &mut Vec<u8>, body_size: u64, properties: &Properties<'_>) {
    put_u16(out, BASIC);
    // Weight: unused.
    put_u16(out, 0);
    put_u64(out, body_size);
    let mut flags = 0u16;
    macro_rules! flag {
        ($field:ident, $bit:literal, $type:ident) => {
            flags |= u16::from(properties.$field.is_some()) << $bit;
        };
    }
    for_each_property!(flag);
    put_u16(out, flags);
    macro_rules! put {
        ($field:ident, $bit:literal, short) => {
            if let Some(text) = properties.$field {
                put_short_bytes(out, text.as_bytes());
            }
        };
        ($field:ident, $bit:literal, table) => {
            if let Some(table) = properties.$field {
                put_table(out, table);
            }
        };
        ($field:ident, $bit:literal, u8) => {
            if let Some(number) = properties.$field {
                out.push(number);
            }
        };
        ($field:ident, $bit:literal, u64) => {
            if let Some(number) = properties.$field {
                put_u64(out, number);
            }
        };
    }
    for_each_property!(put);
}
