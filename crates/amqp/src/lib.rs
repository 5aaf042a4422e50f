//! AMQP 0-9-1 as a protocol without I/O: bytes in, events out, bytes to send out, and when to be woken. It
//! publishes and consumes. There is no socket here, no clock, no thread and no unsafe code: whoever owns a
//! [`Connection`] reads, writes and waits, over TCP, over TLS, or in a test over nothing at all.
//!
//! # How it is driven
//!
//! ```
//! # use std::io::{Read, Result, Write};
//! # use std::time::Instant;
//! # use amqp::{Connection, Event};
//! /// One round, over anything that reads and writes and does not block.
//! fn step(transport: &mut (impl Read + Write), amqp: &mut Connection) -> Result<()> {
//!     let count = transport.read(amqp.room())?; // 0: `amqp.hung_up()` says what that means
//!     amqp.received(count, Instant::now());
//!     while let Some(event) = amqp.next_event().map_err(std::io::Error::other)? {
//!         println!("{event:?}"); // and say something: `amqp.publish(…)`, `amqp.ack(…)`
//!     }
//!     amqp.wake(Instant::now()).map_err(std::io::Error::other)?; // heartbeats and deadlines
//!     let count = transport.write(amqp.to_send())?;
//!     amqp.sent(count, Instant::now());
//!     Ok(()) // and wait until there is something to read, until `amqp.wake_at()` at most
//! }
//! ```
//!
//! README.md has a publisher and a consumer.
//!
//! # What shaped it
//!
//! - **Nothing is copied that need not be, and nothing is allocated for a message or a confirm.** What is
//!   received is read into a buffer of this crate and looked at there: an [`Event`] borrows its texts, tables
//!   and parts of bodies from it, and so lives until the next call. What is said goes straight into one buffer
//!   of outgoing bytes. A body is taken in pieces as there is room ([`Connection::put_body`]): of one of 200
//!   megabytes there are never more than some 200 kilobytes here.
//! - **Memory has a limit that the peer does not choose**: two frames of input, and per channel that was opened
//!   the answers that it was asked for and the method of the message that is coming. A message's body is its
//!   consumer's to keep or not; who does not want more, does not read
//!   ([`Connection::excuse_silence`]). Tables are looked into when somebody asks, one level at a time
//!   ([`table`]): nothing recurses.
//! - **A channel is a number** that its owner chooses. On a channel everything is answered in order, so requests
//!   need not wait for one another: declare, bind, set the prefetch and consume can be one write.
//! - **What a broker refuses ends no more than it must**: [`Event::ChannelRefused`] ends a channel, [`Error`] the
//!   connection. Both tell with the broker's code and words what it was; what to make of that is the owner's
//!   business. A refusal without a word is avoided where it is known (limits that RabbitMQ hangs up at,
//!   a login that it would not read), and is else [`Error::HungUp`], with how far things had come.
//! - **What was said too late goes nowhere.** The broker closes a channel at any time; who has not heard of
//!   that yet may still acknowledge or ask. On the wire that would close the connection, or mean another delivery.
//! - **All that a broker can say is an event or a named error.** What is no answer to a question is an error,
//!   too.
//! - Left out: transactions, `basic.get`, nack and reject by a consumer (on quorum queues they change the order:
//!   close the channel), `basic.cancel` by a consumer (it does, too), and deleting things.
//!
//! # Where to find what
//!
//! | module | owns |
//! |---|---|
//! | `connection` | the door: [`Connection`] |
//! | `session` | handshake, limits, which channels there are |
//! | `channel` | what is awaited on one channel, and the message that is coming on it |
//! | `event`, `error`, `reply` | what comes out |
//! | `login`, `request` | what goes in |
//! | `method`, `properties`, [`table`], `text` | what frames hold |
//! | `frame`, `bytes` | how it lies on the wire |
//! | `input`, `output`, `pulse` | the buffers, and the time |

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bytes;
mod channel;
mod connection;
mod error;
mod event;
mod frame;
mod input;
mod login;
mod method;
mod output;
mod properties;
mod pulse;
mod reply;
mod request;
mod session;
pub mod table;
mod text;

/// What README.md shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use bytes::short;
pub use connection::Connection;
pub use error::{Error, Phase};
pub use event::{Delivery, Event, Returned};
pub use login::{Credentials, Login};
pub use method::MethodId;
pub use properties::Properties;
pub use reply::{Refusal, ReplyCode};
pub use request::{Consume, ExchangeDeclare, NotSent, Publish, QueueBind, QueueDeclare};
pub use table::{Table, TableBuf, Value};
pub use text::Text;
