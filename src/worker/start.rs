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
use crate::position::{Notes, Origin, POSITION_PREFIX, Position, PositionKeeper, survey};
use crate::restore;
use crate::settings;
use crate::status;
use crate::status::condition::Condition;
use crate::stream::Stream;
use crate::stream::takeover::{Switch, Takeover};
use crate::wal::reader::TransactionReader;

impl Worker {
    /// Finds the position and begins there; the slot is `held` already after a promotion. None if the worker was told to
    /// end meanwhile.
    pub(super) fn start(held: Option<(Slot, Notes)>) -> Option<Worker> {
        let timelines = Timelines::read();
        let was_promoted = held.is_some();
        let keep_going = || {
            wait::serve_interrupts();
            !worker_process::must_end()
        };
        let opened = PositionKeeper::open(held, &timelines, keep_going);
        let (keeper, mut position, origin, mut notes) = match opened {
            Ok(opened) => opened?,
            Err(error) => fail_to_read(&error),
        };
        announce_start(position, origin);
        let takeover = takeover(position, origin, &timelines, was_promoted);
        if takeover.is_some() {
            // That comes first: the transaction that is half confirmed is sent again whole.
            position.tx_seq = 0;
            if notes == Notes::default() {
                match survey(position.restart, keep_going) {
                    Ok(survey) => notes = survey?.notes,
                    Err(error) => fail_to_read(&error),
                }
            }
        }
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
            restored: restore::find(origin),
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
            removal: None,
        };
        let gap = match origin {
            Origin::Lost(gap) => Some(gap),
            _ => None,
        };
        let lost = gap.map(|gap| (gap, format!("events are lost: WAL of the time {gap} is gone")));
        match (takeover, lost) {
            (Some(takeover), lost) => {
                worker.tell_of(takeover, gap);
                lost.into_iter().for_each(|(gap, problem)| worker.note_gap(gap, problem));
            }
            (None, Some((gap, problem))) => worker.announce(gap, problem),
            (None, None) => {}
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

/// Whether what was confirmed last is of another timeline. Where nothing was published, nobody is to be told.
fn takeover(
    position: Position,
    origin: Origin,
    timelines: &Timelines,
    was_promoted: bool,
) -> Option<Takeover> {
    let confirmed = match origin {
        // Where it is unknown, any promotion may have been one since.
        Origin::Lost(gap) => gap.from.unwrap_or_default(),
        // The old primary may have published what never came here.
        Origin::FirstStart if was_promoted => position.restart,
        Origin::FirstStart => return None,
        _ => position.confirmed,
    };
    let mut switches = Vec::new();
    let mut from = timelines.of(confirmed);
    while from != timelines.current() {
        let at = timelines.end_of(from);
        let to = timelines.of(at);
        switches.push(Switch { from, to, at });
        from = to;
    }
    Takeover::new(switches, confirmed, position.restart)
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
