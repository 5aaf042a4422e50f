//! What a step that changes rows is in SQL. Pure.

use std::ops::Range;

use super::giants;
use super::messages::Sending;
use super::planned_transaction::{Call, Returning, Step};
use super::tables::{BULK, ENORMOUS};
use super::triggers::{Before, Statement};

/// The statement of this step, which returns the keys, the stamps and the columns `first` of the rows that it changed.
/// `own_keys` are those of the client's rows in the bulk table. None if the step is not of one statement.
pub(super) fn of<'a>(
    step: &Step,
    stamp: &'a str,
    own_keys: Range<u64>,
) -> Option<(Statement<'a>, String)> {
    let payload = |bytes: &u64| format!("left(repeat(md5('{stamp}'), {bytes} / 32 + 1), {bytes})");
    let plain = |table| Statement {
        table,
        stamp,
        is_delete: false,
        before: Before::Nothing,
        returning: None,
    };
    let delete = |table| Statement { is_delete: true, ..plain(table) };
    let (statement, sql, returning): (_, _, &Returning) = match step {
        // The row says which of the two it was.
        Step::Upsert { table, keys, bytes, call, returning } => {
            // What is called answers the stamp, or something that gives way to it.
            let (before, first_stamp) = match call {
                Call::Nothing => (Before::Nothing, format!("'{stamp}'")),
                Call::Note => (Before::Note, "note('before ' || key)".to_owned()),
                Call::Send(sending) => {
                    let call = send(sending, "before", stamp);
                    (Before::Message(sending.routing_key), format!("left({call}, 0) || '{stamp}'"))
                }
            };
            let sql = format!(
                "INSERT INTO {table} (key, stamp, amount, payload)
                 SELECT key, {first_stamp} || 'i', 1, {} FROM unnest(ARRAY[{}]) key
                 ON CONFLICT (key) DO UPDATE
                 SET stamp = '{stamp}u', first = excluded.first,
                     amount = {table}.amount + 1, payload = excluded.payload",
                payload(bytes),
                list(keys)
            );
            (Statement { before, ..plain(table) }, sql, returning)
        }
        Step::Update { table, keys, bytes, returning } => {
            let sql = format!(
                "UPDATE {table} SET stamp = '{stamp}u', first = NULL, amount = amount + 1,
                     payload = {}
                 WHERE key IN ({})",
                payload(bytes),
                list(keys)
            );
            (plain(table), sql, returning)
        }
        Step::Delete { table, keys, returning } => {
            let sql = format!("DELETE FROM {table} WHERE key IN ({})", list(keys));
            (delete(table), sql, returning)
        }
        Step::Giants { keys } => (plain(ENORMOUS), giants::upsert(&list(keys), stamp), &None),
        Step::Trim { rows } => {
            let Range { start, end } = own_keys;
            let sql = format!(
                "DELETE FROM {BULK} WHERE key IN
                 (SELECT key FROM {BULK} WHERE key BETWEEN {start} AND {} ORDER BY key LIMIT {rows})",
                end - 1
            );
            (delete(BULK), sql, &None)
        }
        Step::Copy { .. }
        | Step::Truncate
        | Step::Send { .. }
        | Step::Savepoint { .. }
        | Step::Fail
        | Step::Hold(_) => return None,
    };
    let message = returning.map(|sending| format!(", {}", send(&sending, "returning", stamp)));
    let sql = format!("{sql} RETURNING key, stamp, first{}", message.unwrap_or_default());
    Some((Statement { returning: returning.map(|sending| sending.routing_key), ..statement }, sql))
}

/// The call that sends a message about the row with this `key`.
fn send(sending: &Sending, about: &str, stamp: &str) -> String {
    sending.call(&format!("'{about} ' || key"), &format!("'{stamp}'"))
}

fn list(keys: &[u64]) -> String {
    keys.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}
