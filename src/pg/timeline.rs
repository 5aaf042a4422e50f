//! Which timeline a WAL position belongs to. LSNs are used again after a promotion or a
//! point-in-time recovery, so that only the pair (timeline, LSN) names a place for ever.

use pgrx::pg_sys;

use super::sys;
use crate::lsn::Lsn;

/// The history of the server's timeline, read once: a running server never changes its timeline.
pub struct Timelines {
    history: *mut pg_sys::List,
}

impl Timelines {
    /// Reads the history of the timeline that WAL is written to now.
    ///
    /// # Errors
    ///
    /// Raises if a history file cannot be read.
    pub fn read() -> Timelines {
        // SAFETY: main thread. The list must outlive transactions, hence the context. After an ERROR the process
        // ends, so that the context need not be set back.
        unsafe {
            // A standby's changes when it follows one that was promoted.
            let current = if pg_sys::RecoveryInProgress() {
                let mut replayed = 0;
                pg_sys::GetXLogReplayRecPtr(&mut replayed);
                replayed
            } else {
                pg_sys::GetWALInsertionTimeLine()
            };
            let before = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
            let history = sys::readTimeLineHistory(current);
            pg_sys::MemoryContextSwitchTo(before);
            Timelines { history }
        }
    }

    /// The timeline that owns `lsn`. Not the one in the page header: a page may begin on an older
    /// one (xlogutils.c: `XLogReadDetermineTimeline`).
    pub fn of(&self, lsn: Lsn) -> u32 {
        // SAFETY: the list lives as long as the process.
        unsafe { sys::tliOfPointInHistory(lsn.0, self.history) }
    }

    /// The timeline that owns the byte before `end`, the end of a record: at its own end a timeline owns nothing any
    /// more.
    pub fn before(&self, end: Lsn) -> u32 {
        self.of(Lsn(end.0.saturating_sub(1)))
    }

    /// The timeline that WAL is written to, or replayed from.
    pub fn current(&self) -> u32 {
        self.of(Lsn(u64::MAX))
    }

    /// Where a timeline ended that is not the current one: what has a higher LSN on it is of a history that is no
    /// more.
    pub fn end_of(&self, timeline: u32) -> Lsn {
        // SAFETY: the list lives as long as the process; who comes next is not asked for.
        Lsn(unsafe { sys::tliSwitchPoint(timeline, self.history, std::ptr::null_mut()) })
    }
}
