//! The worker of a standby: it publishes nothing, and keeps what it needs to go on with the stream after a promotion.
//!
//! The primary writes its position into the WAL each second in which it moves. The standby reads these records as they
//! are replayed and moves a slot of its own accordingly, so that its restartpoints leave alone what is not confirmed.
//! After a promotion the worker goes on from there, with the slot still in its hand, as after any other start: an older
//! position than the primary had only means that events come twice.

mod follower;
mod listening;
mod removed;

use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;

use crate::lsn::Lsn;
use crate::pg::report::{self, Report};
use crate::pg::slot::{self, Found, Slot, SlotData};
use crate::pg::timeline::Timelines;
use crate::pg::wait::WaitSet;
use crate::pg::xlog_reader::{ReadError, XLogReader};
use crate::pg::{server, worker_process};
use crate::position::{
    Notes, Position, first_record_after, is_usable, retain_everything, take_removal_back, take_slot,
};
use crate::restore;
use crate::settings;
use crate::status::{self, State};
use follower::{Follower, Standing};
use listening::listen;
use removed::Removed;

/// Between two looks whether there is something to replay, and whether the server was promoted, which wakes nobody.
const LOOK: Duration = Duration::from_millis(250);

/// Longest time between two saves of a position that moves.
const SAVE: Duration = Duration::from_secs(10);

/// Between two attempts to get a slot, or to read what could not be read.
const RETRY: Duration = Duration::from_secs(60);
const READ_AGAIN: Duration = Duration::from_secs(1);

/// How following ends.
pub enum Followed {
    /// The server was promoted. The slot is held, if there is one; and what position records say besides.
    Promoted(Option<(Slot, Notes)>),
    /// The worker is told to end.
    Ended,
}

/// Follows the stream until the server is a standby no more.
pub fn follow() -> Followed {
    // Whether something is unconfirmed only the primary knows.
    status::set_caught_up(true);
    let wait = WaitSet::new();
    let mut watch = restore::Watch::default();
    let removed = Removed::noted();
    let mut standby = Standby { following: None, removed, try_at: Instant::now(), shown: None };
    loop {
        if worker_process::must_end() {
            if let Some(following) = standby.following {
                following.slot.release();
            }
            return Followed::Ended;
        }
        worker_process::settings_reloaded();
        watch.look();
        let was_promoted = !server::in_recovery();
        standby.go_on(was_promoted);
        if was_promoted {
            report::log("recovery is over: the stream is taken over here".to_owned());
            let held = standby.following.map(|following| (following.slot, following.notes));
            return Followed::Promoted(held);
        }
        wait.wait(LOOK);
    }
}

struct Standby {
    /// None while there is no slot.
    following: Option<Following>,
    /// While the extension is removed upstream.
    removed: Option<Removed>,
    /// When to try again to get one.
    try_at: Instant,
    /// What the status and the log say.
    shown: Option<String>,
}

impl Standby {
    fn go_on(&mut self, was_promoted: bool) {
        if !settings::standby_slot() {
            self.let_go();
            return self.show("cannot take over: amqp.standby_slot is off".to_owned());
        }
        if self.is_removed() {
            return self
                .show("amqp_cdc was removed upstream: there is nothing to take over".to_owned());
        }
        if self.following.is_none() && !was_promoted && Instant::now() >= self.try_at {
            self.begin();
        }
        if let Some(following) = &mut self.following {
            following.go_on(was_promoted);
            let words = following.words();
            self.show(words);
        }
        self.take_removal();
    }

    /// Takes or makes the slot. Not having one is no reason to end: the standby is there for other things, too.
    fn begin(&mut self) {
        match worker_process::catch(Following::begin) {
            Ok(Ok(following)) => self.following = Some(following),
            Ok(Err(error)) => self.warn(&error.message),
            Err(failure) => self.warn(&format!("no slot: {}", failure.message())),
        }
        if self.following.is_none() {
            self.try_at = Instant::now() + RETRY;
        }
    }

    /// Whether the extension is removed upstream, and stays so.
    fn is_removed(&mut self) -> bool {
        let Some(removed) = &mut self.removed else { return false };
        if !removed.is_over() {
            return true;
        }
        match take_removal_back() {
            Ok(()) => self.removed = None,
            Err(error) => report::log(error.message),
        }
        self.removed.is_some()
    }

    /// Lets the slot go, if the last word upstream was that the extension is removed.
    fn take_removal(&mut self) {
        if let Some(following) = self.following.take_if(|following| following.is_removed()) {
            report::log("standby retains nothing: amqp_cdc was removed upstream".to_owned());
            match Removed::now(following.slot, following.reader) {
                Ok(removed) => self.removed = Some(removed),
                Err(error) => {
                    self.try_at = Instant::now() + RETRY;
                    report::log(error.message);
                }
            }
        }
    }

    /// Says why the stream cannot be followed: once, however often it is tried.
    fn warn(&mut self, problem: &str) {
        let words = format!("cannot take over: {problem}");
        if self.shown.as_ref() != Some(&words) {
            Report::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("standby {words}"),
            )
            .detail(format!("It is tried again each {} seconds.", RETRY.as_secs()))
            .hint("Set amqp.standby_slot = off where nobody would promote this server.")
            .warn();
        }
        self.show(words);
    }

    /// Retains nothing here.
    fn let_go(&mut self) {
        if let Some(following) = self.following.take() {
            following.slot.release();
        }
        if matches!(slot::find(), Found::Usable | Found::Invalidated(_)) {
            slot::drop_it();
        }
    }

    fn show(&mut self, words: String) {
        if self.shown.as_ref() != Some(&words) {
            status::set_state(State::Standby, Some(&words), None);
            self.shown = Some(words);
        }
    }
}

