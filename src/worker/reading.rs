//! Reading on in the WAL, as far ahead of the delivery as is worth while.

use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;

use super::damage::{Damage, fail_to_read};
use super::{LONGEST_READING, Worker};
use crate::delivery::Delivery;
use crate::pg::report::Report;
use crate::pg::xlog_reader::ReadError;
use crate::pg::{shared, worker_process};
use crate::position;
use crate::settings;
use crate::status;
use crate::status::standstill::Cause;
use crate::stream::gap::Gap;
use crate::wal::reader::{Passed, Reached};

/// Bytes of committed events that are read ahead of the delivery.
const READ_AHEAD_BYTES: usize = 32 * 1024 * 1024;

/// Batches of WAL records between two looks at everything else.
const BATCHES_PER_ROUND: usize = 64;

/// How long late transactions gather, while many commit and the broker is busy with earlier ones anyhow: the
/// WAL in which their order is looked up is the same for most of them.
const GATHERING: Duration = Duration::from_millis(2);

impl Worker {
    /// Reads on. Returns true if everything was read that can be used for now.
    pub(super) fn read_wal(&mut self) -> bool {
        if let Some(damage) = &self.damage {
            // A file that is gone stays so: the position is to be looked for anew, once all is confirmed
            // that was read.
            if damage.error.is_missing && self.stream.oldest_unconfirmed().is_none() {
                fail_to_read(&damage.error);
            }
            if Instant::now() < damage.retry_at {
                return true;
            }
            self.reader.retry();
        }
        let commits = shared::commits();
        self.is_busy = commits != self.commits;
        self.commits = commits;
        self.commit_rate.look(Instant::now(), commits);
        let began = Instant::now();
        let may_gather = self.commit_rate.is_high()
            && self.delivery.as_ref().is_some_and(Delivery::has_unconfirmed)
            && self.unordered_since.is_none_or(|since| since.elapsed() < GATHERING);
        for _ in 0..BATCHES_PER_ROUND {
            if began.elapsed() >= LONGEST_READING {
                return false;
            }
            self.is_ahead = self.stream.bytes() >= READ_AHEAD_BYTES;
            self.was_large |= self.is_ahead;
            if self.is_ahead {
                return true;
            }
            let stream = &mut self.stream;
            let reached =
                self.reader.read_batch(may_gather, |transaction| stream.push(transaction));
            match reached {
                Err(error) => {
                    self.be_stuck(error);
                    return self.damage.is_some();
                }
                Ok(reached) => {
                    if self.damage.take().is_some() {
                        self.condition.be_stuck(None);
                    }
                    if reached == Reached::EndOfWal {
                        status::set_caught_up(true);
                        return true;
                    }
                }
            }
            if worker_process::must_end() {
                return true;
            }
        }
        false
    }

    /// Notes since when a committed transaction waits for its order.
    pub(super) fn note_unordered(&mut self) {
        let since = self.unordered_since.unwrap_or_else(Instant::now);
        self.unordered_since = self.reader.oldest_unordered().map(|_| since);
    }

    /// Takes over what exchanges were owed when the last life ended, once all that it noted was read.
    pub(super) fn take_over(&mut self) {
        for record in self.reader.take_collected() {
            if let Some((_, Some(notes))) = position::decode(&record) {
                self.handover.take(notes);
            }
        }
        if self.delivery.is_some() && self.handover.is_known(self.reader.position()) {
            let owed = self.handover.take_over();
            self.owe(owed);
        }
    }

    /// Passes WAL that cannot be read, if an operator wants it passed, or stands still there. What was read before is
    /// published all the same.
    fn be_stuck(&mut self, error: ReadError) {
        let lsn = error.lsn;
        let record = self.composer.record_id(lsn);
        if settings::skips_wal(&record)
            && let Some(passed) = self.reader.pass_damage()
        {
            self.damage = None;
            self.condition.be_stuck(None);
            match passed {
                Passed::Unread { next } => {
                    self.composer.add_damage(lsn..next);
                    let gap = Gap { from: Some(lsn), to: next };
                    self.announce(gap, format!("events are lost: damaged WAL {gap} is passed"));
                }
                Passed::Changes { next } => Report::new(
                    PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
                    format!("damaged WAL from {lsn} to {next} is passed, which was read before"),
                )
                .detail("No event is lost, but those of a transaction may be in another order than its changes.")
                .warn(),
            }
            return;
        }
        let file = self.composer.file_of(lsn);
        let reason = format!(
            "WAL cannot be read at {lsn}, in file {file}: {}; to pass what is damaged: amqp.skip_wal = '{record}'",
            error.message
        );
        self.condition.be_stuck(Some(Cause::new(reason)));
        self.damage = Some(Damage::new(error));
    }
}
