//! Frames: how everything goes over the wire (AMQP 0-9-1, 2.3.5 and 4.2.3).

use crate::bytes::{put_sized, put_u16};
use crate::error::Error;

/// What a frame has beside its payload: type, channel and size before it, the end mark after it.
pub(crate) const OVERHEAD: usize = 8;

/// The largest frame that is taken, and that may be agreed upon: what RabbitMQ proposes, and the most that it
/// accepts. A frame of any type may be so large, a returned message brings all of its headers back.
pub(crate) const LARGEST: usize = 128 * 1024;

/// The smallest limit that we ask for: RabbitMQ 4.3 closes the socket at a smaller one.
pub(crate) const SMALLEST_OF_OURS: usize = 8192;

/// The smallest limit that a broker may have (AMQP 0-9-1, 1.2: `frame-min-size`), and how large a frame may be
/// before one is agreed upon.
pub(crate) const SMALLEST: usize = 4096;

pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;
pub(crate) const HEARTBEAT: u8 = 8;
const END: u8 = 0xCE;

/// The channel that is the connection itself.
pub(crate) const CONNECTION: u16 = 0;

/// What a client says first: it speaks AMQP 0-9-1.
pub(crate) const GREETING: [u8; 8] = *b"AMQP\0\0\x09\x01";

/// A frame in the bytes that were received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) channel: u16,
    pub(crate) payload: &'a [u8],
}

/// The frame with which these bytes begin, and how many of them it takes. None if it is not there as a whole.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Error> {
    let Some(&kind) = bytes.first() else { return Ok(None) };
    if !matches!(kind, METHOD | HEADER | BODY | HEARTBEAT) {
        return no_frame(bytes);
    }
    let Some((&[_, channel_high, channel_low, a, b, c, d], rest)) = bytes.split_first_chunk()
    else {
        return Ok(None);
    };
    let size = u32::from_be_bytes([a, b, c, d]);
    if size > (LARGEST - OVERHEAD) as u32 {
        return Err(Error::FrameTooLarge { size });
    }
    let Some((payload, rest)) = rest.split_at_checked(size as usize) else { return Ok(None) };
    match rest.first() {
        None => Ok(None),
        Some(&END) => {
            let channel = u16::from_be_bytes([channel_high, channel_low]);
            Ok(Some((Frame { kind, channel, payload }, payload.len() + OVERHEAD)))
        }
        Some(_) => Err(Error::FrameWithoutEnd),
    }
}

/// These bytes, of which there is one at least, begin no frame. A broker that speaks another version of AMQP
/// says which.
fn no_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Error> {
    const AMQP: &[u8] = b"AMQP";
    match bytes.first_chunk::<8>() {
        Some(&[b'A', b'M', b'Q', b'P', version @ ..]) => Err(Error::OtherVersion(version)),
        None if bytes.starts_with(AMQP) || AMQP.starts_with(bytes) => Ok(None),
        _ => Err(Error::NotAmqp(bytes[0])),
    }
}

/// Adds a frame.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    put_u16(out, channel);
    put_sized(out, payload);
    out.push(END);
}

/// Adds a frame with a part of a body.
pub(crate) fn put_body(out: &mut Vec<u8>, channel: u16, part: &[u8]) {
    put(out, BODY, channel, |out| out.extend_from_slice(part));
}

/// Adds a heartbeat.
pub(crate) fn put_heartbeat(out: &mut Vec<u8>) {
    put(out, HEARTBEAT, CONNECTION, |_| {});
}
