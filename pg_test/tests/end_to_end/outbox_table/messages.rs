//! What a row that is a message looks like to its consumer.

use pg_test::{DEADLINE, Queue, Testbed, testbed, wait_until};
use serde_json::json;

use super::{OUTBOX, bodies, letters};
use crate::helpers::{ask, blog, make_blog, published_so_far, run, wait_for_reason};

/// As its documentation has it: rows are inserted in the transaction of what they tell of, and deleted at once.
#[test]
fn debeziums_outbox_table_works_as_it_stands() {
    let (fixture, mut client) = blog("outbox_debezium");
    run(&mut client, OUTBOX);
    run(
        &mut client,
        r#"BEGIN;
           INSERT INTO blog_articles VALUES (1);
           INSERT INTO outbox (aggregatetype, aggregateid, type, payload)
             VALUES ('order', '1', 'OrderCreated', '{"id": 1, "total":   100, "name": "Grüße"}');
           DELETE FROM outbox;
           INSERT INTO blog_articles VALUES (2);
           INSERT INTO outbox (aggregatetype, aggregateid, type) VALUES ('order', '1', 'OrderDeleted');
           DELETE FROM outbox;
           COMMIT;
           BEGIN; INSERT INTO outbox (aggregatetype, aggregateid, type) VALUES ('order', '1', 'never'); ROLLBACK"#,
    );
    assert_eq!(ask::<i64>(&mut client, "SELECT count(*) FROM outbox"), 0);
    let messages = published_so_far(&fixture, &mut client);
    let seen: Vec<_> = messages
        .iter()
        .map(|message| (message.routing_key.as_str(), message.kind.as_deref().unwrap_or_default()))
        .collect();
    let key = "cdc.order.insert";
    let article = ("cdc.article.insert", "insert");
    assert_eq!(seen, [article, (key, "OrderCreated"), article, (key, "OrderDeleted")]);
    let (created, deleted) = (&messages[1], &messages[3]);
    // As jsonb has it.
    assert_eq!(created.text(), r#"{"id": 1, "name": "Grüße", "total": 100}"#);
    assert_eq!(deleted.body, b"");
    for (number, message) in [(2, created), (4, deleted)] {
        assert_eq!(message.content_type.as_deref(), Some("application/json"));
        assert_eq!((message.delivery_mode, message.app_id.as_deref()), (Some(2), Some("amqp_cdc")));
        let headers = &message.headers;
        assert_eq!((&headers["tx_seq"], &headers["tx_size"]), (&json!(number), &json!(4)));
        assert_eq!(headers["published"], json!(true));
        let names: Vec<_> = headers.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "application",
                "commit_lsn",
                "commit_ts",
                "database",
                "published",
                "tx_seq",
                "tx_size",
                "user",
                "xid"
            ]
        );
        assert_eq!(headers["xid"], messages[0].headers["xid"]);
        assert_eq!(headers["database"], json!(fixture.database));
    }
}

