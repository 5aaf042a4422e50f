//! What a message looks like.

use std::process::Command;

use pg_test::{Message, Queue, testbed};
use serde_json::{Value, json};

use crate::helpers::{ask, blog, run};

#[test]
fn the_seed_trigger_publishes_insert_update_and_delete_in_order() {
    let (fixture, mut client) = blog("seed");
    run(&mut client, "INSERT INTO blog_articles VALUES (1, 'first', NULL)");
    run(&mut client, "UPDATE blog_articles SET title = 'second' WHERE id = 1");
    run(&mut client, "DELETE FROM blog_articles WHERE id = 1");
    let events = fixture.consumer.wait_for_events(3);
    let keys: Vec<_> = events.iter().map(|event| event.routing_key.as_str()).collect();
    assert_eq!(keys, ["cdc.article.insert", "cdc.article.update", "cdc.article.delete"]);

    let first = json!({"id": 1, "title": "first", "body": null});
    let second = json!({"id": 1, "title": "second", "body": null});
    let rows: Vec<_> = events
        .iter()
        .map(|event| {
            let body = event.json();
            (body["previous"].clone(), body["current"].clone(), body["targets"].clone())
        })
        .collect();
    let all = json!(["id", "title", "body"]);
    assert_eq!(
        rows,
        [
            (Value::Null, first.clone(), all.clone()),
            (first, second.clone(), json!(["title"])),
            (second, Value::Null, all),
        ]
    );
}

#[test]
fn the_body_has_eight_members_in_a_fixed_order() {
    let (fixture, mut client) = blog("members");
    let started: String = {
        run(&mut client, "BEGIN");
        let started = ask(&mut client, "SELECT to_json(now() AT TIME ZONE 'UTC')#>>'{}'");
        run(&mut client, "INSERT INTO blog_articles VALUES (1, 'a', 'b'); COMMIT");
        started
    };
    let events = fixture.consumer.wait_for_events(1);
    let expected = format!(
        concat!(
            r#"{{"previous":null,"current":{{"id":1,"title":"a","body":"b"}},"#,
            r#""targets":["id","title","body"],"timestamp":"{}+00:00","operation":"insert","#,
            r#""resource":"article","tablename":"blog_articles","#,
            r#""routing_key":"cdc.article.insert"}}"#
        ),
        started
    );
    assert_eq!(events[0].text(), expected);
}

#[test]
fn properties_and_headers_say_where_a_message_comes_from() {
    let (fixture, mut client) = blog("headers");
    run(&mut client, "BEGIN");
    let xid: i64 = ask(&mut client, "SELECT pg_current_xact_id()::text::bigint");
    run(&mut client, "INSERT INTO blog_articles VALUES (1), (2); COMMIT");
    let events = fixture.consumer.wait_for_events(2);
    let system: String =
        ask(&mut client, "SELECT system_identifier::text FROM pg_control_system()");
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event.exchange, fixture.exchange);
        assert_eq!(event.content_type.as_deref(), Some("application/json"));
        assert_eq!(event.delivery_mode, Some(2));
        assert_eq!(event.kind.as_deref(), Some("insert"));
        assert_eq!(event.app_id.as_deref(), Some("amqp_cdc"));
        let header = |name: &str| event.headers.get(name).cloned().unwrap_or_default();
        assert_eq!(header("database"), json!(fixture.database));
        assert_eq!(header("schema"), json!("public"));
        assert_eq!(header("table"), json!("blog_articles"));
        assert_eq!(header("xid"), json!(xid));
        assert_eq!(header("tx_seq"), json!(n + 1));
        assert_eq!(header("tx_size"), json!(2));
        assert_eq!(event.headers.get("resent"), None);

        // <system identifier>/<timeline>/<LSN>
        let id = event.message_id.clone().unwrap_or_default();
        let lsn = id.strip_prefix(&format!("{system}/1/")).unwrap_or_else(|| panic!("{id}"));
        let query = format!(
            "SELECT '{lsn}'::pg_lsn < '{}'::pg_lsn AND '{}'::pg_lsn <= pg_current_wal_lsn()",
            header("commit_lsn").as_str().unwrap_or_default(),
            header("commit_lsn").as_str().unwrap_or_default(),
        );
        assert!(ask::<bool>(&mut client, &query), "{query}");
        let committed = header("commit_ts");
        let query = format!(
            "SELECT abs(extract(epoch FROM now() - '{0}'::timestamptz)) < 600
                AND floor(extract(epoch FROM '{0}'::timestamptz)) = {1}",
            committed.as_str().unwrap_or_default(),
            event.timestamp.unwrap_or_default(),
        );
        assert!(ask::<bool>(&mut client, &query), "{query}");
    }
    assert_ne!(events[0].message_id, events[1].message_id);
}

