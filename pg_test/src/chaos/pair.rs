//! Two servers, one of which follows the other: which of them writes changes with each failover.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use super::timelines::read_history;
use crate::history::Switch;
use crate::postgres::Postgres;

/// As the primary knows its standby, whichever of both that is.
pub(super) const FOLLOWER: &str = "follower";

/// The replication slot that the standby streams from: it keeps what that one has not got. Ours keeps what is not
/// confirmed, on either server.
pub(super) const SLOT: &str = "follower";

/// Of both servers.
pub(super) const CONF: &[&str] = &[
    "primary_slot_name = 'follower'",
    // For pg_rewind.
    "wal_log_hints = on",
    // A primary that is there again is looked for soon.
    "wal_retrieve_retry_interval = 500ms",
];

/// Whether the primary has a standby, and waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replication {
    /// There is none.
    None,
    /// A failover may lose what committed last.
    Asynchronous,
    /// A failover loses nothing.
    Synchronous,
}

/// How an old primary comes back that may have written what nobody else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejoin {
    Rewound,
    CopiedAnew,
}

impl Replication {
    /// For who reads of a run; empty where there is no standby.
    pub(super) fn name(self) -> &'static str {
        match self {
            Replication::None => "",
            Replication::Asynchronous => ", asynchronous standby",
            Replication::Synchronous => ", synchronous standby",
        }
    }
}

/// The testbed's server is the other one.
#[derive(Debug)]
pub(super) struct Pair {
    second: Postgres,
    is_second_primary: AtomicBool,
}

impl Pair {
    /// Makes the standby of the testbed's server, if there is to be one.
    pub fn make(first: &Postgres, replication: Replication) -> Option<Pair> {
        if replication == Replication::None {
            return None;
        }
        make_room(first);
        let second = first.standby(FOLLOWER, &[]);
        if replication == Replication::Synchronous {
            for server in [first, &second] {
                server.set("synchronous_standby_names", FOLLOWER);
            }
        }
        Some(Pair { second, is_second_primary: AtomicBool::new(false) })
    }

    /// The one that writes.
    pub fn primary<'a>(&'a self, first: &'a Postgres) -> &'a Postgres {
        if self.is_second_primary.load(Ordering::Acquire) { &self.second } else { first }
    }

    /// The one that follows.
    pub fn standby<'a>(&'a self, first: &'a Postgres) -> &'a Postgres {
        if self.is_second_primary.load(Ordering::Acquire) { first } else { &self.second }
    }

    /// The standby was promoted.
    pub fn swap(&self) {
        self.is_second_primary.fetch_xor(true, Ordering::AcqRel);
    }

    /// For whoever wants to write.
    pub fn connection_string(&self, first: &Postgres, database: &str) -> String {
        format!(
            "host=127.0.0.1,127.0.0.1 port={},{} user=postgres dbname={database} connect_timeout=10 \
             target_session_attrs=read-write",
            first.port(),
            self.second.port()
        )
    }
}

/// Has a primary keep the WAL that a standby will need, from now on.
pub(super) fn make_room(primary: &Postgres) {
    let made = primary
        .connect("postgres")
        .batch_execute(&format!("SELECT pg_create_physical_replication_slot('{SLOT}', true)"));
    made.unwrap_or_else(|error| panic!("could not make a slot: {error:?}"));
}

/// A standby that was the primary keeps nothing for itself any more.
pub(super) fn give_room_up(standby: &Postgres) {
    let mut session = standby.connect("postgres");
    let statement = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
    );
    session
        .batch_execute(&statement)
        .unwrap_or_else(|error| panic!("could not drop a slot: {error:?}"));
}

/// What the server itself knows of all promotions that led to it.
pub(super) fn promotions(primary: &Postgres) -> Vec<Switch> {
    let query = "SELECT pg_walfile_name(pg_current_wal_insert_lsn())";
    let row = primary.connect("postgres").query_one(query, &[]);
    let name: String = row.expect("could not ask for the timeline").get(0);
    let timeline = u64::from_str_radix(&name[..8], 16).expect("a timeline is a number");
    let file = primary.data_dir().join(format!("pg_wal/{timeline:08X}.history"));
    // The first timeline has none.
    fs::read_to_string(file).map(|text| read_history(timeline, &text)).unwrap_or_default()
}
