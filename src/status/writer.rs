//! Writes what the worker says of itself to shared memory, where [`super::model`] reads it.

use std::sync::atomic::Ordering;

use super::state::State;
use crate::delivery::Counts;
use crate::lsn::Lsn;
use crate::pg::{server, shared};
use crate::position::Position;
use crate::stream::gap::Gap;

/// Says what the worker is doing. `reason` is for [`State::StandingStill`] and [`State::Lost`]; `held` is the
/// message_id of the message that is the cause, if one is.
pub fn set_state(state: State, reason: Option<&str>, held: Option<&str>) {
    shared::numbers().state.store(state as u8, Ordering::Relaxed);
    shared::update_texts(|texts| {
        texts.reason.set(reason.unwrap_or_default());
        texts.held.set(held.unwrap_or_default());
    });
}

/// Says where events may be missing.
pub fn set_gap(gap: Gap) {
    let numbers = shared::numbers();
    numbers.gap_from.store(gap.from.unwrap_or_default().0, Ordering::Relaxed);
    numbers.gap_to.store(gap.to.0, Ordering::Relaxed);
    numbers.gap_at.store(server::now(), Ordering::Relaxed);
}

/// Says which broker the worker talks to.
pub fn set_broker(broker: &str) {
    shared::update_texts(|texts| texts.broker.set(broker));
}

/// Remembers an error.
pub fn set_last_error(error: &str) {
    shared::update_texts(|texts| texts.last_error.set(error));
    shared::numbers().last_error_at.store(server::now(), Ordering::Relaxed);
}

/// Says whether the worker has read all WAL that was there when it started.
pub fn set_caught_up(caught_up: bool) {
    shared::numbers().caught_up.store(caught_up, Ordering::Relaxed);
}

/// Adds what the delivery did since `before`.
pub fn add_counts(now: Counts, before: Counts) {
    let numbers = shared::numbers();
    for (counter, now, before) in [
        (&numbers.published, now.published, before.published),
        (&numbers.confirmed, now.taken(), before.taken()),
        (&numbers.skipped, now.skipped, before.skipped),
        (&numbers.returned, now.returned, before.returned),
        (&numbers.resent, now.resent, before.resent),
        (&numbers.passed_over, now.passed_over, before.passed_over),
        (&numbers.dead_lettered, now.dead_lettered, before.dead_lettered),
    ] {
        if now > before {
            counter.fetch_add(now - before, Ordering::Relaxed);
        }
    }
}

/// Says how many exchanges are to be told that events are missing.
pub fn set_gaps_owed(count: usize) {
    shared::numbers().gaps_owed.store(count as u64, Ordering::Relaxed);
}

/// Says which exchanges refuse everything, and why.
pub fn set_refusing(exchanges: &str) {
    shared::update_texts(|texts| texts.refusing.set(exchanges));
}

/// Counts an event that was passed over before it was handed to the delivery.
pub fn add_skipped() {
    shared::numbers().skipped.fetch_add(1, Ordering::Relaxed);
}

/// Says in how many seconds everything will be confirmed, if that is known.
pub fn set_catch_up(seconds: Option<f64>) {
    let bits = seconds.unwrap_or(f64::NAN).to_bits();
    shared::numbers().catch_up_seconds.store(bits, Ordering::Relaxed);
}

/// Says how far the worker has got. `oldest_unconfirmed` is of the oldest transaction that is not wholly
/// confirmed: the LSN of its first event, and its commit time.
pub fn set_progress(read: Lsn, saved: Position, oldest_unconfirmed: Option<(Lsn, i64)>) {
    let numbers = shared::numbers();
    let (done, time) = oldest_unconfirmed.unwrap_or((read, 0));
    numbers.confirmed_lsn.store(saved.confirmed.0, Ordering::Relaxed);
    numbers.restart_lsn.store(saved.restart.0, Ordering::Relaxed);
    numbers.done_lsn.store(done.0, Ordering::Relaxed);
    numbers.oldest_unconfirmed.store(time, Ordering::Relaxed);
    // Last: a reader that sees that a commit was read must see, too, that it is unconfirmed.
    numbers.read_lsn.store(read.0, Ordering::Release);
}
