//! The messages that are not confirmed yet, in order. Pure.

use std::collections::VecDeque;
use std::rc::Rc;

use super::message::{Message, ResendReason};
use crate::memory;

/// What the broker says about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has it (`basic.ack`).
    Confirmed,
    /// No queue is bound for it (`basic.return`, and then `basic.ack`).
    Returned,
    /// It could not take it (`basic.nack`).
    Refused,
}

/// The unconfirmed messages, oldest first; those in flight come first.
#[derive(Debug, Default)]
pub struct Window {
    messages: VecDeque<Unconfirmed>,
    /// So many are in flight.
    sent: usize,
    /// Delivery tag of the oldest message when it is sent: tags count what a channel publishes, from 1.
    oldest_tag: u64,
    /// So many, the oldest, are sent one at a time: the broker objected to one of them.
    suspects: usize,
}

#[derive(Debug)]
struct Unconfirmed {
    message: Rc<Message>,
    resent: Option<ResendReason>,
    answer: Option<Answer>,
    returned: bool,
}

impl Unconfirmed {
    /// A message about which the broker has said nothing.
    fn new(message: Rc<Message>, resent: Option<ResendReason>) -> Unconfirmed {
        Unconfirmed { message, resent, answer: None, returned: false }
    }
}

impl Window {
    /// A new channel is open, with nothing in flight.
    pub fn begin(&mut self) {
        self.oldest_tag = 1;
    }

    /// Makes room for a message that [`Window::push`] will add.
    pub fn reserve(&mut self) {
        memory::reserve_place(&mut self.messages);
    }

    /// Adds the message that follows all others.
    pub fn push(&mut self, message: Message) {
        let resent = message.resent;
        self.messages.push_back(Unconfirmed::new(Rc::new(message), resent));
    }

    /// The message to send next, with the reason if it was sent before, and counts it as sent.
    pub fn send_next(&mut self) -> Option<(&Rc<Message>, Option<ResendReason>)> {
        let next = self.messages.get(self.sent)?;
        self.sent += 1;
        Some((&next.message, next.resent))
    }

    /// The message to send next.
    pub fn peek_next(&self) -> Option<&Message> {
        self.messages.get(self.sent).map(|next| next.message.as_ref())
    }

    /// The oldest message.
    pub fn front(&self) -> Option<&Message> {
        self.messages.front().map(|oldest| oldest.message.as_ref())
    }

    /// Whether messages are sent one at a time for now.
    pub fn is_one_at_a_time(&self) -> bool {
        self.suspects > 0
    }

    /// Messages sent and not confirmed.
    pub fn in_flight(&self) -> usize {
        self.sent
    }

    /// The broker's answer to the message with this delivery tag, or to all up to it that have none
    /// yet. Answers to what is not in flight any more are passed over.
    pub fn answer(&mut self, tag: u64, is_multiple: bool, answer: Answer) {
        let last = tag.checked_sub(self.oldest_tag).and_then(|last| usize::try_from(last).ok());
        let Some(last) = last.filter(|&last| last < self.sent) else { return };
        let first = if is_multiple { 0 } else { last };
        for message in self.messages.range_mut(first..=last) {
            let answer = if message.returned && answer == Answer::Confirmed {
                Answer::Returned
            } else {
                answer
            };
            message.answer.get_or_insert(answer);
        }
    }

    /// The broker returned the message in flight with this message_id; it confirms it afterwards.
    pub fn mark_returned(&mut self, message_id: &str) {
        let mut in_flight = self.messages.iter_mut().take(self.sent);
        if let Some(message) = in_flight.find(|one| one.message.message_id == message_id) {
            message.returned = true;
        }
    }

    /// The oldest message in flight, if the broker has said something about it.
    pub fn oldest_answered(&self) -> Option<(Answer, &Message)> {
        let oldest = self.messages.front()?;
        Some((oldest.answer?, &oldest.message))
    }

    /// The oldest message in flight is done with.
    pub fn confirm_oldest(&mut self) -> Option<Rc<Message>> {
        self.sent = self.sent.checked_sub(1)?;
        self.oldest_tag += 1;
        self.remove_front()
    }

    /// Takes the oldest message out, if it has this message_id and is not under way.
    pub fn skip(&mut self, message_id: &str) -> Option<Rc<Message>> {
        let is_it = self.sent == 0 && self.front()?.message_id == message_id;
        is_it.then(|| self.remove_front()).flatten()
    }

    fn remove_front(&mut self) -> Option<Rc<Message>> {
        self.suspects = self.suspects.saturating_sub(1);
        self.messages.pop_front().map(|removed| removed.message)
    }

    /// The broker objected to one of the messages in flight. Which one shows when each is alone.
    pub fn suspect_all_in_flight(&mut self) {
        self.suspects = self.suspects.max(self.sent);
    }

