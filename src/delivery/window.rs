//! The messages that are not confirmed yet, in order. Pure.

use std::collections::VecDeque;
use std::rc::Rc;

use super::message::{Message, ResendReason, Why};
use super::unconfirmed::{Answer, Kind, Unconfirmed};
use crate::memory;

/// The unconfirmed messages, oldest first; those in flight come first.
#[derive(Debug, Default)]
pub struct Window {
    messages: VecDeque<Unconfirmed>,
    /// So many are in flight.
    sent: usize,
    /// How many were there before the oldest.
    before: u64,
    /// Delivery tag of the message that was published last: tags count what a channel publishes, from 1.
    last_tag: u64,
    /// What was published and has no answer: tag and number of the message. In the order of both, but for an
    /// oldest message that was published once more.
    unanswered: VecDeque<(u64, u64)>,
    /// So many, the oldest, are sent one at a time: the broker objected to one of them.
    suspects: usize,
}

impl Window {
    /// Begins to count tags anew: a new channel is open, with nothing in flight.
    pub fn begin(&mut self) {
        self.last_tag = 0;
        self.unanswered.clear();
    }

    /// Makes room for a message that [`Window::push`] will add.
    pub fn reserve(&mut self) {
        memory::reserve_place(&mut self.messages);
    }

    /// Adds the message that follows all others.
    pub fn push(&mut self, message: Message) {
        self.messages.push_back(Unconfirmed::new(message, Kind::Event));
    }

    /// Adds the announcement of a gap, to be sent next.
    pub fn insert_gap(&mut self, announcement: Message) {
        self.reserve();
        self.messages.insert(self.sent, Unconfirmed::new(announcement, Kind::Gap));
        if self.sent < self.suspects {
            self.suspects += 1;
        }
    }

    /// Returns the message to send next, with the reason if it was sent before, and counts it as sent.
    pub fn send_next(&mut self) -> Option<(&Rc<Message>, Option<ResendReason>)> {
        let at = match self.messages.front() {
            Some(oldest) if oldest.is_due => 0,
            _ => self.sent,
        };
        let next = self.messages.get_mut(at)?;
        memory::reserve_place(&mut self.unanswered);
        next.is_due = false;
        self.sent = self.sent.max(at + 1);
        self.last_tag += 1;
        self.unanswered.push_back((self.last_tag, self.before + at as u64));
        Some((&next.message, next.resent))
    }

    /// Returns the message to send next.
    pub fn peek_next(&self) -> Option<&Unconfirmed> {
        self.messages.get(self.sent)
    }

    /// Returns true if the oldest message is to be published once more, ahead of all others.
    pub fn is_oldest_due(&self) -> bool {
        self.messages.front().is_some_and(|oldest| oldest.is_due)
    }

    /// Returns the oldest message.
    pub fn oldest(&self) -> Option<&Unconfirmed> {
        self.messages.front()
    }

    /// Returns true if messages are sent one at a time for now.
    pub fn is_one_at_a_time(&self) -> bool {
        self.suspects > 0
    }

    /// Messages sent and not confirmed.
    pub fn in_flight(&self) -> usize {
        self.sent
    }

    /// Takes the broker's answer to the message with this delivery tag, or to all up to it that have none
    /// yet. Answers to what is not in flight any more are passed over.
    pub fn answer(&mut self, tag: u64, is_multiple: bool, answer: Answer) {
        if tag > self.last_tag {
            return;
        }
        if is_multiple {
            while let Some((_, number)) = self.unanswered.pop_front_if(|&mut (one, _)| one <= tag) {
                self.set_answer(number, answer);
            }
        } else if let Ok(at) = self.unanswered.binary_search_by_key(&tag, |&(one, _)| one)
            && let Some((_, number)) = self.unanswered.remove(at)
        {
            self.set_answer(number, answer);
        }
    }

