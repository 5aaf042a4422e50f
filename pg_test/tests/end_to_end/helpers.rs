//! The tables that the tests change, and the few words that all tests share.

use std::collections::BTreeSet;
use std::slice;
use std::sync::atomic::{AtomicI64, Ordering};

use pg_test::{DEADLINE, Fixture, Message, Postgres, Testbed, c_library, testbed, wait_until};
use postgres::Client;
use postgres::error::DbError;

/// The trigger that the README promises to work as it stands.
pub const TRIGGER: &str = "CREATE TRIGGER article_change_data_capture_trig
    AFTER INSERT OR DELETE OR UPDATE ON blog_articles
    FOR EACH ROW EXECUTE PROCEDURE AMQP_CHANGE_DATA_CAPTURE('article');";

/// A fixture on the shared servers with the captured table `blog_articles` and a session.
pub fn blog(name: &str) -> (Fixture<'static>, Client) {
    let fixture = testbed().scene(name);
    let mut client = fixture.client();
    make_blog(&mut client);
    (fixture, client)
}

/// Makes the captured table `blog_articles`, and the one that [`published_so_far`] writes to.
pub fn make_blog(client: &mut Client) {
    run(client, "CREATE TABLE blog_articles (id int PRIMARY KEY, title text, body text)");
    run(client, "CREATE TABLE markers (id int)");
    capture_blog(client);
}

/// Makes the triggers of the tables of [`make_blog`].
pub fn capture_blog(client: &mut Client) {
    run(client, TRIGGER);
    run(
        client,
        "CREATE TRIGGER capture AFTER INSERT ON markers
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('marker')",
    );
}

/// Makes a table of rows `id` and `v` whose every change is captured, TRUNCATE as well.
pub fn make_wholly_captured(client: &mut Client, table: &str) {
    run(
        client,
        &format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, v text);
             CREATE TRIGGER m_capture AFTER INSERT OR UPDATE OR DELETE ON {table}
               FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture();
             CREATE TRIGGER m_capture_t AFTER TRUNCATE ON {table}
               FOR EACH STATEMENT EXECUTE FUNCTION amqp_change_data_capture()"
        ),
    );
}

/// The exchange that a server's worker announces gaps to, where a test sets it as `amqp.exchange`.
pub const OPERATIONS: &str = "operations";

/// A fixture with `blog_articles` that also gets what is published to [`OPERATIONS`].
pub fn blog_and_operations<'bed>(bed: &'bed Testbed, name: &str) -> (Fixture<'bed>, Client) {
    let fixture = bed.scene(name);
    let mut client = fixture.client();
    make_blog(&mut client);
    fixture.broker().declare_exchange(OPERATIONS, "topic");
    fixture.broker().declare_queue(&fixture.queue().bound_to(OPERATIONS, "#"));
    (fixture, client)
}

/// Runs statements.
#[track_caller]
pub fn run(client: &mut Client, statements: &str) {
    client.batch_execute(statements).unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

/// Makes a strict function in C of this signature, such as `f(int)`, that gives nothing.
#[track_caller]
pub fn make_c_function(client: &mut Client, postgres: &Postgres, signature: &str, code: &str) {
    let (name, _) = signature.split_once('(').expect("a signature has arguments");
    let library = c_library::compile(postgres.folder(), name, code).unwrap();
    let library = library.display();
    run(
        client,
        &format!("CREATE FUNCTION {signature} RETURNS void LANGUAGE C STRICT AS '{library}'"),
    );
}

/// Runs one statement that gives one value.
#[track_caller]
pub fn ask<T: for<'a> postgres::types::FromSql<'a>>(client: &mut Client, query: &str) -> T {
    client.query_one(query, &[]).unwrap_or_else(|error| panic!("{query}: {error:?}")).get(0)
}

/// Runs a statement that the server refuses, and returns its error.
#[track_caller]
pub fn refusal(client: &mut Client, statement: &str) -> DbError {
    let error = client.batch_execute(statement).expect_err(statement);
    error.as_db_error().unwrap_or_else(|| panic!("{statement}: {error:?}")).clone()
}

/// Has nothing refused at DDL any more in this database, as for somebody who gets past it.
#[track_caller]
pub fn get_past_ddl(client: &mut Client) {
    run(client, "ALTER EVENT TRIGGER amqp_cdc_ddl_command_end DISABLE");
}

/// Waits until the worker is connected to the broker.
#[track_caller]
pub fn wait_until_streaming(client: &mut Client) {
    wait_until("the worker streams", DEADLINE, || {
        let state: String = ask(client, "SELECT state FROM amqp.status");
        (state == "streaming").then_some(())
    });
}

/// Waits until the stream stands still for a reason with these words, and returns the reason.
#[track_caller]
pub fn wait_for_reason(client: &mut Client, words: &str) -> String {
    wait_until(words, DEADLINE, || {
        let reason: Option<String> = ask(client, "SELECT reason FROM amqp.status");
        reason.filter(|reason| reason.contains(words))
    })
}

/// An LSN as text.
pub fn lsn_text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn as u32)
}

/// The number that an LSN is (`X/Y`, as headers and `pg_lsn::text` spell it).
#[track_caller]
pub fn lsn(text: &str) -> u64 {
    let part = |digits| u64::from_str_radix(digits, 16).ok();
    let parts = text.split_once('/').and_then(|(high, low)| Some((part(high)?, part(low)?)));
    let Some((high, low)) = parts else { panic!("{text} is no LSN") };
    high << 32 | low
}

