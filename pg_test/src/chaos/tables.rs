//! The captured tables: few hot rows that everybody changes, one into which much is copied, some
//! with triggers that write in the middle of a statement, some whose events go elsewhere, one with enormous
//! values, and the journal into which every transaction writes its tag, last of all.

use std::collections::{BTreeMap, BTreeSet};

use ::postgres::{Client, Error};

use super::delivery::{Row, row};
use super::ledger::RowName;
use super::{exchanges, giants, triggers};

/// Tables whose rows are changed again and again.
pub(super) const HOT: [&str; 3] = ["hot_a", "hot_b", "hot_c"];

/// The same, with triggers that write before a row is, or after it and before the capture trigger.
pub(super) const TRIGGERED: [&str; 3] = [CHILDREN, VERSIONS, TWICE];

/// Before a row of it is written, its parent is.
pub(super) const CHILDREN: &str = "children";

/// Written by a trigger alone.
pub(super) const PARENTS: &str = "parents";

/// Before a row is inserted, the one with the same key is deleted.
pub(super) const VERSIONS: &str = "versions";

/// After a row of it is changed, it is changed again.
pub(super) const TWICE: &str = "twice";

/// The same, whose events go to exchanges of their own, which may be gone: see [`exchanges`].
pub(super) const APART: [&str; 2] = [SKIPPED, LETTERED];

/// What its exchange refuses is passed over.
pub(super) const SKIPPED: &str = "skipped";

/// What its exchange refuses goes to the dead-letter exchange.
pub(super) const LETTERED: &str = "lettered";

/// Rows with values that are enormous as text, written by one client alone: see [`giants`].
pub(super) const ENORMOUS: &str = "enormous";

/// These values, not captured.
pub(super) const GIANTS: &str = "giants";

/// The one that is truncated, which keeps everybody else away from it.
pub(super) const SMALL: &str = "small";

/// What functions and triggers write down, never changed.
pub(super) const NOTES: &str = "notes";

/// The keys that clients choose from are 1 to this.
pub(super) const HOT_KEYS: u64 = 60;

/// The table that is copied into.
pub(super) const BULK: &str = "bulk";

/// The table of tags.
pub(super) const JOURNAL: &str = "journal";

/// Makes the tables and attaches the triggers.
pub(super) fn make(client: &mut Client) -> Result<(), Error> {
    for table in all() {
        let columns = match table {
            NOTES | JOURNAL => "key text PRIMARY KEY, stamp text NOT NULL",
            ENORMOUS => {
                "key bigint PRIMARY KEY, stamp text NOT NULL, first text, document jsonb, numbers numeric[]"
            }
            _ => {
                "key bigint PRIMARY KEY, stamp text NOT NULL, first text, amount int, payload text"
            }
        };
        client.batch_execute(&format!("CREATE TABLE {table} ({columns})"))?;
    }
    for table in all() {
        client.batch_execute(&format!(
            "CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON {table}
             FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture({})",
            arguments(table)
        ))?;
    }
    client.batch_execute(&format!(
        "CREATE TRIGGER capture_truncate AFTER TRUNCATE ON {SMALL}
         FOR EACH STATEMENT EXECUTE FUNCTION amqp_change_data_capture()"
    ))?;
    client.batch_execute(&giants::sql())?;
    client.batch_execute(&triggers::sql())
}

/// Of a table's trigger.
fn arguments(table: &str) -> String {
    match table {
        // The stamp says which change it was, also of a row that is too large.
        ENORMOUS => format!("'{table}', 'cdc', 'key={}'", giants::KEY.join(",")),
        SKIPPED | LETTERED => format!("'{table}', 'cdc', 'exchange={}'", exchanges::of(table)),
        _ => String::new(),
    }
}

/// All rows as they are now.
pub(super) fn rows(client: &mut Client) -> Result<BTreeMap<RowName, Row>, Error> {
    let mut rows = BTreeMap::new();
    for table in all() {
        let query = match table {
            ENORMOUS => giants::rows_query(),
            _ => format!("SELECT row_to_json(t)::text FROM {table} t"),
        };
        for found in client.query(&query, &[])? {
            let json = serde_json::from_str(found.get(0)).expect("row_to_json gives JSON");
            let row = row(&json).expect("a row is an object");
            rows.insert((table.to_owned(), row["key"].clone()), row);
        }
    }
    Ok(rows)
}

/// The tags of all transactions that committed.
pub(super) fn tags(rows: &BTreeMap<RowName, Row>) -> BTreeSet<String> {
    rows.keys().filter(|(table, _)| table == JOURNAL).map(|(_, tag)| tag.clone()).collect()
}

/// The tables that are captured.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    let others = [PARENTS, SMALL, NOTES, BULK, ENORMOUS, JOURNAL];
    HOT.into_iter().chain(TRIGGERED).chain(APART).chain(others)
}
