//! The worker of a server that the extension is removed from.

use super::Worker;
use super::damage::fail_to_read;
use crate::pg::report;
use crate::pg::wait::WaitSet;
use crate::pg::xlog_reader::ReadError;
use crate::pg::{shared, wait, worker_process};
use crate::position::beginning::{self, Beginning};
use crate::position::{finish_removal, is_removal_over, remove, take_removal_back};
use crate::status::{self, State};

const REMOVED: &str = "amqp_cdc was removed from this server by amqp.uninstall()";

/// A file that cannot be read is looked at again, with words about it, where the worker begins.
fn is_noted() -> bool {
    matches!(beginning::read(), Ok(Beginning::Removed))
}

/// Finishes the removal, or takes the note of it back, if there is a stream again.
fn finish_or_take_back() -> Result<(), ReadError> {
    finish_removal()?;
    let keep_going = || {
        wait::serve_interrupts();
        !worker_process::must_end()
    };
    if matches!(is_removal_over(keep_going), Ok(true)) {
        take_removal_back()?;
    }
    Ok(())
}

impl Worker {
    /// Does nothing for as long as that is so. Returns false if the worker was told to end meanwhile.
    pub(super) fn stay_away() -> bool {
        if is_noted()
            && let Err(error) = finish_or_take_back()
        {
            fail_to_read(&error);
        }
        // The postmaster may have said so already.
        shared::set_removed(is_noted());
        // CREATE EXTENSION takes the note back first. Whether it did so just now is not to be overlooked.
        if !is_noted() {
            shared::set_removed(false);
            return true;
        }
        status::set_state(State::Stopped, Some(REMOVED), None);
        let wait = WaitSet::new();
        while shared::is_removed() {
            if worker_process::must_end() {
                return false;
            }
            wait.wait(super::sleep::LONGEST);
            worker_process::settings_reloaded();
        }
        report::log("amqp_cdc was installed again".to_owned());
        true
    }

    /// Takes the order of `amqp.uninstall()`, or that it does not count any more.
    pub(super) fn take_removal_order(&mut self) {
        let wanted = shared::removal_order();
        if wanted.is_some() && self.removal.is_none() {
            // So that the WAL that was there then is read.
            self.keeper.write_something();
        }
        self.removal = wanted;
    }

    /// Whether nothing is left to do before the extension is removed.
    pub(super) fn is_to_be_removed(&self) -> bool {
        let is_done = |until| self.position().restart > until;
        let owes = || self.delivery.as_ref().is_some_and(|delivery| !delivery.owed().is_empty());
        self.removal.as_ref().is_some_and(|order| order.discards || is_done(order.until) && !owes())
    }

    /// Ends this life, and with it the stream.
    pub(super) fn remove(mut self) {
        // From here on nobody adds to what was looked at.
        shared::set_removed(true);
        self.part();
        if let Err(error) = remove(self.keeper.into_slot()) {
            // It is not noted: the next life of the worker publishes.
            shared::set_removed(false);
            fail_to_read(&error);
        }
        report::log(REMOVED.to_owned());
    }
}
