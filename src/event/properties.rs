//! What a message of a user's own says of itself: AMQP properties, headers, and who sent it. Pure.
//!
//! The bytes: fields in any order, each a tag, a length ([`crate::bytes::put_number`]) and that many bytes; then
//! the tag of the body, which is all that follows. As with the fields of the head, a tag says whether a
//! reader that does not know it may pass it over.

use std::rc::Rc;

use super::error::DecodeError;
use super::fields::{MAY_BE_IGNORED, put_field};
use super::names::Names;
use crate::bytes::Reader;
use crate::memory;

// The tags of fields.
const BODY: u8 = 0;
const CONTENT_TYPE: u8 = 1;
const CONTENT_ENCODING: u8 = 2;
const HEADERS: u8 = 3;
const DELIVERY_MODE: u8 = 4;
const PRIORITY: u8 = 5;
const CORRELATION_ID: u8 = 6;
const REPLY_TO: u8 = 7;
const EXPIRATION: u8 = 8;
const KIND: u8 = 9;
const USER: u8 = 10;
const APPLICATION: u8 = 11;
const TIME: u8 = 12 | MAY_BE_IGNORED;

/// The properties of a message, as the worker reads them. What is missing is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    pub content_type: Option<Rc<str>>,
    pub content_encoding: Option<Rc<str>>,
    /// A table of AMQP's, without its size; empty if there are none.
    pub headers: Vec<u8>,
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub correlation_id: Option<Rc<str>>,
    pub reply_to: Option<Rc<str>>,
    /// Milliseconds, as text.
    pub expiration: Option<Rc<str>>,
    /// The AMQP property `type`, if it is not the usual one.
    pub kind: Option<Rc<str>>,
    /// The role that sent it.
    pub user: Rc<str>,
    /// Its application_name.
    pub application: Rc<str>,
    /// When it was written, in microseconds since 2000-01-01 UTC; only of a message that is no transaction's.
    pub time: Option<i64>,
}

/// The same, as the writing backend has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct PropertiesStart<'a> {
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
    pub headers: &'a [u8],
    pub delivery_mode: Option<u8>,
    pub priority: Option<u8>,
    pub correlation_id: Option<&'a str>,
    pub reply_to: Option<&'a str>,
    pub expiration: Option<&'a str>,
    pub kind: Option<&'a str>,
    pub user: &'a str,
    pub application: &'a str,
    pub time: Option<i64>,
}

impl PropertiesStart<'_> {
    /// Appends all that comes before the body. The caller appends that.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let texts = [
            (CONTENT_TYPE, self.content_type),
            (CONTENT_ENCODING, self.content_encoding),
            (CORRELATION_ID, self.correlation_id),
            (REPLY_TO, self.reply_to),
            (EXPIRATION, self.expiration),
            (KIND, self.kind),
            (USER, Some(self.user)),
            (APPLICATION, Some(self.application)),
        ];
        for (tag, text) in texts {
            if let Some(text) = text {
                put_field(out, tag, text.as_bytes());
            }
        }
        for (tag, number) in [(DELIVERY_MODE, self.delivery_mode), (PRIORITY, self.priority)] {
            if let Some(number) = number {
                put_field(out, tag, &[number]);
            }
        }
        if !self.headers.is_empty() {
            put_field(out, HEADERS, self.headers);
        }
        if let Some(time) = self.time {
            put_field(out, TIME, &time.to_le_bytes());
        }
        memory::push(out, BODY);
    }
}

/// Takes the next field; the body's has no value. Returns None if the bytes end too early.
fn take_field<'a>(reader: &mut Reader<'a>) -> Option<(u8, &'a [u8])> {
    let tag = reader.byte()?;
    if tag == BODY {
        return Some((BODY, &[]));
    }
    let length = usize::try_from(reader.number()?).ok()?;
    Some((tag, reader.bytes(length)?))
}

impl Properties {
    /// Decodes everything up to the body. Returns how many bytes that takes, too. `names` are the texts of the
    /// messages before, among which those are likely to be that stay the same.
    pub(super) fn decode(
        content: &[u8],
        names: &mut Names,
    ) -> Result<(Properties, usize), DecodeError> {
        let mut reader = Reader::new(content);
        let mut properties = Properties::default();
        loop {
            let (tag, value) = take_field(&mut reader).ok_or(DecodeError::Truncated)?;
            if tag == BODY {
                return Ok((properties, content.len() - reader.rest().len()));
            }
            properties.take(tag, value, names)?;
        }
    }

