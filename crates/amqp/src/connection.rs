//! A connection, as its owner has it.

use std::collections::TryReserveError;
use std::time::Instant;

use crate::channel::{Standing, Taken};
use crate::error::{Error, Phase};
use crate::event::Event;
use crate::frame::{self, CONNECTION};
use crate::input::Input;
use crate::login::Login;
use crate::method::{self, MethodId};
use crate::output::Output;
use crate::properties;
use crate::pulse::{Due, Pulse};
use crate::request::{
    Consume, ExchangeDeclare, NotSent, Publish, QueueBind, QueueDeclare, put_ack, put_bare,
    put_close, put_consume, put_exchange_declare, put_publish, put_qos, put_queue_bind,
    put_queue_declare,
};
use crate::session::Session;

/// A connection to a broker, without the socket. [The crate](crate) tells how to drive it.
#[derive(Debug)]
pub struct Connection {
    input: Input,
    output: Output,
    pulse: Pulse,
    session: Session,
}

impl Connection {
    /// Begins: the first bytes are to be sent.
    ///
    /// # Panics
    ///
    /// If there is no memory for it; [`Connection::try_new`] does not.
    pub fn new(login: Login, now: Instant) -> Connection {
        Connection::try_new(login, now).expect("there is memory for a connection")
    }

    /// The same. What a publisher needs from then on is small.
    ///
    /// # Errors
    ///
    /// If there is no memory for its buffers, some 600 kB.
    pub fn try_new(login: Login, now: Instant) -> Result<Connection, TryReserveError> {
        let mut output = Output::new()?;
        output.bytes().extend_from_slice(&frame::GREETING);
        Ok(Connection {
            input: Input::new()?,
            output,
            pulse: Pulse::new(now, login.deadline),
            session: Session::new(login),
        })
    }

    /// Where bytes of the broker are to be put. Once all events are taken there is room for a whole frame at
    /// least.
    pub fn room(&mut self) -> &mut [u8] {
        self.input.room()
    }

    /// So many bytes were put there.
    pub fn received(&mut self, count: usize, now: Instant) {
        self.input.take(count);
        self.pulse.hear(now);
    }

    /// The transport came to its end, or failed. What that means now; what was received before may tell more.
    pub fn hung_up(&self) -> Error {
        Error::HungUp(self.session.phase())
    }

