//! The messages that are not confirmed yet, in order. Pure.

use std::collections::VecDeque;
use std::rc::Rc;

use super::message::{Message, Origin, ResendReason};
use super::refusals::Why;
use crate::memory;

/// What is known of a message in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The broker has it (`basic.ack`).
    Confirmed,
    /// No queue is bound for it (`basic.return`, and then `basic.ack`).
    Returned,
    /// The broker could not take it (`basic.nack`).
    Refused,
    /// It was not sent, and will not be.
    PassedOver,
}

/// What a message is to the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The message of an event.
    Event,
    /// The same, on its way to the dead-letter exchange.
    DeadLetter(Origin),
    /// Announces that events did not go to its exchange. The stream does not know of it.
    Gap,
}

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

/// One message.
#[derive(Debug)]
pub struct Unconfirmed {
    pub message: Rc<Message>,
    pub kind: Kind,
    /// Why it does not go to its exchange, if so.
    pub why: Option<Why>,
    /// Bytes of the body that it had first.
    pub size: usize,
    resent: Option<ResendReason>,
    answer: Option<Answer>,
    returned: bool,
    /// Whether it is to be published, though it is in flight.
    is_due: bool,
}

impl Unconfirmed {
    /// A message about which the broker has said nothing.
    fn new(message: Message, kind: Kind) -> Unconfirmed {
        Unconfirmed {
            resent: message.resent,
            size: message.body.len(),
            message: Rc::new(message),
            kind,
            why: None,
            answer: None,
            returned: false,
            is_due: false,
        }
    }

    /// Nothing is known of it any more.
    fn forget_answer(&mut self) {
        (self.answer, self.returned, self.is_due, self.why) = (None, false, false, None);
    }

    /// The message, to be changed. What the socket still holds of it stays as it was.
    fn message_mut(&mut self) -> &mut Message {
        Rc::make_mut(&mut self.message)
    }

    /// It goes to another exchange from now on.
    fn become_dead_letter(&mut self, exchange: &str, why: Why) {
        self.kind = Kind::DeadLetter(self.message_mut().become_dead_letter(exchange, &why));
        self.forget_answer();
    }

    /// It goes where it belongs again.
    fn revive(&mut self) {
        if matches!(self.kind, Kind::DeadLetter(_)) {
            let message = Rc::make_mut(&mut self.message);
            if let Kind::DeadLetter(origin) = std::mem::replace(&mut self.kind, Kind::Event) {
                message.revive(origin);
            }
        }
    }
}

impl Window {
    /// A new channel is open, with nothing in flight.
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

    /// The message to send next, with the reason if it was sent before, and counts it as sent.
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

    /// The message to send next.
    pub fn peek_next(&self) -> Option<&Unconfirmed> {
        self.messages.get(self.sent)
    }

    /// Whether the oldest message is to be published once more, ahead of all others.
    pub fn is_oldest_due(&self) -> bool {
        self.messages.front().is_some_and(|oldest| oldest.is_due)
    }

    /// The oldest message.
    pub fn oldest(&self) -> Option<&Unconfirmed> {
        self.messages.front()
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

    /// The broker returned the message in flight with this message_id that went to this exchange; it
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

    /// The oldest message in flight, if something is known about it.
    pub fn oldest_answered(&self) -> Option<(Answer, &Unconfirmed)> {
        let oldest = self.messages.front()?;
        Some((oldest.answer?, oldest))
    }

    /// The oldest message in flight is done with.
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

    /// The message to send next is not sent: it counts as in flight, and as answered.
    pub fn pass_over_next(&mut self, why: Why) {
        if let Some(next) = self.messages.get_mut(self.sent) {
            (next.answer, next.why) = (Some(Answer::PassedOver), Some(why));
            self.sent += 1;
        }
    }

    /// The message to send next is to go to this exchange.
    pub fn redirect_next(&mut self, exchange: &str, why: Why) {
        if let Some(next) = self.messages.get_mut(self.sent) {
            next.become_dead_letter(exchange, why);
        }
    }

    /// The oldest message, in flight and answered, is to be published to this exchange, in its place.
    pub fn redirect_oldest(&mut self, exchange: &str, why: Why) {
        if let Some(oldest) = self.messages.front_mut() {
            oldest.become_dead_letter(exchange, why);
            oldest.is_due = true;
        }
    }

    /// What went elsewhere instead, and is not confirmed, goes where it belongs again.
    pub fn revive(&mut self) {
        self.messages.iter_mut().for_each(Unconfirmed::revive);
    }

    /// The broker objected to one of the messages in flight. Which one shows when each is alone.
    pub fn suspect_all_in_flight(&mut self) {
        self.suspects = self.suspects.max(self.sent);
    }

    /// The broker may object to the next message: nothing is to be under way beside it. Only while nothing is.
    pub fn suspect_next(&mut self) {
        self.suspects = self.suspects.max(1);
    }

    /// Everything unconfirmed is to be sent again, in order; what announces a gap is not.
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
            ..Message::default()
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
        assert_eq!(window.confirm_oldest().unwrap().message.message_id, "a");
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
        window.mark_returned("", "b");
        window.mark_returned("elsewhere", "a");
        window.mark_returned("", "unknown");
        window.answer(3, true, Confirmed);
        assert_eq!(settle(&mut window), [Confirmed, Returned, Confirmed]);
        let mut window = self::window(&["a"]);
        window.mark_returned("", "a");
        window.rewind(ResendReason::Reconnect);
        send(&mut window);
        window.answer(2, false, Confirmed);
        assert_eq!(settle(&mut window), [Confirmed]);
    }