    /// Everything unconfirmed is to be sent again, in order.
    pub fn rewind(&mut self, reason: ResendReason) {
        for sent in self.messages.iter_mut().take(self.sent) {
            *sent = Unconfirmed::new(Rc::clone(&sent.message), Some(reason));
        }
        self.oldest_tag += self.sent as u64;
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> Message {
        Message {
            exchange: Default::default(),
            routing_key: Default::default(),
            body: Vec::new(),
            message_id: id.to_owned(),
            timestamp: 0,
            kind: "insert",
            headers: Vec::new(),
            resent: None,
        }
    }

    fn send(window: &mut Window) -> Option<(String, Option<ResendReason>)> {
        window.send_next().map(|(message, resent)| (message.message_id.clone(), resent))
    }

    #[test]
    fn what_is_unconfirmed_is_sent_again_in_order_and_says_so() {
        let mut window = Window::default();
        for id in ["a", "b", "c", "d"] {
            window.push(message(id));
        }
        for id in ["a", "b", "c"] {
            assert_eq!(send(&mut window), Some((id.to_owned(), None)));
        }
        assert_eq!(window.confirm_oldest().unwrap().message_id, "a");
        window.rewind(ResendReason::Nack);
        assert_eq!(window.in_flight(), 0);
        assert_eq!(send(&mut window), Some(("b".to_owned(), Some(ResendReason::Nack))));
        assert_eq!(send(&mut window), Some(("c".to_owned(), Some(ResendReason::Nack))));
        assert_eq!(send(&mut window), Some(("d".to_owned(), None)));
        assert_eq!(send(&mut window), None);
    }

    #[test]
    fn what_an_earlier_life_may_have_sent_says_so_until_more_is_known() {
        let mut window = Window::default();
        window.push(Message { resent: Some(ResendReason::Restart), ..message("a") });
        assert_eq!(send(&mut window), Some(("a".to_owned(), Some(ResendReason::Restart))));
        window.rewind(ResendReason::Reconnect);
        assert_eq!(send(&mut window), Some(("a".to_owned(), Some(ResendReason::Reconnect))));
    }

    fn window(sent: &[&str]) -> Window {
        let mut window = Window::default();
        window.begin();
        for id in sent {
            window.push(message(id));
            send(&mut window);
        }
        window
    }

    /// Takes what is answered without a gap.
    fn settle(window: &mut Window) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some((answer, _)) = window.oldest_answered() {
            answers.push(answer);
            window.confirm_oldest();
        }
        answers
    }

    #[test]
    fn an_answer_counts_when_all_before_it_have_one() {
        use Answer::{Confirmed, Refused};
        let mut window = window(&["a", "b", "c", "d", "e"]);
        window.answer(2, false, Confirmed);
        window.answer(4, false, Refused);
        assert_eq!(settle(&mut window), []);
        window.answer(1, false, Confirmed);
        assert_eq!(settle(&mut window), [Confirmed, Confirmed]);
        // Up to the fifth, of which the fourth has its answer.
        window.answer(5, true, Confirmed);
        assert_eq!(settle(&mut window), [Confirmed, Refused, Confirmed]);
        assert_eq!(window.in_flight(), 0);
    }

    #[test]
    fn answers_to_what_is_not_in_flight_are_passed_over() {
        use Answer::Confirmed;
        let mut window = window(&["a", "b"]);
        window.answer(7, false, Confirmed);
        assert_eq!(settle(&mut window), []);
        window.rewind(ResendReason::Reconnect);
        send(&mut window);
        // They were published first and second, and are the third and the fourth now.
        window.answer(2, true, Confirmed);
        assert_eq!(settle(&mut window), []);
        window.answer(3, false, Confirmed);
        assert_eq!(settle(&mut window), [Confirmed]);
        send(&mut window);
        for tag in [0, 5, u64::MAX] {
            window.answer(tag, true, Confirmed);
            assert_eq!(settle(&mut window), []);
        }
        window.answer(4, true, Confirmed);
        assert_eq!(settle(&mut window), [Confirmed]);
    }

    #[test]
    fn a_message_that_was_returned_is_not_confirmed() {
        use Answer::{Confirmed, Returned};
        let mut window = window(&["a", "b", "c"]);
        window.mark_returned("b");
        window.mark_returned("unknown");
        window.answer(3, true, Confirmed);
        assert_eq!(settle(&mut window), [Confirmed, Returned, Confirmed]);
        let mut window = self::window(&["a"]);
        window.mark_returned("a");
        window.rewind(ResendReason::Reconnect);
        send(&mut window);
        window.answer(2, false, Confirmed);
        assert_eq!(settle(&mut window), [Confirmed]);
    }

    #[test]
    fn only_what_was_sent_can_be_confirmed() {
        let mut window = Window::default();
        window.push(message("a"));
        assert_eq!(window.confirm_oldest(), None);
        window.send_next();
        assert!(window.confirm_oldest().is_some());
        assert_eq!(window.confirm_oldest(), None);
    }

    #[test]
    fn what_the_broker_objected_to_is_sent_one_at_a_time() {
        let mut window = Window::default();
        for id in ["a", "b", "c"] {
            window.push(message(id));
        }
        send(&mut window);
        send(&mut window);
        window.suspect_all_in_flight();
        window.rewind(ResendReason::Reconnect);
        for id in ["a", "b"] {
            assert!(window.is_one_at_a_time());
            assert_eq!(send(&mut window).unwrap().0, id);
            window.confirm_oldest();
        }
        assert!(!window.is_one_at_a_time());
    }

    #[test]
    fn only_the_oldest_message_can_be_skipped_and_only_by_its_name() {
        let mut window = Window::default();
        window.push(message("a"));
        window.push(message("b"));
        send(&mut window);
        assert_eq!(window.skip("a"), None);
        window.rewind(ResendReason::Reconnect);
        assert_eq!(window.skip("b"), None);
        assert!(window.skip("a").is_some());
        assert_eq!(send(&mut window), Some(("b".to_owned(), None)));
    }
}
