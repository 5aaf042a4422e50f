//! The background worker: reads the WAL, hands committed transactions to the delivery, and moves
//! the position with its confirms. This file is the loop; what each step does lives elsewhere.
//!
//! It never waits for anything but its wait set, and looks at signals after every batch of WAL records. Any
//! ERROR ends the process, once what is confirmed is saved; the postmaster starts it again.

use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;

use crate::commit_rate::CommitRate;
use crate::condition::{Condition, UnreadableKind};
use crate::delivery::{Delivery, Published};
use crate::gap::{Gap, OwedGap};
use crate::handover::Handover;
use crate::lsn::Lsn;
use crate::memory;
use crate::naming::{Naming, Unreadable};
use crate::pace::Pace;
use crate::pg::guard::Failure;
use crate::pg::report::{self, Report};
use crate::pg::timeline::Timelines;
use crate::pg::visibility::SnapshotMemory;
use crate::pg::wait::{self, WaitSet};
use crate::pg::xlog_reader::{ReadError, XLogReader};
use crate::pg::{server, shared, threads, worker_process};
use crate::position::{Notes, Origin, Position, PositionKeeper};
use crate::settings;
use crate::sleep::{self, Facts, Sleep, decide};
use crate::standstill::Cause;
use crate::status::{self, State};
use crate::stream::{Peeked, Stream};
use crate::wal::reader::{Passed, Reached, TransactionReader};

/// Bytes of committed events that are read ahead of the delivery.
const READ_AHEAD_BYTES: usize = 32 * 1024 * 1024;

/// Batches of WAL records between two looks at everything else.
const BATCHES_PER_ROUND: usize = 64;

/// How long reading may take, from a cold disk for instance, before the broker is to be heard and to hear a
/// heartbeat.
const LONGEST_READING: Duration = Duration::from_millis(20);

/// Events above this size leave memory behind that is given back once all is quiet.
const LARGE_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// Events handed out between two looks at everything else: each may have to be read from a cold disk.
const EVENTS_PER_ROUND: usize = 1000;

/// How long late transactions gather, while many commit and the broker is busy with earlier ones anyhow: the
/// WAL in which their order is looked up is the same for most of them.
const GATHERING: Duration = Duration::from_millis(2);

/// A synchronous standby that is later than this is worth a word.
const STANDBY_PATIENCE: Duration = Duration::from_secs(5);

/// Time between two attempts to read WAL that cannot be read.
const RETRY: Duration = Duration::from_secs(5);

/// How long the stream stands still at an event that there is no memory for, before a new life of the worker
/// tries it again.
const MEMORY_RETRY: Duration = Duration::from_secs(30);

/// How long the broker may take to say goodbye, and the delivery to hear of it.
const FAREWELL: Duration = Duration::from_millis(500);

/// Runs the worker until somebody ends it.
pub fn run() -> ! {
    worker_process::begin();
    status::set_state(State::Starting, None, None);
    if server::wal_level_is_minimal() {
        stand_by_at_minimal_wal_level();
    }
    if let Some(mut worker) = Worker::start() {
        match worker_process::catch(|| worker.work()) {
            Ok(()) => worker.end(),
            Err(failure) => {
                worker.save_in_spite_of(&failure);
                failure.rethrow()
            }
        }
    }
    status::set_state(State::Stopped, None, None);
    worker_process::end();
}

/// Without a slot there is nothing to do; the triggers refuse.
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
    /// None while the settings are wrong.
    delivery: Option<Delivery>,
    wait: WaitSet,
    /// Whether the broker has said something since the delivery last looked.
    is_readable: bool,
    naming: Naming,
    /// What the delivery had done when it was last asked.
    seen: Published,
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
    pace: Pace,
    /// Since when a committed transaction waits for its order to be looked up.
    unordered_since: Option<Instant>,
    /// Where the WAL cannot be read on.
    damage: Option<Damage>,
    /// Up to where an operator wants the backlog given up.
    giving_up: Option<Lsn>,
}

