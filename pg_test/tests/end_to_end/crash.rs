//! What a crash may cost: knowledge of confirms, nothing else. Not an event, not a transaction's
//! wholeness, not the WAL that the next start asks for; and nothing is announced that a crash can
//! still undo.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use pg_test::{
    DEADLINE, Fixture, Message, RabbitMq, Shutdown, Testbed, insert_lsn, send_signal, wait_until,
};
use postgres::{Client, NoTls};
use serde_json::{Value, json};

use crate::helpers::{
    ask, changes, commit_lsn, ids, make_blog, published_so_far, run, saved_confirmed,
    shown_confirmed, shown_restart, wait_until_saved, worker_pid,
};

/// Small segments, and as few of them as possible: every checkpoint removes what may go.
const SEGMENT: u64 = 1024 * 1024;
const SMALL_SEGMENTS: &str = "--wal-segsize=1";
const SMALL_WAL: [&str; 3] = ["min_wal_size = 2MB", "max_wal_size = 4MB", "autovacuum = off"];

/// 200 rounds on eight servers at once: a round mostly waits until the position is saved.
#[test]
fn crashes_right_after_checkpoints_that_removed_wal_lose_nothing_and_tear_nothing() {
    const SERVERS: usize = 8;
    const ROUNDS: usize = 25;
    let rabbitmq = Arc::new(RabbitMq::create());
    thread::scope(|scope| {
        for server in 0..SERVERS {
            let rabbitmq = &rabbitmq;
            scope.spawn(move || {
                let bed = Testbed::beside_with(rabbitmq, &[SMALL_SEGMENTS], &SMALL_WAL);
                let fixture = bed.scene("rounds");
                let mut rounds = Rounds::begin(&fixture);
                for number in 0..ROUNDS {
                    rounds.play(number + server);
                }
                rounds.end(ROUNDS);
            });
        }
    });
}

/// What was done in the rounds so far.
struct Rounds<'fixture> {
    fixture: &'fixture Fixture<'fixture>,
    client: Client,
    first_restart: u64,
    next_id: i64,
    /// The rows of each transaction, in commit order.
    committed: Vec<Vec<i64>>,
    /// Name and rows of the transaction that is prepared now.
    prepared: Option<(String, Vec<i64>)>,
    /// The oldest file in pg_wal at the end of each round.
    oldest_files: BTreeSet<String>,
}

