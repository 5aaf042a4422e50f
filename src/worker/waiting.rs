//! Sleeping until there may be something to do.

use std::time::{Duration, Instant};

use super::Worker;
use super::sleep::{Facts, Sleep, decide};
use crate::delivery::Delivery;
use crate::pg::{server, shared, threads};

impl Worker {
    /// Sleeps until there may be something to do.
    pub(super) fn wait(&mut self, next_save: Option<Duration>) {
        if self.was_large && self.stream.oldest_unconfirmed().is_none() {
            threads::give_memory_back();
            self.was_large = false;
        }
        let has_unconfirmed = self.delivery.as_ref().is_some_and(Delivery::has_unconfirmed);
        let Sleep { longest, poll, awaits_commits } = decide(Facts {
            next_save,
            must_poll: self.must_poll(),
            poll: self.poll,
            longest_poll: Duration::from_millis(server::wal_writer_delay_ms()),
            is_ahead: self.is_ahead,
            has_read_commits: self.is_busy,
            can_publish: self.condition.may_publish() && self.took_all,
            commits_are_many: self.commit_rate.is_high(),
            has_unconfirmed,
        });
        self.poll = poll;
        if awaits_commits {
            shared::await_commit();
            let is_late = shared::commits() != self.commits;
            self.sleep(if is_late { Duration::ZERO } else { longest });
            shared::ignore_commits();
        } else {
            self.sleep(longest);
        }
    }

    /// Sleeps for so long at most: until the doorbell rings, or what the delivery waits for has come.
    pub(super) fn sleep(&mut self, longest: Duration) {
        let wants = self.delivery.as_ref().map(Delivery::wants).unwrap_or_default();
        let left = wants.until.map(|until| until.saturating_duration_since(Instant::now()));
        self.wait.set_socket(wants.socket);
        self.is_readable |= self.wait.wait(left.map_or(longest, |left| left.min(longest)));
    }

    /// Returns true if something is awaited that wakes nobody when it happens: an asynchronous commit reaching the
    /// disk, COMMIT PREPARED in a session that wrote no event, a transaction becoming visible.
    fn must_poll(&self) -> bool {
        let has_unread = shared::last_commit() > self.reader.position();
        (has_unread && !self.is_ahead && self.damage.is_none())
            || self.giving_up.is_some()
            || self.removal.is_some()
            || self.reader.has_prepared()
            || self.stream.has_held_back()
            || self.unordered_since.is_some()
    }
}
