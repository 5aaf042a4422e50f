//! Memory that there is not costs a statement, or the worker a life, and nobody else anything. Requests are
//! refused from the n-th on, whatever they are for, for every n that a statement makes: also while an ERROR is
//! being raised for want of memory.

use std::fs;
use std::time::Duration;

use pg_test::{
    DEADLINE, Fixture, Message, Shutdown, Testbed, c_library, wait_until, wait_until_confirmed,
};
use postgres::Client;
use postgres::error::SqlState;

use crate::helpers::{
    ask, changes, first_deliveries, ids, make_blog, published_so_far, run, wait_until_streaming,
    worker_pid,
};

/// Servers whose PostgreSQL can be refused memory.
fn testbed(conf: &[&str]) -> Testbed {
    let bed = Testbed::private(conf);
    let code = include_str!("memory_runs_out.c");
    let library = c_library::compile(bed.postgres.folder(), "memory_runs_out", code).unwrap();
    bed.postgres.stop(Shutdown::Fast);
    bed.postgres.start_with(&[("LD_PRELOAD", library.as_os_str())]);
    bed
}

/// How often a process was refused something.
fn refusals(bed: &Testbed) -> u64 {
    fs::metadata(bed.postgres.data_dir().join("scarce.refused")).map_or(0, |file| file.len())
}

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    OutOfMemory,
    /// Its session was ended, as sessions are that memory runs out for while nobody catches ERRORs.
    Disconnected,
}

/// Runs a statement in a session of its own, after others that prepare it, and ends the transaction that they
/// began, if they did.
#[track_caller]
fn attempt(fixture: &Fixture<'_>, prepare: &str, statement: &str) -> Outcome {
    let mut client = fixture.client();
    run(&mut client, prepare);
    let outcome = match client.batch_execute(statement) {
        Ok(()) => Outcome::Done,
        Err(error) if error.code() == Some(&SqlState::OUT_OF_MEMORY) => Outcome::OutOfMemory,
        Err(error) if error.is_closed() => Outcome::Disconnected,
        Err(error) => panic!("{statement}: {error:?}"),
    };
    if outcome != Outcome::Disconnected {
        run(&mut client, if outcome == Outcome::Done { "COMMIT" } else { "ROLLBACK" });
        // What was short of memory is as good as new.
        assert_eq!(ask::<i32>(&mut client, "SELECT 1"), 1);
    }
    outcome
}

#[track_caller]
fn assert_unharmed(bed: &Testbed) {
    let log = bed.postgres.log();
    for word in ["terminated by signal", "PANIC", "memory allocation of"] {
        let line = log.lines().find(|line| line.contains(word));
        assert_eq!(line, None, "the server was hurt");
    }
}

/// Has the statement that `write` makes for a number run while requests of at least `least` bytes are refused
/// from the n-th on, for n from 1 until nothing is refused any more. The numbers for which it was done.
#[track_caller]
fn refuse_from_each(
    fixture: &Fixture<'_>,
    least: usize,
    prepare: &str,
    write: impl Fn(i64) -> String,
) -> Vec<i64> {
    let mut done = Vec::new();
    let mut failed = 0;
    for n in 1.. {
        let before = refusals(fixture.testbed);
        let statement = format!("{} /* scarce {least} {n} */", write(n));
        let outcome = attempt(fixture, prepare, &statement);
        if outcome == Outcome::Done {
            done.push(n);
        } else {
            failed += 1;
        }
        assert_unharmed(fixture.testbed);
        if refusals(fixture.testbed) == before {
            assert_eq!(outcome, Outcome::Done);
            break;
        }
    }
    println!("{} of {} failed", failed, failed + done.len());
    assert!(failed > 0, "nothing was refused");
    done
}

/// Bytes of a large value.
const LARGE: usize = 5 * 1024 * 1024;

fn large_blog(fixture: &Fixture<'_>) -> Client {
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, "ALTER TABLE blog_articles ALTER title SET STORAGE EXTERNAL");
    wait_until_streaming(&mut client);
    client
}

