//! What the worker and the sessions share: messages and orders go one way, updates and counts the other.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::broker::BrokerSettings;
use super::counts::Counts;
use super::debts::Debts;
use super::message::Message;
use super::pause::Pause;
use super::spares::Spares;
use super::update::Update;

/// What the worker wants.
pub enum Order {
    Settings(Box<BrokerSettings>),
    /// Pass over the message with this message_id.
    Skip(String),
    Stop,
}

/// What the worker and the sessions share.
#[derive(Default)]
pub struct Mailbox {
    /// Messages that no session has taken yet.
    pub waiting: RefCell<VecDeque<Message>>,
    pub orders: RefCell<VecDeque<Order>>,
    pub updates: RefCell<Vec<Update>>,
    pub done: Cell<Counts>,
    /// Bytes of bodies that are waiting or unconfirmed.
    pub outstanding_bytes: Cell<usize>,
    /// What exchanges are owed.
    pub debts: RefCell<Debts>,
    pub spares: Spares,
    pub pause: Pause,
}
