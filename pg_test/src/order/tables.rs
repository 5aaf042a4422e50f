//! The tables of every schema, and those that are made on the way.

/// Ids that statements choose among; few, so that they meet.
pub(super) const KEYS: u64 = 24;

/// What the names of tables begin with that are made on the way.
pub(super) const MADE: &str = "made_";

/// What is special about a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Partitioned,
    Unlogged,
    /// Its capture trigger is a deferred one.
    Deferred,
    /// A log, with ids of its own.
    Log,
    Uncaptured,
}

/// A table. All have the columns `id int`, `n int` and `v text`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub name: &'static str,
    pub kind: Kind,
    /// The table that its column `n` refers to.
    pub parent: Option<&'static str>,
}

const fn table(name: &'static str, kind: Kind, parent: Option<&'static str>) -> Table {
    Table { name, kind, parent }
}

/// The tables of every schema.
pub(super) const TABLES: [Table; 10] = [
    table("a", Kind::Plain, None),
    table("b", Kind::Plain, None),
    table("part", Kind::Partitioned, None),
    table("parent", Kind::Plain, None),
    table("child", Kind::Plain, Some("parent")),
    table("grand", Kind::Plain, Some("child")),
    table("unlogged", Kind::Unlogged, None),
    table("deferred", Kind::Deferred, None),
    table("audit", Kind::Log, None),
    table("plain", Kind::Uncaptured, None),
];

/// Statements that make a table, captured as those are that are made on the way.
pub(super) fn make_table(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (id int PRIMARY KEY, n int, v text);\n\
         ALTER TABLE {name} REPLICA IDENTITY FULL;\n\
         {};\n{}",
        capture_rows("m_cdc", name, "made"),
        capture_truncate("m_cdc_t", name, "made"),
    )
}

pub(super) fn capture_rows(trigger: &str, table: &str, resource: &str) -> String {
    format!(
        "CREATE TRIGGER \"{trigger}\" AFTER INSERT OR UPDATE OR DELETE ON {table} \
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('{resource}')"
    )
}

pub(super) fn capture_truncate(trigger: &str, table: &str, resource: &str) -> String {
    format!(
        "CREATE TRIGGER \"{trigger}\" AFTER TRUNCATE ON {table} \
         FOR EACH STATEMENT EXECUTE FUNCTION amqp_change_data_capture('{resource}')"
    )
}