#[test]
fn a_body_of_each_type_comes_as_it_is() {
    let (fixture, mut client) = blog("outbox_bodies");
    let json = "application/json";
    let types: [(&str, &str, &str, &[u8]); 10] = [
        ("text", "'plain ü'", "text/plain", "plain ü".as_bytes()),
        ("varchar(10)", "' x \" \\ '", "text/plain", b" x \" \\ "),
        (
            "json",
            r#"'{"b" : 1,  "a":"ü", "b": 2}'"#,
            json,
            r#"{"b" : 1,  "a":"ü", "b": 2}"#.as_bytes(),
        ),
        ("jsonb", r#"'{"b" : 1,  "a":"ü", "b": 2}'"#, json, r#"{"a": "ü", "b": 2}"#.as_bytes()),
        ("bytea", r"'\x00ff4100'", "application/octet-stream", b"\x00\xFFA\x00"),
        ("of_jsonb", "'[1,2]'", json, b"[1, 2]"),
        ("of_bytea", r"'\xc3'", "application/octet-stream", b"\xC3"),
        ("of_of_text", "'a domain over a domain'", "text/plain", b"a domain over a domain"),
        ("text", "''", "text/plain", b""),
        ("bytea", "NULL", "application/octet-stream", b""),
    ];
    run(
        &mut client,
        "CREATE DOMAIN of_jsonb AS jsonb CHECK (VALUE <> '0'); CREATE DOMAIN of_bytea AS bytea;
         CREATE DOMAIN of_text AS text; CREATE DOMAIN of_of_text AS of_text NOT NULL",
    );
    for (number, (of, value, ..)) in types.iter().enumerate() {
        run(
            &mut client,
            &format!(
                "CREATE TABLE t{number} (gone int, payload {of}, id int); ALTER TABLE t{number} DROP gone;
                 CREATE TRIGGER send AFTER INSERT ON t{number} FOR EACH ROW
                   EXECUTE FUNCTION amqp_change_data_capture('', '', 'body=payload');
                 INSERT INTO t{number} VALUES ({value})"
            ),
        );
    }
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!(messages.len(), types.len());
    for (number, (message, (of, _, kind, body))) in messages.iter().zip(types).enumerate() {
        assert_eq!(message.routing_key, format!("cdc.t{number}.insert"));
        assert_eq!((message.content_type.as_deref(), &*message.body), (Some(kind), body), "{of}");
        assert_eq!(message.kind.as_deref(), Some("message"));
    }
}

#[test]
fn every_byte_and_sixteen_megabytes_pass_however_they_are_stored() {
    let (fixture, mut client) = blog("outbox_bytes");
    let all: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = all.iter().copied().cycle().take(16 * 1024 * 1024).collect();
    let text = "Grüße ".repeat(100_000);
    for storage in ["PLAIN", "MAIN", "EXTERNAL", "EXTENDED"] {
        run(
            &mut client,
            &format!(
                "DROP TABLE IF EXISTS b, t, j;
                 CREATE TABLE b (payload bytea); CREATE TABLE t (payload text); CREATE TABLE j (payload jsonb);
                 ALTER TABLE b ALTER payload SET STORAGE {storage};
                 ALTER TABLE t ALTER payload SET STORAGE {storage};
                 ALTER TABLE j ALTER payload SET STORAGE {storage};"
            ),
        );
        for table in ["b", "t", "j"] {
            run(
                &mut client,
                &format!(
                    "CREATE TRIGGER send AFTER INSERT ON {table} FOR EACH ROW
                       EXECUTE FUNCTION amqp_change_data_capture('', '', 'body=payload')"
                ),
            );
        }
        client.execute("INSERT INTO b VALUES ($1)", &[&all]).unwrap();
        // What is stored plain must fit a page.
        let size = if storage == "PLAIN" { 500 } else { text.len() };
        let text = &text[..text.floor_char_boundary(size)];
        client.execute("INSERT INTO t VALUES ($1)", &[&text]).unwrap();
        client.execute("INSERT INTO j VALUES (to_jsonb($1::text))", &[&text]).unwrap();
        let mut messages = published_so_far(&fixture, &mut client);
        assert_eq!(messages.len(), 3);
        assert_eq!(messages.remove(0).body, all);
        assert!(messages[0].text() == text, "{storage}");
        assert!(messages[1].json() == json!(text), "{storage}");
    }
    // What is in memory before it is stored, and what was stored elsewhere before.
    run(&mut client, "CREATE TABLE source (payload bytea)");
    client.execute("INSERT INTO source VALUES ($1)", &[&large]).unwrap();
    run(&mut client, "INSERT INTO b SELECT payload FROM source");
    client.execute("INSERT INTO b VALUES ($1)", &[&large]).unwrap();
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!(messages.len(), 2);
    assert!(messages.iter().all(|message| message.body == large));
}

#[test]
fn headers_and_type_come_from_their_columns_and_null_is_none() {
    let (fixture, mut client) = letters("outbox_headers");
    run(
        &mut client,
        r#"INSERT INTO letters VALUES (1, 'a', '{"tenant": "ü", "n": 3, "r": 0.5, "is": true, "no": null,
             "list": [1, {"x": []}], "CC": ["other.key"]}', 'OrderPlaced');
           INSERT INTO letters VALUES (2, 'b', NULL, NULL), (3, 'c', '{}', '');
           CREATE TABLE plain (h json, "the, type" varchar(20), b bytea);
           CREATE TRIGGER send AFTER INSERT ON plain FOR EACH ROW EXECUTE FUNCTION
             amqp_change_data_capture('p', '', 'headers= h', 'type="the, type"', 'body =b');
           INSERT INTO plain VALUES ('{"a" : 1, "b":"x", "a":2}', 'Größe')"#,
    );
    let messages = published_so_far(&fixture, &mut client);
    let kinds: Vec<_> = messages.iter().map(|message| message.kind.as_deref()).collect();
    assert_eq!(kinds, [Some("OrderPlaced"), Some("message"), Some(""), Some("Größe")]);
    for (name, value) in [
        ("tenant", json!("ü")),
        ("n", json!(3)),
        ("r", json!(0.5)),
        ("is", json!(true)),
        ("no", json!(null)),
        ("list", json!([1, {"x": []}])),
        ("CC", json!(["other.key"])),
    ] {
        assert_eq!(messages[0].headers[name], value, "{name}");
    }
    // The nine that every message has.
    assert_eq!([1, 2].map(|number| messages[number].headers.len()), [9, 9]);
    let headers = &messages[3].headers;
    assert_eq!((&headers["a"], &headers["b"]), (&json!(2), &json!("x")));
}