/// WAL that cannot be read.
struct Damage {
    error: ReadError,
    /// When to try again.
    retry_at: Instant,
}

/// An event that the stream stands still at, since no message can be made of it.
struct Held {
    message_id: String,
    /// What the operator is told about it.
    description: String,
    /// Whether an operator wants it to be passed over.
    is_unwanted: bool,
    /// When it is to be tried again, if only memory is missing.
    retry_at: Option<Instant>,
}

impl Worker {
    /// None if the worker was told to end meanwhile.
    fn start() -> Option<Worker> {
        let timelines = Timelines::read();
        let opened = PositionKeeper::open(&timelines, || {
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
            reader: TransactionReader::new(position.restart, memory_limit, earlier_until),
            stream: Stream::resume(position),
            keeper,
            handover: Handover::begin(notes, earlier_until),
            delivery: None,
            wait: WaitSet::new(),
            is_readable: false,
            naming: Naming::new(timelines, position.restart, maybe_sent_until),
            seen: Published::default(),
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
            pace: Pace::default(),
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

    /// Until it is told to end, or better does.
    fn work(&mut self) {
        while !worker_process::must_end() && !self.must_try_anew() {
            self.go_round();
        }
    }

    /// What the loop does over and over.
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

    /// Goes on at the first record behind the backlog, once there is one.
    fn give_up_backlog(&mut self) {
        let Some(until) = self.giving_up.filter(|&until| server::flushed_lsn() > until) else {
            return;
        };
        let Some((_, begin)) = XLogReader::at_first_record_after(until) else { return };
        self.giving_up = None;
        let notes = notes(&self.handover, self.delivery.as_ref());
        let owed = notes.owed.clone();
        let from = self.keeper.give_up(self.position().confirmed, begin, notes);
        let memory_limit = server::logical_decoding_work_mem();
        self.reader = TransactionReader::new(begin, memory_limit, Lsn::INVALID);
        self.stream = Stream::resume(Position::default());
        self.naming.begin_at(begin);
        (self.held, self.damage, self.awaiting_standby) = (None, None, None);
        // Another one: what is on its way in this one is given up as well.
        (self.delivery, self.seen, self.handed_over) = (None, Published::default(), 0);
        self.condition.begin_anew();
        let gap = Gap { from, to: begin };
        let problem = format!("backlog is given up by order of an operator: what committed {gap}");
        self.announce(gap, problem);
        self.apply_settings();
        self.owe(owed);
    }

    /// Has the delivery announce what exchanges are owed.
    fn owe(&mut self, owed: Vec<OwedGap>) {
        if let Some(delivery) = &self.delivery {
            owed.into_iter().for_each(|owed| delivery.owe(self.naming.debt(owed)));
        }
    }

    /// The WAL cannot be read on. What was read is published all the same.
    fn be_stuck(&mut self, error: ReadError) {
        let lsn = error.lsn;
        let record = self.naming.record_id(lsn);
        if settings::skips_wal(&record)
            && let Some(passed) = self.reader.pass_damage()
        {
            self.damage = None;
            self.condition.be_stuck(None);
            match passed {
                Passed::Unread { next } => {
                    self.naming.add_damage(lsn..next);
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
        let file = self.naming.file_of(lsn);
        let reason = format!(
            "WAL cannot be read at {lsn}, in file {file}: {}; to pass what is damaged: amqp.skip_wal = '{record}'",
            error.message
        );
        self.condition.be_stuck(Some(Cause::new(reason)));
        self.damage = Some(Damage { error, retry_at: Instant::now() + RETRY });
    }

    /// Whether an event that there was no memory for is to be tried again: a new process has what this one has
    /// kept.
    fn must_try_anew(&self) -> bool {
        let retry_at = self.held.as_ref().and_then(|held| held.retry_at);
        retry_at.is_some_and(|at| Instant::now() >= at)
    }

    /// Stands still at an event that cannot be read: mostly another version of the extension wrote it.
    fn hold(&mut self, event: Unreadable) {
        let Unreadable { message_id, size, problem, is_for_memory } = event;
        let description = format!("message {message_id} ({size} bytes in the WAL)");
        let what = if is_for_memory { "the event is oversize" } else { "the event cannot be read" };
        let reason = format!("{description}: {what}: {problem}");
        let unreadable =
            if is_for_memory { UnreadableKind::OutOfMemory } else { UnreadableKind::Version };
        self.condition.hold(Cause { reason, held: Some(message_id.clone()) }, unreadable);
        let retry_at = is_for_memory.then(|| Instant::now() + MEMORY_RETRY);
        self.held = Some(Held { message_id, description, is_unwanted: false, retry_at });
    }

    /// Passes over the event that is held, if that is wanted, once all before it is confirmed. Whether it did.
    fn pass_over(&mut self) -> bool {
        let is_next = self.seen.confirmed == self.handed_over;
        let Some(held) = self.held.take_if(|held| held.is_unwanted && is_next) else {
            return false;
        };
        self.stream.confirm(1);
        status::add_skipped();
        self.condition.pass_over(&held.description);
        true
    }

    /// Loudly: to the log, to the status, and to the consumers, before anything else.
    fn announce(&mut self, gap: Gap, problem: String) {
        self.condition.lose(problem.clone());
        status::set_gap(gap);
        Report::new(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, problem)
            .detail("Transactions that committed in that time may be missing from the stream, wholly or their first events.")
            .hint("Bring consumers in line with the tables; they are told by an event of type \"gap\".")
            .warn();
        let addressees = self.handover.addressees(&settings::exchange());
        self.stream.push(gap.into_transaction(&addressees, server::now()));
    }

    fn apply_settings(&mut self) {
        match (settings::broker(), &self.delivery) {
            (Ok(settings), Some(delivery)) => delivery.reconfigure(settings),
            (Ok(settings), None) => {
                self.delivery = Some(Delivery::new(settings, threads::spawn));
            }
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

    /// Has the delivery do what it can, and takes what it says and what was confirmed.
    fn deliver(&mut self) {
        let is_readable = std::mem::take(&mut self.is_readable);
        let Some(delivery) = &mut self.delivery else { return };
        delivery.step(is_readable);
        let has_unconfirmed = delivery.has_unconfirmed();
        let (done, reports) = (delivery.done(), delivery.take_reports());
        for report in reports {
            self.condition.take_report(report, has_unconfirmed);
        }
        self.count(done);
    }

    /// Reads on. Whether everything was read that can be used for now.
    fn read_wal(&mut self) -> bool {
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

    fn note_unordered(&mut self) {
        let since = self.unordered_since.unwrap_or_else(Instant::now);
        self.unordered_since = self.reader.oldest_unordered().map(|_| since);
    }

    /// Takes over what exchanges were owed when the last life ended, once all that it noted was read.
    fn take_over(&mut self) {
        self.reader.take_notes().into_iter().for_each(|notes| self.handover.take(notes));
        if self.delivery.is_some() && self.handover.is_known(self.reader.position()) {
            let owed = self.handover.take_over();
            self.owe(owed);
        }
    }

    /// A consumer may read what it is told about at once, and no failover takes it back: nothing is
    /// announced before others see it and the synchronous standbys have it. Whether that was all for now.
    fn release(&mut self) -> bool {
        if !self.stream.has_held_back() && self.awaiting_standby.is_none() {
            return true;
        }
        let standby = server::synchronous_flush_lsn();
        let has_standby = |commit_lsn| standby.is_none_or(|flushed| commit_lsn <= flushed);
        let snapshot = self.snapshot.take();
        let running = snapshot.running();
        // Before its epoch is known, a transaction that may be running waits.
        let real = |xid| self.reader.real_xid(xid).unwrap_or_else(|| running.youngest(xid as u32));
        self.stream.release(|xid, lsn| has_standby(lsn) && !running.contains(real(xid)));
        drop(snapshot);

        let awaited = !self.stream.first_held_back().is_none_or(has_standby);
        let since = awaited.then(|| self.awaiting_standby.unwrap_or_else(Instant::now));
        self.awaiting_standby = since;
        let late = since.is_some_and(|since| since.elapsed() > STANDBY_PATIENCE);
        let cause = late.then(|| Cause::new("a synchronous standby is awaited"));
        self.condition.await_standby(cause);
        !(self.stream.has_held_back() && self.reader.look_for_epoch())
    }

    /// Gives the delivery as much as it takes. Whether that was all for now.
    fn hand_out(&mut self) -> bool {
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
                    match self.naming.message(next, delivery.spare()) {
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
                            unreadable = Some(match failed {
                                Err(failure) if failure.is_for_memory() => {
                                    self.naming.without_memory(lsn, failure.bytes_wanted())
                                }
                                Err(failure) => failure.rethrow(),
                                // It was whole when it was read first.
                                Ok(read) => {
                                    let problem = read.err().map(|error| error.message);
                                    self.naming.unreadable(lsn, problem.unwrap_or_default())
                                }
                            });
                            // It counts as handed out.
                            self.stream.load(Vec::new());
                            self.stream.next();
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

    fn count(&mut self, now: Published) {
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

    fn position(&self) -> Position {
        self.stream.position(self.reader.needed_from())
    }

    /// When to look again, if there may be something left to save.
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
        if self.pace.is_due(now) {
            status::set_catch_up(self.pace.look(now, status::lag().bytes));
        }
    }

    /// Sleeps until there may be something to do.
    fn wait(&mut self, next_save: Option<Duration>) {
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
    fn sleep(&mut self, longest: Duration) {
        let wants = self.delivery.as_ref().map(Delivery::wants).unwrap_or_default();
        let left = wants.until.map(|until| until.saturating_duration_since(Instant::now()));
        self.wait.set_socket(wants.socket);
        self.is_readable |= self.wait.wait(left.map_or(longest, |left| left.min(longest)));
    }

    /// What wakes nobody when it happens: an asynchronous commit reaching the disk, COMMIT PREPARED
    /// in a session that wrote no event, a transaction becoming visible.
    fn must_poll(&self) -> bool {
        let has_unread = shared::last_commit() > self.reader.position();
        (has_unread && !self.is_ahead && self.damage.is_none())
            || self.giving_up.is_some()
            || self.reader.has_prepared()
            || self.stream.has_held_back()
            || self.unordered_since.is_some()
    }

    /// Within a second: take leave of the broker, record what was confirmed, let the slot go. What is
    /// unconfirmed is sent again after the next start.
    fn end(mut self) {
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
        let position = self.position();
        let notes = notes(&self.handover, self.delivery.as_ref());
        self.keeper.save_the_last(position, notes);
        self.keeper.close();
    }

    /// Something failed, and this process ends: what was confirmed until now is not to be sent again.
    fn save_in_spite_of(self, failure: &Failure) {
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

/// What the position records say besides the position.
fn notes(handover: &Handover, delivery: Option<&Delivery>) -> Notes {
    handover.notes(delivery.map(Delivery::owed).unwrap_or_default())
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

/// Shows the error that ends this process.
pub fn failed(error: &str) {
    status::set_state(State::Stuck, None, None);
    status::set_last_error(error);
}

/// Ends the process with an error; it is started again.
fn fail_to_read(error: &ReadError) -> ! {
    Report::new(
        PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
        format!("could not read WAL at {}: {}", error.lsn, error.message),
    )
    .detail(format!("The replication slot \"{}\" retains the WAL.", crate::pg::slot::NAME))
    .hint("The worker is started again in a few seconds.")
    .raise();
}
