//! How the worker begins: it finds its position, and says where the stream goes on.

use std::time::{Duration, Instant};

use super::Worker;
use super::catch_up::CatchUp;
use super::commit_rate::CommitRate;
use super::composer::Composer;
use super::damage::fail_to_read;
use super::handover::Handover;
use crate::delivery::Counts;
use crate::lsn::Lsn;
use crate::pg::report;
use crate::pg::slot::Slot;
use crate::pg::timeline::Timelines;
use crate::pg::visibility::SnapshotMemory;
use crate::pg::wait::{self, WaitSet};
use crate::pg::{server, shared, worker_process};
use crate::position::{Origin, POSITION_PREFIX, Position, PositionKeeper};
use crate::settings;
use crate::status;
use crate::status::condition::Condition;
use crate::stream::Stream;
use crate::wal::reader::TransactionReader;

impl Worker {
    /// Finds the position and begins there; `slot` is held already after a promotion. None if the worker was told to
    /// end meanwhile.
    pub(super) fn start(slot: Option<Slot>) -> Option<Worker> {
        let timelines = Timelines::read();
        let opened = PositionKeeper::open(slot, &timelines, || {
            wait::serve_interrupts();
            !worker_process::must_end()
        });
        let (keeper, position, origin, notes) = match opened {
            Ok(opened) => opened?,
            Err(error) => fail_to_read(&error),
        };
        announce_start(position, origin);
        // Until the WAL that is there now was read, the stream may be behind.
        status::set_caught_up(false);
        status::set_refusing("");
        // An earlier life published nothing that was not on disk.
        let earlier_until = server::flushed_lsn();
        let maybe_sent_until =
            if origin == Origin::FirstStart { Lsn::INVALID } else { earlier_until };
        let memory_limit = server::logical_decoding_work_mem();
        let mut worker = Worker {
            reader: TransactionReader::new(
                position.restart,
                memory_limit,
                POSITION_PREFIX,
                earlier_until,
            ),
            stream: Stream::resume(position),
            keeper,
            handover: Handover::begin(notes, earlier_until),
            delivery: None,
            wait: WaitSet::new(),
            is_readable: false,
            composer: Composer::new(timelines, position.restart, maybe_sent_until),
            seen: Counts::default(),
            handed_over: 0,
            held: None,
            commits: 0,
            is_busy: false,
            commit_rate: CommitRate::new(Instant::now(), shared::commits()),
            is_ahead: false,
            took_all: false,
            was_large: false,
            poll: Duration::ZERO,
            condition: Condition::default(),
            snapshot: SnapshotMemory::new(),
            awaiting_standby: None,
            catch_up: CatchUp::default(),
            unordered_since: None,
            damage: None,
            giving_up: None,
        };
        if let Origin::Lost(gap) = origin {
            let problem = format!("events are lost: WAL of the time {gap} is gone");
            worker.announce(gap, problem);
        }
        if let Some(records) = settings::skipped_wal() {
            report::log(format!(
                "amqp.skip_wal = '{records}' counts only where the WAL cannot be read"
            ));
        }
        worker.condition.show();
        worker.apply_settings();
        Some(worker)
    }
}

/// Says in the log where the stream goes on. What is lost is announced otherwise.
fn announce_start(position: Position, origin: Origin) {
    match origin {
        Origin::Slot => report::log(format!("stream goes on from {}", position.restart)),
        Origin::FirstStart | Origin::Beginning => report::log(format!(
            "stream begins at {}; RabbitMQ drops a message that no queue is bound for, unless amqp.unroutable = hold has the stream wait for one",
            position.restart
        )),
        Origin::Record => report::log(format!(
            "stream goes on from the last recorded position {}",
            position.restart
        )),
        Origin::Lost(_) => {}
    }
}
