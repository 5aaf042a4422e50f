//! What writes in the middle of a statement: triggers and a function that change further rows
//! before the capture trigger hears of the statement's own. Said twice: in SQL for PostgreSQL, and in
//! Rust for the ledger, which must know in which order all these changes are made. Pure.
//!
//! What a row's BEFORE triggers did stands in its column `first`: the stamps of these changes.

use std::iter::once;

use super::ledger::Change;
use super::messages::{self, Sending};
use super::tables::{BULK, CHILDREN, MESSAGE, NOTES, PARENTS, SMALL, TOLD, TWICE, VERSIONS};

/// A child's parent has the rest of its key by this as its own.
const PARENT_KEYS: u64 = 20;

/// The functions and triggers. Triggers' names sort before `capture`.
pub(super) fn sql() -> String {
    let send = Sending::small().call("about", "stamp");
    format!(
        "-- Each statement sets chaos.stamp to its stamp before it runs.
         CREATE FUNCTION note(about text) RETURNS text LANGUAGE plpgsql AS $$
         DECLARE
             stamp text := current_setting('chaos.stamp');
         BEGIN
             INSERT INTO {NOTES} VALUES (stamp || ' ' || about, stamp);
             RETURN stamp;
         END $$;

         CREATE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS $$
         DECLARE
             changed record := coalesce(NEW, OLD);
         BEGIN
             PERFORM note(format('after %s [%s]', changed.key, changed.stamp));
             RETURN NULL;
         END $$;
         CREATE TRIGGER a_note AFTER INSERT ON {BULK}
             FOR EACH ROW WHEN (NEW.key % 2 = 0) EXECUTE FUNCTION note_row();
         CREATE TRIGGER a_note AFTER INSERT OR UPDATE ON {PARENTS}
             FOR EACH ROW WHEN (NEW.key % 2 = 0) EXECUTE FUNCTION note_row();
         CREATE TRIGGER a_note AFTER INSERT OR UPDATE OR DELETE ON {TWICE}
             FOR EACH ROW EXECUTE FUNCTION note_row();

         CREATE FUNCTION send_row() RETURNS trigger LANGUAGE plpgsql AS $$
         DECLARE
             changed record := coalesce(NEW, OLD);
             stamp text := current_setting('chaos.stamp');
             about text := format('after %s [%s]', changed.key, changed.stamp);
         BEGIN
             PERFORM {send};
             RETURN NULL;
         END $$;
         CREATE TRIGGER a_send AFTER INSERT OR UPDATE OR DELETE ON {TOLD}
             FOR EACH ROW EXECUTE FUNCTION send_row();

         CREATE FUNCTION change_again() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             UPDATE {TWICE} SET stamp = stamp || '+u' WHERE key = NEW.key;
             RETURN NULL;
         END $$;
         CREATE TRIGGER a_again AFTER INSERT OR UPDATE ON {TWICE}
             FOR EACH ROW WHEN (NEW.stamp NOT LIKE '%+u') EXECUTE FUNCTION change_again();

         -- An upsert that meets a child that is there writes the parent twice.
         CREATE FUNCTION write_parent() RETURNS trigger LANGUAGE plpgsql AS $$
         DECLARE
             written text;
             prefix text := NEW.stamp || '/' || NEW.key;
         BEGIN
             INSERT INTO {PARENTS} AS parent (key, stamp, amount)
                 VALUES (NEW.key % {PARENT_KEYS}, prefix || 'i', 1)
                 ON CONFLICT (key) DO UPDATE SET stamp = prefix || 'u', amount = parent.amount + 1
                 RETURNING stamp INTO written;
             NEW.first := concat_ws(' ', NEW.first, written);
             RETURN NEW;
         END $$;
         CREATE TRIGGER a_parent BEFORE INSERT OR UPDATE ON {CHILDREN}
             FOR EACH ROW EXECUTE FUNCTION write_parent();

         -- Of every other key it deletes the old version twice, and undoes the first time.
         CREATE FUNCTION replace_version() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.key % 2 = 0 THEN
                 BEGIN
                     DELETE FROM {VERSIONS} WHERE key = NEW.key;
                     PERFORM note('undone ' || NEW.key);
                     RAISE 'undone';
                 EXCEPTION WHEN raise_exception THEN
                 END;
             END IF;
             DELETE FROM {VERSIONS} WHERE key = NEW.key RETURNING stamp INTO NEW.first;
             RETURN NEW;
         END $$;
         CREATE TRIGGER a_replace BEFORE INSERT ON {VERSIONS}
             FOR EACH ROW EXECUTE FUNCTION replace_version();

         CREATE FUNCTION put_a_row() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             INSERT INTO {SMALL} (key, stamp) VALUES (
                 CASE TG_WHEN WHEN 'BEFORE' THEN -1 ELSE 0 END,
                 current_setting('chaos.stamp') || 'i');
             RETURN NULL;
         END $$;
         CREATE TRIGGER a_last BEFORE TRUNCATE ON {SMALL} EXECUTE FUNCTION put_a_row();
         CREATE TRIGGER a_first AFTER TRUNCATE ON {SMALL} EXECUTE FUNCTION put_a_row();"
    )
}

