//! Which committed transactions may be told to consumers.

use std::time::{Duration, Instant};

use super::Worker;
use crate::pg::server;
use crate::status::standstill::Cause;

/// A synchronous standby that is later than this is worth a word.
const STANDBY_PATIENCE: Duration = Duration::from_secs(5);

impl Worker {
    /// Lets those transactions go that others can see and that the synchronous standbys have: a consumer may read
    /// what it is told about at once, and no failover takes it back. Returns true if that was all for now.
    pub(super) fn release(&mut self) -> bool {
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
}
