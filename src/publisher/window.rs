//! The messages that are not confirmed yet, in order. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use super::message::Message;

/// Why a message is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResendReason {
    Reconnect,
    Nack,
}

impl ResendReason {
    /// The value of header `resent`.
    pub fn as_str(self) -> &'static str {
        match self {
            ResendReason::Reconnect => "reconnect",
            ResendReason::Nack => "nack",
        }
    }
}

/// The unconfirmed messages, oldest first; those sent on the current connection come first.
#[derive(Debug, Default)]
pub struct Window {
    messages: VecDeque<Unconfirmed>,
    sent: usize,
    /// So many, the oldest, are sent one at a time: the broker objected to one of them.
    suspects: usize,
}

#[derive(Debug)]
struct Unconfirmed {
    message: Arc<Message>,
    resent: Option<ResendReason>,
}

impl Window {
    /// Adds the message that follows all others.
    pub fn push(&mut self, message: Message) {
        self.messages.push_back(Unconfirmed { message: Arc::new(message), resent: None });
    }

    /// The message to send next, with the reason if it was sent before, and counts it as sent.
    pub fn send_next(&mut self) -> Option<(&Arc<Message>, Option<ResendReason>)> {
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

    /// The oldest message in flight was confirmed.
    pub fn confirm_oldest(&mut self) -> Option<Arc<Message>> {
        self.sent = self.sent.checked_sub(1)?;
        self.remove_front()
    }

    /// Takes the oldest message out, if it has this message_id and is not under way.
    pub fn skip(&mut self, message_id: &str) -> Option<Arc<Message>> {
        let is_it = self.sent == 0 && self.front()?.message_id == message_id;
        is_it.then(|| self.remove_front()).flatten()
    }

    fn remove_front(&mut self) -> Option<Arc<Message>> {
        self.suspects = self.suspects.saturating_sub(1);
        self.messages.pop_front().map(|removed| removed.message)
    }

    /// The broker objected to one of the messages in flight. Which one shows when each is alone.
    pub fn suspect_all_in_flight(&mut self) {
        self.suspects = self.suspects.max(self.sent);
    }

    /// The connection is gone: everything unconfirmed is to be sent again, in order.
    pub fn rewind(&mut self, reason: ResendReason) {
        for sent in self.messages.iter_mut().take(self.sent) {
            sent.resent = Some(reason);
        }
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> Message {
        Message {
            exchange: String::new(),
            routing_key: String::new(),
            body: Vec::new(),
            message_id: id.to_owned(),
            timestamp: 0,
            kind: "insert",
            table: String::new(),
            headers: Vec::new(),
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
