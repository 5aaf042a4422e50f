//! The background worker: reads the WAL, hands committed transactions to the delivery, and moves
//! the position with its confirms. This file is the loop; each step is in a file of its own:
//!
//! | file | owns |
//! |---|---|
//! | [`start`], [`end`] | the beginning and the end of a worker's life |
//! | [`handover`] | what one life leaves to the next |
//! | [`reading`], [`damage`] | reading the WAL ahead of the delivery; WAL that cannot be read |
//! | [`release`] | which committed transactions consumers may be told of |
//! | [`composer`], [`rendering`] | the message of an event: its body, name, properties and headers |
//! | [`handing_out`], [`held`] | handing messages to the delivery; an event that no message can be made of |
//! | [`losses`] | gaps, and a backlog that is given up |
//! | [`removed`] | the worker of a server that the extension is removed from |
//! | [`waiting`], [`sleep`], [`commit_rate`] | when to sleep, how long, and what ends it |
//! | [`catch_up`] | how fast the lag falls |
//!
//! The worker waits for nothing but its wait set, and looks at signals after every batch of WAL records. Any
//! ERROR ends the process, once what is confirmed is saved; the postmaster starts it again.

mod catch_up;
mod commit_rate;
mod composer;
mod damage;
mod end;
mod handing_out;
mod handover;
mod held;
mod losses;
mod reading;
mod release;
mod removed;
mod rendering;
mod sleep;
mod start;
mod waiting;

use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;

use crate::delivery::{Counts, Delivery};
use crate::lsn::Lsn;
use crate::memory;
use crate::pg::report::Report;
use crate::pg::shared::RemovalOrder;
use crate::pg::visibility::SnapshotMemory;
use crate::pg::wait::WaitSet;
use crate::pg::{server, shared, threads, worker_process};
use crate::position::{Notes, Position, PositionKeeper};
use crate::restore::Restored;
use crate::settings;
use crate::standby::{self, Followed};
use crate::status::condition::Condition;
use crate::status::standstill::Cause;
use crate::status::{self, State};
use crate::stream::Stream;
use crate::wal::reader::TransactionReader;
use catch_up::CatchUp;
use commit_rate::CommitRate;
use composer::Composer;
use damage::Damage;
use handover::Handover;
use held::Held;

/// How long reading may take, from a cold disk for instance, before the broker is to be heard and to hear a
/// heartbeat.
const LONGEST_READING: Duration = Duration::from_millis(20);

/// Runs the worker until somebody ends it.
pub fn run() -> ! {
    worker_process::begin();
    status::set_state(State::Starting, None, None);
    if server::wal_level_is_minimal() {
        stand_by_at_minimal_wal_level();
    }
    let held = match server::in_recovery().then(standby::follow) {
        None => None,
        Some(Followed::Promoted(held)) => held,
        Some(Followed::Ended) => leave(),
    };
    if !Worker::stay_away() {
        leave()
    }
    if let Some(mut worker) = Worker::start(held) {
        match worker_process::catch(|| worker.work()) {
            Ok(()) if worker.is_to_be_removed() => worker.remove(),
            Ok(()) => worker.end(),
            Err(failure) => {
                worker.save_in_spite_of(&failure);
                failure.rethrow()
            }
        }
    }
    leave()
}

fn leave() -> ! {
    status::set_state(State::Stopped, None, None);
    worker_process::end();
}

/// Waits until it is told to end: without a slot there is nothing to do, and the triggers refuse.
fn stand_by_at_minimal_wal_level() {
    status::set_state(State::StandingStill, Some("wal_level is minimal"), None);
    Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "amqp_cdc worker has nothing to do: wal_level is minimal",
    )
    .hint("Set wal_level = replica and restart the server.")
    .log();
    let wait = WaitSet::new();
    while !worker_process::must_end() {
        wait.wait(sleep::LONGEST);
        worker_process::settings_reloaded();
    }
}

