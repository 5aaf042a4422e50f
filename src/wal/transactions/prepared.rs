//! Prepared transactions with events: complete, but for how they end. Pure.

use std::collections::{BTreeSet, HashMap};

use crate::lsn::Lsn;
use crate::memory;
use crate::wal::committed::{Assembled, Found};

/// By xid of the transaction.
#[derive(Debug, Default)]
pub struct PreparedTransactions {
    kept: HashMap<u64, Assembled>,
    spilled: HashMap<u64, Assembled>,
    first_lsns: BTreeSet<Lsn>,
}

impl PreparedTransactions {
    /// Adds one.
    pub fn insert(&mut self, xid: u64, transaction: Assembled) {
        // The tree asks for a node at a time.
        memory::check();
        self.first_lsns.insert(transaction.first_lsn);
        let same = match transaction.events {
            Found::Kept(_) => &mut self.kept,
            Found::Spilled(_) => &mut self.spilled,
        };
        memory::reserve_entry(same);
        same.insert(xid, transaction);
    }

    /// Takes one out, if it is there.
    pub fn take(&mut self, xid: u64) -> Option<Assembled> {
        let transaction = self.kept.remove(&xid).or_else(|| self.spilled.remove(&xid))?;
        self.first_lsns.remove(&transaction.first_lsn);
        Some(transaction)
    }

    /// Forgets every payload.
    pub fn spill(&mut self) {
        memory::reserve_entries(&mut self.spilled, self.kept.len());
        let spilled = self.kept.drain().map(|(xid, Assembled { events, first_lsn })| {
            (xid, Assembled { events: events.spill(), first_lsn })
        });
        self.spilled.extend(spilled);
    }

    /// LSN of the earliest event of all.
    pub fn oldest_lsn(&self) -> Option<Lsn> {
        self.first_lsns.first().copied()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first_lsns.is_empty()
    }
}