#[test]
fn resource_prefix_and_table_default_as_documented() {
    let (fixture, mut client) = blog("defaults");
    run(
        &mut client,
        r#"CREATE TABLE "Mixed Case" (id int);
           CREATE TRIGGER t AFTER INSERT ON "Mixed Case" FOR EACH ROW
             EXECUTE FUNCTION amqp_change_data_capture();
           CREATE TABLE named (id int);
           CREATE TRIGGER t AFTER INSERT ON named FOR EACH ROW
             EXECUTE FUNCTION amqp_change_data_capture('Thing', 'My');
           CREATE TABLE measured (id int, day date) PARTITION BY RANGE (day);
           CREATE TABLE measured_2026 PARTITION OF measured
             FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY RANGE (id);
           CREATE TABLE measured_2026_a PARTITION OF measured_2026 DEFAULT;
           CREATE TRIGGER t AFTER INSERT ON measured FOR EACH ROW
             EXECUTE FUNCTION amqp_change_data_capture();
           INSERT INTO "Mixed Case" VALUES (1);
           INSERT INTO named VALUES (1);
           INSERT INTO measured VALUES (1, '2026-05-05')"#,
    );
    let events = fixture.consumer.wait_for_events(3);
    let seen: Vec<_> = events
        .iter()
        .map(|event| {
            let body = event.json();
            (event.routing_key.clone(), body["resource"].clone(), body["tablename"].clone())
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("cdc.mixed case.insert".to_owned(), json!("Mixed Case"), json!("Mixed Case")),
            ("my.thing.insert".to_owned(), json!("Thing"), json!("named")),
            ("cdc.measured.insert".to_owned(), json!("measured"), json!("measured_2026_a")),
        ]
    );
}

#[test]
fn truncate_is_one_event_without_rows() {
    let (fixture, mut client) = blog("truncate");
    run(
        &mut client,
        "CREATE TRIGGER t AFTER TRUNCATE ON blog_articles FOR EACH STATEMENT
           EXECUTE FUNCTION amqp_change_data_capture('article');
         INSERT INTO blog_articles VALUES (1), (2);
         TRUNCATE blog_articles",
    );
    let events = fixture.consumer.wait_for_events(3);
    let body = events[2].json();
    assert_eq!(events[2].routing_key, "cdc.article.truncate");
    assert_eq!(
        (&body["previous"], &body["current"], &body["targets"], &body["operation"]),
        (&Value::Null, &Value::Null, &json!([]), &json!("truncate"))
    );
}

#[test]
fn the_writing_session_does_not_change_how_a_row_looks() {
    let (fixture, mut client) = blog("output");
    run(
        &mut client,
        "CREATE TYPE mood AS (felt money, about regclass);
         CREATE TABLE odd (t timestamptz, d daterange, i interval[], f float8, b bytea,
                           c regclass, m money, u mood);
         CREATE TRIGGER t AFTER INSERT ON odd FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture()",
    );
    let insert = "INSERT INTO odd VALUES ('2026-01-02 03:04:05.67+00', '[2026-01-02,2026-02-03)',
        ARRAY['1 day 2 hours'::interval], 0.1::float8 + 0.2, '\\x00ff', 'pg_class', 12.5::numeric,
        ROW(1.5::numeric::money, 'blog_articles'))";
    run(&mut client, insert);
    run(
        &mut client,
        &format!(
            "SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'SQL, DMY';
             SET IntervalStyle = 'iso_8601'; SET extra_float_digits = -5;
             SET bytea_output = 'escape'; SET quote_all_identifiers = on;
             SET search_path = public, pg_temp; {insert};
             SET search_path = pg_catalog"
        ),
    );
    let shown: String = ask(
        &mut client,
        "SELECT concat_ws('|', current_setting('TimeZone'), current_setting('DateStyle'),
             current_setting('IntervalStyle'), current_setting('extra_float_digits'),
             current_setting('bytea_output'), current_setting('quote_all_identifiers'),
             current_setting('search_path'))",
    );
    assert_eq!(shown, "Asia/Tokyo|SQL, DMY|iso_8601|-5|escape|on|\"pg_catalog\"");
    let events = fixture.consumer.wait_for_events(2);
    assert_eq!(events[0].json()["current"], events[1].json()["current"]);
    let row = &events[0].json()["current"];
    assert_eq!(row["t"], json!("2026-01-02T03:04:05.67+00:00"));
    assert_eq!(row["d"], json!("[2026-01-02,2026-02-03)"));
    assert_eq!(row["i"], json!(["1 day 02:00:00"]));
    assert_eq!(row["f"], json!(0.1f64 + 0.2));
    assert_eq!(row["b"], json!("\\x00ff"));
    assert_eq!(row["c"], json!("pg_class"));
    assert_eq!(row["u"]["about"], json!("public.blog_articles"));
}

