//! The routing key of a row that is made of its values. Each stands in the key as it stands in the body.

use super::columns::Columns;
use super::json::Json;
use crate::pg::tuple::Values;
use crate::routing_key::{Filling, Pattern, Side};

/// A value with more bytes of JSON is taken for null, in a key of which 255 bytes stay: a few bytes that are stored can
/// make more text than there is memory for.
const LARGEST: usize = 1024 * 1024;

/// A key that was filled in.
pub struct MadeKey {
    pub filling: Filling,
    /// Whether bytes had to be replaced that have no meaning in UTF-8.
    pub is_lossy: bool,
}

impl MadeKey {
    /// Fills in the values of a change, given the columns that the pattern numbers.
    pub fn of(
        pattern: &Pattern,
        operation: &str,
        columns: &Columns,
        old: Option<&Values<'_>>,
        new: Option<&Values<'_>>,
        json: &mut Json,
    ) -> MadeKey {
        let mut is_lossy = false;
        let output = columns.fix_output();
        let filling = pattern.fill(operation, |side, column, filling| {
            let row = match side {
                Side::Old => old,
                Side::New => new.or(old),
            };
            let Some((row, column)) = row.zip(columns.list.get(column)) else {
                return filling.add_value(None);
            };
            if column.measure(row, LARGEST) > LARGEST {
                return filling.add_value(None);
            }
            json.begin(LARGEST);
            column.render(row, json);
            is_lossy |= json.is_lossy();
            filling.add_value((!json.is_full()).then(|| json.bytes()));
        });
        output.undo();
        MadeKey { filling, is_lossy }
    }

    /// The key of a row of which no value can be told.
    pub fn without_values(pattern: &Pattern, operation: &str) -> Filling {
        pattern.fill(operation, |_, _, filling| filling.add_value(None))
    }
}
