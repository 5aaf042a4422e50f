//! Why a session with the broker ended. Pure.

use std::any::Any;
use std::fmt;
use std::io::ErrorKind;

use amqp::{Error, NotSent, Phase, ReplyCode, short};

use super::broker::{BrokerSettings, Credentials};
use super::message::{Message, ResendReason};
use super::rota::Sign;
use super::transport::Trouble;
use crate::memory::OutOfMemory;

/// What the `reply-text` says of a message that is too large (RabbitMQ 3.10 to 4.3).
const SIZE: &str = "message size";

/// How a session ended.
pub enum SessionEnd {
    /// The worker stops the delivery.
    Stopped,
    /// The settings changed.
    Reconfigured,
    /// The operator wants the message with this message_id to be passed over.
    Skip(String),
    /// The broker refused a message, and there is something to be done about it.
    Refused,
    /// Something went wrong.
    Failed(Failure),
}

impl From<Failure> for SessionEnd {
    fn from(failure: Failure) -> SessionEnd {
        SessionEnd::Failed(failure)
    }
}

/// The kinds of failure. All are tried again; the stream stands still meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// There is no connection, or none that works: the broker cannot be reached, refuses the login, or
    /// does not answer in time.
    Connection,
    /// There was a connection, and the broker ended it, or something between: it is there, or was a moment ago.
    Ended,
    /// The broker closed the channel because of a message in flight, for a reason that tells little of it.
    ChannelClosed,
    /// The broker closed the channel because of a message in flight: its exchange is missing.
    Missing,
    /// The broker closed the channel because of a message in flight: nobody or not everybody may write there.
    Refused,
    /// The broker closed the channel because of a message in flight: it is too large.
    TooLarge,
    /// The broker closed the channel because of a message in flight: it is not as it should be.
    Rejected,
    /// The broker returned a message in flight: no queue is bound for it.
    Returned,
    /// The broker refused a message (basic.nack).
    Nacked,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: FailureKind,
    /// What went wrong, in the broker's words if it said so.
    reason: String,
    /// What went wrong, in words for the operator.
    words: String,
    /// The message that the stream stands still at, if it is known.
    culprit: Option<Culprit>,
}

/// A message that the broker objected to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Culprit {
    message_id: String,
    description: String,
}

