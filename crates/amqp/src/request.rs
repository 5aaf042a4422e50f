//! Methods that we send (AMQP 0-9-1, 1.4 to 1.8, and RabbitMQ's `confirm.select`). All that have an answer
//! are to be answered.

use std::fmt;

use crate::bytes::{put_long, put_short, put_short_bytes, put_table, put_u16, put_u32, put_u64};
use crate::frame::{self, CONNECTION, METHOD};
use crate::method::{self, MethodId};
use crate::properties::Properties;
use crate::reply::ReplyCode;
use crate::table::Table;
use crate::text::Text;

/// A message to publish, but for its body. Names are at most 255 bytes; what is longer is cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Publish<'a> {
    /// Where it goes.
    pub exchange: &'a str,
    /// What it is about.
    pub routing_key: &'a str,
    /// Whether the broker is to return it if no queue is bound for it.
    pub is_mandatory: bool,
    /// What it is.
    pub properties: Properties<'a>,
}

/// An exchange to declare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeDeclare<'a> {
    /// Its name.
    pub exchange: &'a str,
    /// Its type: `topic`, `fanout` and so on.
    pub kind: &'a str,
    /// Only asks whether it is there.
    pub is_passive: bool,
    /// It outlives a restart of the broker.
    pub is_durable: bool,
    /// It goes when nothing is bound to it any more.
    pub is_auto_delete: bool,
    /// Only other exchanges may publish to it.
    pub is_internal: bool,
    /// What RabbitMQ has beyond that.
    pub arguments: Table<'a>,
}

/// A queue to declare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDeclare<'a> {
    /// Its name; empty: the broker makes one up.
    pub queue: &'a str,
    /// Only asks whether it is there.
    pub is_passive: bool,
    /// It outlives a restart of the broker.
    pub is_durable: bool,
    /// It belongs to this connection, and goes with it.
    pub is_exclusive: bool,
    /// It goes with its last consumer.
    pub is_auto_delete: bool,
    /// What RabbitMQ has beyond that, such as `x-queue-type`.
    pub arguments: Table<'a>,
}

/// A queue to bind to an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueBind<'a> {
    /// The queue.
    pub queue: &'a str,
    /// The exchange.
    pub exchange: &'a str,
    /// For which messages.
    pub routing_key: &'a str,
    /// The same, for exchanges of type `headers`.
    pub arguments: Table<'a>,
}

/// A queue to consume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consume<'a> {
    /// The queue.
    pub queue: &'a str,
    /// The consumer's tag; empty: the broker makes one up.
    pub consumer: &'a str,
    /// Messages need not be acknowledged: the broker forgets what it has sent.
    pub is_without_acks: bool,
    /// Nobody else may consume it.
    pub is_exclusive: bool,
    /// What RabbitMQ has beyond that.
    pub arguments: Table<'a>,
}

/// Why something was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The connection is not open, not yet or no more.
    ConnectionIsNotOpen,
    /// The channel is not open: the broker closed it, or nobody opened it.
    ChannelIsNotOpen,
    /// The channel is open already, or was closed in the middle of a message and is of no use any more.
    ChannelIsTaken,
    /// There are not so many channels.
    NoSuchChannel,
    /// The body of another message is not complete.
    InTheMiddleOfAMessage,
    /// The properties of the message take so many bytes, and more than a frame holds: the broker would close the
    /// connection.
    PropertiesTooLarge(usize),
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotSent::ConnectionIsNotOpen => f.write_str("the connection is not open"),
            NotSent::ChannelIsNotOpen => f.write_str("the channel is not open"),
            NotSent::ChannelIsTaken => f.write_str("the channel is in use"),
            NotSent::NoSuchChannel => f.write_str("there is no such channel"),
            NotSent::InTheMiddleOfAMessage => f.write_str("another message is not complete"),
            NotSent::PropertiesTooLarge(size) => {
                write!(f, "its properties take {size} bytes, which is more than a frame holds")
            }
        }
    }
}

impl std::error::Error for NotSent {}

/// Adds a frame with a method.
fn put(out: &mut Vec<u8>, channel: u16, id: MethodId, arguments: impl FnOnce(&mut Vec<u8>)) {
    frame::put(out, METHOD, channel, |out| {
        put_u16(out, id.class);
        put_u16(out, id.method);
        arguments(out);
    });
}

/// A method without arguments, or with reserved ones that are zero or empty.
pub(crate) fn put_bare(out: &mut Vec<u8>, channel: u16, id: MethodId) {
    put(out, channel, id, |out| {
        if id == method::CHANNEL_OPEN || id == method::SELECT {
            out.push(0);
        }
    });
}

