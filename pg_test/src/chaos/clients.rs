//! What the clients share: how they connect, when they end, and the transactions that one of them
//! prepared, which another one commits or rolls back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::ledger::{Autonomous, Change, Outcome, Transaction};
use super::pair::Replication;
use super::servers::Servers;
use crate::end_signal::EndSignal;

/// How many there are, but for two more.
pub(super) const CLIENTS: u64 = 16;

/// One of them, which writes enormous values beside the others.
pub(super) const WRITER_OF_GIANTS: u64 = CLIENTS;

/// The other one, which only sends messages.
pub(super) const SENDER: u64 = CLIENTS + 1;

/// What all clients know.
#[derive(Debug)]
pub(super) struct Clients<'a> {
    pub connection_string: String,
    /// Whether commits do, as long as it takes.
    pub waits_for_standby: bool,
    pub seed: u64,
    pub end_signal: &'a EndSignal,
    /// Transactions that are prepared, or may be: the answer was cut off.
    prepared: Mutex<VecDeque<Prepared>>,
}

/// A transaction that a client prepared, or tried to.
#[derive(Debug)]
pub(super) struct Prepared {
    pub transaction: Transaction,
    /// The number of that client.
    pub by: u64,
    /// Whether it is to be committed, or else rolled back.
    pub commit: bool,
    /// Not before this time.
    pub due: Instant,
}

/// What a client has to tell in the end.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub transactions: Vec<Transaction>,
    pub autonomous: Vec<Autonomous>,
    /// Messages that it sent, and the message_id that it was told of each.
    pub message_ids: Vec<(Change, String)>,
    /// Errors that it met, by SQLSTATE.
    pub errors: BTreeMap<String, usize>,
}

impl<'a> Clients<'a> {
    /// Clients that work until the run ends.
    pub fn new(servers: &Servers, seed: u64, end_signal: &'a EndSignal) -> Clients<'a> {
        let connection_string = servers.connection_string();
        let waits_for_standby = servers.replication == Replication::Synchronous;
        let prepared = Mutex::default();
        Clients { connection_string, waits_for_standby, seed, end_signal, prepared }
    }

    /// Takes what is still prepared when the run has ended: how it ended stands in the
    /// journal, once nothing is prepared any more.
    pub fn leave(&self) -> Vec<Transaction> {
        let unknown =
            |prepared: Prepared| Transaction { outcome: Outcome::Unknown, ..prepared.transaction };
        self.prepared().drain(..).map(unknown).collect()
    }

    /// Keeps a transaction for whoever ends it.
    pub fn keep_prepared(&self, prepared: Prepared) {
        self.prepared().push_back(prepared);
    }

    /// A transaction that another session than `number` prepared and that is due.
    pub fn take_prepared(&self, number: u64) -> Option<Prepared> {
        let mut prepared = self.prepared();
        let is_due = |p: &Prepared| p.by != number && p.due <= Instant::now();
        let place = prepared.iter().position(is_due)?;
        prepared.remove(place)
    }

    fn prepared(&self) -> MutexGuard<'_, VecDeque<Prepared>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