/// As docs/outbox.md has it: what Debezium sends as headers.
#[test]
fn a_generated_column_makes_headers_of_other_columns() {
    let (fixture, mut client) = blog("outbox_generated");
    run(&mut client, OUTBOX);
    run(
        &mut client,
        "ALTER TABLE outbox ADD headers jsonb GENERATED ALWAYS AS
           (jsonb_object(ARRAY['id', id::text, 'aggregateid', aggregateid])) STORED;
         CREATE OR REPLACE TRIGGER send AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION
           amqp_change_data_capture('order', 'cdc', 'body=payload', 'headers=headers', 'type=type')",
    );
    let id: String = ask(
        &mut client,
        "INSERT INTO outbox (aggregatetype, aggregateid, type, payload)
           VALUES ('order', '17', 'OrderCreated', '{}') RETURNING id::text",
    );
    let messages = published_so_far(&fixture, &mut client);
    let headers = &messages[0].headers;
    assert_eq!((&headers["id"], &headers["aggregateid"]), (&json!(id), &json!("17")));
}

/// Columns that were added since, whose values are in no row.
#[test]
fn what_a_column_was_added_with_counts() {
    let (fixture, mut client) = blog("outbox_added");
    run(
        &mut client,
        "CREATE TABLE t (id int); ALTER TABLE t ADD payload text DEFAULT 'as it was';
         CREATE TRIGGER send AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION
           amqp_change_data_capture('t', '', 'body=payload');
         INSERT INTO t VALUES (1); ALTER TABLE t ADD x int; INSERT INTO t VALUES (2, 'given')",
    );
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), ["as it was", "given"]);
}

