//! A message stands at its exact place among the row changes, wherever it is sent from.

use pg_test::{Fixture, Message, Postgres, insert_lsn};
use postgres::Client;

use crate::helpers::{blog, lsn_text, make_wholly_captured, published_so_far, run};

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
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(message.headers["tx_seq"], serde_json::json!(number + 1), "{}", message.text());
    }
    messages.iter().map(one).collect()
}

/// A fixture with bare tables `t` and `u`: no trigger but ours.
fn tables(name: &str) -> (Fixture<'static>, Client) {
    let (fixture, mut client) = blog(name);
    for table in ["t", "u"] {
        make_wholly_captured(&mut client, table);
    }
    (fixture, client)
}

/// What is told of a transaction of these statements.
#[track_caller]
fn told_of(name: &str, before: &str, transaction: &str) -> Vec<String> {
    let (fixture, mut client) = tables(name);
    run(&mut client, before);
    published_so_far(&fixture, &mut client);
    run(&mut client, &format!("BEGIN; {transaction}; COMMIT"));
    told(&published_so_far(&fixture, &mut client))
}

#[test]
fn between_statements_a_message_stands_between_their_rows() {
    let told = told_of(
        "publish_between",
        "",
        "SELECT amqp.publish('k', 'a'); INSERT INTO t VALUES (1), (2); SELECT amqp.publish('k', 'b');
         SELECT amqp.publish('k', 'c'); UPDATE t SET v = 'x' WHERE id = 2; DELETE FROM t WHERE id = 1;
         SELECT amqp.publish('k', 'd'); TRUNCATE t; SELECT amqp.publish('k', 'e'); INSERT INTO t VALUES (3)",
    );
    assert_eq!(told, ["m:a", "i:1", "i:2", "m:b", "m:c", "u:2", "d:1", "m:d", "t", "m:e", "i:3"]);
}

#[test]
fn in_the_select_list_of_an_insert_a_message_comes_before_its_row_and_behind_the_one_before() {
    let told = told_of(
        "publish_select_list",
        "",
        "INSERT INTO t SELECT g, amqp.publish('k', g::text) FROM generate_series(1, 3) g;
         INSERT INTO u VALUES (4, amqp.publish('k', 'v')), (5, amqp.publish('k', 'w'))",
    );
    assert_eq!(told, ["m:1", "i:1", "m:2", "i:2", "m:3", "i:3", "m:v", "i:4", "m:w", "i:5"]);
}

#[test]
fn in_returning_a_message_comes_behind_its_row() {
    let told = told_of(
        "publish_returning",
        "INSERT INTO t VALUES (1), (2), (3)",
        "UPDATE t SET v = 'x' WHERE id < 3 RETURNING amqp.publish('k', id::text);
         DELETE FROM t RETURNING amqp.publish('k', 'gone ' || id)",
    );
    assert_eq!(
        told,
        ["u:1", "m:1", "u:2", "m:2", "d:3", "m:gone 3", "d:1", "m:gone 1", "d:2", "m:gone 2"]
    );
}

#[test]
fn in_set_and_where_a_message_comes_before_its_row() {
    let told = told_of(
        "publish_where",
        "INSERT INTO t VALUES (1), (2)",
        "UPDATE t SET v = amqp.publish('k', 'set ' || id);
         DELETE FROM t WHERE amqp.publish('k', 'where ' || id) IS NOT NULL",
    );
    assert_eq!(told, ["m:set 1", "u:1", "m:set 2", "u:2", "m:where 1", "d:1", "m:where 2", "d:2"]);
}

#[test]
fn in_a_cte_a_message_stands_where_it_is_evaluated() {
    let told = told_of(
        "publish_cte",
        "",
        "WITH made AS (INSERT INTO t VALUES (1), (2) RETURNING id, amqp.publish('k', 'made ' || id) AS m),
              more AS (INSERT INTO u SELECT id + 10, m FROM made RETURNING id)
         SELECT amqp.publish('k', 'last ' || id) FROM more",
    );
    assert_eq!(
        told,
        ["i:1", "m:made 1", "i:11", "m:last 11", "i:2", "m:made 2", "i:12", "m:last 12"]
    );
}

#[test]
fn in_triggers_before_and_behind_ours_a_message_stands_where_they_fire() {
    let send = |name: &str, when: &str| {
        format!(
            "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN PERFORM amqp.publish('k', '{name} ' || NEW.id); RETURN NEW; END $$;
             CREATE TRIGGER {name} {when} INSERT ON t FOR EACH ROW EXECUTE FUNCTION {name}();"
        )
    };
    let triggers = send("before", "BEFORE") + &send("a_after", "AFTER") + &send("z_after", "AFTER");
    let told = told_of("publish_triggers", &triggers, "INSERT INTO t VALUES (1), (2)");
    // AFTER triggers fire when all rows are there.
    assert_eq!(
        told,
        [
            "m:before 1",
            "i:1",
            "m:before 2",
            "i:2",
            "m:a_after 1",
            "m:z_after 1",
            "m:a_after 2",
            "m:z_after 2"
        ]
    );
}