impl Failure {
    /// A failure with words for the operator, without secrets.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        let words = message.into();
        Failure { kind, reason: words.clone(), words, culprit: None }
    }

    /// A failure that is not about a message.
    pub fn of_connection(message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Connection, message)
    }

    /// The broker objected to this message.
    pub fn because_of(self, message: &Message) -> Failure {
        let (message_id, description) = (message.message_id.clone(), message.description());
        Failure { culprit: Some(Culprit { message_id, description }), ..self }
    }

    /// What went wrong.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Why, without the message that it is about.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What went wrong, the same for each message that it befalls.
    pub fn words(&self) -> &str {
        &self.words
    }

    /// Whether the broker objected to one of the messages in flight.
    pub fn is_about_a_message(&self) -> bool {
        !matches!(self.kind, FailureKind::Connection | FailureKind::Ended)
    }

    /// What it says of the broker at this address.
    pub fn sign(&self) -> Sign {
        match self.kind {
            FailureKind::Connection => Sign::OfDeath,
            _ => Sign::OfLife,
        }
    }

    /// message_id of the message that the stream stands still at, if it is known.
    pub fn held(&self) -> Option<String> {
        self.culprit.as_ref().map(|culprit| culprit.message_id.clone())
    }

    /// The connection cannot be made.
    pub fn unreachable(trouble: &Trouble, settings: &BrokerSettings) -> Failure {
        let Trouble::Protocol(error) = trouble else {
            return Failure::of_connection(format!("broker cannot be reached: {trouble}"));
        };
        let with = match settings.credentials {
            Credentials::Password { .. } => "password",
            Credentials::Certificate => "certificate (EXTERNAL)",
        };
        Failure::of_connection(match error {
            Error::NoAnswer(_) => return Failure::no_answer(settings),
            Error::Closed { text, .. } => format!("broker refused the connection: {text}"),
            Error::MechanismNotOffered(offered) => {
                format!("broker offers no login with a {with}, but \"{}\"", short(offered))
            }
            Error::FramesTooSmall(_) | Error::Unexpected(_) => error.to_string(),
            _ => {
                let hint = hint(error, settings).map(|hint| format!("; {hint}"));
                format!("broker cannot be reached: {error}{}", hint.unwrap_or_default())
            }
        })
    }

    /// The connection is not there in time.
    pub fn no_answer(settings: &BrokerSettings) -> Failure {
        let timeout = settings.connect_timeout;
        Failure::of_connection(format!("broker did not answer within {timeout:?}"))
    }

    /// The queue that only one server of a cluster can have was refused.
    pub fn not_alone(queue: &str, code: ReplyCode, text: &str) -> Failure {
        Failure::of_connection(match code {
            ReplyCode::ResourceLocked => format!(
                "another server of this cluster publishes, or its connection is not over yet (amqp.single_publisher): {text}"
            ),
            _ => format!("broker refuses queue \"{queue}\" (amqp.single_publisher): {text}"),
        })
    }

    /// The connection was in use.
    pub fn lost(trouble: &Trouble) -> Failure {
        let kind = match trouble {
            Trouble::Protocol(Error::Silent(_)) => FailureKind::Connection,
            Trouble::Socket(error) if error.kind() == ErrorKind::TimedOut => {
                FailureKind::Connection
            }
            _ => FailureKind::Ended,
        };
        let words = match trouble {
            Trouble::Protocol(error @ Error::Closed { .. }) => error.to_string(),
            _ => format!("connection to the broker was lost: {trouble}"),
        };
        Failure::new(kind, words)
    }

    /// A message was not sent, and what follows it would be taken for it.
    pub fn not_sent(reason: &NotSent) -> Failure {
        match reason {
            NotSent::PropertiesTooLarge(_) => {
                Failure::new(FailureKind::Rejected, reason.to_string())
            }
            _ => Failure::of_connection(format!("a message cannot be sent: {reason}")),
        }
    }

    /// The broker closed the channel for publishing, with these `reply-code` and `reply-text`.
    pub fn closed_channel(code: ReplyCode, text: &str) -> Failure {
        let kind = match code {
            ReplyCode::AccessRefused => FailureKind::Refused,
            ReplyCode::NotFound => FailureKind::Missing,
            ReplyCode::PreconditionFailed if text.contains(SIZE) => FailureKind::TooLarge,
            ReplyCode::PreconditionFailed => FailureKind::Rejected,
            _ => FailureKind::ChannelClosed,
        };
        let words = match kind {
            FailureKind::TooLarge | FailureKind::Rejected => "broker refused it",
            _ => "broker closed the channel",
        };
        Failure { reason: text.to_owned(), ..Failure::new(kind, format!("{words}: {text}")) }
    }

    /// A bug of the delivery or of a library below it.
    pub fn from_panic(panic: &(dyn Any + Send)) -> Failure {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .or_else(|| panic.is::<OutOfMemory>().then(|| "out of memory".to_owned()))
            .unwrap_or_else(|| "unknown".to_owned());
        Failure::of_connection(format!("delivery panicked: {text}"))
    }

    /// What messages that are sent again after this failure say.
    pub fn resend_reason(&self) -> ResendReason {
        match self.kind {
            FailureKind::Nacked => ResendReason::Nack,
            _ => ResendReason::Reconnect,
        }
    }
}

