//! What a session sends: messages while there is room for them, questions about exchanges, and announcements of
//! gaps.

use std::rc::Rc;
use std::time::Instant;

use super::Session;
use crate::delivery::client::{AmqpClient, Standing};
use crate::delivery::failure::{Failure, SessionEnd};
use crate::delivery::message::ResendReason;
use crate::delivery::policy::{Action, Policy};
use crate::delivery::unconfirmed::{Kind, Unconfirmed};

impl<C: AmqpClient> Session<'_, C> {
    /// Sends what may be sent.
    pub(super) async fn send(&mut self) -> Result<(), SessionEnd> {
        while self.connection.make_room() {
            if self.window.is_oldest_due() {
                self.publish_next()?;
                continue;
            }
            if self.window.in_flight() >= self.limit() {
                return Ok(());
            }
            if self.publisher.owes_now() {
                if self.window.in_flight() > 0 || self.blocked {
                    return Ok(());
                }
                self.announce().await?;
                continue;
            }
            if self.window.peek_next().is_none() {
                // If that fails, the message is still waiting.
                self.window.reserve();
                let message = self.publisher.mailbox.waiting.borrow_mut().pop_front();
                match message {
                    Some(message) => self.window.push(message),
                    None => return Ok(()),
                }
            }
            if !self.send_one().await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends the next message, passes it over, or asks whether its exchange is there. Whether to go on.
    async fn send_one(&mut self) -> Result<bool, SessionEnd> {
        if !self.publisher.refusals.is_empty() && self.pass_over_next() {
            return Ok(true);
        }
        let Some(Unconfirmed { message, kind, .. }) = self.window.peek_next() else {
            return Ok(false);
        };
        let may_declare = !message.is_notice();
        let mut is_doubtful = false;
        match self.connection.standing(&message.exchange, may_declare) {
            Standing::Unknown => {
                // While it is blocked, the broker would not hear the question.
                if !self.blocked {
                    let exchange = Rc::clone(&message.exchange);
                    self.ask(&exchange, may_declare).await?;
                }
                return Ok(!self.blocked);
            }
            Standing::Missing(reason) if *kind == Kind::Event && message.is_notice() => {
                self.publisher.refusals.note_message(message, reason);
                return Ok(true);
            }
            Standing::Missing(reason)
                if *kind == Kind::Event && self.policy(message).passes_over() =>
            {
                let exchange = Rc::clone(&message.exchange);
                self.publisher.refuse(&exchange, reason);
                return Ok(true);
            }
            Standing::Missing(_) => is_doubtful = true,
            Standing::There => {}
        }
        is_doubtful |=
            !self.publisher.refusals.is_empty() && self.publisher.refusals.is_doubtful(message);
        if is_doubtful {
            // What the broker closes the channel for takes nothing else with it.
            if self.window.in_flight() > 0 {
                return Ok(false);
            }
            self.window.suspect_next();
        }
        self.publish_next()?;
        Ok(true)
    }

    fn publish_next(&mut self) -> Result<(), Failure> {
        if self.window.in_flight() == 0 {
            self.progress_at = Instant::now();
        }
        let Some((message, resent)) = self.window.send_next() else { return Ok(()) };
        self.bytes_in_flight += message.body.len();
        self.connection.publish(Rc::clone(message), resent)?;
        let is_resent = resent.is_some_and(ResendReason::is_certain);
        self.publisher.count(|done| {
            done.published += 1;
            done.resent += u64::from(is_resent);
        });
        Ok(())
    }

    /// Does with the next message what is done with one of which it is known that it would be refused. Whether
    /// it is such a one.
    fn pass_over_next(&mut self) -> bool {
        let Some(Unconfirmed { message, kind: Kind::Event, .. }) = self.window.peek_next() else {
            return false;
        };
        let Policy { action, .. } = self.policy(message);
        let Some(why) = self.publisher.refusals.why(message, Instant::now()) else { return false };
        match action {
            Action::Hold => return false,
            Action::Skip => self.window.pass_over_next(why),
            Action::DeadLetter => {
                let exchange = self.publisher.settings.policies.dead_letter_exchange();
                self.window.redirect_next(exchange, why);
            }
        }
        true
    }

    /// Announces a gap that is due, alone on the connection: it tells whether the exchange takes messages again.
    async fn announce(&mut self) -> Result<(), SessionEnd> {
        let debt = self.publisher.mailbox.debts.borrow().due(Instant::now()).cloned();
        let Some(debt) = debt else { return Ok(()) };
        let exchange = &debt.owed.exchange;
        // Nobody wants an exchange for nothing but the announcement.
        let may_declare = self.publisher.refusals.until(exchange).is_some();
        if let Standing::Missing(_) = self.connection.standing(exchange, may_declare) {
            self.connection.forget(exchange);
        }
        match self.ask(exchange, may_declare).await? {
            Standing::Missing(reason) => self.publisher.refuse(exchange, reason),
            _ if self.connection.make_room() => {
                self.window.insert_gap(debt.announcement());
                self.window.suspect_next();
                self.publish_next()?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Messages in flight at most.
    fn limit(&self) -> usize {
        if self.window.is_one_at_a_time() { 1 } else { self.max_in_flight }
    }

    /// Asks about an exchange, unless it is known, and waits for the answer.
    async fn ask(&mut self, exchange: &str, may_declare: bool) -> Result<Standing, SessionEnd> {
        let mut deadline = Instant::now() + self.answer_timeout;
        loop {
            match self.connection.standing(exchange, may_declare) {
                Standing::Unknown => {}
                known => return Ok(known),
            }
            if self.blocked {
                // The broker does not hear it for now.
                deadline = Instant::now() + self.answer_timeout;
            }
            if Instant::now() >= deadline {
                let timeout = self.answer_timeout;
                let text = format!("broker did not answer about an exchange within {timeout:?}");
                return Err(Failure::of_connection(text).into());
            }
            self.connection.ask(exchange, may_declare)?;
            self.wait(Some(deadline)).await?;
            self.publisher.obey()?;
            self.hear()?;
        }
    }
}
