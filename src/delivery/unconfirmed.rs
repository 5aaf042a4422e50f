//! A message that the broker has not confirmed, and what is known of it. Pure.

use std::rc::Rc;

use super::message::{Message, Origin, ResendReason, Why};

/// What is known of a message in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The broker has it (`basic.ack`).
    Confirmed,
    /// No queue is bound for it (`basic.return`, and then `basic.ack`).
    Returned,
    /// The broker could not take it (`basic.nack`).
    Refused,
    /// It was not sent, and will not be.
    PassedOver,
}

/// What a message is to the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The message of an event.
    Event,
    /// The same, on its way to the dead-letter exchange.
    DeadLetter(Origin),
    /// Announces that events did not go to its exchange. The stream does not know of it.
    Gap,
}

/// One message.
#[derive(Debug)]
pub struct Unconfirmed {
    pub message: Rc<Message>,
    pub kind: Kind,
    /// Why it does not go to its exchange, if so.
    pub why: Option<Why>,
    /// Bytes that it had first.
    pub size: usize,
    pub(super) resent: Option<ResendReason>,
    pub(super) answer: Option<Answer>,
    pub(super) returned: bool,
    /// Whether it is to be published, though it is in flight.
    pub(super) is_due: bool,
}

impl Unconfirmed {
    /// Makes a message about which the broker has said nothing.
    pub(super) fn new(message: Message, kind: Kind) -> Unconfirmed {
        Unconfirmed {
            resent: message.resent,
            size: message.bytes(),
            message: Rc::new(message),
            kind,
            why: None,
            answer: None,
            returned: false,
            is_due: false,
        }
    }

    /// Forgets what the broker said of it.
    pub(super) fn forget_answer(&mut self) {
        (self.answer, self.returned, self.is_due, self.why) = (None, false, false, None);
    }

    /// Returns the message to be changed. What the socket still holds of it stays as it was.
    fn message_mut(&mut self) -> &mut Message {
        Rc::make_mut(&mut self.message)
    }

    /// Sends it to another exchange from now on.
    pub(super) fn become_dead_letter(&mut self, exchange: &str, why: Why) {
        self.kind = Kind::DeadLetter(self.message_mut().become_dead_letter(exchange, &why));
        self.forget_answer();
    }

    /// Sends it where it belongs again.
    pub(super) fn revive(&mut self) {
        if matches!(self.kind, Kind::DeadLetter(_)) {
            let message = Rc::make_mut(&mut self.message);
            if let Kind::DeadLetter(origin) = std::mem::replace(&mut self.kind, Kind::Event) {
                message.revive(origin);
            }
        }
    }
}
