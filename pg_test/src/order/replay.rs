//! Applies messages to empty tables, as a consumer would, and checks that each finds what it says
//! was there before.

use std::collections::BTreeMap;

use super::change::{Change, Operation, Row, Transaction};
use super::world::World;

/// Tables by name, and their rows by id.
pub(super) type Tables = BTreeMap<String, BTreeMap<String, Row>>;

/// Applies these transactions, and returns what the tables hold then. What does not fit goes to
/// `findings`, with its transaction.
pub(super) fn replay(
    world: &World,
    transactions: &[Transaction],
    findings: &mut Vec<(u32, String)>,
) -> Tables {
    let mut tables = Tables::new();
    for transaction in transactions {
        for (place, change) in transaction.changes.iter().enumerate() {
            if !world.is_replayed(change) {
                continue;
            }
            if let Err(why) = apply(&mut tables, change) {
                findings.push((
                    transaction.xid,
                    format!("replay, message {}: {change}: {why}", place + 1),
                ));
            }
        }
    }
    tables.retain(|_, rows| !rows.is_empty());
    tables
}

fn apply(tables: &mut Tables, change: &Change) -> Result<(), String> {
    if change.operation == Operation::Truncate {
        // Of a partitioned table the partitions have the rows; their names begin with its.
        for (name, rows) in tables.iter_mut() {
            let is_part = || name.strip_prefix(&change.table).is_some_and(is_partition_suffix);
            if *name == change.table || is_part() {
                rows.clear();
            }
        }
        return Ok(());
    }
    let rows = tables.entry(change.table.clone()).or_default();
    if let Some(old) = &change.old {
        let found = rows.remove(&id(old));
        if found.as_ref() != Some(old) {
            return Err(format!("the row is {found:?}"));
        }
    }
    if let Some(new) = &change.new
        && let Some(there) = rows.insert(id(new), new.clone())
    {
        return Err(format!("there is a row {there:?}"));
    }
    Ok(())
}

fn id(row: &Row) -> String {
    row.get("id").cloned().unwrap_or_default()
}

/// `_1` of `part_1`.
fn is_partition_suffix(rest: &str) -> bool {
    rest.strip_prefix('_').is_some_and(|number| number.parse::<u32>().is_ok())
}
