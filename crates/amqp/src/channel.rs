//! One channel: what was asked on it, and how far the message is that is coming.

use std::collections::VecDeque;

use crate::bytes::Malformed;
use crate::error::Error;
use crate::event::{Delivery, Event, Returned};
use crate::method::{self, Method, MethodId};
use crate::output::Output;
use crate::properties::{self, Properties};
use crate::request::{put_bare, put_cancel_ok, put_flow_ok};

/// What a frame turned out to be.
#[derive(Debug)]
pub(crate) enum Taken<'a> {
    /// Nobody need know.
    Nothing,
    Event(Event<'a>),
    /// The properties of a message came, whose method came before.
    Message {
        channel: u16,
        body_size: u64,
        properties: Properties<'a>,
    },
}

/// Whether a channel can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is open, or will be: what is sent may follow at once.
    Open,
    /// We closed it, and the broker has not agreed.
    Closing,
    /// The broker closed it in the middle of a message, when we could not agree.
    Lost,
}

/// What the next frame that is no method must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    None,
    /// A message's properties.
    Header,
    /// So much of a body.
    Body {
        left: u64,
    },
}

#[derive(Debug)]
pub(crate) struct Channel {
    number: u16,
    standing: Standing,
    /// The answers that are to come, in this order.
    awaited: VecDeque<MethodId>,
    content: Content,
    /// Whether nobody need know of the message that is coming.
    is_discarded: bool,
    /// Payload of the method that announced it. Its frame is gone when the properties come.
    method: Vec<u8>,
}

impl Channel {
    pub(crate) fn new(number: u16) -> Channel {
        Channel {
            number,
            standing: Standing::Open,
            awaited: VecDeque::new(),
            content: Content::None,
            is_discarded: false,
            method: Vec::new(),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.standing == Standing::Open
    }

    pub(crate) fn set_standing(&mut self, standing: Standing) {
        self.standing = standing;
    }

    /// This answer is to come.
    pub(crate) fn await_answer(&mut self, answer: MethodId) {
        self.awaited.push_back(answer);
    }

    /// Takes a method, but for those that close the channel.
    pub(crate) fn take_method<'a>(
        &mut self,
        id: MethodId,
        method: Method<'a>,
        payload: &[u8],
        output: &mut Output,
    ) -> Result<Taken<'a>, Error> {
        let channel = self.number;
        let event = match method {
            Method::Ack { tag, is_multiple } => Event::Acked { channel, tag, is_multiple },
            Method::Nack { tag, is_multiple } => Event::Nacked { channel, tag, is_multiple },
            Method::Return(_) => {
                self.begin_message(payload, false);
                return Ok(Taken::Nothing);
            }
            Method::Deliver(_) => {
                // Nobody could acknowledge it.
                self.begin_message(payload, !self.is_open());
                return Ok(Taken::Nothing);
            }
            Method::Cancel { consumer, wants_no_answer } => {
                if !wants_no_answer && self.is_open() {
                    put_cancel_ok(output.answer(channel)?, channel, consumer);
                }
                Event::Cancelled { channel, consumer }
            }
            Method::Flow { is_active } => {
                if self.is_open() {
                    put_flow_ok(output.answer(channel)?, channel, is_active);
                }
                Event::Flow { channel, is_active }
            }
            answer => {
                if self.awaited.front() != Some(&id) {
                    return Err(Error::Unexpected(id));
                }
                self.awaited.pop_front();
                self.take_answer(id, answer)?
            }
        };
        Ok(Taken::Event(event))
    }

    fn take_answer<'a>(&self, id: MethodId, answer: Method<'a>) -> Result<Event<'a>, Error> {
        let channel = self.number;
        Ok(match answer {
            Method::ChannelOpenOk => Event::ChannelOpened { channel },
            Method::SelectOk => Event::ConfirmsOn { channel },
            Method::ExchangeDeclareOk => Event::ExchangeDeclared { channel },
            Method::QueueDeclareOk { queue, messages, consumers } => {
                Event::QueueDeclared { channel, queue, messages, consumers }
            }
            Method::QueueBindOk => Event::QueueBound { channel },
            Method::QosOk => Event::PrefetchSet { channel },
            Method::ConsumeOk { consumer } => Event::Consuming { channel, consumer },
            _ => return Err(Error::Unexpected(id)),
        })
    }

    /// The broker closed the channel. Whether it need not be known of any more.
    pub(crate) fn take_refusal(&mut self, output: &mut Output) -> bool {
        if output.is_in_message_of(self.number) {
            // In the middle of a message no other frame of its channel may come.
            output.abandon_message();
            self.standing = Standing::Lost;
            return false;
        }
        put_bare(output.bytes(), self.number, method::CHANNEL_CLOSE_OK);
        // If we closed it, too, the broker still agrees to that.
        self.standing == Standing::Open
    }

    /// Whether the broker may agree that the channel is closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.standing == Standing::Closing
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.standing == Standing::Lost
    }

    /// Whether a message is coming, between whose frames no method may be.
    pub(crate) fn is_in_message(&self) -> bool {
        self.content != Content::None
    }

    /// A message's method came.
    fn begin_message(&mut self, payload: &[u8], is_discarded: bool) {
        self.method.clear();
        self.method.extend_from_slice(payload);
        self.content = Content::Header;
        self.is_discarded = is_discarded;
    }

    /// A message's properties came.
    pub(crate) fn take_header<'a>(&mut self, payload: &'a [u8]) -> Result<Taken<'a>, Error> {
        if self.content != Content::Header {
            return Err(Error::StrayContent);
        }
        let (body_size, properties) =
            properties::parse(payload).map_err(|Malformed| Error::Malformed(None))?;
        self.content =
            if body_size == 0 { Content::None } else { Content::Body { left: body_size } };
        if self.is_discarded {
            return Ok(Taken::Nothing);
        }
        Ok(Taken::Message { channel: self.number, body_size, properties })
    }

    /// A part of a message's body came.
    pub(crate) fn take_body<'a>(&mut self, part: &'a [u8]) -> Result<Taken<'a>, Error> {
        let Content::Body { left } = &mut self.content else { return Err(Error::StrayContent) };
        *left = left.checked_sub(part.len() as u64).ok_or(Error::BodyTooLong)?;
        let left = *left;
        if left == 0 {
            self.content = Content::None;
        }
        if self.is_discarded {
            return Ok(Taken::Nothing);
        }
        Ok(Taken::Event(Event::Body { channel: self.number, part, left }))
    }

    /// The message whose properties came just now.
    pub(crate) fn message<'a>(
        &'a self,
        body_size: u64,
        properties: Properties<'a>,
    ) -> Result<Event<'a>, Error> {
        let channel = self.number;
        match method::parse(&self.method)? {
            (
                _,
                Method::Deliver(method::Deliver {
                    consumer,
                    tag,
                    is_redelivered,
                    exchange,
                    routing_key,
                }),
            ) => Ok(Event::Delivered(Delivery {
                channel,
                consumer,
                tag,
                is_redelivered,
                exchange,
                routing_key,
                properties,
                body_size,
            })),
            (_, Method::Return(method::Return { code, text, exchange, routing_key })) => {
                Ok(Event::Returned(Returned {
                    channel,
                    code,
                    text,
                    exchange,
                    routing_key,
                    properties,
                    body_size,
                }))
            }
            (id, _) => Err(Error::Unexpected(id)),
        }
    }
}
