//! The captured tables: few hot rows that everybody changes, one into which much is copied, some
//! with triggers that write in the middle of a statement, and the journal into which every
//! transaction writes its tag, last of all.

use std::collections::{BTreeMap, BTreeSet};

use ::postgres::{Client, Error};

use super::delivery::{Row, RowName, row};
use super::triggers;

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
            _ => {
                "key bigint PRIMARY KEY, stamp text NOT NULL, first text, amount int, payload text"
            }
        };
        client.batch_execute(&format!("CREATE TABLE {table} ({columns})"))?;
    }
    for table in all() {
        client.batch_execute(&format!(
            "CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON {table}
             FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()"
        ))?;
    }
    client.batch_execute(&format!(
        "CREATE TRIGGER capture_truncate AFTER TRUNCATE ON {SMALL}
         FOR EACH STATEMENT EXECUTE FUNCTION amqp_change_data_capture()"
    ))?;
    client.batch_execute(&triggers::sql())
}

/// All rows as they are now.
pub(super) fn rows(client: &mut Client) -> Result<BTreeMap<RowName, Row>, Error> {
    let mut rows = BTreeMap::new();
    for table in all() {
        for found in client.query(&format!("SELECT row_to_json(t)::text FROM {table} t"), &[])? {
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

fn all() -> impl Iterator<Item = &'static str> {
    HOT.into_iter().chain(TRIGGERED).chain([PARENTS, SMALL, NOTES, BULK, JOURNAL])
}