#[test]
fn output_settings_come_back_after_an_error_in_the_middle_of_rendering() {
    let (fixture, mut client) = blog("restore");
    run(
        &mut client,
        "CREATE TYPE fuse AS ENUM ('lit');
         CREATE FUNCTION explode(fuse) RETURNS json LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'boom'; END $$;
         CREATE CAST (fuse AS json) WITH FUNCTION explode(fuse);
         CREATE TABLE bombs (v fuse);
         CREATE TRIGGER t AFTER INSERT ON bombs FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture();
         SET DateStyle = 'German'; SET bytea_output = 'escape'; SET search_path = public;
         SET TimeZone = 'Asia/Tokyo'",
    );
    let shown = |client: &mut postgres::Client| -> String {
        ask(
            client,
            "SELECT concat_ws('|', '2026-12-31 20:00+00'::timestamptz, '\\x41ff'::bytea,
                 current_setting('search_path'))",
        )
    };
    let before = shown(&mut client);
    assert_eq!(before, "01.01.2027 05:00:00 JST|A\\377|public");
    let error = client.batch_execute("INSERT INTO bombs VALUES ('lit')").unwrap_err();
    assert_eq!(error.as_db_error().map(|e| e.message()), Some("boom"));
    assert_eq!(shown(&mut client), before);
    drop(fixture);
}

#[test]
fn names_and_text_beyond_ascii_arrive_as_utf8_from_any_encoding() {
    let bed = testbed();
    let fixture = bed.scene("encodings");
    let mut server = bed.postgres.connect("postgres");
    for (encoding, word) in [("LATIN1", "Grüße"), ("EUC_JP", "日本語"), ("UTF8", "🦀 Grüße")]
    {
        let database = format!("{}_{}", fixture.database, encoding.to_lowercase());
        run(
            &mut server,
            &format!(
                "CREATE DATABASE {database} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'"
            ),
        );
        run(
            &mut bed.postgres.connect(&database),
            &format!(
                r#"CREATE EXTENSION amqp_cdc;
                   SET amqp.exchange = '{}';
                   CREATE TABLE "{word}" ("{word}" text);
                   CREATE TRIGGER t AFTER INSERT ON "{word}" FOR EACH ROW
                     EXECUTE FUNCTION amqp_change_data_capture();
                   INSERT INTO "{word}" VALUES ('{word}')"#,
                fixture.exchange
            ),
        );
        let event = &fixture.consumer.wait_for_events(1)[0];
        let body = event.json();
        assert_eq!(body["current"], json!({word: word}), "{encoding}");
        assert_eq!((&body["tablename"], &body["targets"]), (&json!(word), &json!([word])));
        assert_eq!(event.headers["table"], json!(word));
        assert_eq!(event.headers.get("encoding"), None);
    }
}

/// Inserts `value`, a SQL expression, into a table of a database with this encoding, and gives the
/// message that came of it.
fn published_from(encoding: &str, value: &str) -> Message {
    let bed = testbed();
    let fixture = bed.scene("encoding");
    let database = format!("{}_other", fixture.database);
    run(
        &mut bed.postgres.connect("postgres"),
        &format!("CREATE DATABASE {database} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'"),
    );
    run(
        &mut bed.postgres.connect(&database),
        &format!(
            "CREATE EXTENSION amqp_cdc; SET amqp.exchange = '{}';
             CREATE TABLE raw (v text);
             CREATE TRIGGER t AFTER INSERT ON raw FOR EACH ROW
               EXECUTE FUNCTION amqp_change_data_capture();
             INSERT INTO raw VALUES ({value})",
            fixture.exchange
        ),
    );
    fixture.consumer.wait_for_events(1).remove(0)
}