struct Worker {
    reader: TransactionReader,
    stream: Stream,
    keeper: PositionKeeper,
    handover: Handover,
    /// None while the settings are wrong, or do not let a restored server publish.
    delivery: Option<Delivery>,
    /// Until it publishes.
    restored: Option<Restored>,
    wait: WaitSet,
    /// Whether the broker has said something since the delivery last looked.
    is_readable: bool,
    composer: Composer,
    /// What the delivery had done when it was last asked.
    seen: Counts,
    /// Messages that were handed to the delivery.
    handed_over: u64,
    /// The event that is next, if no message can be made of it.
    held: Option<Held>,
    /// Commits that had been announced when the WAL was last read.
    commits: u64,
    /// Whether some of them were new then.
    is_busy: bool,
    commit_rate: CommitRate,
    /// Whether enough is read ahead of the delivery.
    is_ahead: bool,
    /// Whether the delivery took all there was.
    took_all: bool,
    /// Whether a large event was handed out, or many waited, since all was quiet.
    was_large: bool,
    /// How long to sleep while something cannot wake us.
    poll: Duration,
    /// In what state the stream is.
    condition: Condition,
    /// Which committed transactions others can see.
    snapshot: SnapshotMemory,
    /// Since when a committed transaction lacks nothing but a synchronous standby.
    awaiting_standby: Option<Instant>,
    /// How fast the lag falls.
    catch_up: CatchUp,
    /// Since when a committed transaction waits for its order to be looked up.
    unordered_since: Option<Instant>,
    /// Where the WAL cannot be read on.
    damage: Option<Damage>,
    /// Up to where an operator wants the backlog given up.
    giving_up: Option<Lsn>,
    /// Whether an operator wants the extension removed.
    removal: Option<RemovalOrder>,
}

impl Worker {
    /// Goes round until it is told to end, or had better begin anew.
    fn work(&mut self) {
        while !worker_process::must_end() && !self.must_try_anew() && !self.is_to_be_removed() {
            self.go_round();
        }
    }

    /// Does everything once: reads, hands out, takes confirms, saves, and sleeps if nothing is left to do.
    fn go_round(&mut self) {
        self.take_new_settings();
        self.take_orders();
        self.give_up_backlog();
        self.deliver();
        let all_read = self.read_wal();
        self.note_unordered();
        self.take_over();
        let all_released = self.release();
        let all_handed_out = self.hand_out();
        let goes_on = self.pass_over();
        let next_save = self.save_position();
        self.show_progress();
        if all_read && all_released && all_handed_out && !goes_on {
            self.wait(next_save);
        } else {
            // No sleep, but a look at the broker's socket.
            self.sleep(Duration::ZERO);
        }
        memory::check();
    }

    fn take_new_settings(&mut self) {
        if worker_process::settings_reloaded() {
            self.reader.set_memory_limit(server::logical_decoding_work_mem());
            self.apply_settings();
            // What stands in the way of reading may be passed now.
            if let Some(damage) = &mut self.damage {
                damage.retry_at = Instant::now();
            }
        }
    }

    fn take_orders(&mut self) {
        self.take_removal_order();
        if let Some(until) = shared::take_giving_up_request() {
            self.giving_up = Some(until);
            self.keeper.write_something();
        }
        if let Some(message_id) = shared::take_skip_request() {
            if let Some(held) = self.held.as_mut().filter(|held| held.message_id == message_id) {
                held.is_unwanted = true;
            } else if let Some(delivery) = &self.delivery {
                delivery.skip(message_id);
            }
        }
    }

    fn apply_settings(&mut self) {
        match (settings::broker(), &self.delivery) {
            (Ok(settings), Some(delivery)) => delivery.reconfigure(settings),
            (Ok(settings), None) => match self.restored.take() {
                Some(restored) if !settings::publish_after_restore() => {
                    self.condition.fail(Cause::new(restored.stand_still(&settings)));
                    self.restored = Some(restored);
                }
                restored => {
                    restored.into_iter().for_each(|restored| restored.announce(&settings));
                    self.delivery = Some(Delivery::new(settings, threads::spawn));
                }
            },
            (Err(problem), None) => self.condition.fail(Cause::new(problem)),
            // The delivery goes on with the settings that it has.
            (Err(problem), Some(_)) => {
                status::set_last_error(&problem);
                Report::new(PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR, problem)
                    .hint("The settings that were right before stay in force.")
                    .warn();
            }
        }
    }

    fn position(&self) -> Position {
        self.stream.position(self.reader.needed_from())
    }

    /// Saves the position if that is due. Returns when to look again, if there may be something left to save.
    fn save_position(&mut self) -> Option<Duration> {
        let Worker { stream, reader, handover, delivery, keeper, .. } = self;
        keeper.save_if_due(|| {
            (stream.position(reader.needed_from()), notes(handover, delivery.as_ref()))
        })
    }

    fn show_progress(&mut self) {
        status::set_progress(
            self.reader.position(),
            self.keeper.saved(),
            self.stream.oldest_unconfirmed().or_else(|| self.reader.oldest_unordered()),
        );
        let now = Instant::now();
        if self.catch_up.is_due(now) {
            status::set_catch_up(self.catch_up.look(now, status::lag().bytes));
        }
    }
}

/// What the position records say besides the position.
fn notes(handover: &Handover, delivery: Option<&Delivery>) -> Notes {
    handover.notes(delivery.map(Delivery::owed).unwrap_or_default())
}

/// Shows the error that ends this process.
pub fn failed(error: &str) {
    status::set_state(State::Stuck, None, None);
    status::set_last_error(error);
}
