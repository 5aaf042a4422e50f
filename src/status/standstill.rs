//! Why nothing is published at present: which cause the operator is shown, and when it deserves a line in
//! the log. Several causes can hold at once; each comes and goes by itself. Pure, but for the clock.

use super::log_limit::LogLimit;

/// One cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// In words for the operator.
    pub reason: String,
    /// The reason without the name of the message that it is about: the log counts these as the same.
    pub kind: String,
    /// message_id of the message that is the cause, if one is.
    pub held: Option<String>,
}

impl Cause {
    /// Makes a cause that has nothing to do with a certain message.
    pub fn new(reason: impl Into<String>) -> Cause {
        let reason = reason.into();
        Cause { kind: reason.clone(), reason, held: None }
    }

    /// Makes a cause that lies in the message with this message_id and description.
    pub fn of_message(message_id: &str, description: &str, kind: String) -> Cause {
        let reason = format!("{description}: {kind}");
        Cause { reason, kind, held: Some(message_id.to_owned()) }
    }
}

/// The causes that hold now.
#[derive(Debug, Default)]
pub struct Standstill {
    /// The broker cannot be reached, or refuses something; or the settings are wrong.
    delivery: Option<Cause>,
    /// The broker does not read from the connection.
    blocked: Option<Cause>,
    /// No message can be made of the next event.
    unreadable: Option<Cause>,
    /// Reading the WAL cannot go on.
    damage: Option<Cause>,
    /// A committed transaction lacks a synchronous standby.
    standby: Option<Cause>,
    /// What the log says already.
    log_limit: LogLimit,
    /// Whether the log says that the stream stands still.
    is_in_log: bool,
}

impl Standstill {
    /// Returns the cause to show: the one that has to go first.
    pub fn cause(&self) -> Option<&Cause> {
        let Standstill { delivery, blocked, unreadable, damage, standby, .. } = self;
        let causes = [delivery, unreadable, damage, blocked, standby];
        causes.into_iter().find_map(Option::as_ref)
    }

    /// Notes why the delivery failed. A connection that is gone is not blocked any more.
    pub fn fail(&mut self, cause: Cause) {
        self.delivery = Some(cause);
        self.blocked = None;
    }

    /// Notes that the delivery works. It may be blocked all the same: confirms still come then.
    pub fn succeed(&mut self) {
        self.delivery = None;
    }

    /// Notes why the broker stopped reading, or that it reads again.
    pub fn block(&mut self, cause: Option<Cause>) {
        self.blocked = cause;
    }

    /// Notes why no message can be made of the next event, or that it is passed over.
    pub fn hold(&mut self, cause: Option<Cause>) {
        self.unreadable = cause;
    }

    /// Returns true if the cause that is shown is an event that no message can be made of.
    pub fn is_unreadable(&self) -> bool {
        self.delivery.is_none() && self.unreadable.is_some()
    }

    /// Notes why reading the WAL cannot go on, or that it goes on. Returns true if that is a change.
    pub fn be_stuck(&mut self, cause: Option<Cause>) -> bool {
        std::mem::replace(&mut self.damage, cause) != self.damage
    }

    /// Returns true if the cause that is shown is WAL that cannot be read.
    pub fn is_stuck(&self) -> bool {
        self.damage.is_some() && self.cause() == self.damage.as_ref()
    }

    /// Notes that the stream waits for a standby, or does not any more. Returns true if that is a change.
    pub fn await_standby(&mut self, cause: Option<Cause>) -> bool {
        std::mem::replace(&mut self.standby, cause) != self.standby
    }

    /// Returns true if the cause that is shown deserves a line in the log now, and counts it as written.
    pub fn is_news(&mut self) -> bool {
        let Some(kind) = self.cause().map(|cause| cause.kind.clone()) else { return false };
        let is_news = self.log_limit.is_news(&kind);
        self.is_in_log |= is_news;
        is_news
    }

    /// Returns true, once, if the log says that the stream stands still, and it does not any more.
    pub fn is_news_that_it_is_over(&mut self) -> bool {
        self.cause().is_none() && std::mem::take(&mut self.is_in_log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(id: &str, words: &str) -> Cause {
        Cause::of_message(id, &format!("message {id} (7 bytes)"), words.to_owned())
    }

    #[test]
    fn a_held_message_is_shown_whatever_else_comes_and_goes() {
        let mut standstill = Standstill::default();
        standstill.fail(held("a", "too large"));
        standstill.block(Some(Cause::new("memory")));
        standstill.await_standby(Some(Cause::new("standby")));
        assert_eq!(standstill.cause(), Some(&held("a", "too large")));
        standstill.block(None);
        standstill.await_standby(None);
        assert_eq!(standstill.cause(), Some(&held("a", "too large")));
        standstill.succeed();
        assert_eq!(standstill.cause(), None);
    }

    #[test]
    fn a_cause_goes_with_its_connection_or_stays_without_it() {
        let mut standstill = Standstill::default();
        standstill.block(Some(Cause::new("memory")));
        standstill.await_standby(Some(Cause::new("standby")));
        assert_eq!(standstill.cause(), Some(&Cause::new("memory")));
        standstill.succeed();
        assert_eq!(standstill.cause(), Some(&Cause::new("memory")));
        standstill.fail(Cause::new("gone"));
        standstill.succeed();
        assert_eq!(standstill.cause(), Some(&Cause::new("standby")));
    }

    #[test]
    fn an_event_that_cannot_be_read_is_shown_until_it_is_passed_over() {
        let mut standstill = Standstill::default();
        standstill.hold(Some(held("a", "field 63 is unknown")));
        standstill.block(Some(Cause::new("memory")));
        standstill.succeed();
        assert_eq!(standstill.cause(), Some(&held("a", "field 63 is unknown")));
        standstill.block(None);
        standstill.hold(None);
        assert_eq!(standstill.cause(), None);
    }

    #[test]
    fn the_log_is_not_filled_with_what_it_says_already() {
        let mut standstill = Standstill::default();
        standstill.fail(held("a", "nack"));
        assert!(standstill.is_news() && !standstill.is_news());
        standstill.succeed();
        assert!(standstill.is_news_that_it_is_over() && !standstill.is_news_that_it_is_over());
        // The next message, refused in the same words.
        standstill.fail(held("b", "nack"));
        assert!(!standstill.is_news());
        standstill.fail(Cause::new("gone"));
        assert!(standstill.is_news());
        standstill.fail(held("b", "nack"));
        assert!(!standstill.is_news() && !standstill.is_news_that_it_is_over());
    }
}
