//! Methods that a broker sends (AMQP 0-9-1, 1.4 to 1.9, with RabbitMQ's extensions).

use std::fmt;

use crate::bytes::{Malformed, Reader};
use crate::error::Error;
use crate::reply::{Refusal, ReplyCode};
use crate::table::Table;
use crate::text::Text;

/// Classes.
pub(crate) const CONNECTION: u16 = 10;
pub(crate) const BASIC: u16 = 60;

/// A method, by its class and its own number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MethodId {
    /// The class.
    pub class: u16,
    /// Its number in the class.
    pub method: u16,
}

macro_rules! ids {
    ($($const:ident = $class:literal $method:literal $name:literal)*) => {
        $(pub(crate) const $const: MethodId = MethodId { class: $class, method: $method };)*

        impl MethodId {
            /// Its name, if AMQP 0-9-1 or RabbitMQ has such a method.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $($const => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

ids! {
    START = 10 10 "connection.start"
    START_OK = 10 11 "connection.start-ok"
    SECURE = 10 20 "connection.secure"
    SECURE_OK = 10 21 "connection.secure-ok"
    TUNE = 10 30 "connection.tune"
    TUNE_OK = 10 31 "connection.tune-ok"
    OPEN = 10 40 "connection.open"
    OPEN_OK = 10 41 "connection.open-ok"
    CLOSE = 10 50 "connection.close"
    CLOSE_OK = 10 51 "connection.close-ok"
    BLOCKED = 10 60 "connection.blocked"
    UNBLOCKED = 10 61 "connection.unblocked"
    UPDATE_SECRET = 10 70 "connection.update-secret"
    UPDATE_SECRET_OK = 10 71 "connection.update-secret-ok"
    CHANNEL_OPEN = 20 10 "channel.open"
    CHANNEL_OPEN_OK = 20 11 "channel.open-ok"
    FLOW = 20 20 "channel.flow"
    FLOW_OK = 20 21 "channel.flow-ok"
    CHANNEL_CLOSE = 20 40 "channel.close"
    CHANNEL_CLOSE_OK = 20 41 "channel.close-ok"
    ACCESS_REQUEST = 30 10 "access.request"
    ACCESS_REQUEST_OK = 30 11 "access.request-ok"
    EXCHANGE_DECLARE = 40 10 "exchange.declare"
    EXCHANGE_DECLARE_OK = 40 11 "exchange.declare-ok"
    EXCHANGE_DELETE = 40 20 "exchange.delete"
    EXCHANGE_DELETE_OK = 40 21 "exchange.delete-ok"
    EXCHANGE_BIND = 40 30 "exchange.bind"
    EXCHANGE_BIND_OK = 40 31 "exchange.bind-ok"
    EXCHANGE_UNBIND = 40 40 "exchange.unbind"
    EXCHANGE_UNBIND_OK = 40 51 "exchange.unbind-ok"
    QUEUE_DECLARE = 50 10 "queue.declare"
    QUEUE_DECLARE_OK = 50 11 "queue.declare-ok"
    QUEUE_BIND = 50 20 "queue.bind"
    QUEUE_BIND_OK = 50 21 "queue.bind-ok"
    QUEUE_PURGE = 50 30 "queue.purge"
    QUEUE_PURGE_OK = 50 31 "queue.purge-ok"
    QUEUE_DELETE = 50 40 "queue.delete"
    QUEUE_DELETE_OK = 50 41 "queue.delete-ok"
    QUEUE_UNBIND = 50 50 "queue.unbind"
    QUEUE_UNBIND_OK = 50 51 "queue.unbind-ok"
    QOS = 60 10 "basic.qos"
    QOS_OK = 60 11 "basic.qos-ok"
    CONSUME = 60 20 "basic.consume"
    CONSUME_OK = 60 21 "basic.consume-ok"
    CANCEL = 60 30 "basic.cancel"
    CANCEL_OK = 60 31 "basic.cancel-ok"
    PUBLISH = 60 40 "basic.publish"
    RETURN = 60 50 "basic.return"
    DELIVER = 60 60 "basic.deliver"
    GET = 60 70 "basic.get"
    GET_OK = 60 71 "basic.get-ok"
    GET_EMPTY = 60 72 "basic.get-empty"
    ACK = 60 80 "basic.ack"
    REJECT = 60 90 "basic.reject"
    RECOVER_ASYNC = 60 100 "basic.recover-async"
    RECOVER = 60 110 "basic.recover"
    RECOVER_OK = 60 111 "basic.recover-ok"
    NACK = 60 120 "basic.nack"
    SELECT = 85 10 "confirm.select"
    SELECT_OK = 85 11 "confirm.select-ok"
    TX_SELECT = 90 10 "tx.select"
    TX_SELECT_OK = 90 11 "tx.select-ok"
    TX_COMMIT = 90 20 "tx.commit"
    TX_COMMIT_OK = 90 21 "tx.commit-ok"
    TX_ROLLBACK = 90 30 "tx.rollback"
    TX_ROLLBACK_OK = 90 31 "tx.rollback-ok"
}

impl fmt::Display for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}.{}", self.class, self.method),
        }
    }
}

