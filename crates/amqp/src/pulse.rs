//! What time means to a connection: heartbeats (AMQP 0-9-1, 4.2.7), and until when it must be open.

use std::time::{Duration, Instant};

/// When something was heard and said.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// No heartbeats if zero.
    interval: Duration,
    heard_at: Instant,
    sent_at: Instant,
    /// Until the connection is open.
    deadline: Option<Instant>,
}

/// What the time has come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// A heartbeat, unless something else is sent.
    Heartbeat,
    /// Nothing was heard for so long.
    Silence(Duration),
    /// The connection is not open.
    Deadline,
}

impl Pulse {
    pub(crate) fn new(now: Instant, deadline: Instant) -> Pulse {
        let deadline = Some(deadline);
        Pulse { interval: Duration::ZERO, heard_at: now, sent_at: now, deadline }
    }

    pub(crate) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    pub(crate) fn forget_deadline(&mut self) {
        self.deadline = None;
    }

    pub(crate) fn hear(&mut self, now: Instant) {
        self.heard_at = now;
    }

    pub(crate) fn send(&mut self, now: Instant) {
        self.sent_at = now;
    }

    /// Two heartbeats without a sign of life are one too many.
    fn silent_at(&self) -> Option<Instant> {
        let is_on = !self.interval.is_zero();
        is_on.then(|| self.heard_at + 2 * self.interval)
    }

    /// Twice as often as must be.
    fn beat_at(&self) -> Option<Instant> {
        let is_on = !self.interval.is_zero();
        is_on.then(|| self.sent_at + self.interval / 2)
    }

    /// When there is something due at the latest. What waits to be sent is as good as a heartbeat.
    pub(crate) fn next(&self, has_unsent: bool) -> Option<Instant> {
        let beat_at = self.beat_at().filter(|_| !has_unsent);
        [self.deadline, self.silent_at(), beat_at].into_iter().flatten().min()
    }

    /// What is due now.
    pub(crate) fn due(&self, now: Instant, has_unsent: bool) -> Due {
        let has_come = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if has_come(self.deadline) {
            Due::Deadline
        } else if has_come(self.silent_at()) {
            Due::Silence(2 * self.interval)
        } else if has_come(self.beat_at()) && !has_unsent {
            Due::Heartbeat
        } else {
            Due::Nothing
        }
    }
}