    /// What the broker said next. None if more is to be received first, or if nothing that it says counts any
    /// more.
    ///
    /// # Errors
    ///
    /// What ends the connection. There may be bytes to send, a last word; nothing else is to be done with it.
    pub fn next_event(&mut self) -> Result<Option<Event<'_>>, Error> {
        let Connection { input, output, pulse, session } = self;
        let (bytes, start) = input.unread();
        loop {
            if session.is_over() {
                return Ok(None);
            }
            let taken = match frame::parse(&bytes[*start..]) {
                Ok(None) => return Ok(None),
                Ok(Some((frame, length))) => {
                    *start += length;
                    session.take(frame, output, pulse)
                }
                Err(error) => Err(error),
            };
            match taken {
                Ok(Taken::Nothing) => {}
                Ok(Taken::Event(event)) => return Ok(Some(event)),
                Ok(Taken::Message { channel, body_size, properties }) => {
                    return match session.channel(channel) {
                        Some(channel) => channel.message(body_size, properties).map(Some),
                        None => Err(Error::WrongChannel(channel)),
                    };
                }
                Err(error) => {
                    session.fail();
                    return Err(error);
                }
            }
        }
    }

    /// Bytes to send.
    pub fn to_send(&self) -> &[u8] {
        self.output.unsent()
    }

    /// So many of them were sent.
    pub fn sent(&mut self, count: usize, now: Instant) {
        self.output.take_sent(count);
        self.pulse.send(now);
    }

    /// When to [wake](Connection::wake) it, if nothing else happens. To be asked anew after whatever did.
    pub fn wake_at(&self) -> Option<Instant> {
        if self.session.is_over() {
            return None;
        }
        self.pulse.next(!self.to_send().is_empty())
    }

    /// Does what the time has come for. To be called after having read what there was: what came in time
    /// counts, however late it is looked at.
    ///
    /// # Errors
    ///
    /// If the broker has been silent for two heartbeats, or has not let us in before the deadline.
    pub fn wake(&mut self, now: Instant) -> Result<(), Error> {
        if self.session.is_over() {
            return Ok(());
        }
        let error = match self.pulse.due(now, !self.to_send().is_empty()) {
            Due::Nothing => return Ok(()),
            Due::Heartbeat => {
                frame::put_heartbeat(self.output.bytes());
                return Ok(());
            }
            Due::Silence(time) => Error::Silent(time),
            Due::Deadline => Error::NoAnswer(self.session.phase()),
        };
        self.session.fail();
        Err(error)
    }

    /// The owner does not read for now: that nothing is heard says nothing of the broker.
    pub fn excuse_silence(&mut self, now: Instant) {
        self.pulse.hear(now);
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        self.session.phase()
    }

    /// Says goodbye, in the middle of a message if it must be. [`Event::Closed`] is the answer.
    pub fn close(&mut self, reason: &str) {
        if self.session.is_over() || self.session.phase() == Phase::Closing {
            return;
        }
        self.output.abandon_message();
        put_close(self.output.bytes(), CONNECTION, method::CLOSE, reason);
        self.session.set_phase(Phase::Closing);
    }

    /// Opens a channel. What is said on it may follow at once. [`Event::ChannelOpened`] is the answer.
    ///
    /// # Errors
    ///
    /// If that cannot be: channels are numbered from 1, up to what was agreed upon, and this one must be free.
    pub fn open_channel(&mut self, number: u16) -> Result<(), NotSent> {
        let channel = self.session.add_channel(number)?;
        channel.await_answer(method::CHANNEL_OPEN_OK);
        put_bare(self.output.bytes(), number, method::CHANNEL_OPEN);
        Ok(())
    }

    /// Closes a channel: what was delivered on it and not acknowledged is delivered again. What the broker was
    /// asked before it still answers. [`Event::ChannelClosed`] is the last answer.
    pub fn close_channel(&mut self, number: u16) {
        if let Some(channel) = self.session.open_channel(number) {
            channel.set_standing(Standing::Closing);
            put_close(self.output.bytes_of(number), number, method::CHANNEL_CLOSE, "");
        }
    }

    /// Asks for something on a channel. If it is not open that goes nowhere: [`Event::ChannelRefused`] told.
    fn ask(&mut self, channel: u16, answer: MethodId, put: impl FnOnce(&mut Vec<u8>)) {
        if let Some(open) = self.session.open_channel(channel) {
            open.await_answer(answer);
            put(self.output.bytes_of(channel));
        }
    }

    /// Has the broker confirm what is published on this channel. [`Event::ConfirmsOn`] is the answer.
    pub fn turn_confirms_on(&mut self, channel: u16) {
        self.ask(channel, method::SELECT_OK, |out| put_bare(out, channel, method::SELECT));
    }

    /// Declares an exchange, or asks whether it is there. [`Event::ExchangeDeclared`] is the answer, or
    /// [`Event::ChannelRefused`].
    pub fn declare_exchange(&mut self, channel: u16, declare: &ExchangeDeclare<'_>) {
        let answer = method::EXCHANGE_DECLARE_OK;
        self.ask(channel, answer, |out| put_exchange_declare(out, channel, declare));
    }

    /// Declares a queue, or asks whether it is there. [`Event::QueueDeclared`] is the answer, or
    /// [`Event::ChannelRefused`].
    pub fn declare_queue(&mut self, channel: u16, declare: &QueueDeclare<'_>) {
        let answer = method::QUEUE_DECLARE_OK;
        self.ask(channel, answer, |out| put_queue_declare(out, channel, declare));
    }

    /// Binds a queue to an exchange. [`Event::QueueBound`] is the answer, or [`Event::ChannelRefused`].
    pub fn bind_queue(&mut self, channel: u16, bind: &QueueBind<'_>) {
        self.ask(channel, method::QUEUE_BIND_OK, |out| put_queue_bind(out, channel, bind));
    }

    /// So many messages may be under way to each consumer on this channel, unacknowledged; 0 is as many as the
    /// broker likes. [`Event::PrefetchSet`] is the answer.
    pub fn set_prefetch(&mut self, channel: u16, prefetch: u16) {
        self.ask(channel, method::QOS_OK, |out| put_qos(out, channel, prefetch));
    }

    /// Consumes a queue. [`Event::Consuming`] is the answer, or [`Event::ChannelRefused`].
    pub fn consume(&mut self, channel: u16, consume: &Consume<'_>) {
        self.ask(channel, method::CONSUME_OK, |out| put_consume(out, channel, consume));
    }

    /// Acknowledges a delivery, or all up to that one. On a channel that is not open any more that goes nowhere,
    /// since it would mean another delivery.
    pub fn ack(&mut self, channel: u16, tag: u64, is_multiple: bool) {
        if self.session.open_channel(channel).is_some() {
            put_ack(self.output.bytes_of(channel), channel, tag, is_multiple);
        }
    }

    /// Whether a message would be taken now: none is unfinished, and there is not much to send.
    pub fn has_room(&self) -> bool {
        !self.output.is_in_message() && self.output.has_room()
    }

    /// Publishes a message with a body of this size, which is to follow by [`Connection::put_body`]. With
    /// confirms on [`Event::Acked`] or [`Event::Nacked`] is the answer.
    ///
    /// # Errors
    ///
    /// If it cannot be sent. Then nothing was.
    pub fn publish(
        &mut self,
        channel: u16,
        message: &Publish<'_>,
        body_size: u64,
    ) -> Result<(), NotSent> {
        if !self.session.is_open() {
            return Err(NotSent::ConnectionIsNotOpen);
        }
        if self.session.open_channel(channel).is_none() {
            return Err(NotSent::ChannelIsNotOpen);
        }
        if self.output.is_in_message() {
            return Err(NotSent::InTheMiddleOfAMessage);
        }
        let method = |out: &mut Vec<u8>| put_publish(out, channel, message);
        let header = |out: &mut Vec<u8>| {
            frame::put(out, frame::HEADER, channel, |out| {
                properties::put(out, body_size, &message.properties);
            });
        };
        let begun = self.output.begin_message(channel, body_size, method, header);
        begun.map_err(NotSent::PropertiesTooLarge)
    }

    /// Takes of the rest of the body what there is room for, and tells how much that was. The more it is given
    /// the better: each piece is a frame. Between two pieces anything can be done on other channels, and
    /// what is said on this one follows the body.
    pub fn put_body(&mut self, rest: &[u8]) -> usize {
        self.output.put_body(rest)
    }

    /// Whether the body of a message is not complete.
    pub fn is_in_message(&self) -> bool {
        self.output.is_in_message()
    }
}
