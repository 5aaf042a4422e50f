//! The captured tables: few hot rows that everybody changes, one into which much is copied, and
//! the journal into which every transaction writes its tag, last of all.

use std::collections::{BTreeMap, BTreeSet};

use ::postgres::{Client, Error};

use super::delivery::{Row, RowName, row};

/// Tables whose rows are changed again and again.
pub(super) const HOT: [&str; 3] = ["hot_a", "hot_b", "hot_c"];

/// Their keys are 1 to this.
pub(super) const HOT_KEYS: u64 = 60;

/// The table that is copied into.
pub(super) const BULK: &str = "bulk";

/// The table of tags.
pub(super) const JOURNAL: &str = "journal";

/// Makes the tables and attaches the triggers.
pub(super) fn make(client: &mut Client) -> Result<(), Error> {
    let columns = "stamp text NOT NULL, amount int, payload text";
    for hot in HOT {
        client.batch_execute(&format!("CREATE TABLE {hot} (key bigint PRIMARY KEY, {columns})"))?;
    }
    client.batch_execute(&format!(
        "CREATE TABLE {BULK} (key bigint PRIMARY KEY, client int NOT NULL, {columns});
         CREATE TABLE {JOURNAL} (key text PRIMARY KEY, stamp text NOT NULL)"
    ))?;
    for table in all() {
        client.batch_execute(&format!(
            "CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON {table}
             FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()"
        ))?;
    }
    Ok(())
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
    HOT.into_iter().chain([BULK, JOURNAL])
}
