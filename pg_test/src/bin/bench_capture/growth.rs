//! How the cost of our trigger grows: each shape of tables without a trigger and with it. It should
//! be linear in the bytes that are rendered, and flat in the number of tables.

use crate::contenders::DEFINITION;
use crate::workload::{Setup, THESE, Workload};

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Columns of a table, the key included: numbers and short texts.
    Columns(u32),
    /// Bytes of a text that the update leaves alone. From 10 kB on it is stored out of line.
    Value(u32),
    /// Tables of the eight columns, a row of each touched in turn.
    Tables(u32),
}

impl Shape {
    pub const ALL: [Shape; 10] = [
        Shape::Columns(2),
        Shape::Columns(8),
        Shape::Columns(32),
        Shape::Columns(128),
        Shape::Value(100),
        Shape::Value(1_000),
        Shape::Value(10_000),
        Shape::Value(1_000_000),
        Shape::Tables(1),
        Shape::Tables(1_000),
    ];

    /// As the table names it.
    pub fn name(self) -> String {
        match self {
            Shape::Columns(columns) => format!("{columns} columns"),
            Shape::Value(bytes @ ..1_000) => format!("a value of {bytes} B"),
            Shape::Value(bytes @ ..1_000_000) => format!("a value of {} kB", bytes / 1_000),
            Shape::Value(bytes) => format!("a value of {} MB", bytes / 1_000_000),
            Shape::Tables(1) => "1 table, by single statements".to_owned(),
            Shape::Tables(tables) => format!("{tables} tables in turn, by single statements"),
        }
    }

    /// Each shape twice: without the trigger (false) and with it (true).
    pub fn workloads(rows: u64) -> Vec<((Shape, bool), Workload)> {
        let both = |shape: Shape| {
            [false, true].map(|captured| ((shape, captured), shape.workload(captured, rows)))
        };
        Shape::ALL.into_iter().flat_map(both).collect()
    }

    fn workload(self, captured: bool, rows: u64) -> Workload {
        let rows = self.rows(rows);
        let with = if captured { "captured" } else { "bare" };
        let prefix = match self {
            Shape::Columns(columns) => format!("{with}_columns_{columns}"),
            Shape::Value(bytes) => format!("{with}_value_{bytes}"),
            Shape::Tables(tables) => format!("{with}_tables_{tables}"),
        };
        Workload {
            name: format!("{}, {with}", self.name()),
            setup: Setup::Sql(for_each_table(&prefix, self.tables(), &self.setup(captured))),
            clear: for_each_table(&prefix, self.tables(), "TRUNCATE %1$I"),
            warm: self.warm(&prefix),
            set: "",
            statements: self.statements(&prefix),
            rows,
            log: None,
        }
    }

    /// Fewer, the more a row weighs: a hundred thousand rows of 1 MB would be for another day.
    fn rows(self, rows: u64) -> u64 {
        let part = match self {
            Shape::Columns(..32) | Shape::Value(..10_000) | Shape::Tables(_) => 10,
            Shape::Columns(_) | Shape::Value(10_000) => 100,
            Shape::Value(_) => 10_000,
        };
        (rows / part).max(u64::from(self.tables()))
    }

    fn tables(self) -> u32 {
        match self {
            Shape::Tables(tables) => tables,
            _ => 1,
        }
    }

    /// Makes one table, whose name is the format's first argument.
    fn setup(self, captured: bool) -> String {
        let columns = match self {
            Shape::Columns(columns) => {
                let column = |number| match number % 2 {
                    1 => format!(", number_{number} int"),
                    _ => format!(", name_{number} text"),
                };
                "id bigint PRIMARY KEY".to_owned() + &(1..columns).map(column).collect::<String>()
            }
            // Not compressed, so that as many bytes are stored as are rendered.
            Shape::Value(_) => "id bigint PRIMARY KEY, number_1 int, value text".to_owned(),
            Shape::Tables(_) => DEFINITION.to_owned(),
        };
        let mut setup = format!("CREATE TABLE %1$I ({columns});");
        if let Shape::Value(_) = self {
            setup += "ALTER TABLE %1$I ALTER COLUMN value SET STORAGE EXTERNAL;";
        }
        if captured {
            setup += "CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON %1$I \
                      FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('article');";
        }
        setup
    }

    fn warm(self, table: &str) -> String {
        match self {
            Shape::Tables(tables) => {
                let touch = "INSERT INTO %1$I (id) VALUES (0); DELETE FROM %1$I";
                for_each_table(table, tables, touch)
            }
            _ => String::new(),
        }
    }

    fn statements(self, prefix: &str) -> [String; 3] {
        let table = format!("{prefix}_1");
        let all_rows = |values: &str| {
            [
                format!(
                    "INSERT INTO {table} SELECT n, {values} FROM generate_series(:first, :last) n"
                ),
                format!("UPDATE {table} SET number_1 = number_1 + 1 {THESE}"),
                format!("DELETE FROM {table} {THESE}"),
            ]
        };
        match self {
            Shape::Columns(columns) => {
                let value = |number| match number % 2 {
                    1 => format!("n + {number}"),
                    _ => format!("'value {number}'"),
                };
                all_rows(&(1..columns).map(value).collect::<Vec<_>>().join(", "))
            }
            Shape::Value(bytes) => {
                all_rows(&format!("n, left(repeat(md5(n::text), {}), {bytes})", bytes / 32 + 1))
            }
            Shape::Tables(tables) => [
                "INSERT INTO %1$I (id, name, description, quantity, price, tags) \
                 VALUES ($1, 'article', 'of some length', 7, 1.25, '{new,old}')",
                "UPDATE %1$I SET quantity = quantity + 1 WHERE id = $1",
                "DELETE FROM %1$I WHERE id = $1",
            ]
            .map(|statement| row_by_row(prefix, tables, statement)),
        }
    }
}

/// Runs a statement, a format whose first argument is the table, for each of the tables.
fn for_each_table(prefix: &str, tables: u32, statement: &str) -> String {
    let statement = statement.replace('\'', "''");
    format!(
        "DO $$ BEGIN FOR t IN 1..{tables} LOOP \
         EXECUTE format('{statement}', '{prefix}_' || t); END LOOP; END $$;"
    )
}

/// Runs a statement for each row, whose number is its first parameter; neighbours are in different
/// tables.
fn row_by_row(prefix: &str, tables: u32, statement: &str) -> String {
    let statement = statement.replace('\'', "''");
    format!(
        "DO $$ BEGIN FOR n IN :first..:last LOOP \
         EXECUTE format('{statement}', '{prefix}_' || n % {tables} + 1) USING n; END LOOP; END $$"
    )
}