    #[test]
    fn only_what_was_sent_can_be_confirmed() {
        let mut window = Window::default();
        window.push(message("a"));
        assert!(window.confirm_oldest().is_none());
        window.send_next();
        assert!(window.confirm_oldest().is_some());
        assert!(window.confirm_oldest().is_none());
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
        assert!(window.skip("a").is_none());
        window.rewind(ResendReason::Reconnect);
        assert!(window.skip("b").is_none());
        assert!(window.skip("a").is_some());
        assert_eq!(send(&mut window), Some(("b".to_owned(), None)));
    }

    fn why() -> Why {
        Why { reason: "gone".into(), is_size: false }
    }

    #[test]
    fn what_is_passed_over_waits_for_those_before_it_and_has_no_tag() {
        use Answer::{Confirmed, PassedOver};
        let mut window = window(&["a"]);
        window.push(message("b"));
        window.pass_over_next(why());
        window.push(message("c"));
        send(&mut window);
        window.push(message("d"));
        window.pass_over_next(why());
        assert_eq!((settle(&mut window), window.in_flight()), (vec![], 4));
        // "c" was the second that was published.
        window.answer(2, false, Confirmed);
        assert_eq!(settle(&mut window), []);
        window.answer(1, false, Confirmed);
        assert_eq!(settle(&mut window), [Confirmed, PassedOver, Confirmed, PassedOver]);
        assert_eq!(window.in_flight(), 0);
    }

    #[test]
    fn what_was_passed_over_is_looked_at_anew_after_a_reconnect_and_was_not_sent() {
        let mut window = window(&["a"]);
        window.push(message("b"));
        window.pass_over_next(why());
        window.rewind(ResendReason::Reconnect);
        window.begin();
        assert_eq!(send(&mut window).unwrap().1, Some(ResendReason::Reconnect));
        assert_eq!(window.oldest_answered().map(|(answer, _)| answer), None);
        assert_eq!(send(&mut window), Some(("b".to_owned(), None)));
    }

    #[test]
    fn a_refused_message_goes_elsewhere_in_its_place_and_nothing_else_is_sent_again() {
        use Answer::{Confirmed, Refused};
        let mut window = window(&["a", "b", "c"]);
        window.answer(1, false, Refused);
        window.redirect_oldest("dead", why());
        assert!(window.is_oldest_due() && window.oldest_answered().is_none());
        let (letter, resent) = window.send_next().unwrap();
        assert_eq!((letter.message_id.as_str(), &*letter.exchange, resent), ("a", "dead", None));
        assert!(!window.is_oldest_due());
        window.answer(3, true, Confirmed);
        assert_eq!(settle(&mut window), []);
        window.push(message("d"));
        send(&mut window);
        window.answer(5, true, Confirmed);
        assert_eq!(settle(&mut window), [Confirmed; 4]);
    }

    #[test]
    fn a_dead_letter_stays_one_after_a_reconnect_until_it_is_revived() {
        let mut window = window(&[]);
        window.push(message("a"));
        window.redirect_next("dead", why());
        send(&mut window);
        window.rewind(ResendReason::Reconnect);
        assert_eq!(&*window.peek_next().unwrap().message.exchange, "dead");
        window.revive();
        let next = window.peek_next().unwrap();
        assert_eq!((&*next.message.exchange, &next.kind), ("", &Kind::Event));
    }

    #[test]
    fn the_announcement_of_a_gap_goes_ahead_of_what_waits_and_is_not_sent_again() {
        let mut window = Window::default();
        window.begin();
        window.push(message("a"));
        window.push(message("b"));
        send(&mut window);
        window.suspect_all_in_flight();
        window.rewind(ResendReason::Reconnect);
        window.insert_gap(message("gap"));
        assert_eq!(send(&mut window).unwrap().0, "gap");
        window.answer(2, false, Answer::Confirmed);
        assert_eq!(window.confirm_oldest().unwrap().kind, Kind::Gap);
        assert!(window.is_one_at_a_time());
        window.insert_gap(message("gap"));
        send(&mut window);
        window.rewind(ResendReason::Reconnect);
        assert_eq!(send(&mut window).unwrap().0, "a");
        window.confirm_oldest();
        assert!(!window.is_one_at_a_time());
    }
}