#[test]
fn text_of_any_encoding_is_sent_as_utf8_and_bytes_as_they_are() {
    let bed = testbed();
    let fixture = bed.scene("outbox_encodings");
    let mut server = bed.postgres.connect("postgres");
    for (encoding, word) in [("LATIN1", "Grüße"), ("EUC_JP", "日本語"), ("SQL_ASCII", "ascii")]
    {
        let database = format!("{}_{}", fixture.database, encoding.to_lowercase());
        let make = format!(
            "CREATE DATABASE {database} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'"
        );
        run(&mut server, &make);
        let mut client = bed.postgres.connect(&database);
        run(
            &mut client,
            &format!(
                r#"CREATE EXTENSION amqp_cdc; SET amqp.exchange = '{}';
                   CREATE TABLE t ("{word}" text, headers json, type text);
                   CREATE TABLE j (payload jsonb);
                   CREATE TABLE b (payload bytea);
                   CREATE TRIGGER send AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION
                     amqp_change_data_capture('{word}', '', 'body={word}', 'headers=headers', 'type=type');
                   CREATE TRIGGER send AFTER INSERT ON j FOR EACH ROW
                     EXECUTE FUNCTION amqp_change_data_capture('', '', 'body=payload');
                   CREATE TRIGGER send AFTER INSERT ON b FOR EACH ROW
                     EXECUTE FUNCTION amqp_change_data_capture('', '', 'body=payload');
                   INSERT INTO t VALUES ('{word}', '{{"{word}": "{word}"}}', '{word}');
                   INSERT INTO j VALUES (jsonb_build_object('{word}', '{word}'));
                   INSERT INTO b VALUES ('\xe9')"#,
                fixture.exchange
            ),
        );
        let messages = fixture.consumer.wait_for_events(3);
        let key = format!("cdc.{}.insert", word.to_lowercase());
        assert_eq!((messages[0].text(), &messages[0].routing_key), (word, &key));
        assert_eq!(
            (messages[0].kind.as_deref(), &messages[0].headers[word]),
            (Some(word), &json!(word))
        );
        assert_eq!(messages[1].json(), json!({word: word}));
        assert_eq!(messages[2].body, b"\xE9");
        assert!(messages.iter().all(|message| !message.headers.contains_key("encoding")));
    }
    let mut client = bed.postgres.connect(&format!("{}_sql_ascii", fixture.database));
    run(
        &mut client,
        &format!(
            r#"SET amqp.exchange = '{}';
               INSERT INTO t VALUES (E'caf\xe9'); INSERT INTO t VALUES ('a', E'{{"h": "\xe9"}}');
               INSERT INTO t VALUES ('a', NULL, E'\xe9'); INSERT INTO t VALUES ('plain')"#,
            fixture.exchange
        ),
    );
    let messages = fixture.consumer.wait_for_events(4);
    assert_eq!(bodies(&messages), ["caf\u{FFFD}", "a", "a", "plain"]);
    assert_eq!(messages[1].headers["h"], json!("\u{FFFD}"));
    assert_eq!(messages[2].kind.as_deref(), Some("\u{FFFD}"));
    let lossy = json!("lossy");
    let encodings: Vec<_> =
        messages.iter().map(|message| message.headers.get("encoding")).collect();
    assert_eq!(encodings, [Some(&lossy), Some(&lossy), Some(&lossy), None]);
}

#[test]
fn it_says_who_inserted_it_and_none_of_its_columns_can_say_otherwise() {
    let (fixture, mut client) = letters("outbox_who");
    let role = format!("{}_clerk", fixture.database);
    run(
        &mut client,
        &format!(
            "SET application_name = 'shop'; CREATE ROLE {role}; GRANT INSERT ON letters TO {role};
             CREATE FUNCTION trusted() RETURNS void SECURITY DEFINER LANGUAGE sql AS
               $$ INSERT INTO letters VALUES (3, 'definer') $$;
             INSERT INTO letters VALUES (1, 'owner');
             SET ROLE {role}; INSERT INTO letters VALUES (2, 'clerk'); SELECT trusted();
             RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}"
        ),
    );
    let owner: String = ask(&mut client, "SELECT current_user::text");
    let messages = published_so_far(&fixture, &mut client);
    let users: Vec<_> = messages.iter().map(|message| &message.headers["user"]).collect();
    assert_eq!(users, [&json!(owner), &json!(role), &json!(owner)]);
    assert!(messages.iter().all(|message| message.headers["application"] == json!("shop")));
}

