//! Handing events to the delivery, and taking what it has done with them.

use std::time::{Duration, Instant};

use super::composer::Unreadable;
use super::held::Held;
use super::{LONGEST_READING, Worker};
use crate::delivery::Counts;
use crate::event::Half;
use crate::memory;
use crate::pg::worker_process;
use crate::status;
use crate::status::condition::UnreadableKind;
use crate::status::standstill::Cause;
use crate::stream::Peeked;

/// Events above this size leave memory behind that is given back once all is quiet.
const LARGE_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// Events handed out between two looks at everything else: each may have to be read from a cold disk.
const EVENTS_PER_ROUND: usize = 1000;

impl Worker {
    /// Has the delivery do what it can, and takes what it says and what was confirmed.
    pub(super) fn deliver(&mut self) {
        let is_readable = std::mem::take(&mut self.is_readable);
        let Some(delivery) = &mut self.delivery else { return };
        delivery.step(is_readable);
        let has_unconfirmed = delivery.has_unconfirmed();
        let (done, updates) = (delivery.done(), delivery.take_updates());
        for update in updates {
            self.condition.take_update(update, has_unconfirmed);
        }
        self.count(done);
    }

    /// Gives the delivery as much as it takes. Returns true if that was all for now.
    pub(super) fn hand_out(&mut self) -> bool {
        self.took_all = false;
        if self.held.is_some() {
            return true;
        }
        let Some(delivery) = &self.delivery else { return true };
        let (mut is_all, mut handed_out, mut unreadable) = (false, 0, None);
        let began = Instant::now();
        for _ in 0..EVENTS_PER_ROUND {
            match self.stream.peek() {
                Some(Peeked::InMemory(size)) if delivery.has_room_for(size) => {
                    let Some(next) = self.stream.next() else { break };
                    match self.composer.message(next, delivery.spare()) {
                        Ok(message) => {
                            self.was_large |= size.max(message.body.len()) > LARGE_EVENT_BYTES;
                            self.handover.note(&message.exchange);
                            delivery.publish(message);
                            handed_out += 1;
                            // A message takes little beside its body, but there may be many.
                            memory::check();
                        }
                        Err(event) => {
                            unreadable = Some(event);
                            is_all = true;
                            break;
                        }
                    }
                }
                Some(Peeked::InWal(_)) if began.elapsed() >= LONGEST_READING => break,
                Some(Peeked::InWal(lsn)) if delivery.has_room_for(0) => {
                    match worker_process::catch(|| self.reader.read_event(lsn)) {
                        Ok(Ok(payload)) => self.stream.load(payload),
                        failed => {
                            // It counts as handed out.
                            self.stream.load(Vec::new());
                            let half = self.stream.next().map_or(Half::Delete, |next| next.half);
                            let name = (lsn, half);
                            unreadable = Some(match failed {
                                Err(failure) if failure.is_for_memory() => {
                                    self.composer.without_memory(name, failure.bytes_wanted())
                                }
                                Err(failure) => failure.rethrow(),
                                // It was whole when it was read first.
                                Ok(read) => {
                                    let problem = read.err().map(|error| error.message);
                                    self.composer.unreadable(name, 0, problem.unwrap_or_default())
                                }
                            });
                            is_all = true;
                            break;
                        }
                    }
                }
                nothing_or_no_room => {
                    if nothing_or_no_room.is_none() {
                        self.reader.forget_old_wal();
                        self.took_all = true;
                    }
                    is_all = true;
                    break;
                }
            }
        }
        if handed_out > 0 {
            self.handed_over += handed_out;
            self.poll = Duration::ZERO;
        }
        if let Some(event) = unreadable {
            self.hold(event);
        }
        if handed_out == 0 {
            return is_all;
        }
        // What was confirmed meanwhile made room.
        let confirmed = self.seen.confirmed;
        self.deliver();
        is_all && self.seen.confirmed == confirmed
    }

    /// Takes what the delivery has done by now.
    fn count(&mut self, now: Counts) {
        let confirmed = now.confirmed - self.seen.confirmed;
        self.stream.confirm(confirmed);
        if confirmed > 0 {
            self.condition.go_on(now.confirmed);
        }
        status::add_counts(now, self.seen);
        if let Some(delivery) = &self.delivery {
            status::set_gaps_owed(delivery.owed_count());
        }
        self.seen = now;
    }

    /// Returns true if an event that there was no memory for is to be tried again: a new process has the memory
    /// that this one has kept.
    pub(super) fn must_try_anew(&self) -> bool {
        let retry_at = self.held.as_ref().and_then(|held| held.retry_at);
        retry_at.is_some_and(|at| Instant::now() >= at)
    }

    /// Stands still at an event that cannot be read: mostly another version of the extension wrote it.
    fn hold(&mut self, event: Unreadable) {
        let Unreadable { message_id, size, problem, is_for_memory } = event;
        let description = format!("message {message_id} ({size} bytes in the WAL)");
        let what = if is_for_memory { "the event is oversize" } else { "the event cannot be read" };
        let cause = Cause::of_message(&message_id, &description, format!("{what}: {problem}"));
        let unreadable =
            if is_for_memory { UnreadableKind::OutOfMemory } else { UnreadableKind::Version };
        self.condition.hold(cause, unreadable);
        self.held = Some(Held::new(message_id, description, is_for_memory));
    }

    /// Passes over the event that is held, if that is wanted and all before it is confirmed. Returns true if so.
    pub(super) fn pass_over(&mut self) -> bool {
        let is_next = self.seen.confirmed == self.handed_over;
        let Some(held) = self.held.take_if(|held| held.is_unwanted && is_next) else {
            return false;
        };
        self.stream.confirm(1);
        status::add_skipped();
        self.condition.pass_over(&held.description);
        true
    }
}