#[test]
fn an_update_of_a_large_row_fails_alone() {
    let bed = testbed(&[]);
    let fixture = bed.scene("large_row");
    let mut client = large_blog(&fixture);
    run(&mut client, &format!("INSERT INTO blog_articles VALUES (1, repeat('x', {LARGE}))"));
    // Quotes take two bytes each in the message.
    let update = |n| format!("UPDATE blog_articles SET title = {n} || repeat('\"', {LARGE})");
    assert_eq!(changes(&fixture.consumer.wait_for_events(1)), ["insert:1"]);
    for least in [1024 * 1024, 16 * 1024] {
        let done = refuse_from_each(&fixture, least, "", update);
        let seen = fixture.consumer.wait_for_events(done.len());
        assert!(changes(&seen).iter().all(|change| change == "update:1"));
    }
    wait_until_confirmed(&mut client);
}

/// As large as the first one that was seen to end a server.
const HUGE: usize = 12 * 1024 * 1024;

#[test]
fn an_update_and_a_delete_of_12_megabytes_fail_alone() {
    let bed = testbed(&["amqp.max_message_size = '64MB'"]);
    let fixture = bed.scene("huge_row");
    let mut client = large_blog(&fixture);
    let there = format!(
        "SET amqp.capture = off;
         INSERT INTO blog_articles VALUES (1, repeat('x', {HUGE})) ON CONFLICT DO NOTHING;
         RESET amqp.capture"
    );
    let statements = ["UPDATE blog_articles SET body = 'new'", "DELETE FROM blog_articles"];
    let mut expected = Vec::new();
    for (statement, change) in statements.into_iter().zip(["update:1", "delete:1"]) {
        for least in [1024 * 1024, 16 * 1024] {
            let done = refuse_from_each(&fixture, least, &there, |_| statement.to_owned());
            expected.extend(done.iter().map(|_| change));
        }
    }
    assert_eq!(changes(&fixture.consumer.wait_for_events(expected.len())), expected);
    wait_until_confirmed(&mut client);
}

/// What is small as it is stored and large as text its writer looks into, and renders: a number, a document and
/// lists, as they are and compressed.
#[test]
fn a_row_that_grows_fails_alone() {
    let bed = testbed(&[]);
    let fixture = bed.scene("growth");
    let mut client = fixture.client();
    run(
        &mut client,
        "CREATE TABLE growing (id int PRIMARY KEY, number numeric, document jsonb, numbers numeric[],
                               nulls int[], packed jsonb, packed_list text[]);
         ALTER TABLE growing ALTER packed SET STORAGE MAIN, ALTER packed_list SET STORAGE MAIN;
         CREATE TRIGGER capture AFTER INSERT ON growing
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()",
    );
    wait_until_streaming(&mut client);
    let nothing = "NULL, NULL, NULL, NULL";
    let values = [
        "1e131071, '[1e131071, {\"a\": -1e131071}]', '{1e131071,NULL,2.5}', array_fill(NULL::int, '{50000}'), NULL, NULL".to_owned(),
        format!("{nothing}, to_jsonb(repeat('word', 20000)), NULL"),
        format!("{nothing}, NULL, array_fill('word'::text, '{{5000}}')"),
    ];
    let mut expected = Vec::new();
    for (number, values) in (1..).zip(&values) {
        for (least, begin) in [(8192, 0), (1, 500)] {
            let begin = 1000 * number + begin;
            let insert = |n| format!("INSERT INTO growing VALUES ({}, {values})", begin + n);
            let done = refuse_from_each(&fixture, least, "", insert);
            expected.extend(done.iter().map(|n| begin + n));
        }
    }
    assert_eq!(long_ids(&fixture.consumer.wait_for_events(expected.len())), expected);
}