/// The slot, and who moves it.
struct Following {
    slot: Slot,
    reader: XLogReader,
    follower: Follower,
    /// What the position records say besides the position.
    notes: Notes,
    standing: Standing,
    saved: SlotData,
    saved_at: Instant,
    segment_size: u64,
    /// Why the WAL could not be read, and when to try again.
    trouble: Option<(ReadError, Instant)>,
}

impl Following {
    fn begin() -> Result<Following, ReadError> {
        let (slot, stored) = take_slot();
        let (reader, start, last) = match find_beginning(&slot, stored) {
            Ok(found) => found,
            Err(error) => {
                slot.release();
                return Err(error);
            }
        };
        let segment_size = server::wal_segment_size();
        let mut follower = Follower::new(start, last, segment_size);
        let standing = follower.standing(start);
        let mut following = Following {
            slot,
            reader,
            follower,
            notes: Notes::default(),
            standing,
            saved: stored,
            saved_at: Instant::now(),
            segment_size,
            trouble: None,
        };
        following.save();
        report::log(format!("standby follows the stream from {start}"));
        Ok(following)
    }

    fn go_on(&mut self, was_promoted: bool) {
        if was_promoted {
            // Where the timeline ends that the reader knew the WAL goes on under another name.
            self.reader = XLogReader::new(self.reader.position());
            self.trouble = None;
        }
        self.read();
        let standing = self.follower.standing(self.reader.position());
        if standing.differs_from(self.standing) {
            report::log(format!("standby {}", standing.words()));
        }
        self.standing = standing;
        if self.is_due() || was_promoted {
            self.save();
        }
        let saved = Position { restart: self.saved.restart, ..self.position() };
        status::set_progress(self.reader.position(), saved, None);
    }

    fn position(&self) -> Position {
        match self.standing {
            Standing::Ready(position) => position,
            Standing::Lacking { confirmed, .. } => Position { confirmed, ..Position::default() },
            Standing::Unknown { .. } => Position::default(),
        }
    }

    /// Reads what was replayed.
    fn read(&mut self) {
        if self.trouble.as_ref().is_some_and(|&(_, again_at)| Instant::now() < again_at) {
            return;
        }
        if let Some((error, _)) = self.trouble.take() {
            // The timeline may be another one now, as where the server that is followed was promoted.
            self.reader = XLogReader::new(self.reader.position());
            if error.is_missing
                && let Err(error) = self.pass_missing()
            {
                self.trouble = Some((error, Instant::now() + READ_AGAIN));
                return;
            }
        }
        let Following { reader, follower, notes, .. } = self;
        let listened = listen(reader, |heard, at| {
            let (position, said) = heard.unzip();
            said.flatten().into_iter().for_each(|said| notes.update(said));
            follower.hear(position, at);
        });
        if let Err(error) = listened {
            self.trouble = Some((error, Instant::now() + READ_AGAIN));
        }
    }

    /// Goes on behind WAL that is gone, if it is: what comes behind it would be retained for ever.
    fn pass_missing(&mut self) -> Result<(), ReadError> {
        let start = retain_everything(&self.slot, &Timelines::read())?;
        if start > self.reader.position() {
            let (reader, first) = first_record_after(start)?;
            self.reader = reader;
            self.follower.lose(first);
        }
        Ok(())
    }

    fn is_removed(&self) -> bool {
        self.follower.is_removed()
    }

    /// Whether the slot is to be saved: WAL can go, or what it says is old.
    fn is_due(&self) -> bool {
        let stored = self.standing.to_stored();
        let segment = |stored: SlotData| stored.restart.segment(self.segment_size);
        stored != self.saved
            && (segment(stored) != segment(self.saved) || self.saved_at.elapsed() >= SAVE)
    }

    fn save(&mut self) {
        let stored = self.standing.to_stored();
        self.slot.save(stored);
        self.follower.note_saved(stored);
        (self.saved, self.saved_at) = (stored, Instant::now());
    }

    fn words(&self) -> String {
        match &self.trouble {
            Some((error, _)) => format!("cannot take over: WAL cannot be read: {}", error.message),
            None => self.standing.words(),
        }
    }
}

/// Where to begin to read, and what is known before.
fn find_beginning(
    slot: &Slot,
    stored: SlotData,
) -> Result<(XLogReader, Lsn, Option<Position>), ReadError> {
    let timelines = Timelines::read();
    let (known, is_sealed) = Position::from_stored(stored);
    if is_usable(known, is_sealed, &timelines)? {
        return Ok((XLogReader::new(known.restart), known.restart, Some(known)));
    }
    let start = retain_everything(slot, &timelines)?;
    let (reader, first) = first_record_after(start)?;
    // What the slot knew is worth less than what the WAL will say, and more than nothing.
    let confirmed = known.confirmed;
    let last = confirmed.is_valid().then(|| Position { confirmed, ..Position::default() });
    Ok((reader, first, last))
}
