//! What the sessions with the broker have in common and what outlives each of them: the settings, what was
//! refused, what exchanges are owed, and the mailbox to the worker.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Instant;

use super::broker::BrokerSettings;
use super::counts::Counts;
use super::debts::Debt;
use super::dial::{Dialler, Spawn};
use super::failure::{Failure, SessionEnd};
use super::mailbox::{Mailbox, Order};
use super::message::{Message, Why};
use super::pause::Wants;
use super::refusals::{ASK_AGAIN, Refusals};
use super::tally::Tally;
use super::unconfirmed::{Kind, Unconfirmed};
use super::update::Update;
use crate::memory;

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its turn has not come.
    Waiting,
    /// It tries to connect.
    Connecting,
    /// It is connected.
    Connected,
}

/// The sessions' side of the mailbox, and what outlives a session.
pub struct Publisher {
    pub mailbox: Rc<Mailbox>,
    pub spawn: Spawn,
    pub dialler: Dialler,
    pub settings: BrokerSettings,
    /// How far the session has come.
    pub reach: Reach,
    /// Whether the stream stands still.
    pub stands_still: bool,
    /// Hosts of which it was said that what goes there is not secured, and whether it goes in clear.
    pub hosts_warned_of: HashSet<(String, bool)>,
    pub refusals: Refusals,
    pub tally: Tally,
}

impl Publisher {
    /// For these settings, before the first session. `spawn` starts the thread that connects.
    pub fn new(mailbox: Rc<Mailbox>, settings: BrokerSettings, spawn: Spawn) -> Publisher {
        Publisher {
            mailbox,
            spawn,
            dialler: Dialler::default(),
            settings,
            reach: Reach::Waiting,
            stands_still: false,
            hosts_warned_of: HashSet::new(),
            refusals: Refusals::default(),
            tally: Tally::default(),
        }
    }

    /// Tells the worker.
    pub fn report(&mut self, report: Update) {
        self.stands_still |= matches!(report, Update::StandingStill { .. });
        memory::push(&mut self.mailbox.updates.borrow_mut(), report);
    }

    /// Counts what was done.
    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut done = self.mailbox.done.get();
        change(&mut done);
        self.mailbox.done.set(done);
    }

    /// How many messages are confirmed.
    pub fn confirmed(&self) -> u64 {
        self.mailbox.done.get().confirmed
    }

    /// Counts the oldest event as confirmed.
    pub fn confirm(&mut self, done: &Unconfirmed) {
        let bytes = self.mailbox.outstanding_bytes.get() - done.size;
        self.mailbox.outstanding_bytes.set(bytes);
        self.count(|done| done.confirmed += 1);
        self.stands_still = false;
    }

    /// Takes note that the broker has the oldest message.
    pub fn finish(&mut self, done: &Unconfirmed) {
        let Unconfirmed { message, kind, .. } = done;
        match kind {
            Kind::Event => {
                self.confirm(done);
                self.mailbox.debts.borrow_mut().hasten(&message.exchange);
            }
            Kind::DeadLetter(origin) => {
                self.confirm(done);
                self.count(|done| done.dead_lettered += 1);
                self.owe(message, &origin.exchange);
                self.tell(&origin.exchange, &origin.reason, true);
            }
            Kind::Gap => {
                self.mailbox.debts.borrow_mut().pay(&message.exchange, &message.message_id);
                self.report(Update::Notice(format!(
                    "exchange \"{}\" was told that events are missing",
                    message.exchange
                )));
            }
        }
        if !self.refusals.is_empty() && self.refusals.lift(message) {
            self.report(Update::Refusing(self.refusals.shown()));
        }
    }

    /// Takes note that the oldest event does not go to its exchange.
    pub fn pass_over(&mut self, done: &Unconfirmed, why: &Why) {
        self.confirm(done);
        self.count(|done| done.passed_over += 1);
        self.owe(&done.message, &done.message.exchange);
        self.tell(&done.message.exchange, &why.reason, false);
    }

    /// Returns true if it is time to announce a gap.
    pub fn owes_now(&self) -> bool {
        let debts = self.mailbox.debts.borrow();
        !debts.is_empty() && debts.due(Instant::now()).is_some()
    }

    /// Notes what this exchange is owed: events did not go there, the last of them with this message.
    pub fn owe(&mut self, message: &Message, exchange: &Rc<str>) {
        let until = self.refusals.until(exchange);
        let forgotten = self.mailbox.debts.borrow_mut().add(Debt::of(message, exchange), until);
        if let Some(debt) = forgotten {
            let exchange = debt.owed.exchange;
            self.report(Update::Notice(format!(
                "exchange \"{exchange}\" is not told that events are missing: too many exchanges are to be"
            )));
        }
    }

    /// Says now and then that events do not go to this exchange.
    fn tell(&mut self, exchange: &Rc<str>, reason: &str, is_dead_letter: bool) {
        if let Some(count) = self.tally.add(exchange, Instant::now()) {
            let (exchange, reason) = (exchange.to_string(), reason.to_owned());
            self.report(Update::PassedOver { exchange, count, reason, is_dead_letter });
        }
    }

    /// Takes note that the exchange takes nothing, not even what it is owed.
    pub fn refuse(&mut self, exchange: &Rc<str>, reason: Rc<str>) {
        let now = Instant::now();
        self.mailbox.debts.borrow_mut().postpone(exchange, now + ASK_AGAIN, true);
        if self.settings.policies.of(exchange).passes_over() {
            self.refusals.note_exchange(exchange, reason, now);
            self.report(Update::Refusing(self.refusals.shown()));
        }
    }

    /// Tells the worker that the stream stands still, and why.
    pub fn report_standstill(&mut self, failure: &Failure) {
        let confirmed = self.confirmed();
        self.report(Update::StandingStill {
            reason: failure.to_string(),
            kind: failure.words().to_owned(),
            held: failure.held(),
            confirmed,
        });
    }

    /// Waits for the next step, which is to come at this time at the latest.
    pub async fn pause_until(&self, until: Instant) {
        self.mailbox.pause.wait(Wants { socket: None, until: Some(until) }).await;
    }

    /// Takes new settings, if there are any, and orders.
    ///
    /// # Errors
    ///
    /// What ends the session, if something does.
    pub fn obey(&mut self) -> Result<(), SessionEnd> {
        let mut result = Ok(());
        loop {
            let order = self.mailbox.orders.borrow_mut().pop_front();
            match order {
                Some(Order::Settings(settings)) => {
                    if *settings != self.settings || self.stands_still {
                        self.settings = *settings;
                        result = Err(SessionEnd::Reconfigured);
                    }
                    self.refusals.expire();
                    self.mailbox.debts.borrow_mut().hasten_all();
                }
                // That makes a new connection, too.
                Some(Order::Skip(message_id)) => return Err(SessionEnd::Skip(message_id)),
                Some(Order::Stop) => return Err(SessionEnd::Stopped),
                None => return result,
            }
        }
    }
}