/// What may be wrong with the settings where the broker says little or nothing.
fn hint(error: &Error, settings: &BrokerSettings) -> Option<&'static str> {
    let is_certificate = settings.credentials == Credentials::Certificate;
    match (error, &settings.tls) {
        (Error::HungUp(Phase::LoggingIn), Some(_)) if is_certificate => {
            Some("it may know no user of the name in amqp.sslcert, or not have seen it")
        }
        (Error::HungUp(Phase::Greeting), Some(tls)) if tls.identity.is_none() => {
            Some("it may want a client certificate (amqp.sslcert), or not speak TLS on this port")
        }
        (Error::HungUp(Phase::Greeting), Some(_)) => {
            Some("it may refuse amqp.sslcert, or not speak TLS on this port")
        }
        // What begins an alert of TLS.
        (Error::HungUp(Phase::Greeting) | Error::NotAmqp(0x15), None) => {
            Some("it may speak TLS on this port: amqp.sslmode")
        }
        _ => None,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.culprit {
            Some(culprit) => write!(f, "{}: {}", culprit.description, self.words),
            None => f.write_str(&self.words),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use socket::{Tls, Verify};

    use super::super::broker::{Secret, Unroutable};
    use super::super::policy::Policies;
    use super::*;

    fn settings(credentials: Credentials, tls: Option<Tls>) -> BrokerSettings {
        BrokerSettings {
            addresses: Vec::new(),
            vhost: "/".to_owned(),
            credentials,
            tls,
            exchange_type: String::new(),
            connect_timeout: Duration::from_secs(10),
            heartbeat: 0,
            confirm_timeout: Duration::from_secs(30),
            max_in_flight: 1,
            unroutable: Unroutable::Drop,
            policies: Policies::default(),
            exclusive_queue: None,
        }
    }

    fn with_a_password() -> BrokerSettings {
        let (username, password) = (String::new(), Secret::new(String::new()));
        settings(Credentials::Password { username, password }, None)
    }

    #[test]
    fn what_the_broker_says_when_it_closes_a_channel_tells_what_it_refuses() {
        let kind = |code: u16, text| Failure::closed_channel(code.into(), text).kind();
        assert_eq!(kind(403, "ACCESS_REFUSED - write access"), FailureKind::Refused);
        assert_eq!(kind(404, "NOT_FOUND - no exchange"), FailureKind::Missing);
        let too_large =
            "PRECONDITION_FAILED - message size 17 is larger than configured max size 16";
        assert_eq!(kind(406, too_large), FailureKind::TooLarge);
        assert_eq!(kind(406, "PRECONDITION_FAILED - else"), FailureKind::Rejected);
        assert_eq!(kind(541, "INTERNAL_ERROR"), FailureKind::ChannelClosed);
        assert_eq!(
            Failure::closed_channel(ReplyCode::PreconditionFailed, too_large).reason(),
            too_large
        );
    }

    #[test]
    fn a_connection_that_cannot_be_made_or_is_lost_says_why() {
        let closed = |phase| Error::Closed {
            phase,
            code: ReplyCode::AccessRefused,
            text: "ACCESS_REFUSED".to_owned(),
            method: None,
        };
        let unreachable =
            |error| Failure::unreachable(&Trouble::Protocol(error), &with_a_password()).to_string();
        let said = [
            (closed(Phase::LoggingIn), "broker refused the connection: ACCESS_REFUSED"),
            (Error::NoAnswer(Phase::Greeting), "broker did not answer within 10s"),
            (Error::HungUp(Phase::Opening), "broker cannot be reached: broker closed the socket"),
            (
                Error::MechanismNotOffered("EXTERNAL".to_owned()),
                "broker offers no login with a password, but \"EXTERNAL\"",
            ),
            (Error::FramesTooSmall(4000), "broker takes frames of 4000 bytes only"),
            (Error::NotAmqp(b'H'), "broker cannot be reached: what it sends is not AMQP 0-9-1"),
        ];
        for (error, words) in said {
            assert_eq!(unreachable(error), words);
        }
        let lost = |error| Failure::lost(&Trouble::Protocol(error)).to_string();
        assert_eq!(lost(closed(Phase::Open)), "broker closed the connection: ACCESS_REFUSED");
        assert_eq!(
            lost(Error::HungUp(Phase::Open)),
            "connection to the broker was lost: broker closed the socket"
        );
    }

    #[test]
    fn where_the_broker_says_nothing_the_settings_are_named_that_may_be_wrong() {
        let tls = || Some(Tls { verify: Verify::Nothing, identity: None });
        let said = |error, settings: &BrokerSettings| {
            Failure::unreachable(&Trouble::Protocol(error), settings).to_string()
        };
        let in_clear = with_a_password();
        for error in [Error::HungUp(Phase::Greeting), Error::NotAmqp(0x15)] {
            assert!(
                said(error, &in_clear).ends_with("it may speak TLS on this port: amqp.sslmode")
            );
        }
        let secured = BrokerSettings { tls: tls(), ..with_a_password() };
        assert!(said(Error::HungUp(Phase::Greeting), &secured).contains("amqp.sslcert"));
        assert!(!said(Error::HungUp(Phase::LoggingIn), &secured).contains("amqp.ssl"));
        let external = settings(Credentials::Certificate, tls());
        assert!(said(Error::HungUp(Phase::LoggingIn), &external).contains("amqp.sslcert"));
        let offered = said(Error::MechanismNotOffered("PLAIN".to_owned()), &external);
        assert_eq!(offered, "broker offers no login with a certificate (EXTERNAL), but \"PLAIN\"");
    }

    #[test]
    fn who_ends_a_connection_lives_and_who_says_nothing_does_not() {
        let lost = |trouble| Failure::lost(&trouble).sign();
        assert_eq!(lost(Trouble::Protocol(Error::HungUp(Phase::Open))), Sign::OfLife);
        assert_eq!(lost(Trouble::Socket(ErrorKind::ConnectionReset.into())), Sign::OfLife);
        let silent = Error::Silent(Duration::from_secs(60));
        assert_eq!(lost(Trouble::Protocol(silent)), Sign::OfDeath);
        assert_eq!(lost(Trouble::Socket(ErrorKind::TimedOut.into())), Sign::OfDeath);
        let refused = Trouble::Socket(ErrorKind::ConnectionRefused.into());
        assert_eq!(Failure::unreachable(&refused, &with_a_password()).sign(), Sign::OfDeath);
        assert_eq!(Failure::no_answer(&with_a_password()).sign(), Sign::OfDeath);
        assert_eq!(Failure::new(FailureKind::Nacked, "x").sign(), Sign::OfLife);
        assert!(
            !Failure::lost(&Trouble::Protocol(Error::HungUp(Phase::Open))).is_about_a_message()
        );
    }

    #[test]
    fn headers_that_no_frame_holds_say_nothing_of_other_messages() {
        let failure = Failure::not_sent(&NotSent::PropertiesTooLarge(200_000));
        assert_eq!(failure.kind(), FailureKind::Rejected);
        assert!(failure.is_about_a_message());
        assert!(!Failure::not_sent(&NotSent::ChannelIsNotOpen).is_about_a_message());
    }

    #[test]
    fn a_failure_names_its_message_but_its_words_are_those_of_any_message() {
        let message = Message { message_id: "7/1/0".to_owned(), ..Message::default() };
        let failure =
            Failure::closed_channel(ReplyCode::NotFound, "NOT_FOUND").because_of(&message);
        assert_eq!(failure.held().as_deref(), Some("7/1/0"));
        assert_eq!(failure.words(), "broker closed the channel: NOT_FOUND");
        let text = failure.to_string();
        assert!(text.starts_with("message 7/1/0 (") && text.ends_with(failure.words()), "{text}");
    }

    #[test]
    fn a_nack_is_named_in_what_is_sent_again() {
        let nack = Failure::new(FailureKind::Nacked, "x");
        assert_eq!(nack.resend_reason(), ResendReason::Nack);
        let lost = Failure::of_connection("x");
        assert_eq!(lost.resend_reason(), ResendReason::Reconnect);
    }

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        let panic = std::panic::catch_unwind(|| panic!("number {}", 7)).unwrap_err();
        assert_eq!(Failure::from_panic(panic.as_ref()).to_string(), "delivery panicked: number 7");
    }
}
