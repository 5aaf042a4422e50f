//! The triggers that are compared, each on a table of its own of the same eight columns. What they
//! write, and where to, is theirs: ours a message to the WAL, the others rows to a table.

use std::path::Path;

use pg_test::{c_library, installation};

use crate::slony;
use crate::workload::{Setup, THESE, Workload};

/// A trigger, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    None,
    CaptureOff,
    Floor,
    Ours,
    MadeKey,
    PgqLogutriga,
    PgqJsontriga,
    Slony,
    Outbox,
    Message,
}

impl Contender {
    pub const ALL: [Contender; 10] = [
        Contender::None,
        Contender::CaptureOff,
        Contender::Floor,
        Contender::Ours,
        Contender::MadeKey,
        Contender::PgqLogutriga,
        Contender::PgqJsontriga,
        Contender::Slony,
        Contender::Outbox,
        Contender::Message,
    ];

    /// The triggers of others that are written in C.
    pub const C_PEERS: [Contender; 3] =
        [Contender::PgqLogutriga, Contender::PgqJsontriga, Contender::Slony];

    /// As the table names it.
    pub fn name(self) -> &'static str {
        match self {
            Contender::None => "no trigger",
            Contender::CaptureOff => "ours, `amqp.capture = off`",
            Contender::Floor => "700 fixed bytes to the WAL, nothing else",
            Contender::Ours => "**ours**",
            Contender::MadeKey => "ours, `routing_key={new.name}.{resource}.{operation}`",
            Contender::PgqLogutriga => "`pgq.logutriga` (C)",
            Contender::PgqJsontriga => "`pgq.jsontriga` (C)",
            Contender::Slony => "Slony's log trigger (C)",
            Contender::Outbox => "PL/pgSQL, jsonb outbox table",
            Contender::Message => "PL/pgSQL, the same JSON to an outbox table",
        }
    }

    /// All of them. `folder` is the server's, for a library.
    pub fn workloads(rows: u64, folder: &Path) -> Vec<(Contender, Workload)> {
        Contender::ALL.map(|contender| (contender, contender.workload(rows, folder))).into()
    }

    fn workload(self, rows: u64, folder: &Path) -> Workload {
        let table = self.table();
        Workload {
            name: self.name().to_owned(),
            setup: match self.trigger(folder) {
                Ok(trigger) => Setup::Sql(self.tables(rows) + &trigger),
                Err(reason) => Setup::Impossible(reason),
            },
            clear: match self.log() {
                Some(log) => format!("TRUNCATE {table}, {log} RESTART IDENTITY"),
                None => format!("TRUNCATE {table} RESTART IDENTITY"),
            },
            warm: String::new(),
            set: if self == Contender::CaptureOff { "SET amqp.capture = off" } else { "" },
            statements: [
                // The rows come from a table, so that making them up does not count.
                format!("INSERT INTO {table} ({COLUMNS}) SELECT {COLUMNS} FROM source {THESE}"),
                format!("UPDATE {table} SET quantity = quantity + 1 {THESE}"),
                format!("DELETE FROM {table} {THESE}"),
            ],
            rows,
            log: self.log(),
        }
    }

    fn table(self) -> &'static str {
        match self {
            Contender::None => "bare",
            Contender::CaptureOff => "capture_off",
            Contender::Floor => "fixed",
            Contender::Ours => "ours",
            Contender::MadeKey => "made_key",
            Contender::PgqLogutriga => "logutriga",
            Contender::PgqJsontriga => "jsontriga",
            Contender::Slony => "slony",
            Contender::Outbox => "outboxed",
            Contender::Message => "messaged",
        }
    }

    /// The table, and with the first one the rows that all of them get.
    fn tables(self, rows: u64) -> String {
        let table = self.table();
        let create = format!("CREATE TABLE {table} ({DEFINITION});");
        match self {
            Contender::None => format!("{create}{}", source(rows)),
            _ => create,
        }
    }

    /// The statements that attach it, with what it needs.
    fn trigger(self, folder: &Path) -> Result<String, String> {
        let needs = |extension: &str| {
            let there = installation::has_extension(extension);
            there.then_some(()).ok_or_else(|| "not installed".to_owned())
        };
        match self {
            Contender::None => Ok(String::new()),
            Contender::CaptureOff | Contender::Ours => {
                Ok(self.attach("amqp_change_data_capture('article')"))
            }
            Contender::MadeKey => Ok(self.attach(
                "amqp_change_data_capture('article', 'cdc', \
                 'routing_key={new.name}.{resource}.{operation}')",
            )),
            Contender::Floor => {
                let library = c_library::compile(folder, "floor", include_str!("floor.c"))?;
                let function = format!(
                    "CREATE FUNCTION write_fixed_bytes() RETURNS trigger LANGUAGE C AS '{}';",
                    library.display()
                );
                Ok(function + &self.attach("write_fixed_bytes()"))
            }
            Contender::PgqLogutriga => {
                needs("pgq")?;
                // Its triggers share an extension; both queues are made here.
                let queues = "CREATE EXTENSION pgq; \
                     SELECT pgq.create_queue('logutriga'), pgq.create_queue('jsontriga');";
                Ok(queues.to_owned() + &self.attach("pgq.logutriga('logutriga')"))
            }
            Contender::PgqJsontriga => {
                needs("pgq")?;
                Ok(self.attach("pgq.jsontriga('jsontriga')"))
            }
            Contender::Slony => slony::setup(self.table()),
            Contender::Outbox => {
                needs("hstore")?;
                Ok(include_str!("outboxes.sql").to_owned() + &self.attach("write_outbox()"))
            }
            Contender::Message => {
                needs("hstore")?;
                Ok(self.attach("write_message('article')"))
            }
        }
    }

    fn attach(self, function: &str) -> String {
        format!(
            "CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON {} \
             FOR EACH ROW EXECUTE FUNCTION {function};",
            self.table()
        )
    }

    /// The table that it writes to.
    fn log(self) -> Option<&'static str> {
        match self {
            // The parents of the tables of the first queue and the second.
            Contender::PgqLogutriga => Some("pgq.event_1"),
            Contender::PgqJsontriga => Some("pgq.event_2"),
            Contender::Slony => Some(slony::LOG),
            Contender::Outbox => Some("outbox"),
            Contender::Message => Some("message_outbox"),
            Contender::None
            | Contender::CaptureOff
            | Contender::Floor
            | Contender::Ours
            | Contender::MadeKey => None,
        }
    }
}

/// The eight columns.
pub const DEFINITION: &str = "id bigserial PRIMARY KEY, name text, description text, \
     quantity int, price numeric, tags text[], attributes jsonb, changed timestamptz";

/// Those that are not generated.
const COLUMNS: &str = "name, description, quantity, price, tags, attributes, changed";

/// Rows as a shop may have them, about 200 bytes each.
fn source(rows: u64) -> String {
    format!(
        r#"
        CREATE TABLE source AS
        SELECT n AS id,
               'article ' || n AS name,
               'A "description" of some length, number ' || n AS description,
               n % 1000 AS quantity,
               n::numeric / 100 AS price,
               ARRAY['new', 'tag ' || n % 10] AS tags,
               jsonb_build_object('colour', 'red', 'size', n % 50, 'sale', n % 2 = 0) AS attributes,
               timestamptz '2026-01-01 00:00:00+00' + n * interval '1.000001 s' AS changed
        FROM generate_series(1, {rows}) AS n;
        ALTER TABLE source ADD PRIMARY KEY (id);
        "#
    )
}
