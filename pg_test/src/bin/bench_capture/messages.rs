//! What a message of a user's own costs its writer, beside a captured row of the same size, an outbox table and NOTIFY.
//! Bodies are made up by the statement that sends them, as the first line does that sends none.

use std::thread::{self, JoinHandle};

use pg_test::Postgres;
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, NoTls};

use crate::workload::{Setup, Workload};

/// Bytes of a body, in place of the three operations of other workloads. NOTIFY takes less than 8,000.
pub const SIZES: [u32; 3] = [100, 1_000, 7_000];

/// As the report's head has them.
pub const NAMES: [&str; 3] = ["100 B", "1 kB", "7 kB"];

const CHANNEL: &str = "bench";

/// What is done for each body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nothing.
    None,
    /// It becomes a row.
    Row,
    /// The same, and that is captured.
    Captured,
    /// The same, and a trigger in PL/pgSQL makes a message of it: see docs/outbox.md.
    Shaped,
    Publish,
    /// With a type, a correlation_id and headers.
    PublishProperties,
    /// A jsonb, sent nowhere.
    Jsonb,
    PublishJsonb,
    /// A table as Debezium's outbox router has it, which another process reads from a logical slot.
    Outbox,
    /// The same, and our capture trigger makes a message of each row.
    OutboxSent,
    /// The same without the trigger, and each row is deleted in the same transaction.
    OutboxDeleted,
    /// With somebody who listens.
    Notify,
    /// With pg_amqp's function, in a database of its own: see `pg_amqp`.
    PgAmqp,
}

impl Way {
    /// What takes turns in one database.
    pub const ALL: [Way; 12] = [
        Way::None,
        Way::Row,
        Way::Captured,
        Way::Shaped,
        Way::Publish,
        Way::PublishProperties,
        Way::Jsonb,
        Way::PublishJsonb,
        Way::Outbox,
        Way::OutboxSent,
        Way::OutboxDeleted,
        Way::Notify,
    ];

