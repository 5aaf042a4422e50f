//! Three statements on tables that the workload brings: an insert, an update and a delete of all
//! rows. What makes the difference between workloads is the trigger, or the shape of the tables.

use crate::meter::{Cost, Meter};
use crate::stage::Stage;

/// What is measured, in this order.
pub const OPERATIONS: [&str; 3] = ["insert", "update", "delete"];

/// One cost for each of [`OPERATIONS`].
pub type Costs = [Cost; 3];

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
    /// For each of [`OPERATIONS`], every row once.
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
    /// Runs each statement once, and tells what a row cost.
    pub fn measure(&self, stage: &mut Stage, meter: &Meter) -> Costs {
        stage.run(&self.clear);
        // No checkpoint in a measurement, and none that was just before one: what is written to a
        // page for the first time after it, is written to the WAL whole.
        stage.run("CHECKPOINT");
        stage.run(&self.warm);
        stage.settle();
        stage.run(self.set);
        let costs = self.statements.each_ref().map(|statement| {
            let cost = meter.measure(&mut stage.client, statement);
            stage.settle();
            cost.per(self.rows)
        });
        stage.run("RESET ALL");
        self.check(stage);
        costs
    }

    /// A trigger that did nothing would be the cheapest.
    fn check(&self, stage: &mut Stage) {
        if let Some(log) = self.log {
            let row = stage.client.query_one(&format!("SELECT count(*) FROM {log}"), &[]);
            let logged: i64 = row.expect("could not count what was logged").get(0);
            let changed = self.rows * self.statements.len() as u64;
            assert_eq!(logged as u64, changed, "{}: rows in {log} for rows changed", self.name);
        }
    }
}
