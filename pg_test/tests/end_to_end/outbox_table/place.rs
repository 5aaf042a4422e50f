//! A row that is a message stands where the event of the row would stand, and falls with its transaction.

use pg_test::{Fixture, Message};
use postgres::Client;

use super::letters;
use crate::helpers::{lsn, make_wholly_captured, published_so_far, run};

/// `m:body` of a message, `i:1`, `u:1`, `d:1` of a row, `t` of a TRUNCATE.
fn told(messages: &[Message]) -> Vec<String> {
    let one = |message: &Message| {
        if message.headers.contains_key("published") {
            return format!("m:{}", message.text());
        }
        let body = message.json();
        let operation = &body["operation"].as_str().unwrap_or_default()[..1];
        let row = if body["current"].is_null() { &body["previous"] } else { &body["current"] };
        if row.is_null() { operation.to_owned() } else { format!("{operation}:{}", row["id"]) }
    };
    messages.iter().map(one).collect()
}

/// A fixture with a bare captured table `t` and `letters`.
fn tables(name: &str) -> (Fixture<'static>, Client) {
    let (fixture, mut client) = letters(name);
    make_wholly_captured(&mut client, "t");
    (fixture, client)
}

/// What is told of a transaction of these statements, all of it in one transaction.
#[track_caller]
fn told_of(name: &str, before: &str, transaction: &str) -> Vec<String> {
    let (fixture, mut client) = tables(name);
    run(&mut client, before);
    published_so_far(&fixture, &mut client);
    run(&mut client, &format!("BEGIN; {transaction}; COMMIT"));
    let messages = published_so_far(&fixture, &mut client);
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(message.headers["tx_seq"], serde_json::json!(number + 1), "{}", message.text());
        assert!(!message.headers.contains_key("truncated"));
    }
    told(&messages)
}

#[test]
fn between_statements_it_stands_between_their_rows() {
    let told = told_of(
        "outbox_between",
        "",
        "INSERT INTO letters VALUES (1, 'a'); INSERT INTO t VALUES (1), (2);
         INSERT INTO letters VALUES (2, 'b'), (3, 'c'); DELETE FROM letters; SELECT amqp.publish('k', 'd');
         UPDATE t SET v = 'x' WHERE id = 2; INSERT INTO letters VALUES (1, 'e') RETURNING id; TRUNCATE t;
         INSERT INTO letters SELECT g, 'f' || g FROM generate_series(10, 11) g; INSERT INTO t VALUES (3)",
    );
    assert_eq!(
        told,
        ["m:a", "i:1", "i:2", "m:b", "m:c", "m:d", "u:2", "m:e", "t", "m:f10", "m:f11", "i:3"]
    );
}

/// The rows of a statement come when it ends; what a trigger inserts into the outbox before them comes before them.
#[test]
fn what_triggers_and_functions_insert_stands_where_they_do_it() {
    let send = |name: &str, when: &str| {
        format!(
            "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO letters VALUES (NEW.id * 10 + {}, '{name} ' || NEW.id); RETURN NEW; END $$;
             CREATE TRIGGER {name} {when} INSERT ON t FOR EACH ROW EXECUTE FUNCTION {name}();",
            name.len()
        )
    };
    let triggers =
        send("before", "BEFORE") + &send("a_after", "AFTER") + &send("z__after", "AFTER");
    let told = told_of("outbox_triggers", &triggers, "INSERT INTO t VALUES (1), (2)");
    assert_eq!(
        told,
        [
            "m:before 1",
            "i:1",
            "m:before 2",
            "i:2",
            "m:a_after 1",
            "m:z__after 1",
            "m:a_after 2",
            "m:z__after 2"
        ]
    );
    let told = told_of(
        "outbox_function",
        "CREATE FUNCTION work(n int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
           INSERT INTO letters VALUES (n, 'begin ' || n);
           INSERT INTO t VALUES (n);
           BEGIN
             INSERT INTO letters VALUES (n + 10, 'taken back'); RAISE 'no';
           EXCEPTION WHEN raise_exception THEN INSERT INTO letters VALUES (n + 10, 'caught ' || n);
           END;
           RETURN 'row ' || n;
         END $$",
        "INSERT INTO letters SELECT g + 20, work(g) FROM generate_series(1, 2) g; INSERT INTO letters VALUES (0, 'end')",
    );
    let one = |n: i32| {
        [format!("m:begin {n}"), format!("i:{n}"), format!("m:caught {n}"), format!("m:row {n}")]
    };
    assert_eq!(told, [one(1).as_slice(), &one(2), &["m:end".to_owned()]].concat());
}