/// `current.id` of each message. Its numbers are too large for whoever reads the others.
fn long_ids(messages: &[Message]) -> Vec<i64> {
    let id = |message: &Message| {
        let body = String::from_utf8(message.body.clone()).unwrap();
        let (_, row) = body.split_once(r#""current":{"id":"#)?;
        row.split(',').next()?.parse().ok()
    };
    messages.iter().filter_map(id).collect()
}

/// In a transaction of its own, since PostgreSQL itself cannot do without memory once a TRUNCATE has committed.
#[test]
fn a_truncate_fails_alone() {
    let bed = testbed(&[]);
    let fixture = bed.scene("truncate");
    let mut client = fixture.client();
    run(
        &mut client,
        "CREATE TABLE parted (id int) PARTITION BY RANGE (id);
         CREATE TABLE part PARTITION OF parted DEFAULT;
         CREATE TRIGGER capture AFTER TRUNCATE ON parted
         FOR EACH STATEMENT EXECUTE FUNCTION amqp_change_data_capture()",
    );
    wait_until_streaming(&mut client);
    let mut done = 0;
    for least in [8192, 1] {
        done += refuse_from_each(&fixture, least, "BEGIN", |_| "TRUNCATE parted".to_owned()).len();
    }
    let seen = fixture.consumer.wait_for_events(done);
    assert!(seen.iter().all(|event| event.routing_key == "cdc.parted.truncate"), "{seen:?}");
}

/// The rows of a COPY are captured at its end, all in one go.
#[test]
fn a_copy_of_several_rows_fails_alone() {
    const ROWS: i64 = 4;
    let bed = testbed(&[]);
    let fixture = bed.scene("copy");
    let mut client = fixture.client();
    run(
        &mut client,
        "CREATE TABLE copied (id int, words text);
         CREATE TRIGGER capture AFTER INSERT ON copied
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()",
    );
    let rows: Vec<_> = (1..=ROWS).map(|id| format!("{id}\t{}\n", "word".repeat(200_000))).collect();
    let file = bed.postgres.data_dir().join("rows");
    fs::write(&file, rows.concat()).unwrap();
    wait_until_streaming(&mut client);
    let mut expected = Vec::new();
    for least in [128 * 1024, 8192] {
        let copy = |_| "COPY copied FROM '{}'".replace("{}", &file.display().to_string());
        let done = refuse_from_each(&fixture, least, "", copy);
        expected.extend(done.iter().flat_map(|_| 1..=ROWS));
    }
    assert_eq!(ids(&fixture.consumer.wait_for_events(expected.len())), expected);
}

/// A session's first event: the table's columns are looked up, and much else is done that asks for little
/// memory. All is refused, from the n-th request on.
#[test]
fn the_first_event_of_a_session_fails_alone() {
    let bed = testbed(&[]);
    let fixture = bed.scene("first_event");
    let mut client = fixture.client();
    let columns: Vec<_> =
        (0..60).map(|n| format!("column_number_{n} mood DEFAULT 'sad'")).collect();
    run(
        &mut client,
        &format!(
            "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TYPE pair AS (a int, b mood[]);
             CREATE TABLE wide (id int PRIMARY KEY, pair pair, numbers numeric[], {});
             CREATE TRIGGER capture AFTER INSERT ON wide
             FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()",
            columns.join(",")
        ),
    );
    wait_until_streaming(&mut client);
    for (least, begin) in [(8192, 0), (1, 100_000)] {
        let insert = |n| {
            let id = begin + n;
            format!("INSERT INTO wide VALUES ({id}, (1, '{{sad,happy}}'), '{{1,2.5,NULL}}')")
        };
        let done = refuse_from_each(&fixture, least, "", insert);
        let seen = ids(&fixture.consumer.wait_for_events(done.len()));
        assert_eq!(seen, done.iter().map(|n| begin + n).collect::<Vec<_>>());
    }
}

/// Errors that have nothing to do with memory, and whose texts are large, raised where there is none: by
/// us, and by a function of a user's that an event needs.
#[test]
fn an_error_that_is_raised_without_memory_is_an_error() {
    let bed = testbed(&["amqp.max_message_size = '1MB'"]);
    let fixture = bed.scene("errors");
    let mut client = large_blog(&fixture);
    run(
        &mut client,
        &format!(
            "CREATE TYPE loud AS ENUM ('loud');
             CREATE FUNCTION shout(loud) RETURNS json LANGUAGE plpgsql
             AS $$ BEGIN RAISE '%', repeat('!', {LARGE}) USING ERRCODE = 'out_of_memory'; END $$;
             CREATE CAST (loud AS json) WITH FUNCTION shout(loud);
             CREATE TABLE streets (id int, loud loud);
             CREATE TRIGGER capture AFTER INSERT ON streets
             FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()"
        ),
    );
    let too_large = || format!("INSERT INTO blog_articles VALUES (1, repeat('x', {LARGE}))");
    let loud = || "INSERT INTO streets VALUES (1, 'loud')".to_owned();
    let statements: [&dyn Fn() -> String; 2] = [&too_large, &loud];
    for (statement, least) in statements.into_iter().flat_map(|s| [(s, 16 * 1024), (s, 1)]) {
        // Of the many small requests some do.
        for n in (1..).step_by(if least == 1 { 19 } else { 1 }) {
            let before = refusals(&bed);
            let mut client = fixture.client();
            run(&mut client, "SET amqp.oversize = 'error'");
            let text = format!("{} /* scarce {least} {n} */", statement());
            assert!(client.batch_execute(&text).is_err(), "{text}");
            assert_unharmed(&bed);
            if refusals(&bed) == before {
                break;
            }
        }
    }
    assert_eq!(ask::<i64>(&mut client, "SELECT count(*) FROM blog_articles"), 0);
}

/// As the kernel refuses it: a process at its limit (ulimit -v).
#[test]
fn a_backend_at_its_limit_fails_alone() {
    const STEP: usize = 2 * 1024 * 1024;
    let bed = testbed(&["amqp.max_message_size = '64MB'"]);
    let fixture = bed.scene("limit");
    let mut client = large_blog(&fixture);
    run(&mut client, &format!("INSERT INTO blog_articles VALUES (1, repeat('x', {HUGE}))"));
    let mut outcomes = Vec::new();
    while !outcomes.ends_with(&[Outcome::Done]) {
        let room = outcomes.len() * STEP;
        let update = format!("UPDATE blog_articles SET body = 'y' /* room {room} */");
        outcomes.push(attempt(&fixture, "", &update));
        assert_unharmed(&bed);
        assert!(room < 1 << 30, "a gigabyte is not enough");
    }
    println!("{outcomes:?}");
    assert!(outcomes.contains(&Outcome::OutOfMemory));
    wait_until_confirmed(&mut client);
    let seen = fixture.consumer.wait_for_events(2);
    assert_eq!(changes(&seen), ["insert:1", "update:1"]);
    assert!(seen[1].body.len() > 2 * HUGE);
}

/// A value that is small as it is stored, and far larger as text.
const WORDS: &str = "repeat('word', 150000)";

/// What became of a worker that was refused memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Published,
    Held,
    Ended,
}