/// A statement that changed rows, as far as the order of its changes depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statement<'a> {
    pub table: &'a str,
    pub stamp: &'a str,
    pub is_delete: bool,
    /// What it does for each row before that is changed.
    pub before: Before,
    /// The routing key of the message that it sends in RETURNING.
    pub returning: Option<&'static str>,
}

/// What a statement calls right before it changes a row. What comes of it has the key `before`, and the row's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    /// The function `note`.
    Note,
    /// It sends a message with this routing key.
    Message(&'static str),
}

/// A row as the statement returned it.
#[derive(Clone, Debug)]
pub(super) struct Returned {
    pub key: String,
    pub stamp: String,
    pub first: String,
}

impl Statement<'_> {
    /// All changes of a statement that returned these rows, in the order in which they were made.
    pub fn changes(&self, rows: &[Returned]) -> Vec<Change> {
        let message = |routing_key, about| messages::change(routing_key, about, self.stamp);
        let before = |row: &Returned| {
            let about = format!("before {}", row.key);
            match self.before {
                Before::Nothing => None,
                Before::Note => Some(self.note(&about)),
                Before::Message(routing_key) => Some(message(routing_key, about)),
            }
        };
        let returning = |row: &Returned| {
            self.returning.map(|routing_key| message(routing_key, format!("returning {}", row.key)))
        };
        let until_changed = |row| {
            let changes = before(row).into_iter().chain(self.triggered_before(row));
            changes.chain(once(self.own(row))).chain(returning(row))
        };
        // AFTER triggers run once the statement has changed all of its rows.
        let after = rows.iter().flat_map(|row| self.after(&self.own(row)));
        rows.iter().flat_map(until_changed).chain(after).collect()
    }

    /// The row's own change. The stamp says which of the two an upsert made.
    fn own(&self, row: &Returned) -> Change {
        let operation = if self.is_delete { "delete" } else { written(&row.stamp) };
        change(self.table, operation, &row.key, &row.stamp)
    }

    /// What BEFORE triggers change.
    fn triggered_before(&self, row: &Returned) -> Vec<Change> {
        // A deleted row tells what happened when it was written.
        let stamps = row.first.split(' ').filter(|stamp| !stamp.is_empty() && !self.is_delete);
        let changes = stamps.flat_map(|stamp| match self.table {
            CHILDREN => {
                let parent = (number(&row.key) % PARENT_KEYS).to_string();
                let parent = change(PARENTS, written(stamp), &parent, stamp);
                let after = self.after(&parent);
                once(parent).chain(after).collect()
            }
            VERSIONS => vec![change(VERSIONS, "delete", &row.key, stamp)],
            _ => Vec::new(),
        });
        changes.collect()
    }

    /// What AFTER triggers change.
    fn after(&self, change: &Change) -> Vec<Change> {
        let about = format!("after {} [{}]", change.key, change.stamp);
        let note = self.note(&about);
        let is_even = || number(&change.key).is_multiple_of(2);
        match (change.table.as_str(), change.operation.as_str()) {
            (TWICE, "insert" | "update") if !change.stamp.ends_with("+u") => {
                let stamp = format!("{}+u", change.stamp);
                let again = Change { operation: "update".to_owned(), stamp, ..change.clone() };
                let after = self.after(&again);
                once(again).chain(after).chain(once(note)).collect()
            }
            (TWICE, _) => vec![note],
            (TOLD, _) => vec![messages::change(MESSAGE, about, self.stamp)],
            (BULK, "insert") | (PARENTS, _) if is_even() => vec![note],
            _ => Vec::new(),
        }
    }

    fn note(&self, about: &str) -> Change {
        change(NOTES, "insert", &format!("{} {about}", self.stamp), self.stamp)
    }
}

/// All changes of a TRUNCATE, likewise.
pub(super) fn truncate(stamp: &str) -> Vec<Change> {
    let row = |key| change(SMALL, "insert", key, &format!("{stamp}i"));
    vec![row("-1"), change(SMALL, "truncate", "", ""), row("0")]
}

fn change(table: &str, operation: &str, key: &str, stamp: &str) -> Change {
    let [table, operation, key, stamp] = [table, operation, key, stamp].map(str::to_owned);
    Change { table, operation, key, stamp }
}