/// A message that `amqp.publish` sends from inside of the statement comes first, and the row is late.
#[test]
fn a_row_that_sends_a_message_itself_comes_behind_it() {
    let told = told_of(
        "outbox_publish",
        "",
        "INSERT INTO letters SELECT g, 'row ' || g, NULL, amqp.publish('k', 'sent ' || g) FROM generate_series(1, 2) g;
         INSERT INTO letters VALUES (3, 'alone')",
    );
    assert_eq!(told, ["m:sent 1", "m:row 1", "m:sent 2", "m:row 2", "m:alone"]);
}

#[test]
fn it_is_sent_if_its_transaction_commits_and_never_else() {
    let (fixture, mut client) = tables("outbox_commit");
    let (keep, drop) = (format!("{}-keep", fixture.database), format!("{}-drop", fixture.database));
    run(
        &mut client,
        &format!(
            "BEGIN; INSERT INTO letters VALUES (1, 'rolled back'); ROLLBACK;
             BEGIN; SAVEPOINT a; INSERT INTO letters VALUES (1, 'first'); ROLLBACK TO a;
               INSERT INTO letters VALUES (2, 'second');
               SAVEPOINT b; INSERT INTO letters VALUES (3, 'released'); RELEASE b;
               SAVEPOINT c; DELETE FROM letters; ROLLBACK TO c; COMMIT;
             BEGIN; INSERT INTO letters VALUES (4, 'prepared'); INSERT INTO t VALUES (1);
               DELETE FROM letters WHERE id = 4; PREPARE TRANSACTION '{keep}';
             BEGIN; INSERT INTO letters VALUES (5, 'dropped'); PREPARE TRANSACTION '{drop}'"
        ),
    );
    assert!(
        client.batch_execute("INSERT INTO letters VALUES (6, 'failed'), (6, 'failed')").is_err()
    );
    assert_eq!(told(&published_so_far(&fixture, &mut client)), ["m:second", "m:released"]);
    let mut other = fixture.client();
    run(&mut other, &format!("ROLLBACK PREPARED '{drop}'"));
    run(&mut other, &format!("COMMIT PREPARED '{keep}'"));
    assert_eq!(told(&published_so_far(&fixture, &mut other)), ["m:prepared", "i:1"]);
}

#[test]
fn a_row_is_sent_once_and_updates_deletes_and_truncates_send_nothing() {
    let told = told_of(
        "outbox_once",
        "",
        "INSERT INTO letters VALUES (1, 'a'), (2, 'b'), (3, 'c');
         UPDATE letters SET body = 'changed'; DELETE FROM letters WHERE id = 1;
         INSERT INTO letters VALUES (2, 'x') ON CONFLICT DO NOTHING;
         INSERT INTO letters VALUES (2, 'y'), (4, 'd') ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body;
         MERGE INTO letters USING (VALUES (2), (5)) AS v (id) ON letters.id = v.id
           WHEN MATCHED THEN UPDATE SET body = 'merged' WHEN NOT MATCHED THEN INSERT (id, body) VALUES (v.id, 'e');
         TRUNCATE letters; INSERT INTO letters VALUES (1, 'f')",
    );
    assert_eq!(told, ["m:a", "m:b", "m:c", "m:d", "m:e", "m:f"]);
}

/// By the same statement's triggers, before ours fires and behind it.
#[test]
fn a_row_may_be_gone_when_its_statement_ends() {
    for name in ["a_delete", "z_delete"] {
        let told = told_of(
            &format!("outbox_{name}"),
            &format!(
                "CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS
                   $$ BEGIN DELETE FROM letters WHERE id = NEW.id; RETURN NULL; END $$;
                 CREATE TRIGGER {name} AFTER INSERT ON letters FOR EACH ROW EXECUTE FUNCTION gone()"
            ),
            "INSERT INTO t VALUES (1); INSERT INTO letters VALUES (1, 'a'), (2, repeat('x', 5000) || '!');
             INSERT INTO t SELECT 100 + count(*) FROM letters",
        );
        assert_eq!(
            told,
            [
                "i:1".to_owned(),
                "m:a".to_owned(),
                format!("m:{}!", "x".repeat(5000)),
                "i:100".to_owned()
            ]
        );
    }
}

