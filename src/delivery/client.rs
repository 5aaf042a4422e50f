//! All that a session knows of AMQP: the one trait that another client would have to implement.

use std::rc::Rc;
use std::time::Instant;

use super::broker::Address;
use super::failure::{Failure, SessionEnd};
use super::message::{Message, ResendReason};
use super::publisher::Publisher;
use super::unconfirmed::Answer;

/// What the broker says while the connection is in use.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// About a message, or all messages up to that.
    Answered { tag: u64, is_multiple: bool, answer: Answer },
    /// No queue is bound for the message; it is confirmed afterwards.
    Returned { exchange: String, message_id: String, routing_key: String },
    /// It declined to declare this exchange, for this reason.
    Declined { exchange: String, reason: String },
    /// It does not read from the connection for now, for this reason.
    Blocked(String),
    /// It reads again.
    Unblocked,
}

/// What is known of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: the broker is to be asked.
    Unknown,
    /// It is there, or may be: publishing will tell.
    There,
    /// It is not there, in these words of the broker.
    Missing(Rc<str>),
}

/// An open connection to a broker, on which messages are published with confirms. Nothing in it blocks: what has to
/// wait is `async`, and waits in the publisher's pause alone.
pub trait AmqpClient: Sized {
    /// Connects, logs in and turns confirms on. Takes at most the connect timeout.
    ///
    /// # Errors
    ///
    /// Why the broker cannot be used, or what the worker wants instead.
    async fn open(publisher: &mut Publisher, address: &Address) -> Result<Self, SessionEnd>;

    /// How the connection is secured, for the log.
    fn security(&self) -> &'static str;

    /// What is known of an exchange. `may_declare`: one that is not there is to be declared.
    fn standing(&self, exchange: &str, may_declare: bool) -> Standing;

    /// What was answered about an exchange counts no more.
    fn forget(&mut self, exchange: &str);

    /// Asks the broker whether the exchange is there, unless something has been asked already; if it is not,
    /// and `may_declare`, to declare it, durable.
    ///
    /// # Errors
    ///
    /// If nothing can be asked any more.
    fn ask(&mut self, exchange: &str, may_declare: bool) -> Result<(), Failure>;

    /// Whether a message would be taken now. If the socket is full, waiting makes room.
    fn make_room(&mut self) -> bool;

    /// Whether a part of a message is still to be sent.
    fn is_in_message(&self) -> bool;

    /// Publishes a message. Only after [`AmqpClient::make_room`]; it goes out at the next wait at the
    /// latest.
    ///
    /// # Errors
    ///
    /// If it cannot be sent, as it is or at all.
    fn publish(
        &mut self,
        message: Rc<Message>,
        resent: Option<ResendReason>,
    ) -> Result<(), Failure>;

    /// Sends what is to be sent, and waits for the next step, which is to come at this time at the latest.
    ///
    /// # Errors
    ///
    /// If the connection is gone.
    async fn wait(&mut self, publisher: &Publisher, until: Option<Instant>) -> Result<(), Failure>;

    /// What the broker said. All news are to be taken before the next wait.
    ///
    /// # Errors
    ///
    /// If it closed the connection or the channel for publishing, or what it says makes no sense.
    fn next(&mut self) -> Result<Option<News>, Failure>;

    /// Says goodbye, in the middle of a message if it must be. [`AmqpClient::is_over`] tells when
    /// the broker has answered.
    fn close(&mut self);

    /// Whether nothing that the broker says counts any more: one side has closed the connection and the other one
    /// agreed, or it has failed.
    fn is_over(&self) -> bool;
}
