//! Three statements on tables that the workload brings: an insert, an update and a delete of all
//! rows, slice by slice. What makes the difference between workloads is the trigger, or the shape of
//! the tables.

use crate::meter::{Cost, Meter};
use crate::servers::Servers;

/// What is measured, in this order.
pub const OPERATIONS: [&str; 3] = ["insert", "update", "delete"];

/// One cost for each of [`OPERATIONS`].
pub type Costs = [Cost; 3];

/// So many parts of the rows are changed and measured each by itself, all workloads in turn: a core
/// whose speed changes every few seconds is as fast for one workload as for its neighbours.
pub const SLICES: usize = 10;

/// What a statement says after its table to mean the rows of a slice.
pub const THESE: &str = "WHERE id BETWEEN :first AND :last";

/// What is done to the tables of one trigger or shape.
#[derive(Debug)]
pub struct Workload {
    /// For the reader of the progress.
    pub name: String,
    /// Makes the tables, once.
    pub setup: Setup,
    /// Empties them before each round.
    pub clear: String,
    /// Brings into the session's caches what the first change of a table has to look up.
    pub warm: String,
    /// Settings of the session while it works.
    pub set: &'static str,
    /// For each of [`OPERATIONS`], on the rows whose numbers are `:first` to `:last`; they count
    /// from 1.
    pub statements: [String; 3],
    /// So many rows each statement changes.
    pub rows: u64,
    /// Where the trigger wrote a row for each row changed, if it writes to tables.
    pub log: Option<&'static str>,
}

/// How a workload's tables are made.
#[derive(Debug)]
pub enum Setup {
    /// By these statements.
    Sql(String),
    /// Not on this machine, for the reason told.
    Impossible(String),
}

impl Workload {
    /// Empties its tables.
    pub fn clear(&self, servers: &mut Servers) {
        servers.run(&self.clear);
    }

    /// Brings into the session's caches what it needs there.
    pub fn warm(&self, servers: &mut Servers) {
        servers.run(&self.warm);
        servers.settle();
    }

    /// Does one of the [`OPERATIONS`] to a slice of the rows, and tells what it cost.
    pub fn measure(
        &self,
        servers: &mut Servers,
        meter: &Meter,
        operation: usize,
        slice: usize,
    ) -> Cost {
        servers.run(self.set);
        let before = |slice| self.rows * slice as u64 / SLICES as u64;
        let (first, last) = (before(slice) + 1, before(slice + 1));
        let statement = self.statements[operation]
            .replace(":first", &first.to_string())
            .replace(":last", &last.to_string());
        let cost = meter.measure(&mut servers.client, &statement);
        servers.settle();
        servers.run("RESET ALL");
        cost
    }

    /// A trigger that did nothing would be the cheapest.
    pub fn check(&self, servers: &mut Servers) {
        if let Some(log) = self.log {
            let row = servers.client.query_one(&format!("SELECT count(*) FROM {log}"), &[]);
            let logged: i64 = row.expect("could not count what was logged").get(0);
            let changed = self.rows * self.statements.len() as u64;
            assert_eq!(logged as u64, changed, "{}: rows in {log} for rows changed", self.name);
        }
    }
}