#[test]
fn it_is_what_the_row_is_when_it_is_stored() {
    let told = told_of(
        "outbox_before",
        "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.id < 0 THEN RETURN NULL; END IF;
           NEW.body := upper(NEW.body); RETURN NEW; END $$;
         CREATE TRIGGER change BEFORE INSERT ON letters FOR EACH ROW EXECUTE FUNCTION change()",
        "INSERT INTO letters VALUES (1, 'a'), (-1, 'b'), (2, 'c')",
    );
    assert_eq!(told, ["m:A", "m:C"]);
}

#[test]
fn copy_into_the_table_sends_its_rows() {
    use std::io::Write;
    let (fixture, mut client) = tables("outbox_copy");
    let copy = |client: &mut Client, statement: &str, rows: &str| {
        let mut writer = client.copy_in(statement).unwrap();
        writer.write_all(rows.as_bytes()).unwrap();
        writer.finish().unwrap();
    };
    run(&mut client, "BEGIN; INSERT INTO t VALUES (1)");
    copy(&mut client, "COPY letters (id, body, type) FROM stdin", "1\ta\tA\n2\tb\tB\n");
    run(&mut client, "INSERT INTO t VALUES (2); TRUNCATE letters");
    // Rows that say no command.
    copy(&mut client, "COPY letters (id, body) FROM stdin WITH (FREEZE)", "3\tc\n4\td\n");
    run(&mut client, "INSERT INTO t VALUES (3); COMMIT");
    let told = told(&published_so_far(&fixture, &mut client));
    assert_eq!(told, ["i:1", "m:a", "m:b", "i:2", "m:c", "m:d", "i:3"]);
}

/// A row that an UPDATE moves to another partition is inserted there, as to any trigger.
#[test]
fn a_partitioned_outbox_sends_the_rows_of_all_its_partitions() {
    let (fixture, mut client) = tables("outbox_partitions");
    run(
        &mut client,
        "CREATE TABLE parts (id int, body text) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (10);
         CREATE TRIGGER send AFTER INSERT ON parts FOR EACH ROW EXECUTE FUNCTION
           amqp_change_data_capture('', '', 'body=body');
         CREATE TABLE high (body text, gone int, id int); ALTER TABLE high DROP gone;
         ALTER TABLE parts ATTACH PARTITION high FOR VALUES FROM (10) TO (20);
         BEGIN; INSERT INTO parts VALUES (1, 'a'), (11, 'b'); INSERT INTO t VALUES (1);
         INSERT INTO high VALUES ('c', 12); DELETE FROM parts WHERE id <> 1; UPDATE parts SET body = 'changed';
         INSERT INTO t VALUES (2); COMMIT; UPDATE parts SET id = 15",
    );
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!(told(&messages), ["m:a", "m:b", "i:1", "m:c", "i:2", "m:changed"]);
    // The resource is the topmost table's name.
    assert!(
        messages
            .iter()
            .filter(|message| message.headers.contains_key("published"))
            .all(|message| message.routing_key == "cdc.parts.insert")
    );
}

#[test]
fn a_deferred_trigger_sends_at_the_end_what_is_gone_by_then() {
    let (fixture, mut client) = tables("outbox_deferred");
    run(
        &mut client,
        "DROP TRIGGER send ON letters;
         CREATE CONSTRAINT TRIGGER send AFTER INSERT ON letters DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture('letter', 'cdc', 'body=body');
         BEGIN; INSERT INTO letters VALUES (1, 'a'); DELETE FROM letters; COMMIT",
    );
    assert_eq!(told(&published_so_far(&fixture, &mut client)), ["m:a"]);
}

#[test]
fn unlogged_and_temporary_outboxes_send_too() {
    let (fixture, mut client) = tables("outbox_unlogged");
    run(
        &mut client,
        "CREATE UNLOGGED TABLE u (body text); CREATE TEMP TABLE v (body text);
         CREATE TRIGGER send AFTER INSERT ON u FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('u', '', 'body=body');
         CREATE TRIGGER send AFTER INSERT ON v FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('v', '', 'body=body');
         BEGIN; INSERT INTO u VALUES ('a'); INSERT INTO t VALUES (1); INSERT INTO v VALUES ('b'); DELETE FROM u;
         INSERT INTO t VALUES (2); COMMIT",
    );
    assert_eq!(told(&published_so_far(&fixture, &mut client)), ["m:a", "i:1", "m:b", "i:2"]);
}

