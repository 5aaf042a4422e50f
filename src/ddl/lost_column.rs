//! Refuses a command that drops or renames a column which an option of a capture trigger names: from then on the
//! trigger would fail at every write. The error says what to run instead. A whole table may be dropped, because
//! its triggers go with it.

use std::collections::BTreeSet;

use pgrx::PgSqlErrorCode;

use super::wrong_type;
use crate::capture::{Arguments, arguments_with};
use crate::memory;
use crate::pg::catalog::{self, CaptureTrigger, Relation, RelationId, quoted};
use crate::pg::report::Report;

/// Longest definition of a trigger that an error shows, in bytes.
const LONGEST: usize = 4096;

/// A column that no longer exists under its name.
#[derive(Debug, PartialEq, Eq)]
struct Lost {
    option: &'static str,
    name: String,
    /// What it is called now; none if it was dropped.
    now: Option<String>,
}

/// Returns an error for each trigger that the command which ends now would break. `touched` are the relations that
/// it touched. `before` is a command of the transaction: as of that one, the catalogs are as they were before the
/// command that ends.
///
/// Only columns that existed before count: a trigger that is broken already, because a command got past this check,
/// must not make every later command fail.
pub fn find(touched: &BTreeSet<RelationId>, before: u32) -> Vec<Report> {
    let mut seen = BTreeSet::new();
    let mut losses = Vec::new();
    for &id in touched {
        let Some(origin) = catalog::relation(id) else { continue };
        let tables = if origin.is_table() {
            vec![id]
        } else if origin.is_composite_type() {
            origin.typed_tables()
        } else {
            continue;
        };
        for table in tables.into_iter().flat_map(catalog::with_inheritors) {
            if seen.insert(table)
                && let Some(table) = catalog::relation(table)
            {
                losses.extend(losses_of(&table, &origin, before));
            }
        }
    }
    losses
}

fn losses_of(table: &Relation, origin: &Relation, before: u32) -> Vec<Report> {
    let report = |trigger: &CaptureTrigger| {
        let lost = lost_columns(table, trigger, before);
        if lost.is_empty() {
            return wrong_type::refusal(table, trigger, before);
        }
        Some(refusal(table, origin, trigger, &lost))
    };
    // Clones of a parent's trigger are replaced together with it, and name the same columns.
    let triggers = table.capture_triggers().into_iter().filter(|trigger| !trigger.is_clone);
    triggers.filter_map(|trigger| report(&trigger)).collect()
}

fn lost_columns(table: &Relation, trigger: &CaptureTrigger, before: u32) -> Vec<Lost> {
    // A trigger whose arguments make no sense fails anyway, whatever happens to the table.
    let Ok(arguments) = Arguments::parse(memory::texts(&trigger.arguments)) else {
        return Vec::new();
    };
    let named = arguments.options.named_columns();
    if named.is_empty() {
        return Vec::new();
    }
    let now = table.columns();
    let is_there = |name: &str| now.iter().any(|column| column.name == name);
    let mut missing = named;
    missing.retain(|(_, name)| !is_there(name));
    if missing.is_empty() {
        return Vec::new();
    }
    let before = table.columns_before(before);
    let lost = missing.into_iter().filter_map(|(option, name)| {
        let number = before.iter().find(|column| column.name == name)?.number;
        let now = now.iter().find(|column| column.number == number);
        Some(Lost { option, name: name.to_owned(), now: now.map(|column| column.name.clone()) })
    });
    lost.collect()
}

fn refusal(table: &Relation, origin: &Relation, trigger: &CaptureTrigger, lost: &[Lost]) -> Report {
    let Lost { option, name, now } = &lost[0];
    let what = if now.is_some() { "rename" } else { "drop" };
    let table_name = table.quoted_name();
    let new_name = |name: &str| {
        let lost = lost.iter().find(|lost| lost.name == name);
        lost.map_or_else(|| Some(name.to_owned()), |lost| lost.now.clone())
    };
    let definition = is_worth_telling(trigger)
        .then(|| arguments_with(&trigger.arguments, new_name))
        .flatten()
        .and_then(|new| with_arguments(&trigger.definition(), &trigger.arguments, &new))
        .filter(|definition| definition.len() <= LONGEST);
    let hint = match (definition, now) {
        (Some(definition), Some(now)) => {
            let rename = rename_statement(origin, name, now);
            let drop = format!("DROP TRIGGER {} ON {table_name}", quoted(&trigger.name));
            format!(
                "Run this instead, in one transaction, so that no change is missed: \
                 BEGIN; {drop}; {rename}; {definition}; COMMIT;"
            )
        }
        (Some(definition), None) => match definition.strip_prefix("CREATE TRIGGER ") {
            Some(rest) => format!(
                "Run this first, then this command again: CREATE OR REPLACE TRIGGER {rest};"
            ),
            // A constraint trigger, which cannot be replaced.
            None => format!(
                "Run this instead, in one transaction, so that no change is missed: \
                 BEGIN; DROP TRIGGER {} ON {table_name}; (this command); {definition}; COMMIT;",
                quoted(&trigger.name)
            ),
        },
        (None, _) => format!(
            "First replace the trigger by one whose option \"{option}\" names other columns: CREATE OR REPLACE \
             TRIGGER {} ... ON {table_name} ...",
            quoted(&trigger.name)
        ),
    };
    Report::new(
        PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
        format!("cannot {what} column \"{name}\" of table {table_name}: a capture trigger names it"),
    )
    .detail(format!(
        "Option \"{option}\" of trigger \"{}\" names the column; without it every write to the table would fail.",
        trigger.name
    ))
    .hint(hint)
}

/// Returns false if the trigger's arguments are so long that nobody would read its definition.
fn is_worth_telling(trigger: &CaptureTrigger) -> bool {
    trigger.arguments.iter().map(String::len).sum::<usize>() <= LONGEST
}

fn rename_statement(origin: &Relation, name: &str, now: &str) -> String {
    let (origin_name, name, now) = (origin.quoted_name(), quoted(name), quoted(now));
    if origin.is_composite_type() {
        format!("ALTER TYPE {origin_name} RENAME ATTRIBUTE {name} TO {now} CASCADE")
    } else {
        format!("ALTER TABLE {origin_name} RENAME COLUMN {name} TO {now}")
    }
}

/// Returns a trigger's definition with other arguments. The arguments end a definition; returns None if this one
/// does not end with the old ones.
fn with_arguments(definition: &str, old: &[String], new: &[String]) -> Option<String> {
    let list = |arguments: &[String]| {
        let quoted = |argument: &String| format!("'{}'", argument.replace('\'', "''"));
        format!("({})", arguments.iter().map(quoted).collect::<Vec<_>>().join(", "))
    };
    let start = definition.strip_suffix(&list(old))?;
    Some(format!("{start}{}", list(new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_a_definition_are_the_last_of_it() {
        let old = ["it's".to_owned(), "exclude=a".to_owned()];
        let new = ["it's".to_owned()];
        let definition = "CREATE TRIGGER t AFTER INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION f('it''s', 'exclude=a')";
        assert_eq!(
            with_arguments(definition, &old, &new).as_deref(),
            Some("CREATE TRIGGER t AFTER INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION f('it''s')")
        );
        assert_eq!(with_arguments(definition, &new, &old), None);
    }
}
