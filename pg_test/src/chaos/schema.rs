//! Makes the captured tables with their triggers, and reads what they hold.

use std::collections::{BTreeMap, BTreeSet};

use ::postgres::{Client, Error};

use super::delivery::{Row, row};
use super::ledger::RowName;
use super::tables::{ENORMOUS, JOURNAL, LETTERED, NOTES, SIGNATURES, SKIPPED, SMALL, all};
use super::{exchanges, giants, triggers};

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
    client.batch_execute(&format!("CREATE TABLE {SIGNATURES} (tag text PRIMARY KEY)"))?;
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

/// The tags of all transactions that committed. `rows` are those of all captured tables.
pub(super) fn tags(
    client: &mut Client,
    rows: &BTreeMap<RowName, Row>,
) -> Result<BTreeSet<String>, Error> {
    let journal = rows.keys().filter(|(table, _)| table == JOURNAL).map(|(_, tag)| tag.clone());
    let signatures = client.query(&format!("SELECT tag FROM {SIGNATURES}"), &[])?;
    Ok(journal.chain(signatures.iter().map(|row| row.get(0))).collect())
}