/// Refuses the worker what is as large as this, from the n-th request on, while it has one event to publish
/// that `write` makes; then lets it have what it wants.
#[track_caller]
fn refuse_the_worker(
    fixture: &Fixture<'_>,
    client: &mut Client,
    n: i64,
    write: &str,
) -> (Fate, bool) {
    let worker = worker_pid(client);
    let file = fixture.testbed.postgres.data_dir().join(format!("scarce.{worker}"));
    let before = refusals(fixture.testbed);
    fs::write(&file, format!("131072 {n}")).unwrap();
    let published: i64 = ask(client, "SELECT events_confirmed FROM amqp.status");
    run(client, write);
    let fate = wait_until("it is published, held, or the end of the worker", DEADLINE, || {
        let row = client
            .query_one("SELECT worker_pid, events_confirmed, reason FROM amqp.status", &[])
            .unwrap();
        let reason: Option<String> = row.get(2);
        if row.get::<_, Option<i32>>(0) != Some(worker as i32) {
            Some(Fate::Ended)
        } else if row.get::<_, i64>(1) > published {
            Some(Fate::Published)
        } else {
            reason.filter(|reason| reason.contains("oversize")).map(|_| Fate::Held)
        }
    });
    fs::remove_file(&file).unwrap();
    (fate, refusals(fixture.testbed) > before)
}

