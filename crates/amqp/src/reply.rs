//! With what words a broker closes a channel or a connection, or returns a message (AMQP 0-9-1, 1.2).

use std::fmt;

use crate::method::MethodId;
use crate::text::Text;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// Why it does so.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ReplyCode {
            $($(#[$doc])* $name,)*
            /// One that AMQP 0-9-1 does not have.
            Other(u16),
        }

        impl From<u16> for ReplyCode {
            fn from(number: u16) -> ReplyCode {
                match number {
                    $($number => ReplyCode::$name,)*
                    other => ReplyCode::Other(other),
                }
            }
        }

        impl ReplyCode {
            /// Its number.
            pub fn number(self) -> u16 {
                match self {
                    $(ReplyCode::$name => $number,)*
                    ReplyCode::Other(number) => number,
                }
            }
        }
    };
}

codes! {
    /// No error.
    Success = 200,
    /// The body is too large.
    ContentTooLarge = 311,
    /// No queue is bound for a message that is mandatory.
    NoRoute = 312,
    /// No consumer would take a message at once that is immediate.
    NoConsumers = 313,
    /// An operator closed the connection.
    ConnectionForced = 320,
    /// There is no such virtual host.
    InvalidPath = 402,
    /// The user may not do that.
    AccessRefused = 403,
    /// There is no such exchange or queue.
    NotFound = 404,
    /// Somebody else has it for himself alone.
    ResourceLocked = 405,
    /// It is there, but otherwise; or the message is too large; or a delivery tag is unknown; or a consumer
    /// acknowledged nothing for too long.
    PreconditionFailed = 406,
    /// A frame is none.
    FrameError = 501,
    /// A method's arguments make no sense.
    SyntaxError = 502,
    /// A method makes no sense here.
    CommandInvalid = 503,
    /// A channel is not open, or is open already.
    ChannelError = 504,
    /// A frame makes no sense here.
    UnexpectedFrame = 505,
    /// The broker has not enough of something.
    ResourceError = 506,
    /// It is forbidden.
    NotAllowed = 530,
    /// The broker cannot do that.
    NotImplemented = 540,
    /// Something is wrong inside the broker.
    InternalError = 541,
}

/// Why a broker closed a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The kind of reason.
    pub code: ReplyCode,
    /// The broker's words.
    pub text: Text<'a>,
    /// The method that it is about, if it is about one.
    pub method: Option<MethodId>,
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}
