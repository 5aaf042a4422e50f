//! Which rows go into the WAL as they are stored, for the worker to render, and which are rendered by
//! their writer: that is seen in the WAL, and both make the same messages.

use std::fs;
use std::path::Path;

use pg_test::{Fixture, Postgres, Shutdown, Testbed, insert_lsn};
use postgres::Client;
use serde_json::json;

use crate::helpers::{ask, blog, lsn_text, make_blog, published_so_far, run};

/// The events that a statement writes, as they are in the WAL.
#[track_caller]
fn payloads(fixture: &Fixture<'_>, client: &mut Client, statement: &str) -> Vec<Vec<u8>> {
    let start = insert_lsn(client);
    run(client, statement);
    // Of what others write meanwhile some may not be on disk.
    let end: String = ask(client, "SELECT pg_current_wal_flush_lsn()::text");
    let start = lsn_text(start);
    let output = Postgres::program("pg_waldump")
        .arg("--path")
        .arg(fixture.testbed.postgres.data_dir().join("pg_wal"))
        .args(["--rmgr=LogicalMessage", "--start", &start, "--end", &end])
        .output()
        .expect("could not run pg_waldump");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter_map(|line| line.split_once(" bytes): "))
        .map(|(_, bytes)| {
            bytes.split_whitespace().filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
        })
        // Other tests write on the same server.
        .filter(|payload: &Vec<u8>| has(payload, &fixture.database))
        .collect()
}

