//! What the broker has refused, so that the next events need not ask in vain: a question costs the
//! connection, and everybody's messages under way on it. Pure.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::failure::{Failure, FailureKind};
use super::message::{Message, Why};
use crate::memory;

/// How long a refusal is believed.
pub const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Exchanges above which those are forgotten that may be asked again.
const MANY: usize = 1000;

/// Exchanges that are named to the operator.
const MOST_SHOWN: usize = 4;

/// What was refused.
#[derive(Debug, Default)]
pub struct Refusals {
    /// Exchanges that are not there or must not be written to, why, and until when that is believed.
    exchanges: HashMap<Rc<str>, (Rc<str>, Instant)>,
    /// Bytes of the smallest message that was too large, and the same.
    size: Option<(usize, Rc<str>, Instant)>,
    /// message_id of a message that is refused for what it is.
    message: Option<(String, Rc<str>)>,
}

impl Refusals {
    /// The broker closed the channel because of this message.
    pub fn note(&mut self, failure: &Failure, message: &Message, now: Instant) {
        let reason: Rc<str> = failure.reason().into();
        match failure.kind() {
            FailureKind::Refused => self.note_exchange(&message.exchange, reason, now),
            FailureKind::TooLarge => {
                let known = self.size.as_ref().map_or(usize::MAX, |&(size, ..)| size);
                self.size = Some((known.min(message.body.len()), reason, now + ASK_AGAIN));
            }
            _ => self.note_message(message, reason),
        }
    }

    /// The exchange is not there, or must not be written to.
    pub fn note_exchange(&mut self, exchange: &Rc<str>, reason: Rc<str>, now: Instant) {
        if self.exchanges.len() >= MANY {
            self.exchanges.retain(|_, (_, until)| *until > now);
        }
        memory::reserve_entry(&mut self.exchanges);
        self.exchanges.insert(Rc::clone(exchange), (reason, now + ASK_AGAIN));
    }

    /// This message is refused.
    pub fn note_message(&mut self, message: &Message, reason: Rc<str>) {
        self.message = Some((message.message_id.clone(), reason));
    }

    /// Why this message would be refused, if that is known.
    pub fn why(&self, message: &Message, now: Instant) -> Option<Why> {
        if let Some((_, reason)) = self.message.as_ref().filter(|(id, _)| *id == message.message_id)
        {
            return Some(Why { reason: Rc::clone(reason), is_size: false });
        }
        if let Some((reason, until)) = self.exchanges.get(&message.exchange)
            && now < *until
        {
            return Some(Why { reason: Rc::clone(reason), is_size: false });
        }
        match &self.size {
            Some((least, reason, until)) if message.body.len() >= *least && now < *until => {
                Some(Why { reason: Rc::clone(reason), is_size: true })
            }
            _ => None,
        }
    }

    /// Whether one like it was refused, a while ago.
    pub fn is_doubtful(&self, message: &Message) -> bool {
        self.exchanges.contains_key(&message.exchange)
            || self.size.as_ref().is_some_and(|&(least, ..)| message.body.len() >= least)
    }

    /// Until when an exchange is believed to refuse everything; none if it is not.
    pub fn until(&self, exchange: &str) -> Option<Instant> {
        self.exchanges.get(exchange).map(|&(_, until)| until)
    }

    /// The broker took this message. Whether it had refused one like it.
    pub fn lift(&mut self, message: &Message) -> bool {
        if self.size.as_ref().is_some_and(|&(least, ..)| message.body.len() >= least) {
            self.size = None;
        }
        self.exchanges.remove(&message.exchange).is_some()
    }

    /// Nothing was refused.
    pub fn is_empty(&self) -> bool {
        self.exchanges.is_empty() && self.size.is_none() && self.message.is_none()
    }

    /// Somebody may have mended something: all is asked again.
    pub fn expire(&mut self) {
        let now = Instant::now();
        self.message = None;
        self.exchanges.values_mut().for_each(|(_, until)| *until = now);
        if let Some((.., until)) = &mut self.size {
            *until = now;
        }
    }

    /// The exchanges that refuse, and why, for the operator.
    pub fn shown(&self) -> String {
        let mut names = memory::collect(self.exchanges.iter());
        names.sort_unstable_by_key(|(name, _)| *name);
        let more = names.len().saturating_sub(MOST_SHOWN);
        let shown = names.into_iter().take(MOST_SHOWN);
        let mut texts: Vec<_> =
            shown.map(|(name, (reason, _))| format!("\"{name}\": {reason}")).collect();
        if more > 0 {
            texts.push(format!("and {more} more"));
        }
        texts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(exchange: &str, id: &str, size: usize) -> Message {
        Message {
            exchange: exchange.into(),
            message_id: id.to_owned(),
            body: vec![0; size],
            ..Message::default()
        }
    }

    #[test]
    fn an_exchange_is_believed_to_refuse_everything_for_a_while() {
        let now = Instant::now();
        let mut refusals = Refusals::default();
        let failure = Failure::closed_channel(403.into(), "ACCESS_REFUSED");
        refusals.note(&failure, &message("a", "1", 1), now);
        let why = refusals.why(&message("a", "2", 1), now).expect("it is known");
        assert_eq!((&*why.reason, why.is_size), ("ACCESS_REFUSED", false));
        assert_eq!(refusals.why(&message("b", "2", 1), now), None);
        assert_eq!(refusals.shown(), "\"a\": ACCESS_REFUSED");
        let later = now + ASK_AGAIN;
        assert_eq!(refusals.why(&message("a", "2", 1), later), None);
        assert!(refusals.is_doubtful(&message("a", "2", 1)));
        assert!(refusals.lift(&message("a", "2", 1)) && refusals.is_empty());
        assert!(!refusals.is_doubtful(&message("a", "2", 1)));
    }

    #[test]
    fn a_size_is_believed_to_be_too_large_and_so_is_all_above_it() {
        let now = Instant::now();
        let mut refusals = Refusals::default();
        let failure =
            Failure::closed_channel(406.into(), "PRECONDITION_FAILED - message size 9 is larger");
        refusals.note(&failure, &message("a", "1", 9), now);
        refusals.note(&failure, &message("b", "2", 12), now);
        assert_eq!(refusals.why(&message("a", "3", 8), now), None);
        assert!(refusals.why(&message("c", "4", 9), now).is_some_and(|why| why.is_size));
        assert!(!refusals.lift(&message("c", "4", 9)));
        assert!(refusals.is_empty());
    }

    #[test]
    fn what_is_refused_for_what_it_is_says_nothing_of_others() {
        let now = Instant::now();
        let mut refusals = Refusals::default();
        let failure = Failure::closed_channel(406.into(), "PRECONDITION_FAILED - invalid");
        refusals.note(&failure, &message("a", "1", 9), now);
        assert!(refusals.why(&message("a", "1", 9), now).is_some());
        assert_eq!(refusals.why(&message("a", "2", 99), now), None);
    }

    #[test]
    fn after_a_reload_all_is_asked_again() {
        let now = Instant::now();
        let mut refusals = Refusals::default();
        refusals.note_exchange(&"a".into(), "gone".into(), now);
        refusals.expire();
        assert_eq!(refusals.why(&message("a", "1", 1), Instant::now()), None);
    }
}
