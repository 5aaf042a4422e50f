//! Delivery: the part of the worker that owns the broker connection. It takes messages in order, publishes
//! each with a confirm, and tells how many, counted from the first, the broker has confirmed. It never gives
//! up: while the broker is away, refuses or is blocked it says why and tries again, and sends everything
//! from the first unconfirmed message on anew.
//!
//! It never waits: the worker's loop steps it. A session is written as the story that it is, with an `await`
//! wherever it has to wait for the broker; what it waits for stands in its [`pause`], and a step goes on with
//! the story from there. There is no runtime, and no thread but a short-lived one that looks a name up and
//! connects ([`dial`]). Nothing here calls PostgreSQL.
//!
//! | file | owns |
//! |---|---|
//! | [`mailbox`], [`update`], [`counts`] | what goes between the worker and the sessions |
//! | [`sessions`], [`publisher`] | one session after the other, and what outlives each |
//! | [`session`], [`verdict`] | one session: its story, and what it sends; what an answer means |
//! | [`failure`], [`backoff`] | why a session ended; how long to wait before the next |
//! | [`window`], [`unconfirmed`] | messages that are not confirmed, in order |
//! | [`policy`], [`refusals`], [`debts`], [`tally`] | exchanges that refuse events: what becomes of these, and who is told |
//! | [`client`] | what a session needs of an AMQP client |
//! | [`rota`], [`shunned`] | which of the broker's addresses is tried next, and which of a name's |
//! | [`broker`], [`dial`], [`transport`], [`connection`] | ours: the broker's address and settings; the way there; the protocol over a socket; what is said over it |
//! | [`message`], [`envelope`], [`spares`] | a message; its AMQP properties; memory for the next one |
//! | [`pause`] | what a step waits for |

mod backoff;
mod broker;
mod client;
mod connection;
mod counts;
mod debts;
mod dial;
mod envelope;
mod failure;
mod mailbox;
mod message;
pub mod pause;
mod policy;
mod publisher;
mod refusals;
mod rota;
mod session;
mod sessions;
mod shunned;
mod spares;
mod tally;
#[cfg(test)]
mod tests;
mod transport;
mod unconfirmed;
mod update;
mod verdict;
mod window;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

pub use broker::{Address, BrokerSettings, Credentials, Secret, Unroutable};
pub use counts::Counts;
pub use debts::Debt;
pub use dial::Spawn;
use mailbox::{Mailbox, Order};
pub use message::{HeaderValue, Message, ResendReason};
use pause::Wants;
pub use policy::Policies;
use publisher::Publisher;
pub use update::Update;

use crate::stream::gap::OwedGap;

/// Messages that may wait for their turn. It would not help to have more of them made.
const MOST_WAITING: usize = 1000;

/// Bytes of messages, waiting or unconfirmed, above which no more are taken.
const MAX_OUTSTANDING_BYTES: usize = 32 * 1024 * 1024;

/// The delivery, as the worker has it.
pub struct Delivery {
    mailbox: Rc<Mailbox>,
    /// One session after the other; none once it was stopped.
    sessions: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Delivery {
    /// Begins with the next step. `spawn` starts the thread that connects.
    pub fn new(settings: BrokerSettings, spawn: Spawn) -> Delivery {
        let mailbox = Rc::<Mailbox>::default();
        let publisher = Publisher::new(Rc::clone(&mailbox), settings, spawn);
        Delivery { mailbox, sessions: Some(Box::pin(sessions::run(publisher))) }
    }

    /// Does what can be done without waiting. `is_readable`: whether the socket that it waits for is worth
    /// reading from.
    pub fn step(&mut self, is_readable: bool) {
        self.mailbox.pause.set_readable(is_readable);
        let mut context = Context::from_waker(Waker::noop());
        if let Some(sessions) = &mut self.sessions
            && sessions.as_mut().poll(&mut context).is_ready()
        {
            self.sessions = None;
        }
    }

    /// What the next step waits for.
    pub fn wants(&self) -> Wants {
        self.mailbox.pause.wants()
    }

    /// Whether a message of this size would be taken now. One message always is when nothing is
    /// outstanding, however large.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        let outstanding = self.mailbox.outstanding_bytes.get();
        let mut waiting = self.mailbox.waiting.borrow_mut();
        waiting.len() < MOST_WAITING
            && waiting.try_reserve(1).is_ok()
            && (outstanding == 0 || outstanding + bytes <= MAX_OUTSTANDING_BYTES)
    }

    /// Whether something was taken that is not confirmed.
    pub fn has_unconfirmed(&self) -> bool {
        self.mailbox.outstanding_bytes.get() > 0
    }

    /// Takes the next message. Only after [`Delivery::has_room_for`]. The next step sends it, if it can.
    pub fn publish(&self, message: Message) {
        let bytes = self.mailbox.outstanding_bytes.get() + message.bytes();
        self.mailbox.outstanding_bytes.set(bytes);
        self.mailbox.waiting.borrow_mut().push_back(message);
    }

    /// Memory for a message, of one that is done with.
    pub fn spare(&self) -> Message {
        self.mailbox.spares.take()
    }

    /// Sets other settings; a new connection is made if they differ, or if the stream stands still: what
    /// it stood still for may have been mended.
    pub fn reconfigure(&self, settings: BrokerSettings) {
        self.order(Order::Settings(Box::new(settings)));
    }

    /// Passes over the message with this message_id, if the stream stands still there.
    pub fn skip(&self, message_id: String) {
        self.order(Order::Skip(message_id));
    }

    /// An exchange is owed this from an earlier life of the worker.
    pub fn owe(&self, debt: Debt) {
        // Too many they are not: that life had a limit, too.
        self.mailbox.debts.borrow_mut().add(debt, None);
    }

    /// What exchanges are owed: for as long as this is not announced, a later life has to know it.
    pub fn owed(&self) -> Vec<OwedGap> {
        self.mailbox.debts.borrow().owed()
    }

    /// How many exchanges are owed something.
    pub fn owed_count(&self) -> usize {
        self.mailbox.debts.borrow().len()
    }

    /// Takes leave of the broker, in the next steps. [`Delivery::is_stopped`] tells when that is done.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    /// Whether nothing more will be done.
    pub fn is_stopped(&self) -> bool {
        self.sessions.is_none()
    }

    fn order(&self, order: Order) {
        self.mailbox.orders.borrow_mut().push_back(order);
    }

    /// What was done so far.
    pub fn done(&self) -> Counts {
        self.mailbox.done.get()
    }

    /// The updates since the last call.
    pub fn take_updates(&self) -> Vec<Update> {
        self.mailbox.updates.take()
    }
}