impl<'fixture> Rounds<'fixture> {
    fn begin(fixture: &'fixture Fixture<'fixture>) -> Rounds<'fixture> {
        let mut client = fixture.client();
        make_blog(&mut client);
        run(&mut client, "CREATE TABLE plain (filler text)");
        let first_restart = shown_restart(&mut client);
        Rounds {
            fixture,
            client,
            first_restart,
            next_id: 1,
            committed: Vec::new(),
            prepared: None,
            oldest_files: BTreeSet::new(),
        }
    }

    fn play(&mut self, number: usize) {
        let mut doomed = self.fixture.client();
        if number.is_multiple_of(2) {
            run(&mut doomed, &format!("BEGIN; INSERT INTO blog_articles VALUES (-{})", number + 1));
        }
        match number % 5 {
            0 => self.prepare(number),
            2 => self.commit_prepared(),
            _ => {}
        }
        self.commit(number % 4 + 1, "");
        let until = insert_lsn(&mut self.client);
        self.commit(2, FOREIGN_WAL);
        self.commit(3, "");
        self.checkpoint_until_saved(until);
        if number.is_multiple_of(3) {
            self.commit(5, "");
        }
        self.crash(number, &mut doomed);
    }

    /// Checkpoints without a pause until the slot shows that everything up to `until` is confirmed:
    /// they fall together with the save, and the crash comes right after the last one.
    fn checkpoint_until_saved(&mut self, until: u64) {
        wait_until("the position is saved", DEADLINE, || {
            run(&mut self.client, "CHECKPOINT");
            (shown_confirmed(&mut self.client) >= until).then_some(())
        });
        self.oldest_files.insert(ask(
            &mut self.client,
            "SELECT min(name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'",
        ));
    }

    fn crash(&mut self, number: usize, session: &mut Client) {
        let postgres = &self.fixture.testbed.postgres;
        match number % 4 {
            1 => self.kill(worker_pid(&mut self.fixture.client())),
            3 => self.kill(ask::<i32>(session, "SELECT pg_backend_pid()") as u32),
            _ => postgres.restart(Shutdown::Immediate),
        }
        self.client = wait_until("the server is back", DEADLINE, || {
            Client::connect(&postgres.connection_string(&self.fixture.database), NoTls).ok()
        });
    }

    /// The postmaster then ends all processes, and recovers.
    fn kill(&mut self, pid: u32) {
        send_signal(pid, "KILL");
        wait_until("the server has crashed", DEADLINE, || {
            self.client.batch_execute("SELECT 1").is_err().then_some(())
        });
    }

    /// Commits `rows` rows, with a statement in between.
    fn commit(&mut self, rows: usize, between: &str) {
        let (ids, first) = self.new_rows(1);
        let (more, others) = self.new_rows(rows - 1);
        run(&mut self.client, &format!("BEGIN; {first}; {between}; {others}; COMMIT"));
        self.committed.push([ids, more].concat());
    }

    fn prepare(&mut self, number: usize) {
        self.commit_prepared();
        let (ids, insert) = self.new_rows(3);
        let name = format!("prepared {number}");
        run(&mut self.client, &format!("BEGIN; {insert}; PREPARE TRANSACTION '{name}'"));
        self.prepared = Some((name, ids));
    }

    fn commit_prepared(&mut self) {
        if let Some((name, ids)) = self.prepared.take() {
            run(&mut self.client, &format!("COMMIT PREPARED '{name}'"));
            self.committed.push(ids);
        }
    }

    /// The next ids, and the statement that inserts them.
    fn new_rows(&mut self, count: usize) -> (Vec<i64>, String) {
        let first = self.next_id;
        self.next_id += count as i64;
        let insert = format!(
            "INSERT INTO blog_articles SELECT g FROM generate_series({first}, {}) g",
            self.next_id - 1
        );
        ((first..self.next_id).collect(), insert)
    }

    fn end(mut self, rounds: usize) {
        self.commit_prepared();
        let messages = published_so_far(self.fixture, &mut self.client);
        assert_whole_and_in_order(&messages, &self.committed);
        let log = self.fixture.testbed.postgres.log();
        for complaint in [
            "events are lost",
            "has already been removed",
            "could not read WAL",
            "was invalidated",
            "PANIC",
        ] {
            assert!(!log.contains(complaint), "{complaint}");
        }
        let released = (shown_restart(&mut self.client) - self.first_restart) / SEGMENT;
        assert!(released as usize > rounds, "{released} segments in {rounds} rounds");
        // A prepared transaction holds it up in two or three rounds of five.
        let removals = self.oldest_files.len() - 1;
        assert!(removals > rounds / 3, "WAL was removed in {removals} of {rounds} rounds");
    }
}

/// More than two segments of what is not captured.
const FOREIGN_WAL: &str =
    "INSERT INTO plain SELECT repeat('x', 1000) FROM generate_series(1, 2500);
     TRUNCATE plain";

/// The first deliveries are these transactions, whole and in this order; a resend is the same
/// message, and repeats a suffix of what was sent.
#[track_caller]
fn assert_whole_and_in_order(messages: &[Message], transactions: &[Vec<i64>]) {
    let first = first_of_each(messages);
    assert_eq!(ids_of(&first), transactions.concat());
    let mut first = first.into_iter();
    let mut last_commit = 0;
    for rows in transactions {
        let events: Vec<_> = first.by_ref().take(rows.len()).collect();
        let shared = |event: &Message| {
            ["xid", "commit_lsn", "commit_ts"].map(|header| event.headers[header].clone())
        };
        for (event, number) in events.iter().zip(1..) {
            assert_eq!(event.headers["tx_seq"], json!(number), "{rows:?}");
            assert_eq!(event.headers["tx_size"], json!(rows.len()), "{rows:?}");
            assert_eq!(shared(event), shared(events[0]), "{rows:?}");
        }
        assert!(commit_lsn(events[0]) > last_commit, "{rows:?}");
        last_commit = commit_lsn(events[0]);
    }
    assert_resends_repeat_a_suffix(messages);
}