/// Bits, the first one lowest.
fn bits(bits: &[bool]) -> u8 {
    bits.iter().rev().fold(0, |octet, &bit| octet << 1 | u8::from(bit))
}

pub(crate) fn put_start_ok(
    out: &mut Vec<u8>,
    client_properties: Table<'_>,
    mechanism: &str,
    response: &[u8],
) {
    put(out, CONNECTION, method::START_OK, |out| {
        put_table(out, client_properties);
        put_short(out, mechanism);
        put_long(out, response);
        put_short(out, "en_US");
    });
}

pub(crate) fn put_tune_ok(out: &mut Vec<u8>, channel_max: u16, frame_max: u32, heartbeat: u16) {
    put(out, CONNECTION, method::TUNE_OK, |out| {
        put_u16(out, channel_max);
        put_u32(out, frame_max);
        put_u16(out, heartbeat);
    });
}

pub(crate) fn put_open(out: &mut Vec<u8>, virtual_host: &str) {
    put(out, CONNECTION, method::OPEN, |out| {
        put_short(out, virtual_host);
        // Both reserved.
        out.extend_from_slice(&[0, 0]);
    });
}

/// `connection.close` or `channel.close`.
pub(crate) fn put_close(out: &mut Vec<u8>, channel: u16, id: MethodId, reason: &str) {
    put(out, channel, id, |out| {
        put_u16(out, ReplyCode::Success.number());
        put_short(out, reason);
        put_u32(out, 0);
    });
}

pub(crate) fn put_flow_ok(out: &mut Vec<u8>, channel: u16, is_active: bool) {
    put(out, channel, method::FLOW_OK, |out| out.push(u8::from(is_active)));
}

pub(crate) fn put_cancel_ok(out: &mut Vec<u8>, channel: u16, consumer: Text<'_>) {
    put(out, channel, method::CANCEL_OK, |out| put_short_bytes(out, consumer.as_bytes()));
}

pub(crate) fn put_exchange_declare(out: &mut Vec<u8>, channel: u16, declare: &ExchangeDeclare<'_>) {
    let d = declare;
    put(out, channel, method::EXCHANGE_DECLARE, |out| {
        put_u16(out, 0);
        put_short(out, d.exchange);
        put_short(out, d.kind);
        out.push(bits(&[d.is_passive, d.is_durable, d.is_auto_delete, d.is_internal, false]));
        put_table(out, d.arguments);
    });
}

pub(crate) fn put_queue_declare(out: &mut Vec<u8>, channel: u16, declare: &QueueDeclare<'_>) {
    let d = declare;
    put(out, channel, method::QUEUE_DECLARE, |out| {
        put_u16(out, 0);
        put_short(out, d.queue);
        out.push(bits(&[d.is_passive, d.is_durable, d.is_exclusive, d.is_auto_delete, false]));
        put_table(out, d.arguments);
    });
}

pub(crate) fn put_queue_bind(out: &mut Vec<u8>, channel: u16, bind: &QueueBind<'_>) {
    put(out, channel, method::QUEUE_BIND, |out| {
        put_u16(out, 0);
        put_short(out, bind.queue);
        put_short(out, bind.exchange);
        put_short(out, bind.routing_key);
        out.push(0);
        put_table(out, bind.arguments);
    });
}

/// For each consumer of the channel by itself: a quorum queue refuses anything else (`global`).
pub(crate) fn put_qos(out: &mut Vec<u8>, channel: u16, prefetch: u16) {
    put(out, channel, method::QOS, |out| {
        put_u32(out, 0);
        put_u16(out, prefetch);
        out.push(0);
    });
}

pub(crate) fn put_consume(out: &mut Vec<u8>, channel: u16, consume: &Consume<'_>) {
    put(out, channel, method::CONSUME, |out| {
        put_u16(out, 0);
        put_short(out, consume.queue);
        put_short(out, consume.consumer);
        out.push(bits(&[false, consume.is_without_acks, consume.is_exclusive, false]));
        put_table(out, consume.arguments);
    });
}

pub(crate) fn put_ack(out: &mut Vec<u8>, channel: u16, tag: u64, is_multiple: bool) {
    put(out, channel, method::ACK, |out| {
        put_u64(out, tag);
        out.push(u8::from(is_multiple));
    });
}

pub(crate) fn put_publish(out: &mut Vec<u8>, channel: u16, publish: &Publish<'_>) {
    put(out, channel, method::PUBLISH, |out| {
        put_u16(out, 0);
        put_short(out, publish.exchange);
        put_short(out, publish.routing_key);
        out.push(u8::from(publish.is_mandatory));
    });
}
