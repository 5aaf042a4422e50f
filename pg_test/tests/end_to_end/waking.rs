//! Each commit wakes the worker, however it is made, but not at the expense of who made it or makes the
//! next one.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use pg_test::{DEADLINE, Fixture, Postgres, Testbed, machine, send_signal, wait_until};
use postgres::Client;
use postgres_protocol::IsNull;
use postgres_protocol::message::{backend, frontend};

use crate::helpers::{
    ask, blog, ids, make_blog, run, wait_for_reason, wait_until_read, wait_until_saved, worker_pid,
};

/// A worker that nobody wakes looks at the WAL only now and then, every five seconds. So many times
/// that is more than [`DEADLINE`].
const TOO_MANY_TO_SLEEP_THROUGH: i64 = 8;

/// Settings of a server that bears a frozen broker: that it stands still wakes the worker, too.
const PATIENT: &[&str] = &["amqp.confirm_timeout = 3600", "amqp.heartbeat = 3600"];

/// A session that need not read what it is answered.
struct Session(UnixStream);

impl Session {
    fn connect(postgres: &Postgres, database: &str) -> Session {
        let socket = postgres.folder().join(format!(".s.PGSQL.{}", postgres.port()));
        let mut session = Session(UnixStream::connect(socket).unwrap());
        let parameters = [("user", "postgres"), ("database", database)];
        session.send(|buffer| frontend::startup_message(parameters, buffer).unwrap());
        let mut received = BytesMut::new();
        loop {
            let mut bytes = [0; 1024];
            let count = session.0.read(&mut bytes).unwrap();
            assert!(count > 0, "the server hung up: {received:?}");
            received.extend_from_slice(&bytes[..count]);
            while let Some(message) = backend::Message::parse(&mut received).unwrap() {
                match message {
                    backend::Message::ReadyForQuery(_) => return session,
                    backend::Message::ErrorResponse(_) => panic!("refused: {received:?}"),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut buffer = BytesMut::new();
        write(&mut buffer);
        self.0.write_all(&buffer).unwrap();
    }

    /// With the simple query protocol.
    fn query(&mut self, query: &str) {
        self.send(|buffer| frontend::query(query, buffer).unwrap());
    }

    /// With the extended one, and nothing behind them that asks for an answer.
    fn execute(&mut self, statements: &[&str]) {
        self.send(|buffer| {
            for statement in statements {
                frontend::parse("", statement, [], buffer).unwrap();
                let nothing = |(), _: &mut BytesMut| Ok(IsNull::Yes);
                let bound = frontend::bind("", "", [], [], nothing, [], buffer);
                assert!(bound.is_ok(), "{statement}");
                frontend::execute("", 0, buffer).unwrap();
            }
        });
    }
}

/// A worker that only a commit wakes, as long as it lives: the broker is frozen, so that no confirm
/// comes, and nothing is saved.
struct Sleeper<'bed> {
    fixture: Fixture<'bed>,
    client: Client,
    /// The latest row.
    id: i64,
    /// Sessions that are to live on, whatever they wait for.
    sessions: Vec<Session>,
}

impl Sleeper<'_> {
    fn make<'bed>(bed: &'bed Testbed, name: &str) -> Sleeper<'bed> {
        let fixture = bed.scene(name);
        let mut client = fixture.client();
        make_blog(&mut client);
        run(&mut client, "INSERT INTO blog_articles VALUES (0)");
        let event = fixture.consumer.wait_for_events(1);
        wait_until_saved(&mut client, &event[0]);
        send_signal(bed.rabbitmq.pid(), "STOP");
        Sleeper { fixture, client, id: 0, sessions: Vec::new() }
    }

    /// A session that had an event before: the first wakes the worker at once anyway.
    fn session(&mut self) -> &mut Session {
        let mut session = Session::connect(&self.fixture.testbed.postgres, &self.fixture.database);
        session.query("BEGIN; INSERT INTO blog_articles VALUES (-1); ROLLBACK");
        self.sessions.push(session);
        self.sessions.last_mut().unwrap()
    }

    /// Whether the last session has to wait before it can answer this.
    fn last_waits_to_answer(&mut self, query: &str) -> bool {
        self.sessions.last_mut().unwrap().query(query);
        let waits = format!(
            "SELECT coalesce(max(wait_event), '') FROM pg_stat_activity WHERE query = '{query}'"
        );
        wait_until("the backend waits for its client", DEADLINE, || {
            let event: String = ask(&mut self.client, &waits);
            event.starts_with("Client").then_some(event == "ClientWrite")
        })
    }

    /// The statement that inserts the next row.
    fn next_insert(&mut self) -> String {
        self.id += 1;
        format!("INSERT INTO blog_articles VALUES ({})", self.id)
    }

    /// Waits until the latest row is committed and the worker has read that.
    #[track_caller]
    fn wait_until_read(&mut self, what: &str) {
        let row = format!("SELECT count(*) = 1 FROM blog_articles WHERE id = {}", self.id);
        wait_until("the row is committed", DEADLINE, || {
            ask::<bool>(&mut self.client, &row).then_some(())
        });
        wait_until_read(&mut self.client, what);
    }

    /// Nothing is lost by all that.
    fn end(self) {
        send_signal(self.fixture.testbed.rabbitmq.pid(), "CONT");
        let events = self.fixture.consumer.wait_for_events(self.id as usize);
        assert_eq!(ids(&events), (1..=self.id).collect::<Vec<_>>());
    }
}