    /// As the table names it.
    pub fn name(self) -> &'static str {
        match self {
            Way::None => "nothing",
            Way::Row => "a row of that size, not captured",
            Way::Captured => "**a captured row of that size**",
            Way::Shaped => {
                "a row of that size whose trigger in PL/pgSQL makes a jsonb and calls `amqp.publish`"
            }
            Way::Publish => "**`amqp.publish`**, text",
            Way::PublishProperties => "`amqp.publish`, text, with type, correlation_id and headers",
            Way::Jsonb => "a jsonb, not sent",
            Way::PublishJsonb => "`amqp.publish`, jsonb",
            Way::Outbox => "outbox table in Debezium's layout, without any trigger",
            Way::OutboxSent => {
                "the same outbox table, each row sent by our trigger with `body=payload`"
            }
            Way::OutboxDeleted => "outbox table in Debezium's layout, the row deleted at once",
            Way::Notify => "`pg_notify`, with a listener",
            Way::PgAmqp => "pg_amqp's own publish, to the broker at once",
        }
    }

    /// What it is measured over.
    pub fn floor(self) -> Way {
        if self == Way::PublishJsonb { Way::Jsonb } else { Way::None }
    }

    /// All of them, of so many messages.
    pub fn workloads(rows: u64) -> Vec<(Way, Workload)> {
        Way::ALL.map(|way| (way, way.workload(rows))).into()
    }

    fn workload(self, rows: u64) -> Workload {
        Workload {
            name: self.name().to_owned(),
            setup: Setup::Sql(self.setup()),
            clear: self.clear(),
            warm: String::new(),
            set: "",
            statements: SIZES.map(|size| self.statement(size, ":first", ":last")),
            rows,
            log: None,
        }
    }

    /// The statement that does so for bodies of this size, with these numbers.
    pub fn statement(self, size: u32, first: &str, last: &str) -> String {
        let body = format!("left(repeat(md5(n::text), {}), {size})", size / 32 + 1);
        let each = format!("FROM generate_series({first}, {last}) n");
        // Of each size their own, in one table.
        let id = format!("{size}000000000 + n");
        let jsonb = format!("jsonb_build_object('value', {body})");
        let table = match self {
            Way::OutboxSent => "outbox_of_messages",
            Way::OutboxDeleted => "outbox_of_none",
            _ => "outbox_of_events",
        };
        let outbox = format!(
            "INSERT INTO {table} (aggregatetype, aggregateid, type, payload) \
             SELECT 'order', n::text, 'OrderPlaced', {jsonb} {each}"
        );
        match self {
            Way::None => format!("SELECT count({body}) {each}"),
            Way::Row => format!("INSERT INTO bodies SELECT {id}, {body} {each}"),
            Way::Captured => format!("INSERT INTO captured_bodies SELECT {id}, {body} {each}"),
            Way::Shaped => format!("INSERT INTO shaped_bodies SELECT {id}, {body} {each}"),
            Way::Publish => format!("SELECT count(amqp.publish('order.placed', {body})) {each}"),
            Way::PublishProperties => format!(
                "SELECT count(amqp.publish('order.placed', {body}, type => 'OrderPlaced', \
                 correlation_id => n::text, headers => '{{\"tenant\": \"acme\", \"version\": 2}}')) {each}"
            ),
            Way::Jsonb => format!("SELECT count({jsonb}) {each}"),
            Way::PublishJsonb => {
                format!("SELECT count(amqp.publish('order.placed', {jsonb})) {each}")
            }
            Way::Outbox | Way::OutboxSent => outbox,
            Way::OutboxDeleted => format!("{outbox}; DELETE FROM outbox_of_none"),
            Way::PgAmqp => {
                format!("SELECT count(amqp.publish(1, 'amq.topic', 'order.placed', {body})) {each}")
            }
            Way::Notify => format!("SELECT count(pg_notify('{CHANNEL}', {body})) {each}"),
        }
    }

    fn setup(self) -> String {
        // Not compressed, so that as many bytes are stored as are sent.
        let bodies = |table: &str| {
            format!(
                "CREATE TABLE {table} (id bigint PRIMARY KEY, body text);
                 ALTER TABLE {table} ALTER COLUMN body SET STORAGE EXTERNAL;"
            )
        };
        let outbox = |table: &str| {
            format!(
                "CREATE TABLE {table} (
                     id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
                     aggregatetype varchar(255) NOT NULL,
                     aggregateid varchar(255) NOT NULL,
                     type varchar(255) NOT NULL,
                     payload jsonb);
                 ALTER TABLE {table} ALTER COLUMN payload SET STORAGE EXTERNAL;"
            )
        };
        match self {
            Way::Row => bodies("bodies"),
            Way::Captured => {
                bodies("captured_bodies")
                    + "CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON captured_bodies
                       FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('body');"
            }
            Way::Shaped => {
                bodies("shaped_bodies")
                    + "CREATE FUNCTION shape_body() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                         PERFORM amqp.publish('body.made',
                           jsonb_build_object('id', NEW.id, 'body', NEW.body), type => 'Body');
                         RETURN NULL;
                       END $$;
                       CREATE TRIGGER shape AFTER INSERT ON shaped_bodies
                       FOR EACH ROW EXECUTE FUNCTION shape_body();"
            }
            Way::Outbox => outbox("outbox_of_events"),
            Way::OutboxSent => {
                outbox("outbox_of_messages")
                    + "CREATE TRIGGER send AFTER INSERT ON outbox_of_messages FOR EACH ROW
                       EXECUTE FUNCTION amqp_change_data_capture('order', 'cdc', 'body=payload', 'type=type');"
            }
            Way::OutboxDeleted => outbox("outbox_of_none"),
            _ => String::new(),
        }
    }

    fn clear(self) -> String {
        match self {
            Way::Row => "TRUNCATE bodies".to_owned(),
            Way::Captured => "TRUNCATE captured_bodies".to_owned(),
            Way::Shaped => "TRUNCATE shaped_bodies".to_owned(),
            Way::Outbox => "TRUNCATE outbox_of_events".to_owned(),
            Way::OutboxSent => "TRUNCATE outbox_of_messages".to_owned(),
            Way::OutboxDeleted => "TRUNCATE outbox_of_none".to_owned(),
            _ => String::new(),
        }
    }
}

/// Somebody who listens to NOTIFY, as a relay would, until it is dropped.
pub struct Listener {
    server: Client,
    pid: i32,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    pub fn start(postgres: &Postgres, database: &str) -> Listener {
        let connect = || {
            Client::connect(&postgres.connection_string(database), NoTls)
                .expect("a server that runs takes connections")
        };
        let (server, mut client) = (connect(), connect());
        client.batch_execute(&format!("LISTEN {CHANNEL}")).expect("could not listen");
        let row = client.query_one("SELECT pg_backend_pid()", &[]);
        let pid = row.expect("could not ask for pg_backend_pid()").get(0);
        // It ends with its session.
        let listen =
            move || while matches!(client.notifications().blocking_iter().next(), Ok(Some(_))) {};
        Listener { server, pid, thread: Some(thread::spawn(listen)) }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ended = self.server.execute("SELECT pg_terminate_backend($1)", &[&self.pid]);
        if let (Ok(_), Some(thread)) = (ended, self.thread.take()) {
            // It cannot panic.
            let _ = thread.join();
        }
    }
}