    fn set_answer(&mut self, number: u64, answer: Answer) {
        let at = number.checked_sub(self.before);
        let Some(message) = at.and_then(|at| self.messages.get_mut(at as usize)) else { return };
        let is_returned = message.returned && answer == Answer::Confirmed;
        message.answer = Some(if is_returned { Answer::Returned } else { answer });
    }

    /// Notes that the broker returned the message in flight with this message_id that went to this exchange; it
    /// confirms it afterwards.
    pub fn mark_returned(&mut self, exchange: &str, message_id: &str) {
        let mut in_flight = self.messages.iter_mut().take(self.sent);
        let is_it = |one: &&mut Unconfirmed| {
            one.message.message_id == message_id && &*one.message.exchange == exchange
        };
        if let Some(message) = in_flight.find(is_it) {
            message.returned = true;
        }
    }

    /// Returns the oldest message in flight, if something is known about it.
    pub fn oldest_answered(&self) -> Option<(Answer, &Unconfirmed)> {
        let oldest = self.messages.front()?;
        Some((oldest.answer?, oldest))
    }

    /// Takes out the oldest message in flight, which is done with.
    pub fn confirm_oldest(&mut self) -> Option<Unconfirmed> {
        self.sent = self.sent.checked_sub(1)?;
        self.remove_front()
    }

    /// Takes the oldest message out, if it has this message_id and is not under way.
    pub fn skip(&mut self, message_id: &str) -> Option<Unconfirmed> {
        let is_it = self.sent == 0 && self.oldest()?.message.message_id == message_id;
        is_it.then(|| self.remove_front()).flatten()
    }

    fn remove_front(&mut self) -> Option<Unconfirmed> {
        self.suspects = self.suspects.saturating_sub(1);
        let removed = self.messages.pop_front()?;
        self.before += 1;
        Some(removed)
    }

    /// Passes over the message to send next: it counts as in flight, and as answered.
    pub fn pass_over_next(&mut self, why: Why) {
        if let Some(next) = self.messages.get_mut(self.sent) {
            (next.answer, next.why) = (Some(Answer::PassedOver), Some(why));
            self.sent += 1;
        }
    }

    /// Sends the message that is next to this exchange instead.
    pub fn redirect_next(&mut self, exchange: &str, why: Why) {
        if let Some(next) = self.messages.get_mut(self.sent) {
            next.become_dead_letter(exchange, why);
        }
    }

    /// Publishes the oldest message, in flight and answered, to this exchange, in its place.
    pub fn redirect_oldest(&mut self, exchange: &str, why: Why) {
        if let Some(oldest) = self.messages.front_mut() {
            oldest.become_dead_letter(exchange, why);
            oldest.is_due = true;
        }
    }

    /// Sends what went elsewhere instead, and is not confirmed, where it belongs again.
    pub fn revive(&mut self) {
        self.messages.iter_mut().for_each(Unconfirmed::revive);
    }

    /// Has the messages in flight sent one at a time: the broker objected to one of them, and which one shows when
    /// each is alone.
    pub fn suspect_all_in_flight(&mut self) {
        self.suspects = self.suspects.max(self.sent);
    }

    /// Has the next message sent alone, to which the broker may object. Only while nothing is in flight.
    pub fn suspect_next(&mut self) {
        self.suspects = self.suspects.max(1);
    }

    /// Has everything unconfirmed sent again, in order, but for what announces a gap.
    pub fn rewind(&mut self, reason: ResendReason) {
        let is_gap = |one: &Unconfirmed| one.kind == Kind::Gap;
        let gaps = self.messages.iter().take(self.suspects).filter(|one| is_gap(one)).count();
        for one in self.messages.iter_mut().take(self.sent) {
            // What was not sent is not sent again.
            if one.answer != Some(Answer::PassedOver) && !one.is_due {
                one.resent = Some(reason);
            }
            one.forget_answer();
        }
        self.messages.retain(|one| !is_gap(one));
        self.suspects -= gaps;
        self.unanswered.clear();
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests;
