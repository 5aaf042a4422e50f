//! Writes random statements: single ones, for transactions as for the bodies of functions and triggers,
//! and blocks of PL/pgSQL. Rows are always found through an index, in its order: what a statement
//! does must not depend on where a vacuum left room in the heap.

use super::tables::{KEYS, Kind, TABLES, Table};
use crate::dice::Dice;

/// Functions that write, each of which calls those before it but for the first two.
pub(super) const CALLS: [&str; 4] = ["f1", "f2", "f3", "f4"];

/// A function that sends a message, and answers its argument.
pub(super) const TELL: &str = "told";

/// Procedures that commit on the way.
pub(super) const PROCEDURES: [&str; 2] = ["p1", "p2"];

/// The functions that a statement may call.
#[derive(Clone, Debug, Default)]
pub(super) struct Call(Vec<&'static str>);

impl Call {
    /// Only these.
    pub fn only(names: &[&'static str]) -> Call {
        Call(names.to_vec())
    }
}

/// Writes statements.
pub(super) struct StatementGenerator<'a> {
    pub dice: &'a mut Dice,
    call: Call,
}

impl<'a> StatementGenerator<'a> {
    pub fn new(dice: &'a mut Dice, call: Call) -> StatementGenerator<'a> {
        StatementGenerator { dice, call }
    }

    /// An id.
    pub fn constant(&mut self) -> String {
        self.dice.between(1, KEYS).to_string()
    }

    /// A few statements of PL/pgSQL around the id `k`, none of which names the table `but` itself.
    pub fn block(&mut self, k: &str, but: Option<&str>) -> String {
        let count = self.dice.between(1, 3);
        let statements: Vec<String> = (0..count).map(|_| self.nested(k, but, 2)).collect();
        statements.join("\n")
    }

    /// A statement of PL/pgSQL, with others in it to this depth.
    fn nested(&mut self, k: &str, but: Option<&str>, depth: u8) -> String {
        if depth == 0 {
            return self.single(k, but) + ";";
        }
        match self.dice.between(1, 100) {
            1..=60 => self.single(k, but) + ";",
            61..=70 => {
                let (first, after) = (self.nested(k, but, depth - 1), self.nested(k, but, 0));
                let undone = self.nested(k, but, depth - 1);
                let every = self.dice.between(1, 2);
                format!(
                    "BEGIN {first} {undone} IF {k} % {every} = 0 THEN RAISE EXCEPTION 'undo'; END IF; \
                     EXCEPTION WHEN OTHERS THEN {after} END;"
                )
            }
            71..=77 => {
                let table = self.table(but);
                let truncate = self.truncate(table);
                format!("BEGIN {truncate}; EXCEPTION WHEN OTHERS THEN NULL; END;")
            }
            78..=84 => {
                let returning = self.returning(k, but);
                let each = self.nested("r.id", but, 0);
                format!("FOR r IN {returning} LOOP {each} END LOOP;")
            }
            85..=89 => match self.function() {
                Some(function) => {
                    let each = self.nested("r.id", but, 0);
                    format!(
                        "FOR r IN SELECT {function}(g) AS id FROM generate_series({k}, {k} + 2) g \
                         LOOP {each} END LOOP;"
                    )
                }
                None => self.log(k),
            },
            90..=95 => match self.function() {
                Some(function) => format!("PERFORM {function}({});", self.key(k)),
                None => self.single(k, but) + ";",
            },
            96..=97 => {
                let table = self.table(but);
                format!(
                    "BEGIN EXECUTE format('COPY {} (id) FROM PROGRAM ''echo %s''', \
                     200 + nextval('names')); EXCEPTION WHEN OTHERS THEN NULL; END;",
                    table.name
                )
            }
            98 => format!("PERFORM {TELL}({});", self.key(k)),
            _ => self.log(k),
        }
    }

    /// Into the log.
    pub fn log(&mut self, k: &str) -> String {
        let word = self.dice.pick(&["'log'", "'seen'", "NULL"]);
        format!("INSERT INTO audit (n, v) VALUES ({k}, {word});")
    }

    /// One statement of SQL that changes rows, without its semicolon.
    pub fn single(&mut self, k: &str, but: Option<&str>) -> String {
        let table = self.table(but);
        let name = table.name;
        match self.dice.between(1, 100) {
            1..=12 => format!("DELETE FROM {name} WHERE {}", self.rows(k)),
            13..=30 => {
                let (key, number, text) = (self.value(k), self.number(table, k), self.text());
                let (again, more) = (self.number(table, k), self.text());
                format!(
                    "INSERT INTO {name} (id, n, v) VALUES ({key}, {number}, {text}) \
                     ON CONFLICT (id) DO UPDATE SET n = {again}, v = {more}"
                )
            }
            31..=38 => {
                let (first, second) = (self.value(k), self.value(k));
                let (number, text) = (self.number(table, k), self.text());
                format!(
                    "INSERT INTO {name} (id, n, v) VALUES ({first}, {number}, {text}), \
                     ({second}, NULL, {text}) ON CONFLICT DO NOTHING"
                )
            }
            39..=46 => {
                let (key, number) = (self.key(k), self.number(table, "g"));
                let id = self.value("g");
                format!(
                    "INSERT INTO {name} (id, n, v) SELECT {id}, {number}, 'series' \
                     FROM generate_series({key}, {key} + 2) g ON CONFLICT DO NOTHING"
                )
            }
            47..=66 => self.update(table, k),
            67..=74 => self.merge(table, k),
            75..=84 => self.with(table, k, but),
            85..=88 => {
                let key = self.key(k);
                // Neither row is there twice on the way.
                format!(
                    "UPDATE {name} SET id = 60 - id WHERE id = {key} \
                     AND NOT EXISTS (SELECT FROM {name} o WHERE o.id = 60 - ({key}))"
                )
            }
            _ => {
                let log = self.log(k);
                log.trim_end_matches(';').to_owned()
            }
        }
    }

    fn update(&mut self, table: Table, k: &str) -> String {
        let name = table.name;
        let rows = self.rows(k);
        match self.dice.between(1, 5) {
            1 | 2 => format!("UPDATE {name} SET v = left(coalesce(v, '') || '.', 8) WHERE {rows}"),
            3 | 4 => {
                let number = self.number(table, &format!("{name}.id"));
                format!("UPDATE {name} SET n = {number} WHERE {rows}")
            }
            _ => {
                let from = self.dice.between(2, KEYS);
                let to = from + self.dice.between(0, 4);
                format!(
                    "UPDATE {name} SET id = id - 1 WHERE id BETWEEN {from} AND {to} \
                     AND NOT EXISTS (SELECT FROM {name} o WHERE o.id = {from} - 1)"
                )
            }
        }
    }

    fn merge(&mut self, table: Table, k: &str) -> String {
        let name = table.name;
        let key = self.key(k);
        let (updated, inserted) = (self.number(table, "s.id"), self.number(table, "s.id"));
        let id = self.value("s.id");
        let gone = self.dice.between(2, 4);
        format!(
            "MERGE INTO {name} t USING (SELECT g AS id FROM generate_series({key}, {key} + 3) g) s \
             ON t.id = s.id \
             WHEN MATCHED AND t.id % {gone} = 0 THEN DELETE \
             WHEN MATCHED THEN UPDATE SET n = {updated}, v = 'merged' \
             WHEN NOT MATCHED THEN INSERT (id, n, v) VALUES ({id}, {inserted}, 'merge')"
        )
    }

    /// Several changes in one statement.
    fn with(&mut self, table: Table, k: &str, but: Option<&str>) -> String {
        let mut other = self.table(but);
        if other.name == table.name {
            other = TABLES[8];
        }
        let (name, other_name) = (table.name, other.name);
        let key = self.key(k);
        if self.dice.chance(50) {
            let (number, returned) = (self.number(other, "gone.id"), self.returned());
            return format!(
                "WITH gone AS \
                 (DELETE FROM {name} WHERE id BETWEEN {key} AND {key} + 1 RETURNING {returned}) \
                 INSERT INTO {other_name} (id, n, v) SELECT id, {number}, 'moved' FROM gone \
                 ON CONFLICT (id) DO UPDATE SET v = 'met'"
            );
        }
        let (rows, first, second) = (self.rows(k), self.returned(), self.returned());
        let deleted = self.key(k);
        format!(
            "WITH x AS (UPDATE {name} SET v = 'with' WHERE {rows} RETURNING {first}), \
             y AS (INSERT INTO audit (n, v) SELECT id, 'with' FROM x RETURNING {second}) \
             DELETE FROM {} WHERE id = {deleted}",
            if other.kind == Kind::Log { "plain" } else { other_name }
        )
    }

    /// A statement with rows as its result, with a column `id`.
    fn returning(&mut self, k: &str, but: Option<&str>) -> String {
        let table = self.table(but);
        let (name, key, returned) = (table.name, self.key(k), self.returned());
        if self.dice.chance(50) {
            let number = self.number(table, "g");
            return format!(
                "INSERT INTO {name} (id, n, v) SELECT g, {number}, 'ret' \
                 FROM generate_series({key}, {key} + 2) g ON CONFLICT DO NOTHING RETURNING {returned}"
            );
        }
        format!(
            "UPDATE {name} SET v = 'ret' WHERE id BETWEEN {key} AND {key} + 2 RETURNING {returned}"
        )
    }

    /// TRUNCATE of a table, and of what refers to it.
    pub fn truncate(&mut self, table: Table) -> String {
        let identity = if self.dice.chance(10) { " RESTART IDENTITY" } else { "" };
        let cascade = if matches!(table.name, "parent" | "child") { " CASCADE" } else { "" };
        format!("TRUNCATE {}{identity}{cascade}", table.name)
    }

    /// One of the tables; the log more often than others.
    pub fn table(&mut self, but: Option<&str>) -> Table {
        const FAVOURITES: [usize; 16] = [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 9];
        loop {
            let place = self.dice.pick(&FAVOURITES);
            let table = TABLES[place];
            if Some(table.name) != but {
                return table;
            }
        }
    }

    /// One of the functions that write, if any may be called, or the one that sends a message.
    pub fn function(&mut self) -> Option<&'static str> {
        if self.dice.chance(30) {
            return Some(TELL);
        }
        (!self.call.0.is_empty()).then(|| self.dice.pick(&self.call.0))
    }

    /// The key that RETURNING answers; a message may come with it.
    fn returned(&mut self) -> String {
        if self.dice.chance(30) { format!("{TELL}(id) AS id") } else { "id".to_owned() }
    }

    /// A condition on `id` that an index answers.
    fn rows(&mut self, k: &str) -> String {
        let key = self.key(k);
        let rows = match self.dice.between(1, 10) {
            1..=4 => format!("id = {key}"),
            5..=7 => format!("id BETWEEN {key} AND {key} + {}", self.dice.between(1, 4)),
            8 => "id > 0".to_owned(),
            _ => format!("id IN ({key}, {key} + 3)"),
        };
        match self.function() {
            Some(function) if self.dice.chance(25) => format!("{rows} AND {function}(id) > 0"),
            _ => rows,
        }
    }

    /// `k`, or another id that follows from it.
    fn key(&mut self, k: &str) -> String {
        if self.dice.chance(50) {
            return k.to_owned();
        }
        let other = self.dice.between(1, KEYS);
        format!("(abs({k} + {other}) % {KEYS} + 1)")
    }

    /// A key, or the same through a function that writes.
    fn value(&mut self, k: &str) -> String {
        let key = self.key(k);
        match self.function() {
            Some(function) if self.dice.chance(35) => format!("{function}({key})"),
            _ => key,
        }
    }

    /// For the column `n`.
    fn number(&mut self, table: Table, k: &str) -> String {
        if self.dice.chance(20) {
            return "NULL".to_owned();
        }
        let value = self.value(k);
        match table.parent {
            // Once, however many parents there are.
            Some(parent) => {
                format!("(SELECT min(p.id) FROM {parent} p WHERE p.id >= (SELECT {value}))")
            }
            None => value,
        }
    }

    fn text(&mut self) -> &'static str {
        self.dice.pick(&["'x'", "'yy'", "'it''s'", "''", "NULL", "'a b'"])
    }
}
