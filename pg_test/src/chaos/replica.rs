//! The tables as they come out of the messages alone. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::delivery::{Delivery, Place, Row};
use super::ledger::RowName;
use super::messages::is_message;

/// Starts empty; each message is applied to it, in the order of the stream: a message that comes
/// again, or that an excused one overtook, changes nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Replica {
    rows: BTreeMap<RowName, (Place, Option<Row>)>,
    /// Where each table was emptied: no row from before is in it.
    emptied: BTreeMap<String, BTreeSet<Place>>,
}

impl Replica {
    /// Applies a message.
    pub fn apply(&mut self, delivery: &Delivery, after: Option<Row>) {
        if is_message(&delivery.change) {
            return;
        }
        if delivery.is_truncate() {
            let emptied = self.emptied.entry(delivery.change.table.clone());
            emptied.or_default().insert(delivery.place);
            return;
        }
        let name = delivery.change.row_name();
        let is_newer = self.rows.get(&name).is_none_or(|(place, _)| *place < delivery.place);
        if is_newer {
            self.rows.insert(name, (delivery.place, after));
        }
    }

    /// How the replica differs from the source's rows, but for those whose last change may be missing, or is undone:
    /// who was told of that reads them again. Columns that a row's last message does not have (added or renamed
    /// since) are not compared.
    pub fn differences(
        &self,
        source: &BTreeMap<RowName, Row>,
        unknown: &BTreeSet<RowName>,
        is_undone: impl Fn(Place) -> bool,
    ) -> Vec<String> {
        let mut differences = Vec::new();
        let is_known = |name: &RowName| {
            let last = self.rows.get(name);
            !unknown.contains(name) && !last.is_some_and(|&(place, _)| is_undone(place))
        };
        for (name, row) in source.iter().filter(|(name, _)| is_known(name)) {
            match self.row(name, &is_undone) {
                None => differences.push(format!("{name:?} is in the source alone")),
                Some(copy) if !agree(row, copy) => {
                    differences.push(format!("{name:?} is {row:?} and came as {copy:?}"));
                }
                Some(_) => {}
            }
        }
        for name in self.rows.keys().filter(|name| is_known(name)) {
            if self.row(name, &is_undone).is_some() && !source.contains_key(name) {
                differences.push(format!("{name:?} is not in the source"));
            }
        }
        differences
    }

    /// A row that is there.
    fn row(&self, name: &RowName, is_undone: impl Fn(Place) -> bool) -> Option<&Row> {
        let (place, row) = self.rows.get(name)?;
        let mut emptied = self.emptied.get(&name.0).into_iter().flat_map(|all| all.range(place..));
        let was_emptied = emptied.any(|&place| !is_undone(place));
        row.as_ref().filter(|_| !was_emptied)
    }
}

fn agree(source: &Row, copy: &Row) -> bool {
    source.iter().all(|(column, value)| copy.get(column).is_none_or(|copied| copied == value))
}