/// Whatever nests in whatever: with a second trigger on the table, which sends the rows as rows, message and event of
/// a row are side by side.
#[test]
fn each_message_stands_beside_the_event_of_its_row() {
    let (fixture, mut client) = tables("outbox_beside");
    run(
        &mut client,
        "CREATE SEQUENCE ids;
         CREATE TRIGGER zz_row AFTER INSERT ON letters FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('row');
         CREATE FUNCTION letter() RETURNS void LANGUAGE sql AS
           $$ INSERT INTO letters SELECT n, n FROM nextval('ids') n $$;
         CREATE FUNCTION before_t() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN IF random() < 0.4 THEN PERFORM letter(); END IF; RETURN NEW; END $$;
         CREATE FUNCTION after_letters() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF random() < 0.2 THEN INSERT INTO t VALUES (nextval('ids')); END IF;
           IF random() < 0.2 THEN DELETE FROM letters WHERE id = NEW.id; END IF;
           RETURN NULL; END $$;
         CREATE TRIGGER b BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION before_t();
         CREATE TRIGGER a_first AFTER INSERT ON letters FOR EACH ROW EXECUTE FUNCTION after_letters();
         CREATE TRIGGER zzz_last AFTER INSERT ON letters FOR EACH ROW EXECUTE FUNCTION after_letters();
         CREATE FUNCTION step(depth int) RETURNS text VOLATILE LANGUAGE plpgsql AS $$ BEGIN
           FOR i IN 1 .. 3 - depth LOOP
             CASE floor(random() * 8)
               WHEN 0 THEN PERFORM letter();
               WHEN 1 THEN INSERT INTO letters SELECT n, n FROM (SELECT nextval('ids') FROM generate_series(1, 3)) s (n);
               WHEN 2 THEN INSERT INTO t VALUES (nextval('ids'));
               WHEN 3 THEN INSERT INTO letters SELECT n, n, NULL, step(depth + 1)
                             FROM (SELECT nextval('ids') FROM generate_series(1, 2)) s (n);
               WHEN 4 THEN INSERT INTO t SELECT nextval('ids'), step(depth + 1) FROM generate_series(1, 2);
               WHEN 5 THEN
                 BEGIN
                   PERFORM step(depth + 1);
                   IF random() < 0.5 THEN RAISE 'no'; END IF;
                 EXCEPTION WHEN raise_exception THEN PERFORM letter();
                 END;
               WHEN 6 THEN DELETE FROM letters WHERE random() < 0.5;
               ELSE PERFORM amqp.publish('k', 'x');
             END CASE;
           END LOOP;
           RETURN depth;
         END $$;
         SELECT setseed(0.25)",
    );
    let (mut count, mut moved) = (0, 0);
    for _ in 0..40 {
        run(&mut client, "BEGIN; SELECT step(0); SELECT step(0); SELECT step(0); COMMIT");
        let messages = published_so_far(&fixture, &mut client);
        let lsns: Vec<u64> = messages.iter().map(written_at).collect();
        moved += usize::from(!lsns.is_sorted());
        let is_letter = |message: &Message| message.routing_key == "cdc.letter.insert";
        let rows = messages.iter().filter(|message| message.routing_key == "cdc.row.insert");
        assert_eq!(rows.count(), messages.iter().filter(|message| is_letter(message)).count());
        for pair in messages.windows(2).filter(|pair| is_letter(&pair[0])) {
            assert_eq!(pair[1].routing_key, "cdc.row.insert", "{:?}", told(&messages));
            assert_eq!(pair[1].json()["current"]["body"], pair[0].text(), "{:?}", told(&messages));
            count += 1;
        }
    }
    println!("{count} messages; events were moved in {moved} transactions");
    assert!(count > 200 && moved > 10, "{count} messages, {moved} transactions");
}

/// Where its event was written, by the end of its id.
fn written_at(message: &Message) -> u64 {
    let id = message.message_id.as_deref().unwrap_or_default();
    lsn(&id.split('/').skip(2).collect::<Vec<_>>().join("/"))
}