/// Which operation wrote this stamp.
fn written(stamp: &str) -> &'static str {
    if stamp.ends_with('i') { "insert" } else { "update" }
}

fn number(key: &str) -> u64 {
    key.parse().unwrap_or_else(|error| panic!("key {key}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changes of a statement with stamp `s` that returned rows of these keys, stamps and `first`.
    fn changes(table: &str, rows: &[(&str, &str, &str)]) -> Vec<String> {
        made(plain(table), rows)
    }

    fn plain(table: &str) -> Statement<'_> {
        let before = Before::Nothing;
        Statement { table, stamp: "s", is_delete: false, before, returning: None }
    }

    fn made(statement: Statement<'_>, rows: &[(&str, &str, &str)]) -> Vec<String> {
        let returned = |&(key, stamp, first): &(&str, &str, &str)| {
            let [key, stamp, first] = [key, stamp, first].map(str::to_owned);
            Returned { key, stamp, first }
        };
        let rows: Vec<_> = rows.iter().map(returned).collect();
        statement.changes(&rows).iter().map(Change::to_string).collect()
    }

    #[test]
    fn a_parent_is_written_before_its_child_and_its_note_between_them() {
        assert_eq!(
            changes(CHILDREN, &[("23", "si", "si/23i"), ("4", "su", "si/4u su/4u")]),
            [
                "insert parents 3 [si/23i]",
                "insert children 23 [si]",
                "update parents 4 [si/4u]",
                "insert notes s after 4 [si/4u] [s]",
                "update parents 4 [su/4u]",
                "insert notes s after 4 [su/4u] [s]",
                "update children 4 [su]",
            ]
        );
    }

    #[test]
    fn an_old_version_goes_before_the_new_one_comes() {
        assert_eq!(
            changes(VERSIONS, &[("1", "si", "ru"), ("2", "si", "")]),
            ["delete versions 1 [ru]", "insert versions 1 [si]", "insert versions 2 [si]"]
        );
    }

    #[test]
    fn rows_are_changed_again_once_all_of_them_are_changed() {
        assert_eq!(
            changes(TWICE, &[("1", "si", ""), ("2", "su", "")]),
            [
                "insert twice 1 [si]",
                "update twice 2 [su]",
                "update twice 1 [si+u]",
                "insert notes s after 1 [si+u] [s]",
                "insert notes s after 1 [si] [s]",
                "update twice 2 [su+u]",
                "insert notes s after 2 [su+u] [s]",
                "insert notes s after 2 [su] [s]",
            ]
        );
    }

    #[test]
    fn copied_rows_are_all_there_before_the_first_note_on_one() {
        assert_eq!(
            changes(BULK, &[("1", "si", ""), ("2", "si", ""), ("3", "si", "")]),
            [
                "insert bulk 1 [si]",
                "insert bulk 2 [si]",
                "insert bulk 3 [si]",
                "insert notes s after 2 [si] [s]",
            ]
        );
    }

    #[test]
    fn a_function_writes_right_before_the_row_that_it_is_called_for() {
        let noted = Statement { before: Before::Note, ..plain("hot_a") };
        assert_eq!(
            made(noted, &[("1", "si", ""), ("2", "su", "")]),
            [
                "insert notes s before 1 [s]",
                "insert hot_a 1 [si]",
                "insert notes s before 2 [s]",
                "update hot_a 2 [su]",
            ]
        );
    }

    #[test]
    fn a_message_stands_before_its_row_or_behind_it_or_behind_all_of_the_statement() {
        let before = Before::Message(MESSAGE);
        let sending = Statement { before, returning: Some("message.skipped"), ..plain(TOLD) };
        assert_eq!(
            made(sending, &[("1", "si", ""), ("2", "su", "")]),
            [
                "send message before 1 [s]",
                "insert hot_c 1 [si]",
                "send message.skipped returning 1 [s]",
                "send message before 2 [s]",
                "update hot_c 2 [su]",
                "send message.skipped returning 2 [s]",
                "send message after 1 [si] [s]",
                "send message after 2 [su] [s]",
            ]
        );
    }

    #[test]
    fn a_delete_does_nothing_first() {
        let delete = Statement { is_delete: true, ..plain(CHILDREN) };
        assert_eq!(made(delete, &[("4", "ri", "ri/4i")]), ["delete children 4 [ri]"]);
        let delete = Statement { table: TWICE, ..delete };
        assert_eq!(
            made(delete, &[("4", "ri+u", "")]),
            ["delete twice 4 [ri+u]", "insert notes s after 4 [ri+u] [s]"]
        );
    }
}
