//! Enormous values: some bytes in the table, as text a message that nobody would want. One client writes
//! them for as long as the run lasts; the others must not feel it. Pure.

use super::tables::{ENORMOUS, GIANTS};
use crate::dice::Dice;

/// The keys of its rows are 1 to this.
const KEYS: u64 = 40;

/// What a message holds of a row that is too large.
pub(super) const KEY: [&str; 2] = ["key", "stamp"];

/// Which of the values a row has.
const KINDS: u64 = 4;

/// What makes the table of values to choose from: documents of 6.3 kB and arrays of 3.6 kB, each with numbers that
/// make a text of 40 MB and more, or of some 100 kB. They lie in the row, packed and not.
pub(super) fn sql() -> String {
    let document = |number: &str| {
        format!("SELECT jsonb_agg('{number}'::numeric) FROM generate_series(1, 390)")
    };
    let (whole, enormous) = ("1e300", "1e131071");
    format!(
        "ALTER TABLE {ENORMOUS} ALTER document SET STORAGE PLAIN;
         CREATE TABLE {GIANTS} (kind int PRIMARY KEY, document jsonb, numbers numeric[]);
         ALTER TABLE {GIANTS} ALTER document SET STORAGE PLAIN;
         INSERT INTO {GIANTS} VALUES
             (0, ({}), NULL),
             (1, ({}), NULL),
             (2, NULL, array_fill('{enormous}'::numeric, ARRAY[300])),
             (3, NULL, array_fill('{whole}'::numeric, ARRAY[300]));",
        document(enormous),
        document(whole)
    )
}

/// The statement that writes these rows, or new versions of them.
pub(super) fn upsert(keys: &str, stamp: &str) -> String {
    format!(
        "INSERT INTO {ENORMOUS} (key, stamp, document, numbers)
         SELECT key, '{stamp}i', document, numbers
         FROM unnest(ARRAY[{keys}]) key JOIN {GIANTS} ON kind = key % {KINDS}
         ON CONFLICT (key) DO UPDATE
         SET stamp = '{stamp}u', document = excluded.document, numbers = excluded.numbers"
    )
}

/// What the tables hold, without what would be too long.
pub(super) fn rows_query() -> String {
    format!(
        "SELECT row_to_json(t)::text FROM {ENORMOUS} t WHERE key % 2 = 1
         UNION ALL
         SELECT row_to_json(t)::text FROM (SELECT key, stamp FROM {ENORMOUS} WHERE key % 2 = 0) t"
    )
}

/// Whether a message of this row holds the key alone.
pub(super) fn is_keys_only(table: &str, key: &str) -> bool {
    table == ENORMOUS && key.ends_with(['0', '2', '4', '6', '8'])
}

/// Some different keys, mostly of rows whose messages hold the key alone.
pub(super) fn keys(dice: &mut Dice) -> Vec<u64> {
    let (parity, most) = if dice.chance(80) { (0, 10) } else { (1, 2) };
    let mut keys: Vec<u64> = (1..=KEYS).filter(|key| key % 2 == parity).collect();
    dice.shuffle(&mut keys);
    keys.truncate(dice.between(1, most) as usize);
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_rows_are_enormous() {
        assert!(is_keys_only(ENORMOUS, "10") && !is_keys_only(ENORMOUS, "1"));
        assert!(!is_keys_only("hot_a", "10"));
    }
}