/// The number that the LSN in this header is.
#[track_caller]
pub fn commit_lsn(message: &Message) -> u64 {
    lsn(message.headers["commit_lsn"].as_str().unwrap_or_default())
}

/// Up to where everything is confirmed, durably; 0 while no worker has said so.
#[track_caller]
pub fn saved_confirmed(client: &mut Client) -> u64 {
    an_lsn(client, "SELECT confirmed_lsn FROM amqp.status")
}

/// Up to where everything is confirmed, as the slot shows it a moment before that is durable.
#[track_caller]
pub fn shown_confirmed(client: &mut Client) -> u64 {
    an_lsn(client, "SELECT confirmed_flush_lsn FROM pg_replication_slots")
}

/// From where on the slot retains WAL; 0 if there is no slot yet.
#[track_caller]
pub fn shown_restart(client: &mut Client) -> u64 {
    an_lsn(client, "SELECT restart_lsn FROM pg_replication_slots")
}

/// The LSN that the query gives; 0 for none. The servers of these tests have one slot.
#[track_caller]
fn an_lsn(client: &mut Client, query: &str) -> u64 {
    lsn(&ask::<String>(client, &format!("SELECT coalesce(({query}), '0/0')::text")))
}

/// Waits until the worker has read everything that is on disk now.
#[track_caller]
pub fn wait_until_read(client: &mut Client, what: &str) {
    let flushed: String = ask(client, "SELECT pg_current_wal_flush_lsn()::text");
    let query = format!("SELECT read_lsn >= '{flushed}' FROM amqp.status");
    wait_until(what, DEADLINE, || {
        ask::<Option<bool>>(client, &query).unwrap_or(false).then_some(())
    });
}

/// Whether it is no word of a failover.
pub fn is_change(event: &Message) -> bool {
    event.kind.as_deref() != Some("timeline")
}

/// Waits until a standby has replayed the WAL up to there.
#[track_caller]
pub fn wait_until_replayed(standby: &mut Client, end: u64) {
    wait_until("the standby has everything", DEADLINE, || {
        let replayed: String = ask(standby, "SELECT pg_last_wal_replay_lsn()::text");
        (lsn(&replayed) >= end).then_some(())
    });
}

/// Waits until it is saved, durably, that this message's transaction is confirmed.
#[track_caller]
pub fn wait_until_saved(client: &mut Client, message: &Message) {
    let commit = commit_lsn(message);
    wait_until("the position was saved", DEADLINE, || {
        (saved_confirmed(client) >= commit).then_some(())
    });
}

/// Everything that was published before now.
#[track_caller]
pub fn published_so_far(fixture: &Fixture<'_>, client: &mut Client) -> Vec<Message> {
    // One of its own for each call: a marker of an earlier one may be sent again.
    static NUMBER: AtomicI64 = AtomicI64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    run(client, &format!("INSERT INTO markers VALUES ({number})"));
    let is_marker = |message: &Message| message.routing_key == "cdc.marker.insert";
    let is_it = |message: &Message| is_marker(message) && ids(slice::from_ref(message)) == [number];
    let mut before = fixture.consumer.wait_for(&format!("marker {number}"), is_it);
    before.retain(|message| !is_marker(message));
    before
}

/// `operation:id` of each message, of the row after the change or else before it.
pub fn changes(messages: &[Message]) -> Vec<String> {
    messages
        .iter()
        .map(|message| {
            let body = message.json();
            let row = if body["current"].is_null() { &body["previous"] } else { &body["current"] };
            format!("{}:{}", body["operation"].as_str().unwrap_or("?"), row["id"])
        })
        .collect()
}

/// `current.title` of each message.
pub fn titles(messages: &[Message]) -> Vec<String> {
    messages
        .iter()
        .map(|message| message.json()["current"]["title"].as_str().unwrap_or("?").to_owned())
        .collect()
}

/// `current.id` of each message.
pub fn ids(messages: &[Message]) -> Vec<i64> {
    messages.iter().filter_map(|message| message.json()["current"]["id"].as_i64()).collect()
}

/// `current.id` of the first delivery of each, in order: a resend repeats a suffix.
pub fn first_deliveries(messages: &[Message]) -> Vec<i64> {
    let mut seen = BTreeSet::new();
    ids(messages).into_iter().filter(|&id| seen.insert(id)).collect()
}

/// The process id of the worker, once there is one.
#[track_caller]
pub fn worker_pid(client: &mut Client) -> u32 {
    wait_until("a worker runs", DEADLINE, || {
        ask::<Option<i32>>(client, "SELECT worker_pid FROM amqp.status").map(|pid| pid as u32)
    })
}

/// Waits until the worker with this process id has a successor.
#[track_caller]
pub fn wait_for_successor(client: &mut Client, worker: u32) {
    wait_until("another worker runs", DEADLINE, || (worker_pid(client) != worker).then_some(()));
}

/// Ends the worker, and returns when another one runs.
#[track_caller]
pub fn replace_worker(client: &mut Client) {
    let worker = worker_pid(client);
    run(client, &format!("SELECT pg_terminate_backend({worker})"));
    wait_for_successor(client, worker);
}

/// Calls what it holds when it is dropped, on a panic too.
pub struct OnDrop<F: Fn()>(pub F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