#[test]
fn bytes_without_an_encoding_are_replaced_and_the_message_says_so() {
    let event = published_from("SQL_ASCII", r"E'caf\xe9'");
    assert_eq!(event.json()["current"]["v"], json!("caf\u{FFFD}"));
    assert_eq!(event.headers["encoding"], json!("lossy"));
}

/// PostgreSQL accepts any byte above 127 in a single-byte encoding.
#[test]
fn bytes_that_an_encoding_does_not_define_do_not_make_a_writer_fail() {
    let event = published_from("WIN1252", "repeat('\u{20ac}', 3000) || chr(129) || '\u{20ac}'");
    let expected = format!("{}\u{FFFD}\u{20ac}", "\u{20ac}".repeat(3000));
    assert_eq!(event.json()["current"]["v"], json!(expected));
    assert_eq!(event.headers["encoding"], json!("lossy"));
}

#[test]
fn targets_name_what_changed_even_behind_toast_and_nulls() {
    let (fixture, mut client) = blog("targets");
    run(
        &mut client,
        "INSERT INTO blog_articles SELECT 1, 'a', string_agg(md5(g::text), '')
           FROM generate_series(1, 2000) g;
         UPDATE blog_articles SET title = 'b';
         UPDATE blog_articles SET body = body || 'x';
         UPDATE blog_articles SET title = NULL;
         UPDATE blog_articles SET title = NULL;
         UPDATE blog_articles SET title = 'c', body = body || '';",
    );
    let events = fixture.consumer.wait_for_events(6);
    let targets: Vec<_> = events[1..].iter().map(|event| event.json()["targets"].clone()).collect();
    assert_eq!(
        targets,
        [json!(["title"]), json!(["body"]), json!(["title"]), json!([]), json!(["title"])]
    );
    let long = events[1].json()["previous"]["body"].as_str().map(str::len);
    assert_eq!(long, Some(64_000));
}

#[test]
fn dropped_and_added_columns_are_as_they_are_at_the_change() {
    let (fixture, mut client) = blog("alter");
    run(
        &mut client,
        "INSERT INTO blog_articles VALUES (1, 'a', 'b');
         ALTER TABLE blog_articles DROP COLUMN body, ADD COLUMN likes int DEFAULT 7;
         UPDATE blog_articles SET title = 'c'",
    );
    let events = fixture.consumer.wait_for_events(2);
    assert_eq!(events[1].json()["previous"], json!({"id": 1, "title": "a", "likes": 7}));
    assert_eq!(events[1].json()["targets"], json!(["title"]));
}

#[test]
fn a_client_that_nobody_here_wrote_parses_body_properties_and_headers() {
    let (fixture, mut client) = blog("pika");
    let queue =
        Queue::durable(&format!("{}-pika", fixture.database)).bound_to(&fixture.exchange, "#");
    fixture.broker().declare_queue(&queue);
    run(&mut client, "INSERT INTO blog_articles VALUES (1, 'Grüße 🦀', NULL)");
    let mine = &fixture.consumer.wait_for_events(1)[0];

    let python = std::env::var("PYTHON").unwrap_or_else(|_| "/usr/bin/python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/receive_one.py");
    let output = Command::new(python)
        .args([script, &fixture.testbed.rabbitmq.url("/"), queue.name()])
        .output()
        .expect("Python could not be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("the client prints JSON");
    assert_eq!(seen["routing_key"], json!("cdc.article.insert"));
    assert_eq!(seen["body"], mine.json());
    assert_eq!(seen["body"]["current"]["title"], json!("Grüße 🦀"));
    assert_eq!(seen["properties"]["content_type"], json!("application/json"));
    assert_eq!(seen["properties"]["delivery_mode"], json!(2));
    assert_eq!(seen["properties"]["message_id"], json!(mine.message_id));
    assert_eq!(seen["properties"]["type"], json!("insert"));
    assert_eq!(seen["headers"], json!(mine.headers));
}
