//! Tables of every kind, the statements that change them, and tables that change themselves: each
//! event has the names and columns of its moment.

use pg_test::Message;
use serde_json::{Value, json};

use crate::helpers::{ask, blog, published_so_far, run};

/// `routing key, tablename, current or else previous` of each message.
fn seen(messages: &[Message]) -> Vec<(String, String, Value)> {
    messages
        .iter()
        .map(|message| {
            let body = message.json();
            let row = if body["current"].is_null() { &body["previous"] } else { &body["current"] };
            let table = body["tablename"].as_str().unwrap_or_default().to_owned();
            (message.routing_key.clone(), table, row.clone())
        })
        .collect()
}

fn event(routing_key: &str, table: &str, row: Value) -> (String, String, Value) {
    (routing_key.to_owned(), table.to_owned(), row)
}

#[test]
fn an_update_that_moves_a_row_to_another_partition_is_a_delete_and_an_insert() {
    let (fixture, mut client) = blog("partitions");
    run(
        &mut client,
        "CREATE TABLE m (id int, region text) PARTITION BY LIST (region);
         CREATE TABLE m_a PARTITION OF m FOR VALUES IN ('a');
         -- A partition may have its columns in another order.
         CREATE TABLE m_b (gone int, region text, id int);
         ALTER TABLE m_b DROP COLUMN gone;
         ALTER TABLE m ATTACH PARTITION m_b FOR VALUES IN ('b');
         CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON m
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture();
         INSERT INTO m VALUES (1, 'a');
         UPDATE m SET id = 2;
         UPDATE m SET region = 'b';
         UPDATE m_b SET id = 3",
    );
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(
        seen(&events),
        [
            event("cdc.m.insert", "m_a", json!({"id": 1, "region": "a"})),
            event("cdc.m.update", "m_a", json!({"id": 2, "region": "a"})),
            event("cdc.m.delete", "m_a", json!({"id": 2, "region": "a"})),
            event("cdc.m.insert", "m_b", json!({"id": 2, "region": "b"})),
            event("cdc.m.update", "m_b", json!({"id": 3, "region": "b"})),
        ]
    );
    assert!(events[4].text().contains(r#""current":{"region":"b","id":3}"#));
}

#[test]
fn a_partition_is_called_after_the_parent_that_it_has_at_the_moment() {
    let (fixture, mut client) = blog("reparented");
    run(
        &mut client,
        "CREATE TABLE top (id int) PARTITION BY RANGE (id);
         CREATE TABLE middle PARTITION OF top DEFAULT PARTITION BY RANGE (id);
         CREATE TABLE leaf PARTITION OF middle DEFAULT;
         CREATE TRIGGER capture AFTER INSERT ON leaf
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture();
         INSERT INTO top VALUES (1);
         ALTER TABLE top RENAME TO summit;
         INSERT INTO summit VALUES (2);
         ALTER TABLE summit DETACH PARTITION middle;
         INSERT INTO middle VALUES (3);
         ALTER TABLE middle DETACH PARTITION leaf;
         INSERT INTO leaf VALUES (4);
         ALTER TABLE leaf RENAME TO tree;
         INSERT INTO tree VALUES (5);",
    );
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(
        seen(&events),
        [
            event("cdc.top.insert", "leaf", json!({"id": 1})),
            event("cdc.summit.insert", "leaf", json!({"id": 2})),
            event("cdc.middle.insert", "leaf", json!({"id": 3})),
            event("cdc.leaf.insert", "leaf", json!({"id": 4})),
            event("cdc.tree.insert", "tree", json!({"id": 5})),
        ]
    );
}

#[test]
fn inherited_tables_fire_their_own_triggers_and_views_those_of_their_tables() {
    let (fixture, mut client) = blog("inheritance");
    run(
        &mut client,
        "CREATE TABLE parent (id int);
         CREATE TABLE child (extra text) INHERITS (parent);
         CREATE TRIGGER capture AFTER INSERT OR UPDATE ON child
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture();
         CREATE VIEW visible AS SELECT * FROM child WHERE id > 0;
         INSERT INTO child VALUES (1, 'a');
         INSERT INTO parent VALUES (2);
         UPDATE parent SET id = id + 10;
         INSERT INTO visible VALUES (3, 'b')",
    );
    assert_eq!(
        seen(&published_so_far(&fixture, &mut client)),
        [
            event("cdc.child.insert", "child", json!({"id": 1, "extra": "a"})),
            event("cdc.child.update", "child", json!({"id": 11, "extra": "a"})),
            event("cdc.child.insert", "child", json!({"id": 3, "extra": "b"})),
        ]
    );
}

#[test]
fn rows_of_foreign_tables_are_captured() {
    let (fixture, mut client) = blog("foreign");
    let port = fixture.testbed.postgres.port();
    run(
        &mut client,
        &format!(
            "CREATE EXTENSION postgres_fdw;
             CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw
               OPTIONS (host '127.0.0.1', port '{port}', dbname '{}');
             CREATE USER MAPPING FOR postgres SERVER here OPTIONS (user 'postgres');
             CREATE TABLE there (id int PRIMARY KEY, title text);
             CREATE FOREIGN TABLE far (id int, title text) SERVER here
               OPTIONS (table_name 'there');
             CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON far
             FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()",
            fixture.database
        ),
    );
    run(
        &mut client,
        "INSERT INTO far VALUES (1, 'a'), (2, 'b');
         UPDATE far SET title = 'c' WHERE id = 1; DELETE FROM far WHERE id = 2",
    );
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(
        seen(&events),
        [
            event("cdc.far.insert", "far", json!({"id": 1, "title": "a"})),
            event("cdc.far.insert", "far", json!({"id": 2, "title": "b"})),
            event("cdc.far.update", "far", json!({"id": 1, "title": "c"})),
            event("cdc.far.delete", "far", json!({"id": 2, "title": "b"})),
        ]
    );
    assert_eq!(events[2].json()["targets"], json!(["title"]));
}

#[test]
fn update_of_and_when_work_as_postgresql_has_them() {
    let (fixture, mut client) = blog("when");
    run(
        &mut client,
        "CREATE TABLE t (id int, a int, b int);
         CREATE TRIGGER chosen AFTER UPDATE OF a ON t FOR EACH ROW WHEN (NEW.b > 0)
           EXECUTE FUNCTION amqp_change_data_capture();
         INSERT INTO t VALUES (1, 1, 1);
         UPDATE t SET b = 2;
         UPDATE t SET a = 2;
         UPDATE t SET a = 3, b = -1;
         UPDATE t SET a = 4, b = 1",
    );
    let rows = [json!({"id": 1, "a": 2, "b": 2}), json!({"id": 1, "a": 4, "b": 1})];
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(seen(&events), rows.map(|row| event("cdc.t.update", "t", row)));
    assert_eq!(events[1].json()["targets"], json!(["a", "b"]));
}

#[test]
fn what_a_before_trigger_changes_is_a_target_though_the_statement_does_not_name_it() {
    let (fixture, mut client) = blog("before");
    run(
        &mut client,
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN NEW.body := 'touched'; RETURN NEW; END $$;
         CREATE TRIGGER a BEFORE UPDATE ON blog_articles FOR EACH ROW EXECUTE FUNCTION touch();
         INSERT INTO blog_articles VALUES (1, 'a', 'b');
         UPDATE blog_articles SET title = 'c'",
    );
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(events[1].json()["targets"], json!(["title", "body"]));
}

#[test]
fn truncate_is_one_event_for_each_captured_table() {
    let (fixture, mut client) = blog("truncates");
    run(
        &mut client,
        "CREATE TABLE authors (id int PRIMARY KEY);
         CREATE TABLE books (author int REFERENCES authors);
         CREATE TABLE unseen (author int REFERENCES authors);
         CREATE TRIGGER capture AFTER TRUNCATE ON authors
           EXECUTE FUNCTION amqp_change_data_capture();
         CREATE TRIGGER capture AFTER TRUNCATE ON books
           EXECUTE FUNCTION amqp_change_data_capture();
         TRUNCATE authors CASCADE",
    );
    let mut events = seen(&published_so_far(&fixture, &mut client));
    events.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        events,
        [
            event("cdc.authors.truncate", "authors", Value::Null),
            event("cdc.books.truncate", "books", Value::Null),
        ]
    );
}

#[test]
fn a_replica_session_fires_only_the_triggers_that_are_meant_for_it() {
    let (fixture, mut client) = blog("replica");
    run(
        &mut client,
        "CREATE TABLE always (id int); CREATE TABLE replica (id int); CREATE TABLE disabled (id int);
         CREATE TRIGGER t AFTER INSERT ON always FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture();
         CREATE TRIGGER t AFTER INSERT ON replica FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture();
         CREATE TRIGGER t AFTER INSERT ON disabled FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture();
         ALTER TABLE always ENABLE ALWAYS TRIGGER t;
         ALTER TABLE replica ENABLE REPLICA TRIGGER t;
         ALTER TABLE disabled DISABLE TRIGGER t",
    );
    let insert = |n: i32| {
        ["always", "replica", "disabled", "blog_articles"]
            .map(|table| format!("INSERT INTO {table} VALUES ({n});"))
            .concat()
    };
    run(&mut client, &insert(1));
    run(&mut client, "SET session_replication_role = replica");
    run(&mut client, &insert(2));
    run(&mut client, "RESET session_replication_role");
    let tables: Vec<_> = published_so_far(&fixture, &mut client)
        .iter()
        .map(|event| (event.json()["tablename"].clone(), event.json()["current"]["id"].clone()))
        .collect();
    assert_eq!(
        tables,
        [("always", 1), ("blog_articles", 1), ("always", 2), ("replica", 2)]
            .map(|(table, id)| (json!(table), json!(id)))
    );
}

#[test]
fn each_event_has_the_columns_of_its_moment() {
    let (fixture, mut client) = blog("alter_within");
    run(
        &mut client,
        "BEGIN;
         INSERT INTO blog_articles VALUES (1, 'a', 'b');
         ALTER TABLE blog_articles RENAME COLUMN title TO headline;
         UPDATE blog_articles SET headline = 'c';
         ALTER TABLE blog_articles ALTER COLUMN id TYPE text;
         UPDATE blog_articles SET headline = 'd';
         ALTER TABLE blog_articles ADD COLUMN likes int DEFAULT 7, DROP COLUMN body;
         UPDATE blog_articles SET likes = 8;
         SAVEPOINT s;
         ALTER TABLE blog_articles ADD COLUMN undone int;
         UPDATE blog_articles SET likes = 9;
         ROLLBACK TO s;
         UPDATE blog_articles SET likes = 10;
         ALTER TABLE blog_articles RENAME TO posts;
         CREATE SCHEMA elsewhere; ALTER TABLE posts SET SCHEMA elsewhere;
         ALTER SCHEMA elsewhere RENAME TO there;
         DELETE FROM there.posts;
         COMMIT",
    );
    let events = published_so_far(&fixture, &mut client);
    let rows: Vec<Value> = seen(&events).into_iter().map(|(.., row)| row).collect();
    assert_eq!(
        rows,
        [
            json!({"id": 1, "title": "a", "body": "b"}),
            json!({"id": 1, "headline": "c", "body": "b"}),
            json!({"id": "1", "headline": "d", "body": "b"}),
            json!({"id": "1", "headline": "d", "likes": 8}),
            json!({"id": "1", "headline": "d", "likes": 10}),
            json!({"id": "1", "headline": "d", "likes": 10}),
        ]
    );
    assert_eq!(events[2].json()["previous"]["id"], json!("1"));
    let last = events.last().expect("six events");
    assert_eq!(
        (&last.headers["schema"], &last.headers["table"]),
        (&json!("there"), &json!("posts"))
    );
    assert_eq!(last.json()["tablename"], json!("posts"));
}

#[test]
fn a_primary_key_counts_from_the_moment_it_exists() {
    let (fixture, mut client) = blog("late_key");
    run(
        &mut client,
        "CREATE TABLE t (a int NOT NULL, b int, c int);
         CREATE TRIGGER capture AFTER UPDATE ON t FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture('t', 'cdc', 'current=changed');
         INSERT INTO t VALUES (1, 1, 1);
         UPDATE t SET b = 2;
         ALTER TABLE t ADD PRIMARY KEY (a);
         UPDATE t SET b = 3;
         ALTER TABLE t DROP CONSTRAINT t_pkey;
         UPDATE t SET b = 4",
    );
    let rows: Vec<Value> =
        seen(&published_so_far(&fixture, &mut client)).into_iter().map(|(.., row)| row).collect();
    assert_eq!(rows, [json!({"b": 2}), json!({"a": 1, "b": 3}), json!({"b": 4})]);
}

#[test]
fn another_session_sees_what_was_altered_here() {
    let (fixture, mut client) = blog("alter_elsewhere");
    let mut other = fixture.client();
    run(&mut other, "INSERT INTO blog_articles VALUES (1, 'a', NULL)");
    run(
        &mut client,
        "ALTER TABLE blog_articles ALTER COLUMN title TYPE json USING to_json(title);
         CREATE OR REPLACE TRIGGER article_change_data_capture_trig
           AFTER INSERT OR DELETE OR UPDATE ON blog_articles
           FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('post', 'v2', 'exclude=body')",
    );
    run(&mut other, "UPDATE blog_articles SET id = 2");
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(events[1].routing_key, "v2.post.update");
    assert_eq!(events[1].json()["current"], json!({"id": 2, "title": "a"}));
}

#[test]
fn a_cast_to_json_counts_from_the_moment_it_exists() {
    let (fixture, mut client) = blog("casts");
    run(
        &mut client,
        "CREATE TYPE mood AS ENUM ('sad');
         CREATE TABLE moods (v mood, many mood[]);
         CREATE TRIGGER t AFTER INSERT ON moods FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture();
         CREATE FUNCTION as_json(mood) RETURNS json LANGUAGE sql AS $$ SELECT '1'::json $$;
         INSERT INTO moods VALUES ('sad', '{sad}');
         CREATE CAST (mood AS json) WITH FUNCTION as_json(mood);
         INSERT INTO moods VALUES ('sad', '{sad}');
         CREATE OR REPLACE FUNCTION as_json(mood) RETURNS json LANGUAGE sql AS
           $$ SELECT '2'::json $$;
         INSERT INTO moods VALUES ('sad', '{sad}');
         DROP CAST (mood AS json);
         ALTER TYPE mood RENAME VALUE 'sad' TO 'glad';
         INSERT INTO moods VALUES ('glad', '{glad}');",
    );
    let rows: Vec<Value> = published_so_far(&fixture, &mut client)
        .iter()
        .map(|e| e.json()["current"].clone())
        .collect();
    assert_eq!(
        rows,
        [
            json!({"v": "sad", "many": ["sad"]}),
            json!({"v": 1, "many": [1]}),
            json!({"v": 2, "many": [2]}),
            json!({"v": "glad", "many": ["glad"]}),
        ]
    );
}

/// A function that renders a value may write to captured tables itself, and may fail. It runs under
/// the fixed settings, of which search_path is one.
#[test]
fn an_event_may_be_made_in_the_middle_of_another() {
    let (fixture, mut client) = blog("nested");
    run(
        &mut client,
        "CREATE TYPE fuse AS ENUM ('lit', 'short');
         CREATE TABLE bombs (id int, v fuse);
         CREATE FUNCTION explode(fuse) RETURNS json LANGUAGE plpgsql AS $$
           BEGIN
             IF $1 = 'short' THEN RAISE EXCEPTION 'boom'; END IF;
             IF (SELECT count(*) FROM public.bombs) < 3 THEN
               INSERT INTO public.bombs SELECT count(*) + 1, 'lit' FROM public.bombs;
             END IF;
             RETURN '\"x\"';
           END $$;
         CREATE CAST (fuse AS json) WITH FUNCTION explode(fuse);
         CREATE TRIGGER t AFTER INSERT ON bombs FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture();
         INSERT INTO bombs VALUES (1, 'lit')",
    );
    for _ in 0..3 {
        let error = client.batch_execute("INSERT INTO bombs VALUES (9, 'short')").unwrap_err();
        assert_eq!(error.as_db_error().map(|error| error.message()), Some("boom"));
    }
    run(&mut client, "INSERT INTO bombs VALUES (4, 'lit')");
    let mut ids: Vec<_> = published_so_far(&fixture, &mut client)
        .iter()
        .map(|event| {
            let row = event.json()["current"].clone();
            assert_eq!(row["v"], json!("x"));
            row["id"].as_i64()
        })
        .collect();
    ids.sort();
    assert_eq!(ids, [Some(1), Some(2), Some(3), Some(4)]);
}

#[test]
fn thousands_of_captured_tables_do_not_mix_up_their_events() {
    const TABLES: usize = 1500;
    let (fixture, mut client) = blog("many");
    run(
        &mut client,
        &format!(
            "DO $$ BEGIN FOR n IN 1..{TABLES} LOOP
               EXECUTE format('CREATE TABLE t%s (id int, %I text);
                 CREATE TRIGGER c AFTER INSERT ON t%s FOR EACH ROW
                 EXECUTE FUNCTION amqp_change_data_capture()', n, 'column ' || n, n);
               IF n % 50 = 0 THEN COMMIT; END IF;
             END LOOP; END $$"
        ),
    );
    for round in 0..2 {
        run(
            &mut client,
            &format!(
                "DO $$ BEGIN FOR n IN 1..{TABLES} LOOP
                   EXECUTE format('INSERT INTO t%s VALUES ({round}, %L)', n, n);
                 END LOOP; END $$"
            ),
        );
    }
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(events.len(), 2 * TABLES);
    for (n, event) in events.iter().enumerate() {
        let (round, table) = (n / TABLES, n % TABLES + 1);
        assert_eq!(event.routing_key, format!("cdc.t{table}.insert"));
        let column = format!("column {table}");
        assert_eq!(event.json()["current"], json!({"id": round, column: table.to_string()}));
    }
    let memory: i64 = ask(
        &mut client,
        "SELECT coalesce(sum(total_bytes), 0)::bigint FROM pg_backend_memory_contexts
          WHERE name = 'amqp_cdc plan'",
    );
    assert_eq!(memory, 0, "columns of these types need nothing of PostgreSQL's");
}