fn has(payload: &[u8], text: &str) -> bool {
    payload.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Of each event that a statement writes: whether its writer rendered the body.
#[track_caller]
fn rendered_by_writer(fixture: &Fixture<'_>, client: &mut Client, statement: &str) -> Vec<bool> {
    let payloads = payloads(fixture, client, statement);
    payloads.iter().map(|payload| has(payload, "\"previous\":")).collect()
}

#[test]
fn the_worker_renders_what_it_can_and_the_writer_the_rest() {
    let (fixture, mut client) = blog("images");
    run(
        &mut client,
        "CREATE TYPE mood AS ENUM ('sad', 'ok');
         CREATE TABLE diary (id int PRIMARY KEY, gone text, day date, mood mood, entry text,
                             tags text[], details jsonb, price numeric);
         ALTER TABLE diary DROP COLUMN gone;
         ALTER TABLE diary ALTER entry SET STORAGE EXTERNAL;
         CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON diary
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()",
    );
    for (statement, expected) in [
        (
            "INSERT INTO diary VALUES (1, '2026-01-02', 'ok', 'a', '{x,NULL}', '{\"a\": 1}', 1.5)",
            false,
        ),
        ("UPDATE diary SET mood = 'sad', entry = NULL", false),
        // Out of line, before and after.
        ("UPDATE diary SET entry = repeat('long', 5000)", true),
        ("UPDATE diary SET day = NULL", true),
        ("UPDATE diary SET entry = 'short'", true),
        ("UPDATE diary SET entry = 'shorter'", false),
        // The row as it was before has no such column.
        ("ALTER TABLE diary ADD COLUMN late int DEFAULT 7; UPDATE diary SET day = 'today'", true),
        ("UPDATE diary SET day = '2026-01-03'", false),
        // Only its writer can fail.
        ("SET amqp.oversize = 'error'; UPDATE diary SET late = 8", true),
        ("RESET amqp.oversize; DELETE FROM diary", false),
    ] {
        assert_eq!(rendered_by_writer(&fixture, &mut client, statement), [expected], "{statement}");
    }
    let rows: Vec<_> = published_so_far(&fixture, &mut client)
        .iter()
        .map(|message| message.json())
        .map(|body| (body["previous"].clone(), body["current"].clone(), body["targets"].clone()))
        .collect();
    let first = json!({"id": 1, "day": "2026-01-02", "mood": "ok", "entry": "a",
        "tags": ["x", null], "details": {"a": 1}, "price": 1.5});
    assert_eq!(rows[0].1, first);
    assert_eq!((&rows[1].0, &rows[1].2), (&first, &json!(["mood", "entry"])));
    let last = json!({"id": 1, "day": "2026-01-03", "mood": "sad", "entry": "shorter",
        "tags": ["x", null], "details": {"a": 1}, "price": 1.5, "late": 8});
    assert_eq!(rows.last().map(|row| &row.0), Some(&last));
    // What one says is after a change, the next says was before it.
    for pair in rows.windows(2).filter(|pair| !pair[1].0["late"].is_number()) {
        assert_eq!(pair[0].1, pair[1].0);
    }
}

#[test]
fn what_is_excluded_is_not_in_the_events_bytes_either() {
    let (fixture, mut client) = blog("images_excluded");
    run(
        &mut client,
        "CREATE TABLE people (id int PRIMARY KEY, name text, secret text);
         CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON people
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('person', 'cdc', 'exclude=secret')",
    );
    let statements = "INSERT INTO people VALUES (1, 'Ada', 'classified');
        UPDATE people SET name = 'Grace'; DELETE FROM people";
    let payloads = payloads(&fixture, &mut client, statements);
    assert_eq!(payloads.len(), 3);
    for payload in payloads {
        assert!(has(&payload, "Ada") || has(&payload, "Grace"));
        assert!(!has(&payload, "classified"));
    }
}

#[test]
fn the_limit_holds_for_what_the_worker_renders() {
    let (fixture, mut client) = blog("images_limit");
    run(&mut client, "SET amqp.max_message_size = '1kB'");
    let insert =
        |id: usize, text: &str| format!("INSERT INTO blog_articles VALUES ({id}, 'x', {text})");
    // One that is too large as it is stored, one that only becomes so, and one that fits.
    for (id, text) in
        ["repeat('x', 1500)", r#"repeat('"', 600)"#, "repeat('x', 600)"].iter().enumerate()
    {
        let by_writer = rendered_by_writer(&fixture, &mut client, &insert(id, text));
        assert_eq!(by_writer, [false], "{text}");
    }
    let events = published_so_far(&fixture, &mut client);
    let sizes: Vec<_> = events
        .iter()
        .map(|event| event.headers.get("oversize").and_then(|size| size.as_i64()))
        .collect();
    assert!(sizes[0] > Some(1500) && sizes[1] > Some(1200) && sizes[2].is_none(), "{sizes:?}");
    assert_eq!(events[0].json()["current"], json!({"id": 0}));
    assert_eq!(events[1].json()["current"], json!({"id": 1}));
    assert_eq!(events[2].json()["current"]["title"], json!("x"));
}

/// A cast that somebody put into the catalogs makes them, or a function in C.
#[test]
fn an_array_of_other_elements_than_its_columns_is_rendered_by_its_writer() {
    let (fixture, mut client) = blog("images_other_elements");
    run(
        &mut client,
        "CREATE TYPE mood AS ENUM ('sad', 'ok');
         INSERT INTO pg_cast (oid, castsource, casttarget, castfunc, castcontext, castmethod)
         VALUES (99998, 'mood[]'::regtype, 'text[]'::regtype, 0, 'e', 'b'),
                (99999, 'int[]'::regtype, 'text[]'::regtype, 0, 'e', 'b');
         CREATE TABLE diary (id int PRIMARY KEY, moods text[]);
         CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON diary
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()",
    );
    for (statement, expected) in [
        ("INSERT INTO diary VALUES (1, ARRAY['sad', NULL, 'ok']::mood[]::text[])", true),
        ("UPDATE diary SET moods = '{sad}'", true),
        ("UPDATE diary SET moods = '{ok}'", false),
        ("UPDATE diary SET moods = '{{7,8}}'::int[]::text[]", true),
        ("DELETE FROM diary", true),
    ] {
        assert_eq!(rendered_by_writer(&fixture, &mut client, statement), [expected], "{statement}");
    }
    let events = published_so_far(&fixture, &mut client);
    let moods: Vec<_> = events
        .iter()
        .map(|event| event.json())
        .map(|body| [&body["previous"], &body["current"]].map(|row| row["moods"].clone()))
        .collect();
    assert_eq!(moods[0][1], json!(["sad", null, "ok"]));
    assert_eq!(moods[1], [json!(["sad", null, "ok"]), json!(["sad"])]);
    assert_eq!(moods[3], [json!(["ok"]), json!([[7, 8]])]);
    assert_eq!(moods[4][0], json!([[7, 8]]));
    assert!(events.iter().all(|event| !event.headers.contains_key("damaged")));
}

/// Makes the value that is stored behind a short text say that it was longer than it is, as a disk that
/// forgets would.
fn damage(file: &Path, behind: &str) {
    let mut bytes = fs::read(file).expect("could not read the table's file");
    let start = bytes.windows(behind.len()).position(|window| window == behind.as_bytes());
    // A header of four bytes, aligned, then the length of the value as it was.
    let header = (start.expect("the row is not in its file") + behind.len()).next_multiple_of(4);
    assert_eq!(bytes[header] & 3, 2, "the value is not compressed");
    bytes[header + 4] ^= 1;
    fs::write(file, bytes).expect("could not write the table's file");
}

#[test]
fn a_row_whose_bytes_are_damaged_does_not_stop_the_stream() {
    const MARKER: &str = "this row will be damaged";

    let bed = Testbed::private(&["ignore_checksum_failure = on", "autovacuum = off"]);
    let fixture = bed.scene("images_damaged");
    let mut client = fixture.client();
    make_blog(&mut client);
    run(
        &mut client,
        &format!(
            "CREATE TABLE papers (id int PRIMARY KEY, marker text, packed text, note text);
             INSERT INTO papers SELECT 1, '{MARKER}', string_agg(md5((g / 4)::text), ''), NULL
                 FROM generate_series(0, 99) g;
             INSERT INTO papers VALUES (2, 'whole', 'x');
             CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON papers
             FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()"
        ),
    );
    let file: String = ask(&mut client, "SELECT pg_relation_filepath('papers')");
    bed.postgres.stop(Shutdown::Fast);
    damage(&bed.postgres.data_dir().join(file), MARKER);
    bed.postgres.start();
    let mut client = fixture.client();
    run(&mut client, "UPDATE papers SET note = 'seen'");
    let events = published_so_far(&fixture, &mut client);
    let body = events[0].json();
    assert_eq!((&body["previous"], &body["current"]), (&json!({"id": 1}), &json!({"id": 1})));
    assert_eq!(body["targets"], json!(["note"]));
    let damage = events[0].headers["damaged"].as_str().unwrap_or_default().to_owned();
    assert!(damage.contains("corrupt"), "{damage}");
    assert!(bed.postgres.log().contains("\"public.papers\""), "nothing was logged");
    assert_eq!(events[1].json()["current"]["note"], json!("seen"));
    assert_eq!(events[1].headers.get("damaged"), None);
    // Nor does a routing key stop it: no value is in that, since none can be told.
    run(
        &mut client,
        "DROP TRIGGER capture ON papers;
         CREATE TRIGGER capture AFTER UPDATE ON papers FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture('', '', 'routing_key=k.{new.packed}.{new.id}');
         UPDATE papers SET note = 'again'",
    );
    let events = published_so_far(&fixture, &mut client);
    let keys: Vec<_> = events.iter().map(|event| event.routing_key.as_str()).collect();
    assert_eq!(keys, ["k..", "k.x.2"]);
    let damaged = &events[0];
    assert!(damaged.headers["damaged"].as_str().is_some_and(|damage| damage.contains("corrupt")));
    assert_eq!(damaged.json()["current"], json!({"id": 1}));
    assert_eq!(damaged.json()["routing_key"], json!("k.."));
}