/// How the statement it is given, an insert, is committed.
type Way = fn(&mut Sleeper<'_>, &str);

/// The worker is woken when the client has its answer, but what comes before that may take long.
#[test]
fn each_commit_wakes_the_worker() {
    let bed = Testbed::private(PATIENT);
    let mut sleeper = Sleeper::make(&bed, "wake");
    // Nobody else gets it.
    run(
        &mut sleeper.client,
        "SELECT pg_advisory_lock(1);
         CREATE PROCEDURE commit_and_wait(statement text) LANGUAGE plpgsql AS $$
             BEGIN
                 EXECUTE statement;
                 COMMIT;
                 PERFORM pg_advisory_xact_lock(1);
             END $$",
    );
    const LOCK: &str = "SELECT pg_advisory_xact_lock(1)";
    let ways: [(&str, Way); 10] = [
        ("a statement with Sync", |sleeper, insert| {
            sleeper.client.execute(insert, &[]).unwrap();
        }),
        ("a simple query", |sleeper, insert| run(&mut sleeper.client, insert)),
        ("COMMIT in a simple query", |sleeper, insert| {
            for statement in ["BEGIN", insert, "COMMIT;"] {
                run(&mut sleeper.client, statement);
            }
        }),
        ("COMMIT AND CHAIN", |sleeper, insert| {
            for statement in ["BEGIN", insert, "COMMIT AND CHAIN", "ROLLBACK"] {
                run(&mut sleeper.client, statement);
            }
        }),
        ("COMMIT with Sync", |sleeper, insert| {
            for statement in ["BEGIN", insert, "COMMIT"] {
                sleeper.client.execute(statement, &[]).unwrap();
            }
        }),
        ("COMMIT and more in a query", |sleeper, insert| {
            sleeper.session().query(&format!("BEGIN; {insert}; COMMIT; {LOCK}"));
        }),
        ("COMMIT in a procedure and more in that", |sleeper, insert| {
            sleeper.session().query(&format!("CALL commit_and_wait('{insert}')"));
        }),
        ("COMMIT and more in a pipeline", |sleeper, insert| {
            sleeper.session().execute(&["BEGIN", insert, "COMMIT", LOCK]);
        }),
        ("COMMIT and no Sync", |sleeper, insert| {
            sleeper.session().execute(&["BEGIN", insert, "COMMIT"]);
        }),
        ("a statement and notifications that nobody reads", |sleeper, insert| {
            let session = sleeper.session();
            session.query("LISTEN much");
            session.query(&format!(
                "WITH inserted AS ({insert} RETURNING id)
                 SELECT count(pg_notify('much', lpad(part::text, 7999)))
                   FROM inserted, generate_series(1, 100) AS part"
            ));
        }),
    ];
    for (name, write) in ways {
        let begun = Instant::now();
        for _ in 0..TOO_MANY_TO_SLEEP_THROUGH {
            let insert = sleeper.next_insert();
            write(&mut sleeper, &insert);
            sleeper.wait_until_read(name);
        }
        assert!(begun.elapsed() < DEADLINE, "{name}: {:?}", begun.elapsed());
    }
    sleeper.end();
}

/// Its answers fill the socket, and the backend waits with that of a commit.
#[test]
fn commits_of_a_client_that_does_not_read_wake_the_worker() {
    let bed = Testbed::private(PATIENT);
    let mut sleeper = Sleeper::make(&bed, "unread");
    // As long an answer as that of a row.
    let nothing = "INSERT INTO blog_articles SELECT 0 WHERE false";
    let mut room = 0;
    sleeper.session();
    while !sleeper.last_waits_to_answer(&format!("{nothing} -- {room}")) {
        room += 1;
    }
    let begun = Instant::now();
    for _ in 0..TOO_MANY_TO_SLEEP_THROUGH {
        let session = sleeper.session();
        for _ in 0..room {
            session.query(nothing);
        }
        loop {
            let insert = sleeper.next_insert();
            let waits = sleeper.last_waits_to_answer(&insert);
            sleeper.wait_until_read("an answer that nobody reads");
            if waits {
                break;
            }
        }
    }
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    sleeper.end();
}

/// A thread that PostgreSQL does not know of is there only while a connection is made.
#[test]
fn a_worker_that_is_connected_is_one_thread() {
    let (fixture, mut client) = blog("one_thread");
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    assert_eq!(ids(&fixture.consumer.wait_for_events(1)), [1]);
    let worker = worker_pid(&mut client);
    assert_eq!(fs::read_dir(format!("/proc/{worker}/task")).unwrap().count(), 1);
}

/// Whoever has nothing to do wakes up every five seconds and for what it owes the broker, no more: idle, with
/// a broker that takes nothing because its memory is full, and with none that could be reached.
#[test]
fn a_worker_that_can_do_nothing_sleeps() {
    const LOOK: Duration = Duration::from_secs(11);
    // A look after five and after ten seconds, and one for whatever the start of them interrupts.
    const MOST: u64 = 3;
    let bed = Testbed::private(&["amqp.heartbeat = 3600", "amqp.confirm_timeout = 3600"]);
    let fixture = bed.scene("asleep");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    let events = fixture.consumer.wait_for_events(1);
    wait_until_saved(&mut client, &events[0]);
    let worker = worker_pid(&mut client);
    let sleeps_beyond = |most: u64, what: &str| {
        let before = machine::sleeps(worker);
        // Nobody publishes anything meanwhile.
        assert_eq!(fixture.consumer.next_within(LOOK), None);
        let sleeps = machine::sleeps(worker) - before;
        assert!(sleeps <= most, "{what}, it woke up {sleeps} times in {LOOK:?}");
    };
    sleeps_beyond(MOST, "idle");

    bed.rabbitmq.ctl(&["set_vm_memory_high_watermark", "0.000001"]);
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    wait_for_reason(&mut client, "broker blocked the connection");
    sleeps_beyond(MOST, "blocked");
    bed.rabbitmq.ctl(&["set_vm_memory_high_watermark", "0.9"]);
    let events = fixture.consumer.wait_for_events(1);
    wait_until_saved(&mut client, &events[0]);

    bed.postgres.set("amqp.host", "127.0.0.1:1");
    wait_for_reason(&mut client, "broker cannot be reached");
    run(&mut client, "INSERT INTO blog_articles VALUES (3)");
    // Attempts become rarer, up to one in five seconds: wait until they are.
    wait_until("attempts are rare", DEADLINE, || {
        let before = machine::sleeps(worker);
        assert_eq!(fixture.consumer.next_within(Duration::from_secs(4)), None);
        (machine::sleeps(worker) - before <= 6).then_some(())
    });
    // Each wakes it twice: when it is due, and when the operating system has refused it.
    sleeps_beyond(MOST + 2 * 3, "with nothing to reach");
}
