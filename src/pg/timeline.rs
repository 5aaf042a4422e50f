//! Which timeline a WAL position belongs to. LSNs are used again after a promotion or a
//! point-in-time recovery, so that only the pair (timeline, LSN) names a place for ever.

use pgrx::pg_sys;

use crate::lsn::Lsn;

unsafe extern "C-unwind" {
    // access/timeline.h; missing from pgrx.
    fn readTimeLineHistory(target: pg_sys::TimeLineID) -> *mut pg_sys::List;
    fn tliOfPointInHistory(
        lsn: pg_sys::XLogRecPtr,
        history: *mut pg_sys::List,
    ) -> pg_sys::TimeLineID;
}

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
        // SAFETY: main thread, after recovery. The list must outlive transactions, hence the
        // context; nothing in the guarded call has a destructor.
        unsafe {
            let current = pg_sys::GetWALInsertionTimeLine();
            let before = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
            let history = pg_sys::ffi::pg_guard_ffi_boundary(|| readTimeLineHistory(current));
            pg_sys::MemoryContextSwitchTo(before);
            Timelines { history }
        }
    }

    /// The timeline that owns `lsn`. Not the one in the page header: a page may begin on an older
    /// one (xlogutils.c: `XLogReadDetermineTimeline`).
    pub fn of(&self, lsn: Lsn) -> u32 {
        let history = self.history;
        // SAFETY: the list lives as long as the process.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| tliOfPointInHistory(lsn.0, history)) }
    }
}
