//! How the worker ends: what is confirmed by then is saved, so that it is not sent again.

use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;

use super::{Worker, notes};
use crate::memory;
use crate::pg::guard::Failure;
use crate::pg::report::Report;
use crate::pg::worker_process;
use crate::position::Position;

/// How long the broker may take to say goodbye, and the delivery to hear of it.
const FAREWELL: Duration = Duration::from_millis(500);

impl Worker {
    /// Takes leave of the broker, records what was confirmed and lets the slot go, within a second. What is
    /// unconfirmed is sent again after the next start.
    pub(super) fn end(mut self) {
        self.part();
        let position = self.position();
        let notes = notes(&self.handover, self.delivery.as_ref());
        self.keeper.save_the_last(position, notes);
        self.keeper.close();
    }

    /// Takes leave of the broker.
    pub(super) fn part(&mut self) {
        let deadline = Instant::now() + FAREWELL;
        if let Some(delivery) = &self.delivery {
            delivery.stop();
        }
        self.deliver();
        while self.delivery.as_ref().is_some_and(|delivery| !delivery.is_stopped())
            && let Some(left) = deadline.checked_duration_since(Instant::now())
        {
            self.sleep(left);
            self.deliver();
        }
    }

    /// Saves the position though something failed: what was confirmed until now is not to be sent again.
    pub(super) fn save_in_spite_of(self, failure: &Failure) {
        let mut position = self.position();
        let Worker { reader, stream, delivery, handover, mut keeper, .. } = self;
        if failure.is_for_memory() {
            // What was read is in no order to be relied upon: it is read again, from where it would have been.
            position.restart = position.restart.min(keeper.saved().restart);
            // There is memory then.
            drop((reader, stream));
            memory::set_short(false);
        }
        let saved = worker_process::catch(|| {
            keeper.save_the_last(position, notes(&handover, delivery.as_ref()));
        });
        if let Err(failure) = saved {
            let Position { confirmed, .. } = keeper.saved();
            Report::new(
                PgSqlErrorCode::ERRCODE_IO_ERROR,
                format!("position could not be saved: {}", failure.message()),
            )
            .detail(format!("It stays at {confirmed}: what was confirmed since is sent again."))
            .warn();
        }
    }
}
