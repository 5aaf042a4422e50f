//! What ends a connection.

use std::fmt;
use std::time::Duration;

use crate::method::MethodId;
use crate::reply::ReplyCode;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// We said that we speak AMQP 0-9-1, the broker has not answered.
    Greeting,
    /// We said who we are. A broker that does not know us says so or hangs up.
    LoggingIn,
    /// We agreed to the broker's limits and named the virtual host. A broker that does not like our limits
    /// hangs up.
    Opening,
    /// It is in use.
    Open,
    /// We said goodbye.
    Closing,
    /// One side has closed it and the other one agreed.
    Closed,
    /// There was an error.
    Failed,
}

/// Why a connection cannot be used any more: what a broker refuses, and what it does wrong. What it says is
/// put in a few words by `Display`, to be read after "the connection was lost: ".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It closed the connection, and said why (`connection.close`).
    Closed {
        /// How far the connection had come.
        phase: Phase,
        /// The kind of reason.
        code: ReplyCode,
        /// The broker's words.
        text: String,
        /// The method that it is about, if it is about one.
        method: Option<MethodId>,
    },
    /// It hung up without a word.
    HungUp(Phase),
    /// It said nothing for so long, not even with a heartbeat.
    Silent(Duration),
    /// It did not let us in in time.
    NoAnswer(Phase),
    /// What it sends is not AMQP: no frame begins with this byte. 0x15 is what TLS says to whom it does not
    /// understand, `H` may be HTTP.
    NotAmqp(u8),
    /// It speaks this version of AMQP: protocol, major, minor, revision.
    OtherVersion([u8; 4]),
    /// It offers these ways to log in, and not ours.
    MechanismNotOffered(String),
    /// It asks for more than a name and a password (`connection.secure`).
    Challenge,
    /// What we have to say of ourselves takes so many bytes, and more than a broker reads of somebody whom it
    /// does not know: it would hang up without a word.
    LoginTooLarge(usize),
    /// It takes only frames of so few bytes.
    FramesTooSmall(u32),
    /// A frame's payload has so many bytes, and is too large.
    FrameTooLarge {
        /// So many.
        size: u32,
    },
    /// A frame does not end where it says.
    FrameWithoutEnd,
    /// A frame came on a channel that is not open, or that it does not belong on.
    WrongChannel(u16),
    /// A method's or a header's payload is not what it should be.
    Malformed(Option<MethodId>),
    /// There is no such method.
    UnknownMethod(MethodId),
    /// A method came that makes no sense then: mostly an answer that nobody waits for.
    Unexpected(MethodId),
    /// A method came in the middle of a message.
    MessageCutShort(MethodId),
    /// A header or a part of a body came without a message that it belongs to.
    StrayContent,
    /// A body is longer than was said.
    BodyTooLong,
    /// It asks for answers all the time, and does not read them.
    Deaf,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Closed { text, .. } => write!(f, "broker closed the connection: {text}"),
            Error::HungUp(_) => f.write_str("broker closed the socket"),
            Error::Silent(time) => write!(f, "broker was silent for {time:?}"),
            Error::NoAnswer(_) => f.write_str("broker did not answer in time"),
            Error::NotAmqp(_) => f.write_str("what it sends is not AMQP 0-9-1"),
            Error::OtherVersion([_, major, minor, revision]) => {
                write!(f, "broker does not speak AMQP 0-9-1, but {major}-{minor}-{revision}")
            }
            Error::MechanismNotOffered(offered) => {
                write!(
                    f,
                    "broker does not offer the way to log in that was asked for, but \"{offered}\""
                )
            }
            Error::Challenge => f.write_str("broker asks for more than was asked for to log in"),
            Error::LoginTooLarge(size) => {
                write!(f, "broker would not read the {size} bytes with which to log in")
            }
            Error::FramesTooSmall(size) => write!(f, "broker takes frames of {size} bytes only"),
            Error::FrameTooLarge { size } => write!(f, "broker sent a frame of {size} bytes"),
            Error::FrameWithoutEnd => f.write_str("broker sent a frame without an end"),
            Error::WrongChannel(channel) => {
                write!(f, "broker sent something on channel {channel} that does not belong there")
            }
            Error::Malformed(None) => f.write_str("broker sent what cannot be read"),
            Error::Malformed(Some(method)) => {
                write!(f, "broker sent a method that cannot be read: {method}")
            }
            Error::UnknownMethod(method) => {
                write!(f, "broker sent a method that AMQP 0-9-1 does not have: {method}")
            }
            Error::Unexpected(method) => {
                write!(f, "broker said something else than was asked for: {method}")
            }
            Error::MessageCutShort(method) => {
                write!(f, "broker sent a method in the middle of a message: {method}")
            }
            Error::StrayContent => {
                f.write_str("broker sent a part of a message that it does not have")
            }
            Error::Deaf => f.write_str("broker does not read the answers that it asks for"),
            Error::BodyTooLong => f.write_str("broker sent a longer body than it said"),
        }
    }
}

impl std::error::Error for Error {}