impl fmt::Debug for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a broker may say. The other methods of AMQP 0-9-1 are answers to what nobody here asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Method<'a> {
    Start { server_properties: Table<'a>, mechanisms: Text<'a> },
    Secure,
    Tune { channel_max: u16, frame_max: u32, heartbeat: u16 },
    OpenOk,
    Close(Refusal<'a>),
    CloseOk,
    Blocked { reason: Text<'a> },
    Unblocked,
    ChannelOpenOk,
    Flow { is_active: bool },
    ChannelClose(Refusal<'a>),
    ChannelCloseOk,
    ExchangeDeclareOk,
    QueueDeclareOk { queue: Text<'a>, messages: u32, consumers: u32 },
    QueueBindOk,
    QosOk,
    ConsumeOk { consumer: Text<'a> },
    Cancel { consumer: Text<'a>, wants_no_answer: bool },
    Return(Return<'a>),
    Deliver(Deliver<'a>),
    Ack { tag: u64, is_multiple: bool },
    Nack { tag: u64, is_multiple: bool },
    SelectOk,
}

/// `basic.return`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Return<'a> {
    pub(crate) code: ReplyCode,
    pub(crate) text: Text<'a>,
    pub(crate) exchange: Text<'a>,
    pub(crate) routing_key: Text<'a>,
}

/// `basic.deliver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deliver<'a> {
    pub(crate) consumer: Text<'a>,
    pub(crate) tag: u64,
    pub(crate) is_redelivered: bool,
    pub(crate) exchange: Text<'a>,
    pub(crate) routing_key: Text<'a>,
}

/// The method in the payload of a method frame, and which one it is.
pub(crate) fn parse(payload: &[u8]) -> Result<(MethodId, Method<'_>), Error> {
    let mut reader = Reader::new(payload);
    let id = match (reader.u16(), reader.u16()) {
        (Ok(class), Ok(method)) => MethodId { class, method },
        _ => return Err(Error::Malformed(None)),
    };
    match arguments(id, reader) {
        Ok(Some(method)) => Ok((id, method)),
        Ok(None) if id.name().is_some() => Err(Error::Unexpected(id)),
        Ok(None) => Err(Error::UnknownMethod(id)),
        Err(Malformed) => Err(Error::Malformed(Some(id))),
    }
}

/// The method, if it is one that a broker may send us.
fn arguments(id: MethodId, mut reader: Reader<'_>) -> Result<Option<Method<'_>>, Malformed> {
    let r = &mut reader;
    let method = match id {
        START => {
            let _version = r.u16()?;
            let server_properties = r.table()?;
            let mechanisms = Text::new(r.long()?);
            let _locales = r.long()?;
            Method::Start { server_properties, mechanisms }
        }
        SECURE => {
            let _challenge = r.long()?;
            Method::Secure
        }
        TUNE => Method::Tune { channel_max: r.u16()?, frame_max: r.u32()?, heartbeat: r.u16()? },
        OPEN_OK => {
            let _reserved = r.short()?;
            Method::OpenOk
        }
        CLOSE => Method::Close(refusal(r)?),
        CLOSE_OK => Method::CloseOk,
        BLOCKED => Method::Blocked { reason: r.short()? },
        UNBLOCKED => Method::Unblocked,
        CHANNEL_OPEN_OK => {
            let _reserved = r.long()?;
            Method::ChannelOpenOk
        }
        FLOW => Method::Flow { is_active: r.bit()? },
        CHANNEL_CLOSE => Method::ChannelClose(refusal(r)?),
        CHANNEL_CLOSE_OK => Method::ChannelCloseOk,
        EXCHANGE_DECLARE_OK => Method::ExchangeDeclareOk,
        QUEUE_DECLARE_OK => {
            Method::QueueDeclareOk { queue: r.short()?, messages: r.u32()?, consumers: r.u32()? }
        }
        QUEUE_BIND_OK => Method::QueueBindOk,
        QOS_OK => Method::QosOk,
        CONSUME_OK => Method::ConsumeOk { consumer: r.short()? },
        CANCEL => Method::Cancel { consumer: r.short()?, wants_no_answer: r.bit()? },
        RETURN => Method::Return(Return {
            code: r.u16()?.into(),
            text: r.short()?,
            exchange: r.short()?,
            routing_key: r.short()?,
        }),
        DELIVER => Method::Deliver(Deliver {
            consumer: r.short()?,
            tag: r.u64()?,
            is_redelivered: r.bit()?,
            exchange: r.short()?,
            routing_key: r.short()?,
        }),
        ACK => Method::Ack { tag: r.u64()?, is_multiple: r.bit()? },
        NACK => Method::Nack { tag: r.u64()?, is_multiple: r.bit()? },
        SELECT_OK => Method::SelectOk,
        _ => return Ok(None),
    };
    reader.end()?;
    Ok(Some(method))
}

fn refusal<'a>(reader: &mut Reader<'a>) -> Result<Refusal<'a>, Malformed> {
    let (code, text) = (reader.u16()?.into(), reader.short()?);
    let id = MethodId { class: reader.u16()?, method: reader.u16()? };
    let method = (id != MethodId { class: 0, method: 0 }).then_some(id);
    Ok(Refusal { code, text, method })
}