/// The first delivery of each message, by message_id; later ones must be equal to it.
#[track_caller]
fn first_of_each(messages: &[Message]) -> Vec<&Message> {
    let mut known: BTreeMap<&str, &Message> = BTreeMap::new();
    let mut first = Vec::new();
    for message in messages {
        let id = message.message_id.as_deref().expect("every message has a message_id");
        match known.insert(id, message) {
            None => first.push(message),
            Some(before) => assert_eq!(content(before), content(message), "{id}"),
        }
    }
    first
}

/// What does not change when a message is sent again.
fn content(message: &Message) -> (&[u8], &str, BTreeMap<&str, &Value>) {
    let headers = message.headers.iter().map(|(name, value)| (name.as_str(), value));
    let headers = headers.filter(|&(name, _)| name != "resent").collect();
    (&message.body, &message.routing_key, headers)
}

fn ids_of(messages: &[&Message]) -> Vec<i64> {
    messages.iter().flat_map(|message| ids(std::slice::from_ref(*message))).collect()
}

/// After each message comes the next one, or one that was sent before.
#[track_caller]
fn assert_resends_repeat_a_suffix(messages: &[Message]) {
    let order: BTreeMap<_, _> =
        first_of_each(messages).iter().map(|message| message.message_id.clone()).zip(0..).collect();
    let places: Vec<usize> = messages.iter().map(|message| order[&message.message_id]).collect();
    for pair in places.windows(2) {
        assert!(pair[1] <= pair[0] + 1, "message {} came after {}", pair[1], pair[0]);
    }
}

/// From oldest to youngest: dead, prepared, dead. What is dead must neither hold the WAL up nor
/// take the prepared transaction along.
#[test]
fn the_wal_of_transactions_that_died_in_a_crash_is_released_and_that_of_prepared_ones_is_not() {
    let bed = Testbed::private_with(&[SMALL_SEGMENTS], &SMALL_WAL);
    let fixture = bed.scene("dead");
    let mut client = fixture.client();
    make_blog(&mut client);
    // Where its WAL lies, and its session.
    let begin_elsewhere = |id: i32, end: &str| {
        let mut session = fixture.client();
        let from = insert_lsn(&mut session);
        run(
            &mut session,
            &format!(
                "BEGIN; INSERT INTO blog_articles VALUES ({id}); SAVEPOINT a;
                 INSERT INTO blog_articles VALUES ({id} + 1); {end}"
            ),
        );
        let to = insert_lsn(&mut session);
        run(&mut fixture.client(), "SELECT pg_switch_wal()");
        (from..to, session)
    };
    let (older, _open) = begin_elsewhere(10, "");
    let (prepared, _) = begin_elsewhere(20, "PREPARE TRANSACTION 'p'");
    let (younger, _open_too) = begin_elsewhere(30, "");
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    assert!(shown_restart(&mut client) < older.end, "open transactions hold their WAL");

    bed.postgres.restart(Shutdown::Immediate);
    let mut client = fixture.client();
    wait_until("the older dead transaction is let go", DEADLINE, || {
        (shown_restart(&mut client) >= prepared.start).then_some(())
    });
    run(&mut client, "INSERT INTO blog_articles VALUES (2)");
    wait_until_saved(&mut client, &fixture.consumer.wait_for_events(1)[0]);
    assert!(shown_restart(&mut client) < prepared.end, "the prepared one is still needed");

    run(&mut client, "CHECKPOINT");
    run(&mut client, "COMMIT PREPARED 'p'");
    assert_eq!(changes(&published_so_far(&fixture, &mut client)), ["insert:20", "insert:21"]);
    wait_until("nothing dead holds the WAL", DEADLINE, || {
        (shown_restart(&mut client) > younger.end).then_some(())
    });
}