#[test]
fn the_worker_holds_an_event_or_begins_a_new_life() {
    let bed = testbed(&[]);
    let fixture = bed.scene("worker");
    let mut client = large_blog(&fixture);
    run(
        &mut client,
        "CREATE TABLE long (id int, words text);
         ALTER TABLE long ALTER words SET STORAGE MAIN;
         CREATE TRIGGER capture AFTER INSERT ON long
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()",
    );
    // One that the worker renders, and one that its writer has.
    let rendered = |id| format!("INSERT INTO long VALUES ({id}, {WORDS}), ({id}, {WORDS})");
    let ready = |id| format!("INSERT INTO blog_articles VALUES ({id}, repeat('x', {LARGE}))");
    let mut fates = Vec::new();
    let mut id = 0;
    let writes: [&dyn Fn(i64) -> String; 2] = [&rendered, &ready];
    for write in writes {
        for n in 1.. {
            id += 1;
            let (fate, was_refused) = refuse_the_worker(&fixture, &mut client, n, &write(id));
            fates.push(fate);
            if fate == Fate::Ended {
                let end = "\"amqp_cdc worker\" (PID";
                let log = bed.postgres.log();
                let last = log.lines().rfind(|line| line.contains(end)).unwrap_or_default();
                assert!(last.contains("exited with exit code 1"), "{last}");
            }
            if fate == Fate::Held {
                let worker = worker_pid(&mut client);
                run(&mut client, &format!("SELECT pg_terminate_backend({worker})"));
            }
            let patience = Duration::from_secs(60);
            pg_test::wait_until_confirmed_within(&mut client, patience);
            assert_unharmed(&bed);
            if !was_refused {
                break;
            }
        }
    }
    println!("{fates:?}");
    assert!(fates.contains(&Fate::Held) && fates.contains(&Fate::Ended), "{fates:?}");
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!(first_deliveries(&messages), (1..=id).collect::<Vec<_>>());
    // What was confirmed before a life ended was saved.
    let mut last = 0;
    for id in ids(&messages) {
        assert!(id >= last, "{id} came again behind {last}");
        last = id;
    }
}

/// Writes rows of a table of its own, two at a time and refusing the worker more and more of what it asks for, until it
/// holds the first of two. How often that was.
#[track_caller]
fn hold(fixture: &Fixture<'_>, client: &mut Client) -> i64 {
    run(
        client,
        "CREATE TABLE long (id int, words text);
         ALTER TABLE long ALTER words SET STORAGE MAIN;
         CREATE TRIGGER capture AFTER INSERT ON long
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()",
    );
    for id in 1.. {
        let insert = format!("INSERT INTO long VALUES ({id}, {WORDS}), ({id}, {WORDS})");
        match refuse_the_worker(fixture, client, id, &insert) {
            (Fate::Held, _) => return id,
            (_, was_refused) => assert!(was_refused, "it was never held"),
        }
        pg_test::wait_until_confirmed_within(client, Duration::from_secs(60));
    }
    unreachable!()
}

#[test]
fn an_event_that_is_held_for_want_of_memory_can_be_passed_over() {
    let bed = testbed(&[]);
    let fixture = bed.scene("skip");
    let mut client = large_blog(&fixture);
    let id = hold(&fixture, &mut client);
    let worker = worker_pid(&mut client);
    run(&mut client, "SELECT amqp.skip(held_message) FROM amqp.status");
    let messages = published_so_far(&fixture, &mut client);
    let of_last = ids(&messages).into_iter().filter(|&other| other == id).count();
    assert_eq!((of_last, worker_pid(&mut client)), (1, worker));
    assert_eq!(first_deliveries(&messages), (1..=id).collect::<Vec<_>>());
}

/// By itself: nobody has to do anything.
#[test]
fn an_event_that_was_held_for_want_of_memory_is_tried_again() {
    let bed = testbed(&[]);
    let fixture = bed.scene("again");
    let mut client = large_blog(&fixture);
    let id = hold(&fixture, &mut client);
    let held: String = ask(&mut client, "SELECT held_message FROM amqp.status");
    pg_test::wait_until_confirmed_within(&mut client, Duration::from_secs(90));
    let seen = first_deliveries(&published_so_far(&fixture, &mut client));
    assert_eq!(seen, (1..=id).collect::<Vec<_>>());
    // Without memory it can be passed over all the same.
    assert!(bed.postgres.log().contains(&format!("pass over it with SELECT amqp.skip('{held}')")));
}
