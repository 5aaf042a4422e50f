//! What a broker says.

use crate::properties::Properties;
use crate::reply::{Refusal, ReplyCode};
use crate::table::Table;
use crate::text::Text;

/// What came. Texts and bytes are those in the receive buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// It says who it is, and how to log in. What is sent next says who we are.
    Greeted {
        /// Its `product`, `version`, `capabilities` and more.
        server_properties: Table<'a>,
        /// Ways to log in, with blanks between them.
        mechanisms: Text<'a>,
    },
    /// It let us in: channels can be opened.
    Ready,
    /// It does not read from the connection for now: a memory or disk alarm.
    Blocked {
        /// Why.
        reason: Text<'a>,
    },
    /// It reads again.
    Unblocked,
    /// It agreed that the connection is closed.
    Closed,

    /// The channel is open.
    ChannelOpened {
        /// Which one.
        channel: u16,
    },
    /// It closed the channel, because of something that was said on it. What was asked there and not answered is
    /// not answered any more; what was delivered and not acknowledged is delivered again. The number can
    /// be opened anew, but not if this came in the middle of a message to publish.
    ChannelRefused {
        /// Which one.
        channel: u16,
        /// Why.
        refusal: Refusal<'a>,
    },
    /// It agreed that the channel is closed.
    ChannelClosed {
        /// Which one.
        channel: u16,
    },
    /// It wants no messages to be published for now, or again. RabbitMQ never says so.
    Flow {
        /// Where.
        channel: u16,
        /// Whether it wants them.
        is_active: bool,
    },
    /// It confirms what is published from now on.
    ConfirmsOn {
        /// Where.
        channel: u16,
    },

    /// It has a message that was published, or all up to that one that it said nothing of.
    Acked {
        /// Where.
        channel: u16,
        /// The number of the message, counted on its channel from 1.
        tag: u64,
        /// Whether all up to that one.
        is_multiple: bool,
    },
    /// The same, but it could not take the message.
    Nacked {
        /// Where.
        channel: u16,
        /// The number of the message.
        tag: u64,
        /// Whether all up to that one.
        is_multiple: bool,
    },
    /// It gives a message back that was published: no queue is bound for it. It confirms it afterwards.
    Returned(Returned<'a>),

    /// The exchange is there.
    ExchangeDeclared {
        /// Where that was asked.
        channel: u16,
    },
    /// The queue is there.
    QueueDeclared {
        /// Where that was asked.
        channel: u16,
        /// Its name.
        queue: Text<'a>,
        /// Messages in it that nobody was given.
        messages: u32,
        /// Its consumers.
        consumers: u32,
    },
    /// The queue is bound.
    QueueBound {
        /// Where that was asked.
        channel: u16,
    },
    /// The limit of messages under way holds.
    PrefetchSet {
        /// Where.
        channel: u16,
    },
    /// Messages will come.
    Consuming {
        /// Where.
        channel: u16,
        /// The consumer's tag.
        consumer: Text<'a>,
    },
    /// No more messages will come to this consumer: its queue is gone, or it acknowledged nothing for too long.
    /// The channel stays, and so do acknowledgements, which the broker may pass over.
    Cancelled {
        /// Where.
        channel: u16,
        /// The consumer's tag. RabbitMQ wants another one when it consumes again.
        consumer: Text<'a>,
    },
    /// A message came.
    Delivered(Delivery<'a>),

    /// A part of the body of the message that came last on this channel.
    Body {
        /// Where.
        channel: u16,
        /// The part.
        part: &'a [u8],
        /// Bytes that are still to come.
        left: u64,
    },
}

/// A message that was published and came back. If its body is not empty it follows as [`Event::Body`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Returned<'a> {
    /// Where it was published.
    pub channel: u16,
    /// Why.
    pub code: ReplyCode,
    /// Why, in words.
    pub text: Text<'a>,
    /// Where it should have gone.
    pub exchange: Text<'a>,
    /// What it was about.
    pub routing_key: Text<'a>,
    /// What it is.
    pub properties: Properties<'a>,
    /// Bytes of the body.
    pub body_size: u64,
}

/// A message for a consumer. If its body is not empty it follows as [`Event::Body`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delivery<'a> {
    /// Where it came.
    pub channel: u16,
    /// The consumer's tag.
    pub consumer: Text<'a>,
    /// Its number on the channel, to be acknowledged.
    pub tag: u64,
    /// Whether somebody may have been given it before.
    pub is_redelivered: bool,
    /// Where it was published.
    pub exchange: Text<'a>,
    /// What it is about.
    pub routing_key: Text<'a>,
    /// What it is.
    pub properties: Properties<'a>,
    /// Bytes of the body.
    pub body_size: u64,
}