#[test]
fn a_trigger_may_have_an_exchange_of_its_own_and_else_has_the_sessions() {
    let (fixture, mut client) = letters("outbox_exchange");
    let other = format!("{}-other", fixture.exchange);
    fixture.broker().declare_exchange(&other, "topic");
    let queue = Queue::durable(&format!("{}-other", fixture.database)).bound_to(&other, "#");
    let consumer = fixture.broker().consume(&queue);
    run(
        &mut client,
        &format!(
            "CREATE TABLE own (body text);
             CREATE TRIGGER send AFTER INSERT ON own FOR EACH ROW EXECUTE FUNCTION
               amqp_change_data_capture('own', 'cdc', 'exchange={other}', 'body=body');
             INSERT INTO own VALUES ('a'); INSERT INTO letters VALUES (1, 'b'); SELECT amqp.publish('k', 'c');
             SET amqp.exchange = '{other}'; INSERT INTO letters VALUES (2, 'd'); RESET amqp.exchange"
        ),
    );
    let messages = consumer.wait_for_events(2);
    assert_eq!(bodies(&messages), ["a", "d"]);
    assert!(messages.iter().all(|message| message.exchange == other));
    assert_eq!(bodies(&fixture.consumer.wait_for_events(2)), ["b", "c"]);
}

#[test]
fn amqp_capture_off_silences_it_like_any_trigger() {
    let (fixture, mut client) = letters("outbox_capture_off");
    run(
        &mut client,
        "SET amqp.capture = off; INSERT INTO letters VALUES (1, 'silent', '{\"xid\": 1}');
         SET amqp.capture = on; INSERT INTO letters VALUES (2, 'heard');
         SET session_replication_role = replica; INSERT INTO letters VALUES (3, 'replica');
         ALTER TABLE letters ENABLE ALWAYS TRIGGER send; INSERT INTO letters VALUES (4, 'always');
         RESET session_replication_role; ALTER TABLE letters DISABLE TRIGGER send;
         INSERT INTO letters VALUES (5, 'disabled'); ALTER TABLE letters ENABLE TRIGGER send;
         CREATE OR REPLACE TRIGGER send AFTER INSERT ON letters FOR EACH ROW WHEN (NEW.id > 6)
           EXECUTE FUNCTION amqp_change_data_capture('letter', 'cdc', 'body=body');
         INSERT INTO letters VALUES (6, 'no'), (7, 'yes')",
    );
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), ["heard", "always", "yes"]);
}

#[test]
fn it_is_held_where_that_is_wanted_and_skipped_by_its_id() {
    let bed = Testbed::private(&["amqp.unroutable = 'hold'"]);
    let fixture = bed.scene("outbox_held");
    let mut client = fixture.client();
    make_blog(&mut client);
    fixture.broker().declare_exchange("nobody", "topic");
    run(
        &mut client,
        "CREATE TABLE letters (body text);
         CREATE TRIGGER send AFTER INSERT ON letters FOR EACH ROW EXECUTE FUNCTION
           amqp_change_data_capture('letter', 'cdc', 'body=body', 'exchange=nobody');
         INSERT INTO letters VALUES ('lost')",
    );
    let reason = wait_for_reason(&mut client, "no queue is bound");
    assert!(reason.contains("routing key \"cdc.letter.insert\""), "{reason}");
    let held = "SELECT held_message FROM amqp.status";
    let id = ask::<Option<String>>(&mut client, held).expect("a message is held");
    run(&mut client, &format!("SELECT amqp.skip('{id}'); INSERT INTO letters VALUES ('kept')"));
    wait_until("it stands still at the next one", DEADLINE, || {
        ask::<Option<String>>(&mut client, held).filter(|other| *other != id)
    });
    fixture.broker().declare_queue(&fixture.queue().bound_to("nobody", "#"));
    let messages = published_so_far(&fixture, &mut client);
    let own = messages.iter().filter(|message| message.headers.contains_key("published"));
    assert_eq!(own.map(|message| message.text()).collect::<Vec<_>>(), ["kept"]);
}