#[test]
fn what_is_saved_as_confirmed_never_comes_again() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("saved");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "INSERT INTO blog_articles SELECT g FROM generate_series(1, 500) g");
    run(&mut client, "INSERT INTO blog_articles VALUES (501)");
    let events = fixture.consumer.wait_for_events(501);
    wait_until_saved(&mut client, &events[500]);
    for how in [Shutdown::Immediate, Shutdown::Fast, Shutdown::Immediate] {
        bed.postgres.restart(how);
        client = fixture.client();
        let again = published_so_far_and_saved(&fixture, &mut client);
        assert_eq!(changes(&again), [""; 0], "{how:?}");
    }
}

/// Like [`published_so_far`], without a marker that a crash could bring back.
#[track_caller]
fn published_so_far_and_saved(fixture: &Fixture<'_>, client: &mut Client) -> Vec<Message> {
    let before = insert_lsn(client);
    let messages = published_so_far(fixture, client);
    // Only the marker's transaction ends after that.
    wait_until("the marker's position was saved", DEADLINE, || {
        (saved_confirmed(client) > before).then_some(())
    });
    messages
}

#[test]
fn after_a_crash_only_what_was_not_saved_as_confirmed_comes_again() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("unsaved");
    let mut client = fixture.client();
    make_blog(&mut client);
    let mut sent = Vec::new();
    let mut came_again = 0;
    for round in 0..5 {
        let before = sent.len();
        for id in 0..40 {
            run(
                &mut client,
                &format!("INSERT INTO blog_articles VALUES ({round} * 100 + {id} + 1)"),
            );
        }
        sent.extend(fixture.consumer.wait_for_events(40));
        let saved = saved_confirmed(&mut client);
        bed.postgres.restart(Shutdown::Immediate);
        client = fixture.client();
        let again = published_so_far_and_saved(&fixture, &mut client);
        assert!(again.iter().all(|event| commit_lsn(event) > saved), "{saved}: {:?}", ids(&again));
        assert!(ids(&sent[before..]).ends_with(&ids(&again)), "{:?}", ids(&again));
        assert!(again.iter().all(|event| sent.iter().any(|e| e.message_id == event.message_id)));
        assert!(again.iter().all(|event| event.headers.get("resent") == Some(&json!("restart"))));
        came_again += again.len();
    }
    assert!(came_again > 0);
    assert!(sent.iter().all(|event| !event.headers.contains_key("resent")));
}

/// The number of events that are confirmed in the middle of a transaction is part of the position.
#[test]
fn a_crash_in_the_middle_of_a_transaction_goes_on_where_the_position_was_saved() {
    const ROWS: i64 = 20_000;
    let bed = Testbed::private(&["amqp.max_in_flight = 2"]);
    let fixture = bed.scene("middle_crash");
    let mut client = fixture.client();
    make_blog(&mut client);
    let confirmed =
        |client: &mut Client| -> i64 { ask(client, "SELECT events_confirmed FROM amqp.status") };
    let slot = bed.postgres.data_dir().join("pg_replslot/amqp_cdc/state");
    run(
        &mut client,
        &format!("INSERT INTO blog_articles SELECT g FROM generate_series(1, {ROWS}) g"),
    );
    wait_until("some are confirmed", DEADLINE, || (confirmed(&mut client) > 50).then_some(()));
    // In this order: whatever is saved next covers them, which is soon when no more are confirmed.
    let at_least = confirmed(&mut client);
    let before = fs::read(&slot).unwrap();
    send_signal(bed.rabbitmq.pid(), "STOP");
    wait_until("the position is saved", DEADLINE, || {
        (fs::read(&slot).unwrap() != before).then_some(())
    });
    bed.postgres.stop(Shutdown::Immediate);
    send_signal(bed.rabbitmq.pid(), "CONT");
    fixture.broker().publish(&fixture.exchange, "crashed", b"");
    let mut messages = fixture.consumer.wait_for_marker("crashed");
    let sent = messages.len();
    assert!(sent < ROWS as usize, "the transaction was over before the crash");
    bed.postgres.start();
    // Faster from here on.
    bed.postgres.set("amqp.max_in_flight", "2000");
    messages.extend(published_so_far(&fixture, &mut fixture.client()));
    assert_whole_and_in_order(&messages, &[(1..=ROWS).collect()]);
    let next = ids(&messages[sent..=sent])[0];
    assert!(next > at_least, "{next} came again though {at_least} were saved");
}

