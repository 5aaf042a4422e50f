//! A server that runs worlds, at one `wal_level`: its database, its consumer, and at
//! `logical` the slot whose `test_decoding` says in which order changes were made.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use ::postgres::Client;

use super::captured::Promise;
use super::change::{Row, row};
use super::decoded::{Decoded, transactions};
use super::published::Published;
use super::replay::Tables;
use super::session::{self, Errors};
use super::world::World;
use crate::{Fixture, Testbed};

/// Rows are found through indexes, in their order, and joins go through the rows of the one side in
/// theirs: what a world's statements do must not depend on statistics, or on where rows lie.
const SETTINGS: [&str; 8] = [
    "enable_seqscan = off",
    "enable_bitmapscan = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    // What is switched off is not forbidden but dear, and dear plans would be compiled.
    "jit = off",
    "plan_cache_mode = force_generic_plan",
    "client_min_messages = error",
    // Only for a world that never ends; the generated ones take milliseconds.
    "statement_timeout = '60s'",
];

const SLOT: &str = "oracle";

/// A server.
pub(super) struct Server<'bed> {
    fixture: Fixture<'bed>,
    admin: Client,
    has_oracle: bool,
}

/// What was seen of a world.
pub(super) struct Observed {
    pub published: Published,
    /// In commit order; empty at `wal_level = replica`.
    pub decoded: Vec<Decoded>,
    /// What the tables held in the end that can be replayed.
    pub tables: Tables,
    pub errors: Errors,
}

impl Server<'_> {
    /// Prepares the server of this testbed; with `has_oracle` its `wal_level` must be `logical`.
    pub fn prepare<'bed>(bed: &'bed Testbed, has_oracle: bool) -> Server<'bed> {
        let fixture = bed.scene("order");
        let mut admin = fixture.client();
        for setting in SETTINGS {
            run(&mut admin, &format!("ALTER DATABASE {} SET {setting}", fixture.database));
        }
        run(
            &mut admin,
            "CREATE TABLE markers (id int);
             CREATE TRIGGER capture AFTER INSERT ON markers
             FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('marker')",
        );
        if has_oracle {
            let slot = "SELECT pg_create_logical_replication_slot($1, 'test_decoding')";
            admin.query(slot, &[&SLOT]).expect("could not make a slot with test_decoding");
        }
        // The settings are those of new sessions.
        let admin = fixture.client();
        Server { fixture, admin, has_oracle }
    }

    /// Runs a world, and removes it.
    pub fn run_world(&mut self, world: &World) -> Observed {
        for session in &world.sessions {
            run(&mut self.admin, &session.setup);
        }
        let errors = run_sessions(&self.fixture, world);
        run(&mut self.admin, "INSERT INTO public.markers VALUES (1)");
        let messages = self.fixture.consumer.wait_for_marker("cdc.marker.insert");
        let mut decoded = if self.has_oracle { self.decoded() } else { Vec::new() };
        decoded.retain(|transaction| world.session(transaction.schema()).is_some());
        let tables = self.tables(world);
        for session in &world.sessions {
            run(&mut self.admin, &format!("DROP SCHEMA {} CASCADE", session.schema));
        }
        Observed { published: Published::of(&messages), decoded, tables, errors }
    }

    fn decoded(&mut self) -> Vec<Decoded> {
        let changes = "SELECT data FROM pg_logical_slot_get_changes($1, NULL, NULL)";
        let rows = self.admin.query(changes, &[&SLOT]);
        let rows = rows.unwrap_or_else(|error| panic!("{changes}: {error:?}"));
        transactions(&rows.iter().map(|row| row.get(0)).collect::<Vec<String>>())
    }

    fn tables(&mut self, world: &World) -> Tables {
        let mut tables = Tables::new();
        for session in &world.sessions {
            let names = "SELECT relname::text FROM pg_class \
                         WHERE relnamespace = $1::text::regnamespace AND relkind = 'r'";
            let names = self.admin.query(names, &[&session.schema]);
            for name in names.expect("could not list a schema's tables") {
                let name = format!("{}.{}", session.schema, name.get::<_, &str>(0));
                let captured = world.captured(&name);
                if captured.is_some_and(|captured| captured.promise == Promise::Ordered) {
                    let rows = self.rows(&name);
                    tables.insert(name, rows);
                }
            }
        }
        tables.retain(|_, rows| !rows.is_empty());
        tables
    }

    fn rows(&mut self, table: &str) -> BTreeMap<String, Row> {
        let query = format!("SELECT id::text, row_to_json(t)::text FROM {table} t");
        let rows = self.admin.query(&query, &[]);
        let rows = rows.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        let parsed = rows.iter().map(|each| {
            let json = serde_json::from_str(each.get(1)).expect("row_to_json gives JSON");
            (each.get(0), row(&json).unwrap_or_default())
        });
        parsed.collect()
    }
}

/// All sessions at once, and checkpoints and vacuums beside them.
fn run_sessions(fixture: &Fixture<'_>, world: &World) -> Errors {
    let (say, done) = mpsc::channel();
    thread::scope(|scope| {
        let sessions: Vec<_> = world
            .sessions
            .iter()
            .map(|session| {
                let say = say.clone();
                scope.spawn(move || session::run(&mut fixture.client(), session, &say))
            })
            .collect();
        drop(say);
        scope.spawn(|| disturb(fixture, world, done));
        let mut errors = Errors::default();
        for session in sessions {
            errors.add(session.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        errors
    })
}

/// Moves rows, and has whole pages come into the WAL anew, after every few transactions.
fn disturb(fixture: &Fixture<'_>, world: &World, done: Receiver<()>) {
    let mut client = fixture.client();
    let tables = world.sessions.iter().flat_map(|session| {
        ["a", "b", "part", "parent", "child", "audit"].map(|table| (&session.schema, table))
    });
    for (number, (schema, table)) in tables.collect::<Vec<_>>().into_iter().cycle().enumerate() {
        if done.recv().is_err() {
            return;
        }
        match number % 4 {
            // It gives no room back to the system: for that a vacuum waits 5 s for a lock, and all
            // others wait for the vacuum.
            0 | 2 => run(&mut client, &format!("VACUUM (TRUNCATE off) {schema}.{table}")),
            1 => run(&mut client, "CHECKPOINT"),
            _ => {}
        }
    }
}

#[track_caller]
fn run(client: &mut Client, statements: &str) {
    client.batch_execute(statements).unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}