#[test]
fn a_function_that_writes_and_sends_in_the_middle_of_a_statement_is_told_in_its_order() {
    let told = told_of(
        "publish_function",
        "CREATE FUNCTION work(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
           PERFORM amqp.publish('k', 'begin ' || n);
           INSERT INTO u VALUES (n + 10);
           PERFORM amqp.publish('k', 'middle ' || n);
           UPDATE u SET v = amqp.publish('k', 'set ' || n) WHERE id = n + 10;
           BEGIN
             INSERT INTO u VALUES (n + 20); PERFORM amqp.publish('k', 'taken back'); RAISE 'no';
           EXCEPTION WHEN raise_exception THEN PERFORM amqp.publish('k', 'caught ' || n);
           END;
           RETURN n;
         END $$",
        "INSERT INTO t SELECT work(g) FROM generate_series(1, 2) g; SELECT amqp.publish('k', 'end')",
    );
    let one = |n: i32| {
        [
            format!("m:begin {n}"),
            format!("i:{}", n + 10),
            format!("m:middle {n}"),
            format!("m:set {n}"),
            format!("u:{}", n + 10),
            format!("m:caught {n}"),
            format!("i:{n}"),
        ]
    };
    assert_eq!(told, [one(1).as_slice(), &one(2), &["m:end".to_owned()]].concat());
}

#[test]
fn parameters_of_execute_and_rows_of_a_cursor_send_where_they_are_evaluated() {
    let told = told_of(
        "publish_execute",
        "INSERT INTO u VALUES (1), (2)",
        "PREPARE p(text) AS INSERT INTO t VALUES (1, $1); EXECUTE p(amqp.publish('k', 'parameter')); DEALLOCATE p;
         DECLARE c CURSOR FOR SELECT amqp.publish('k', 'cursor ' || id) FROM u ORDER BY id;
         FETCH 1 FROM c; INSERT INTO t VALUES (2); FETCH 1 FROM c; INSERT INTO t VALUES (3)",
    );
    assert_eq!(told, ["m:parameter", "i:1", "m:cursor 1", "i:2", "m:cursor 2", "i:3"]);
}

#[test]
fn a_truncate_stands_among_messages_that_its_triggers_send() {
    let told = told_of(
        "publish_truncate",
        "CREATE FUNCTION first() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN INSERT INTO t VALUES (9); PERFORM amqp.publish('k', 'before'); RETURN NULL; END $$;
         CREATE FUNCTION last() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM amqp.publish('k', 'after'); INSERT INTO t VALUES (0); RETURN NULL; END $$;
         CREATE TRIGGER b BEFORE TRUNCATE ON t FOR EACH STATEMENT EXECUTE FUNCTION first();
         CREATE TRIGGER a AFTER TRUNCATE ON t FOR EACH STATEMENT EXECUTE FUNCTION last()",
        "INSERT INTO t VALUES (1); SELECT amqp.publish('k', 'x'); TRUNCATE t; SELECT amqp.publish('k', 'y')",
    );
    assert_eq!(told, ["i:1", "m:x", "i:9", "m:before", "t", "m:after", "i:0", "m:y"]);
}

/// The payloads of the events that this fixture's database has written since then, in hexadecimal digits.
fn payloads(fixture: &Fixture<'_>, client: &mut Client, since: u64) -> Vec<String> {
    let (postgres, end) = (&fixture.testbed.postgres, insert_lsn(client));
    let database: String = fixture.database.bytes().map(|byte| format!("{byte:02X}")).collect();
    let output = Postgres::program("pg_waldump")
        .args(["-p"])
        .arg(postgres.data_dir().join("pg_wal"))
        .args(["-r", "LogicalMessage", "-s", &lsn_text(since), "-e", &lsn_text(end)])
        .output();
    let output = output.expect("pg_waldump runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter(|line| line.contains("prefix \"amqp_cdc\""));
    lines
        .filter_map(|line| line.split_once(" bytes): "))
        .map(|(_, hex)| hex.replace(' ', ""))
        .filter(|hex| hex.starts_with("02") && hex.contains(&database))
        .collect()
}

/// A late event names the place of its row, for the worker to read the WAL again: the first field behind the head
/// of 14 bytes.
fn is_late(payload: &str) -> bool {
    payload.get(28..30) == Some("01")
}

/// What makes rows late costs the worker a second look at the WAL.
#[test]
fn a_message_between_statements_makes_no_late_event_and_one_inside_makes_the_rows_late() {
    let (fixture, mut client) = tables("publish_late");
    let mut late = |statements: &str| {
        let since = insert_lsn(&mut client);
        run(&mut client, statements);
        let payloads = payloads(&fixture, &mut client, since);
        payloads.iter().map(|payload| is_late(payload)).collect::<Vec<bool>>()
    };
    let message = "SELECT amqp.publish('k', 'm')";
    let none = |count| vec![false; count];
    assert_eq!(late(&format!("BEGIN; {message}; INSERT INTO t VALUES (1), (2); COMMIT")), none(3));
    let nested = format!(
        "BEGIN; INSERT INTO t VALUES (3); {message}; INSERT INTO t VALUES (4); UPDATE t SET v = 'x' WHERE id = 4; \
         {message}; {message}; DELETE FROM t WHERE id = 3; TRUNCATE u; SAVEPOINT a; {message}; ROLLBACK TO a; \
         INSERT INTO t VALUES (5); COMMIT"
    );
    assert_eq!(late(&nested), none(10));
    // Inside of a statement: its rows are late, and the message is not.
    let inside = "INSERT INTO t SELECT 6, amqp.publish('k', 'm')";
    assert_eq!(late(inside), [false, true]);
    assert_eq!(
        late(&format!("BEGIN; {inside} WHERE false; INSERT INTO t VALUES (7); COMMIT")),
        none(1)
    );
}