    fn take(&mut self, tag: u8, value: &[u8], names: &mut Names) -> Result<(), DecodeError> {
        let own = |value| -> Result<Rc<str>, DecodeError> {
            Ok(std::str::from_utf8(value).map_err(|_| DecodeError::NotUtf8)?.into())
        };
        match tag {
            CONTENT_TYPE => self.content_type = Some(names.name(value)?),
            CONTENT_ENCODING => self.content_encoding = Some(names.name(value)?),
            HEADERS => self.headers = memory::copy(value),
            DELIVERY_MODE => self.delivery_mode = Some(byte(value)?),
            PRIORITY => self.priority = Some(byte(value)?),
            // Mostly another one each time.
            CORRELATION_ID => self.correlation_id = Some(own(value)?),
            REPLY_TO => self.reply_to = Some(names.name(value)?),
            EXPIRATION => self.expiration = Some(own(value)?),
            KIND => self.kind = Some(names.name(value)?),
            USER => self.user = names.name(value)?,
            APPLICATION => self.application = names.name(value)?,
            TIME => self.time = Some(number(value).ok_or(DecodeError::Truncated)?),
            tag if tag & MAY_BE_IGNORED != 0 => {}
            tag => return Err(DecodeError::Field(tag)),
        }
        Ok(())
    }

    /// Bytes of memory that they take, about: texts are short.
    pub fn bytes(&self) -> usize {
        size_of::<Properties>() + self.headers.len()
    }
}

fn byte(value: &[u8]) -> Result<u8, DecodeError> {
    value.first().copied().ok_or(DecodeError::Truncated)
}

fn number(value: &[u8]) -> Option<i64> {
    Reader::new(value).i64()
}

/// When the message with this content was written, as far as the bytes tell.
pub(super) fn time(content: &[u8]) -> Option<i64> {
    let mut reader = Reader::new(content);
    loop {
        match take_field(&mut reader)? {
            (TIME, value) => return number(value),
            (BODY, _) => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> PropertiesStart<'static> {
        PropertiesStart {
            content_type: Some("text/plain"),
            content_encoding: Some("gzip"),
            headers: b"\x01aV",
            delivery_mode: Some(1),
            priority: Some(9),
            correlation_id: Some("c"),
            reply_to: Some("r"),
            expiration: Some("60000"),
            kind: Some("order.placed"),
            user: "app",
            application: "psql",
            time: Some(-7),
        }
    }

    fn encoded(properties: &PropertiesStart<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        properties.encode_into(&mut bytes);
        bytes
    }

    fn decoded(bytes: &[u8]) -> Result<(Properties, usize), DecodeError> {
        Properties::decode(bytes, &mut Names::default())
    }

    #[test]
    fn come_back_as_they_were_written() {
        let bytes = encoded(&all());
        let (found, length) = decoded(&[&bytes[..], b"\0body"].concat()).unwrap();
        let text = |text: &str| Some(Rc::from(text));
        let expected = Properties {
            content_type: text("text/plain"),
            content_encoding: text("gzip"),
            headers: b"\x01aV".to_vec(),
            delivery_mode: Some(1),
            priority: Some(9),
            correlation_id: text("c"),
            reply_to: text("r"),
            expiration: text("60000"),
            kind: text("order.placed"),
            user: "app".into(),
            application: "psql".into(),
            time: Some(-7),
        };
        assert_eq!((found, length), (expected, bytes.len()));
        assert_eq!(time(&bytes), Some(-7));
        let none = PropertiesStart::default();
        assert_eq!(decoded(&encoded(&none)), Ok((Properties::default(), encoded(&none).len())));
        assert_eq!(time(&encoded(&none)), None);
    }

    /// Written down byte by byte, so that no change of the code changes what is in the WAL unnoticed.
    #[test]
    fn the_layout_that_is_written_stays_what_it_is() {
        let expected = b"\x01\x0Atext/plain\x02\x04gzip\x06\x01c\x07\x01r\x08\x0560000\x09\x0Corder.placed\
            \x0A\x03app\x0B\x04psql\x04\x01\x01\x05\x01\x09\x03\x03\x01aV\x8C\x08\xF9\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x00";
        assert_eq!(encoded(&all()), expected);
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_an_error_and_never_a_panic() {
        let whole = encoded(&all());
        for length in 0..whole.len() {
            assert_eq!(decoded(&whole[..length]), Err(DecodeError::Truncated));
            let _ = time(&whole[..length]);
        }
        let with = |tag: u8| [&[tag, 1, b'x'], &whole[..]].concat();
        assert_eq!(decoded(&with(0x3F)), Err(DecodeError::Field(0x3F)));
        assert_eq!(decoded(&with(0x3F | MAY_BE_IGNORED)).unwrap().0, decoded(&whole).unwrap().0);
        assert_eq!(decoded(&[USER, 1, 0xFF, 0]), Err(DecodeError::NotUtf8));
        assert_eq!(decoded(&[PRIORITY, 0, 0]), Err(DecodeError::Truncated));
    }
}