#[test]
fn nothing_is_announced_that_a_crash_can_undo() {
    asynchronous_commits_and_crashes("async_default", &[]);
}

#[test]
fn nothing_is_announced_that_a_crash_can_undo_however_lazy_the_wal_writer() {
    asynchronous_commits_and_crashes(
        "async_lazy",
        &["wal_writer_delay = 10s", "wal_writer_flush_after = 0"],
    );
}

/// Rows are only ever inserted, under ids that are used once: what was announced and what is in the
/// table must be the same in the end.
fn asynchronous_commits_and_crashes(name: &str, conf: &[&str]) {
    const ROUNDS: i32 = 15;
    let bed = Testbed::private(conf);
    let fixture = bed.scene(name);
    let mut client = fixture.client();
    make_blog(&mut client);
    let next_id = AtomicI32::new(1);
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let crash_at = next_id.load(Ordering::Relaxed) + 20 + round * 173 % 400;
        let writers = [(); 2].map(|()| asynchronous(fixture.client()));
        thread::scope(|scope| {
            let next_id = &next_id;
            let writers =
                writers.map(|client| scope.spawn(|| write_until_the_crash(client, next_id)));
            wait_until("enough is written", DEADLINE, || {
                (next_id.load(Ordering::Relaxed) >= crash_at).then_some(())
            });
            bed.postgres.stop(Shutdown::Immediate);
            for writer in writers {
                acknowledged.extend(writer.join().expect("a writer panicked"));
            }
        });
        bed.postgres.start();
    }
    client = fixture.client();
    let announced: BTreeSet<i64> =
        ids(&published_so_far(&fixture, &mut client)).into_iter().collect();
    let rows = client.query("SELECT id FROM blog_articles", &[]).unwrap();
    let stored: BTreeSet<i64> = rows.iter().map(|row| i64::from(row.get::<_, i32>(0))).collect();
    let undone: Vec<_> = announced.difference(&stored).collect();
    assert!(undone.is_empty(), "announced and undone: {undone:?}");
    let missing: Vec<_> = stored.difference(&announced).collect();
    assert!(missing.is_empty(), "stored and never announced: {missing:?}");
    assert!(acknowledged.difference(&stored).count() > 0, "no crash undid anything");
}

fn asynchronous(mut client: Client) -> Client {
    run(&mut client, "SET synchronous_commit = off");
    client
}

/// Inserts rows, each in a transaction of its own, and returns the ids of those that committed.
fn write_until_the_crash(mut client: Client, next_id: &AtomicI32) -> Vec<i64> {
    // Not for ever, should the test fail before the crash.
    const AT_MOST: usize = 20_000;
    std::iter::from_fn(|| {
        let id = next_id.fetch_add(1, Ordering::Relaxed);
        let insert = format!("INSERT INTO blog_articles VALUES ({id})");
        match client.batch_execute(&insert) {
            Ok(()) => Some(i64::from(id)),
            Err(error) => {
                assert!(client.is_closed() || error.is_closed(), "{insert}: {error:?}");
                None
            }
        }
    })
    .take(AT_MOST)
    .collect()
}
