//! A message's bytes on the wire: the frames of `basic.publish` with its properties and its body
//! (AMQP 0-9-1, 2.3.5 and 4.2), straight from the message.

use super::message::{HeaderValue, Message, ResendReason};

/// What a frame has beside its payload: type, channel and size before it, the end mark after it.
pub const OVERHEAD: usize = 8;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
pub const BODY: u8 = 3;
pub const END: u8 = 0xCE;

/// Class `basic` and its method `publish`.
const BASIC: u16 = 60;
const PUBLISH: u16 = 40;

/// The bit `mandatory` of `basic.publish`: the broker returns what no queue is bound for.
const MANDATORY: u8 = 1;

/// `delivery_mode` of a message that survives a broker restart.
const PERSISTENT: u8 = 2;

/// The AMQP property `app_id`.
const APP_ID: &str = "amqp_cdc";

/// Property flags: content_type, headers, delivery_mode, message_id, timestamp, type, app_id.
const PROPERTIES: u16 = 1 << 15 | 1 << 13 | 1 << 12 | 1 << 7 | 1 << 6 | 1 << 5 | 1 << 3;

/// Adds the frames that come before the body, with header `resent` if the message is sent again.
pub fn put_head(out: &mut Vec<u8>, channel: u16, message: &Message, resent: Option<ResendReason>) {
    put(out, METHOD, channel, |out| {
        put_u16(out, BASIC);
        put_u16(out, PUBLISH);
        // Reserved.
        put_u16(out, 0);
        put_short(out, &message.exchange);
        put_short(out, &message.routing_key);
        out.push(MANDATORY);
    });
    put(out, HEADER, channel, |out| {
        put_u16(out, BASIC);
        // Weight: unused.
        put_u16(out, 0);
        put_u64(out, message.body.len() as u64);
        put_u16(out, PROPERTIES);
        put_short(out, "application/json");
        put_sized(out, |out| {
            for (name, value) in &message.headers {
                put_header(out, name, value);
            }
            if let Some(reason) = resent {
                put_short(out, "resent");
                put_long(out, reason.as_str());
            }
        });
        out.push(PERSISTENT);
        put_short(out, &message.message_id);
        put_u64(out, message.timestamp);
        put_short(out, message.kind);
        put_short(out, APP_ID);
    });
}

/// Adds a frame with a part of a body.
pub fn put_body(out: &mut Vec<u8>, channel: u16, part: &[u8]) {
    put(out, BODY, channel, |out| out.extend_from_slice(part));
}

fn put(out: &mut Vec<u8>, kind: u8, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    put_u16(out, channel);
    put_sized(out, payload);
    out.push(END);
}

/// A size in 32 bits, then what has that size.
fn put_sized(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    content(out);
    let size = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// A field of a table, with RabbitMQ's letters for the types.
fn put_header(out: &mut Vec<u8>, name: &str, value: &HeaderValue) {
    put_short(out, name);
    match value {
        HeaderValue::Text(text) => put_long(out, text),
        HeaderValue::Number(number) => {
            out.push(b'l');
            out.extend_from_slice(&number.to_be_bytes());
        }
        HeaderValue::Boolean(boolean) => out.extend_from_slice(&[b't', u8::from(*boolean)]),
    }
}

/// A long string as the value of a field.
fn put_long(out: &mut Vec<u8>, text: &str) {
    out.push(b'S');
    put_sized(out, |out| out.extend_from_slice(text.as_bytes()));
}

/// A short string. What is too long for one, which capture has refused, is cut off.
fn put_short(out: &mut Vec<u8>, text: &str) {
    let text = short(text);
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

fn put_u16(out: &mut Vec<u8>, number: u16) {
    out.extend_from_slice(&number.to_be_bytes());
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}

/// As much of a text as a short string holds.
pub fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(usize::from(u8::MAX))]
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::{AMQPFrame, parse_frame};
    use amq_protocol::protocol::{AMQPClass, basic};
    use amq_protocol::types::{AMQPValue, LongString};

    use super::*;

    fn message() -> Message {
        Message {
            exchange: "pg-messaging".into(),
            routing_key: "ü".repeat(200).into(),
            body: b"{\"previous\": null}".to_vec(),
            message_id: "7/1/0/16B3748".to_owned(),
            timestamp: 1_790_000_000,
            kind: "insert",
            headers: vec![
                ("table", HeaderValue::Text("blog articles".into())),
                ("tx_seq", HeaderValue::Number(-5)),
                ("truncated", HeaderValue::Boolean(true)),
            ],
            ..Message::default()
        }
    }

    fn parse(mut bytes: &[u8]) -> Vec<AMQPFrame> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let (rest, frame) = parse_frame(bytes).unwrap();
            frames.push(frame);
            bytes = rest;
        }
        frames
    }

    #[test]
    fn a_parser_finds_in_the_frames_what_the_message_is() {
        let message = message();
        let mut bytes = Vec::new();
        put_head(&mut bytes, 3, &message, Some(ResendReason::Nack));
        let (first, second) = message.body.split_at(5);
        put_body(&mut bytes, 3, first);
        put_body(&mut bytes, 3, second);
        let frames = parse(&bytes);
        let [
            AMQPFrame::Method(3, AMQPClass::Basic(basic::AMQPMethod::Publish(publish))),
            AMQPFrame::Header(3, header),
            AMQPFrame::Body(3, one),
            AMQPFrame::Body(3, two),
        ] = frames.as_slice()
        else {
            panic!("{frames:?}");
        };
        assert_eq!(publish.exchange.as_str(), &*message.exchange);
        assert_eq!(publish.routing_key.as_str(), "ü".repeat(127));
        assert!(publish.mandatory && !publish.immediate);
        assert_eq!((one.as_slice(), two.as_slice()), (first, second));
        assert_eq!((header.class_id, header.body_size), (60, message.body.len() as u64));
        let properties = &header.properties;
        let text = |value: &Option<amq_protocol::types::ShortString>| {
            value.as_ref().map(|text| text.as_str().to_owned()).unwrap()
        };
        assert_eq!(text(properties.content_type()), "application/json");
        assert_eq!(text(properties.message_id()), message.message_id);
        assert_eq!(text(properties.kind()), "insert");
        assert_eq!(text(properties.app_id()), "amqp_cdc");
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(*properties.timestamp(), Some(message.timestamp));
        assert_eq!(*properties.content_encoding(), None);
        assert_eq!(*properties.expiration(), None);
        let headers = properties.headers().as_ref().unwrap().inner();
        let long = |text: &str| Some(AMQPValue::LongString(LongString::from(text)));
        assert_eq!(headers.get("table").cloned(), long("blog articles"));
        assert_eq!(headers.get("tx_seq"), Some(&AMQPValue::LongLongInt(-5)));
        assert_eq!(headers.get("truncated"), Some(&AMQPValue::Boolean(true)));
        assert_eq!(headers.get("resent").cloned(), long("nack"));
        assert_eq!(headers.len(), 4);
    }
}
