//! Commit order across transactions; within one the order of the changes, also where triggers and
//! functions change rows in the middle of a statement.

use std::collections::{BTreeMap, BTreeSet};

use pg_test::{
    DEADLINE, Message, Proxy, Shutdown, Testbed, insert_lsn, send_signal, testbed, wait_until,
};
use postgres::{Client, NoTls};
use serde_json::{Value, json};

use crate::helpers::{
    ask, blog, is_change, make_blog, published_so_far, replace_worker, run, wait_until_replayed,
    worker_pid,
};

#[test]
fn transactions_come_in_the_order_in_which_they_committed() {
    let (fixture, mut first) = blog("commit_order");
    let mut second = fixture.client();
    run(&mut first, "BEGIN; INSERT INTO blog_articles VALUES (1)");
    run(&mut second, "BEGIN; INSERT INTO blog_articles VALUES (2)");
    run(&mut first, "INSERT INTO blog_articles VALUES (3)");
    run(&mut second, "COMMIT");
    run(&mut first, "COMMIT");
    let events = published_so_far(&fixture, &mut first);
    let ids: Vec<_> = events.iter().map(|event| event.json()["current"]["id"].clone()).collect();
    assert_eq!(ids, [json!(2), json!(1), json!(3)]);
}

#[test]
fn rows_of_one_statement_come_in_their_order() {
    let (fixture, mut client) = blog("row_order");
    run(&mut client, "INSERT INTO blog_articles SELECT g FROM generate_series(1, 5000) g");
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(events.len(), 5000);
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event.headers["tx_seq"], json!(n + 1));
        assert_eq!(event.json()["current"]["id"], json!(n + 1));
    }
}

/// Makes a table, such as `t (id int PRIMARY KEY, v text)`, and captures it.
#[track_caller]
fn table(client: &mut Client, definition: &str) {
    run(client, &format!("CREATE TABLE {definition}"));
    let name = definition.split_whitespace().next().unwrap_or_default();
    capture(client, name, "m_capture");
}

/// Captures a table by triggers whose names begin so: triggers fire in the order of their names.
#[track_caller]
fn capture(client: &mut Client, table: &str, trigger: &str) {
    run(
        client,
        &format!(
            "CREATE TRIGGER \"{trigger}\" AFTER INSERT OR UPDATE OR DELETE ON {table}
               FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture();
             CREATE TRIGGER \"{trigger}_t\" AFTER TRUNCATE ON {table}
               FOR EACH STATEMENT EXECUTE FUNCTION amqp_change_data_capture()"
        ),
    );
}

/// Makes a trigger, such as `BEFORE INSERT ON t`, that does what `body` says.
#[track_caller]
fn trigger(client: &mut Client, name: &str, when: &str, body: &str) {
    let each = if when.contains("TRUNCATE") { "STATEMENT" } else { "ROW" };
    run(
        client,
        &format!(
            "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN {body}; RETURN NEW; END $$;
             CREATE TRIGGER {name} {when} FOR EACH {each} EXECUTE FUNCTION {name}()"
        ),
    );
}

/// A captured log, and a function for the middle of statements: it writes its argument there, and
/// returns it.
#[track_caller]
fn make_log(client: &mut Client) {
    table(client, "log (id int, v text)");
    run(
        client,
        "CREATE FUNCTION logged(n int, word text) RETURNS int LANGUAGE plpgsql AS
           $$ BEGIN INSERT INTO log VALUES (n, word); RETURN n; END $$",
    );
}

/// `t insert 1,a`, `t update 1,a>1,b`, `t truncate`: rows as the values of their columns, in the
/// order of these columns' names. Each transaction's messages must be numbered as they come.
#[track_caller]
fn told(messages: &[Message]) -> Vec<String> {
    let mut numbered: BTreeMap<String, u64> = BTreeMap::new();
    for message in messages {
        let number = numbered.entry(message.headers["xid"].to_string()).or_default();
        *number += 1;
        assert_eq!(message.headers["tx_seq"], json!(*number), "{}", message.text());
    }
    messages.iter().map(one_told).collect()
}

fn one_told(message: &Message) -> String {
    let body = message.json();
    let rows: Vec<String> = ["previous", "current"]
        .iter()
        .filter_map(|member| body[*member].as_object())
        .map(|row| row.values().map(plain).collect::<Vec<_>>().join(","))
        .collect();
    let text =
        format!("{} {} {}", plain(&body["tablename"]), plain(&body["operation"]), rows.join(">"));
    text.trim_end().to_owned()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[test]
fn the_row_that_a_before_trigger_deletes_goes_before_the_new_one_comes() {
    let (fixture, mut client) = blog("replace");
    table(&mut client, "price (id int PRIMARY KEY, v int)");
    trigger(&mut client, "bi", "BEFORE INSERT ON price", "DELETE FROM price WHERE id = NEW.id");
    run(&mut client, "INSERT INTO price VALUES (1, 10)");
    run(&mut client, "INSERT INTO price VALUES (1, 20)");
    assert_eq!(
        told(&published_so_far(&fixture, &mut client)),
        ["price insert 1,10", "price delete 1,10", "price insert 1,20"]
    );
}

#[test]
fn a_parent_that_a_before_trigger_makes_comes_before_its_child() {
    let (fixture, mut client) = blog("parent");
    make_family(&mut client);
    run(&mut client, "INSERT INTO child VALUES (1, 10), (2, 10), (3, 30)");
    assert_eq!(
        told(&published_so_far(&fixture, &mut client)),
        [
            "parent insert 10",
            "child insert 1,10",
            "child insert 2,10",
            "parent insert 30",
            "child insert 3,30"
        ]
    );
}

/// A child makes its parent.
#[track_caller]
fn make_family(client: &mut Client) {
    table(client, "parent (id int PRIMARY KEY)");
    table(client, "child (id int PRIMARY KEY, parent int REFERENCES parent)");
    trigger(
        client,
        "make_parent",
        "BEFORE INSERT ON child",
        "INSERT INTO parent VALUES (NEW.parent) ON CONFLICT DO NOTHING",
    );
}

#[test]
fn what_a_trigger_writes_after_truncate_comes_after_it() {
    let (fixture, mut client) = blog("truncate_seed");
    make_seeded(&mut client);
    run(&mut client, "INSERT INTO t VALUES (1, 'x')");
    run(&mut client, "TRUNCATE t");
    assert_eq!(
        told(&published_so_far(&fixture, &mut client)),
        ["t insert 1,x", "t truncate", "t insert 0,default"]
    );
}

/// A table that is never empty: a trigger that sorts before ours writes a row after TRUNCATE.
#[track_caller]
fn make_seeded(client: &mut Client) {
    table(client, "t (id int PRIMARY KEY, v text)");
    trigger(client, "a_seed", "AFTER TRUNCATE ON t", "INSERT INTO t VALUES (0, 'default')");
}

#[test]
fn what_a_trigger_writes_before_truncate_comes_before_it() {
    let (fixture, mut client) = blog("before_truncate");
    make_seeded(&mut client);
    make_log(&mut client);
    trigger(
        &mut client,
        "b_last",
        "BEFORE TRUNCATE ON t",
        "INSERT INTO t VALUES (9, 'last'); INSERT INTO log VALUES (1, 'truncated')",
    );
    run(&mut client, "BEGIN; INSERT INTO t VALUES (1, 'x'); TRUNCATE t, log; COMMIT");
    let told = told(&published_so_far(&fixture, &mut client));
    assert_eq!(told[..3], ["t insert 1,x", "t insert 9,last", "log insert 1,truncated"]);
    let truncates: BTreeSet<&str> = told[3..5].iter().map(String::as_str).collect();
    assert_eq!(truncates, BTreeSet::from(["t truncate", "log truncate"]));
    assert_eq!(told[5..], ["t insert 0,default"]);
}

/// Whoever applies them one after the other must not meet an id that is still taken.
#[test]
fn rows_of_an_update_come_before_what_triggers_log_of_them() {
    for (number, ours) in ["A_capture", "z_capture"].iter().enumerate() {
        let (fixture, mut client) = blog(&format!("shift_{number}"));
        make_log(&mut client);
        run(&mut client, "CREATE TABLE t (id int PRIMARY KEY)");
        capture(&mut client, "t", ours);
        run(&mut client, "INSERT INTO t VALUES (1), (2)");
        published_so_far(&fixture, &mut client);
        trigger(&mut client, "m_log", "AFTER UPDATE ON t", "INSERT INTO log VALUES (NEW.id, 'u')");
        run(&mut client, "UPDATE t SET id = id - 1");
        assert_eq!(
            told(&published_so_far(&fixture, &mut client)),
            ["t update 1>0", "t update 2>1", "log insert 0,u", "log insert 1,u"],
            "{ours}"
        );
    }
}

#[test]
fn cascades_of_a_before_trigger_stand_between_its_delete_and_the_row() {
    // Foreign keys are triggers named RI_…: ours fires before them, and after them.
    for (number, ours) in ["A_capture", "z_capture"].iter().enumerate() {
        let (fixture, mut client) = blog(&format!("cascade_{number}"));
        run(&mut client, "CREATE TABLE p (id int PRIMARY KEY)");
        capture(&mut client, "p", ours);
        table(&mut client, "c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE)");
        table(&mut client, "n (id int PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL)");
        table(&mut client, "t (id int PRIMARY KEY)");
        run(&mut client, "INSERT INTO p VALUES (1), (2)");
        run(&mut client, "INSERT INTO c VALUES (11, 1), (12, 2); INSERT INTO n VALUES (21, 1)");
        published_so_far(&fixture, &mut client);
        trigger(&mut client, "bi", "BEFORE INSERT ON t", "DELETE FROM p WHERE id = NEW.id");
        run(&mut client, "INSERT INTO t VALUES (1), (2)");
        assert_eq!(
            told(&published_so_far(&fixture, &mut client)),
            [
                "p delete 1",
                "c delete 11,1",
                "n update 21,1>21,null",
                "t insert 1",
                "p delete 2",
                "c delete 12,2",
                "t insert 2"
            ],
            "{ours}"
        );
    }
}

/// The subtransaction has no transaction id yet when it makes the table's new file.
#[test]
fn truncate_behind_a_savepoint_of_a_table_that_was_locked_before_stands_in_its_place() {
    let (fixture, mut client) = blog("lock_savepoint");
    make_seeded(&mut client);
    run(
        &mut client,
        "BEGIN; INSERT INTO t VALUES (1, 'x'); LOCK TABLE t;
         SAVEPOINT a; TRUNCATE t; RELEASE a;
         INSERT INTO t VALUES (2, 'y'); COMMIT",
    );
    assert_eq!(
        told(&published_so_far(&fixture, &mut client)),
        ["t insert 1,x", "t truncate", "t insert 0,default", "t insert 2,y"]
    );
}

#[test]
fn truncate_in_an_exception_block_of_a_table_that_was_locked_before_stands_in_its_place() {
    let (fixture, mut client) = blog("lock_exception");
    make_seeded(&mut client);
    make_log(&mut client);
    run(&mut client, "INSERT INTO t VALUES (1, 'x')");
    published_so_far(&fixture, &mut client);
    run(
        &mut client,
        "CREATE FUNCTION emptied(n int) RETURNS int LANGUAGE plpgsql AS $$
         BEGIN
           INSERT INTO log VALUES (n, 'before');
           LOCK TABLE t;
           BEGIN TRUNCATE t; EXCEPTION WHEN OTHERS THEN INSERT INTO log VALUES (n, 'failed'); END;
           INSERT INTO log VALUES (n, 'after');
           RETURN n;
         END $$;
         CREATE TABLE outer_table (id int);",
    );
    capture(&mut client, "outer_table", "m_capture");
    run(&mut client, "INSERT INTO outer_table SELECT emptied(g) FROM generate_series(1, 2) g");
    let one = |n: i32| {
        [
            format!("log insert {n},before"),
            "t truncate".to_owned(),
            "t insert 0,default".to_owned(),
            format!("log insert {n},after"),
            format!("outer_table insert {n}"),
        ]
    };
    assert_eq!(told(&published_so_far(&fixture, &mut client)), [one(1), one(2)].concat());
}

/// A table that is emptied in the transaction that made it keeps its file: the file and the place in
/// it are those of two rows.
#[test]
fn a_table_made_filled_emptied_and_filled_again_inside_a_statement_comes_in_that_order() {
    let (fixture, mut client) = blog("made");
    make_log(&mut client);
    table(&mut client, "t (id int PRIMARY KEY)");
    run(
        &mut client,
        "CREATE FUNCTION made(n int) RETURNS int LANGUAGE plpgsql AS $$
         DECLARE m text := 'm' || n;
         BEGIN
           EXECUTE format('CREATE TABLE %I (id int, v text)', m);
           EXECUTE format('CREATE TRIGGER r AFTER INSERT ON %I
             FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()', m);
           EXECUTE format('CREATE TRIGGER t AFTER TRUNCATE ON %I
             FOR EACH STATEMENT EXECUTE FUNCTION amqp_change_data_capture()', m);
           EXECUTE format('INSERT INTO %I SELECT logged(1, ''x''), ''first''', m);
           EXECUTE format('TRUNCATE %I', m);
           EXECUTE format('INSERT INTO %I SELECT logged(1, ''y''), ''second''', m);
           RETURN n;
         END $$;
         INSERT INTO t SELECT made(g) FROM generate_series(1, 2) g",
    );
    let one = |n: i32| {
        [
            "log insert 1,x".to_owned(),
            format!("m{n} insert 1,first"),
            format!("m{n} truncate"),
            "log insert 1,y".to_owned(),
            format!("m{n} insert 1,second"),
            format!("t insert {n}"),
        ]
    };
    assert_eq!(told(&published_so_far(&fixture, &mut client)), [one(1), one(2)].concat());
}

/// Of its rows nothing is in the WAL: where they come is not promised, only that they come.
#[test]
fn an_unlogged_table_between_two_logged_ones_does_not_disturb_their_order() {
    let (fixture, mut client) = blog("unlogged");
    make_log(&mut client);
    run(&mut client, "CREATE UNLOGGED TABLE u (id int PRIMARY KEY)");
    capture(&mut client, "u", "m_capture");
    table(&mut client, "t (id int PRIMARY KEY)");
    trigger(&mut client, "u_bi", "BEFORE INSERT ON u", "INSERT INTO log VALUES (NEW.id, 'of u')");
    trigger(
        &mut client,
        "bi",
        "BEFORE INSERT ON t",
        "INSERT INTO log VALUES (NEW.id, 'first'); INSERT INTO u VALUES (NEW.id);
         INSERT INTO log VALUES (NEW.id, 'second')",
    );
    run(&mut client, "INSERT INTO t VALUES (1), (2)");
    let mut told = told(&published_so_far(&fixture, &mut client));
    let one = |n: i32| {
        [
            format!("log insert {n},first"),
            format!("log insert {n},of u"),
            format!("log insert {n},second"),
            format!("t insert {n}"),
        ]
    };
    let unlogged: Vec<String> = told.extract_if(.., |change| change.starts_with("u ")).collect();
    assert_eq!(unlogged, ["u insert 1", "u insert 2"]);
    assert_eq!(told, [one(1), one(2)].concat());
}

#[test]
fn truncate_of_a_partitioned_table_comes_before_the_rows_that_its_trigger_writes() {
    let (fixture, mut client) = blog("partitioned");
    run(
        &mut client,
        "CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE part_low PARTITION OF part FOR VALUES FROM (0) TO (10);
         CREATE TABLE part_high PARTITION OF part FOR VALUES FROM (10) TO (20)",
    );
    capture(&mut client, "part", "m_capture");
    trigger(&mut client, "a_seed", "AFTER TRUNCATE ON part", "INSERT INTO part VALUES (11), (1)");
    run(&mut client, "BEGIN; INSERT INTO part VALUES (12); TRUNCATE part; COMMIT");
    assert_eq!(
        told(&published_so_far(&fixture, &mut client)),
        ["part_high insert 12", "part truncate", "part_high insert 11", "part_low insert 1"]
    );
}

/// Frozen rows carry no command id.
#[test]
fn frozen_rows_come_before_what_triggers_make_of_them() {
    let (fixture, mut client) = blog("freeze");
    make_log(&mut client);
    table(&mut client, "t (id int PRIMARY KEY, v text)");
    trigger(
        &mut client,
        "a_log",
        "AFTER INSERT ON t",
        "INSERT INTO log VALUES (NEW.id, 'new'); UPDATE t SET v = v || '!' WHERE id = NEW.id",
    );
    run(
        &mut client,
        "BEGIN; TRUNCATE t;
         COPY t FROM PROGRAM 'printf ''1,a\\n2,b\\n''' WITH (FORMAT csv, FREEZE);
         INSERT INTO log VALUES (0, 'end'); COMMIT",
    );
    assert_eq!(
        told(&published_so_far(&fixture, &mut client)),
        [
            "t truncate",
            "t insert 1,a",
            "t insert 2,b",
            "log insert 1,new",
            "t update 1,a>1,a!",
            "log insert 2,new",
            "t update 2,b>2,b!",
            "log insert 0,end"
        ]
    );
}

#[test]
fn a_row_that_an_earlier_trigger_changes_again_comes_first_as_it_was_then_as_it_is() {
    let (fixture, mut client) = blog("again");
    table(&mut client, "t (id int PRIMARY KEY, v text)");
    trigger(
        &mut client,
        "a_again",
        "AFTER INSERT OR UPDATE ON t",
        "IF length(NEW.v) < 3 THEN UPDATE t SET v = NEW.v || '!' WHERE id = NEW.id; END IF",
    );
    run(&mut client, "INSERT INTO t VALUES (1, 'a'), (2, 'b')");
    assert_eq!(
        told(&published_so_far(&fixture, &mut client)),
        [
            "t insert 1,a",
            "t insert 2,b",
            "t update 1,a>1,a!",
            "t update 1,a!>1,a!!",
            "t update 2,b>2,b!",
            "t update 2,b!>2,b!!"
        ]
    );
}

#[test]
fn functions_that_write_in_the_middle_of_statements_write_before_their_rows() {
    let (fixture, mut client) = blog("functions");
    make_log(&mut client);
    table(&mut client, "t (id int PRIMARY KEY, v int)");
    let mut changes = |statement: &str| {
        run(&mut client, statement);
        told(&published_so_far(&fixture, &mut client))
    };
    assert_eq!(
        changes("INSERT INTO t VALUES (logged(1, 'values'), 10), (logged(2, 'values'), 20)"),
        ["log insert 1,values", "t insert 1,10", "log insert 2,values", "t insert 2,20"]
    );
    assert_eq!(
        changes("INSERT INTO t SELECT logged(g, 'select'), 0 FROM generate_series(3, 4) g"),
        ["log insert 3,select", "t insert 3,0", "log insert 4,select", "t insert 4,0"]
    );
    assert_eq!(
        changes("UPDATE t SET v = logged(v + 1, 'set') WHERE id < 3"),
        ["log insert 11,set", "t update 1,10>1,11", "log insert 21,set", "t update 2,20>2,21"]
    );
    assert_eq!(
        changes(
            "INSERT INTO t VALUES (1, 0) ON CONFLICT (id) DO UPDATE SET v = logged(5, 'conflict')"
        ),
        ["log insert 5,conflict", "t update 1,11>1,5"]
    );
    assert_eq!(
        changes("DELETE FROM t WHERE id > 2 AND logged(id, 'where') > 2"),
        ["log insert 3,where", "t delete 3,0", "log insert 4,where", "t delete 4,0"]
    );
    assert_eq!(
        changes("UPDATE t SET v = 0 WHERE id = 1 RETURNING logged(id, 'returning')"),
        ["t update 1,5>1,0", "log insert 1,returning"]
    );
    assert_eq!(
        changes(
            "MERGE INTO t USING (VALUES (1), (7)) AS s (id) ON t.id = s.id
             WHEN MATCHED THEN UPDATE SET v = logged(1, 'merge')
             WHEN NOT MATCHED THEN INSERT VALUES (logged(s.id, 'merge'), 7)"
        ),
        ["log insert 1,merge", "t update 1,0>1,1", "log insert 7,merge", "t insert 7,7"]
    );
}

#[test]
fn a_query_that_writes_as_it_is_fetched_writes_between_the_statements_around_it() {
    let (fixture, mut client) = blog("cursor");
    make_log(&mut client);
    table(&mut client, "t (id int PRIMARY KEY)");
    run(
        &mut client,
        "BEGIN; DECLARE c CURSOR FOR SELECT logged(g, 'c') FROM generate_series(1, 3) g;
         INSERT INTO t VALUES (1); FETCH 1 FROM c; INSERT INTO t VALUES (2); FETCH 2 FROM c;
         INSERT INTO t VALUES (3); COMMIT",
    );
    assert_eq!(
        told(&published_so_far(&fixture, &mut client)),
        [
            "t insert 1",
            "log insert 1,c",
            "t insert 2",
            "log insert 2,c",
            "log insert 3,c",
            "t insert 3"
        ]
    );
}

#[test]
fn of_statements_behind_savepoints_those_come_in_order_that_were_not_rolled_back() {
    let (fixture, mut client) = blog("late_savepoints");
    make_family(&mut client);
    run(
        &mut client,
        "BEGIN; INSERT INTO child VALUES (1, 10);
         SAVEPOINT a; INSERT INTO child VALUES (2, 20); ROLLBACK TO a;
         SAVEPOINT b; INSERT INTO child VALUES (3, 30); RELEASE b;
         INSERT INTO child VALUES (4, 40); COMMIT",
    );
    assert_eq!(
        told(&published_so_far(&fixture, &mut client)),
        [
            "parent insert 10",
            "child insert 1,10",
            "parent insert 30",
            "child insert 3,30",
            "parent insert 40",
            "child insert 4,40"
        ]
    );
}

#[test]
fn a_prepared_transaction_keeps_its_order_whoever_commits_it() {
    let (fixture, mut client) = blog("late_prepared");
    make_family(&mut client);
    let name = fixture.database.clone();
    run(
        &mut client,
        &format!(
            "BEGIN; INSERT INTO child VALUES (1, 10), (2, 20); SAVEPOINT a;
             INSERT INTO child VALUES (3, 30); RELEASE a; PREPARE TRANSACTION '{name}'"
        ),
    );
    let mut other = fixture.client();
    // Between them lies what others write, and a place where recovery may begin.
    run(&mut other, "INSERT INTO child VALUES (9, 90)");
    run(&mut other, "CHECKPOINT");
    run(&mut other, &format!("COMMIT PREPARED '{name}'"));
    assert_eq!(
        told(&published_so_far(&fixture, &mut client)),
        [
            "parent insert 90",
            "child insert 9,90",
            "parent insert 10",
            "child insert 1,10",
            "parent insert 20",
            "child insert 2,20",
            "parent insert 30",
            "child insert 3,30"
        ]
    );
}

/// Parents and children, each parent right before its child.
fn families(ids: impl IntoIterator<Item = i32>) -> Vec<String> {
    ids.into_iter()
        .flat_map(|n| [format!("parent insert {n}"), format!("child insert {n},{n}")])
        .collect()
}

/// Its WAL is read again in many rounds of the worker's loop, and fills more than one file.
#[test]
fn a_transaction_larger_than_the_worker_s_memory_comes_in_order() {
    const ROWS: i32 = 5000;
    let bed = Testbed::private_with(&["--wal-segsize=1"], &["logical_decoding_work_mem = '64kB'"]);
    let fixture = bed.scene("large");
    let mut client = fixture.client();
    make_blog(&mut client);
    make_family(&mut client);
    run(&mut client, &format!("INSERT INTO child SELECT g, g FROM generate_series(1, {ROWS}) g"));
    assert_eq!(told(&published_so_far(&fixture, &mut client)), families(1..=ROWS));
}

/// Each life of the worker must number the events of a transaction alike, though it begins in the
/// middle of them.
#[test]
fn a_worker_that_begins_in_the_middle_of_a_transaction_numbers_its_events_as_the_one_before() {
    const ROWS: i32 = 4000;
    let bed = Testbed::private(&["amqp.max_in_flight = 20", "logical_decoding_work_mem = '64kB'"]);
    let fixture = bed.scene("middle");
    let mut client = fixture.client();
    make_blog(&mut client);
    make_family(&mut client);
    let confirmed =
        |client: &mut Client| -> i64 { ask(client, "SELECT events_confirmed FROM amqp.status") };
    run(&mut client, &format!("INSERT INTO child SELECT g, g FROM generate_series(1, {ROWS}) g"));
    for round in 0..4 {
        // Counted anew after a crash.
        let until = confirmed(&mut client) + 100;
        wait_until("some more are confirmed", DEADLINE, || {
            (confirmed(&mut client) >= until).then_some(())
        });
        if round % 2 == 0 {
            let worker = worker_pid(&mut client);
            send_signal(worker, "KILL");
            // The whole server begins anew.
            client = wait_until("another worker runs", DEADLINE, || {
                let to = bed.postgres.connection_string(&fixture.database);
                let mut fresh = Client::connect(&to, NoTls).ok()?;
                let status = fresh.query_one("SELECT worker_pid FROM amqp.status", &[]).ok()?;
                let successor: i32 = status.get::<_, Option<i32>>(0)?;
                (successor as u32 != worker).then_some(fresh)
            });
        } else {
            replace_worker(&mut client);
        }
    }
    bed.postgres.set("amqp.max_in_flight", "2000");
    let messages = published_so_far(&fixture, &mut client);
    let first = numbered_alike(&messages);
    assert!(first.iter().all(|message| message.headers["tx_size"] == json!(2 * ROWS)));
    assert_eq!(told(&first), families(1..=ROWS));
    println!("{} of {} came again", messages.len() - first.len(), first.len());
    let resent = messages.iter().any(|message| message.headers.contains_key("resent"));
    assert!(resent, "no worker began in the middle of the transaction");
}

/// The same of a connection that breaks in the middle of them: what was under way comes again, in its order.
#[test]
fn a_connection_that_breaks_in_the_middle_of_a_transaction_does_not_change_its_order() {
    const ROWS: i32 = 4000;
    let bed = Testbed::private(&["amqp.max_in_flight = 20", "logical_decoding_work_mem = '64kB'"]);
    let proxy = Proxy::start(bed.rabbitmq.port());
    let fixture = bed.scene("cut");
    let mut client = fixture.client();
    make_blog(&mut client);
    make_family(&mut client);
    bed.postgres.set("amqp.port", &proxy.port().to_string());
    let confirmed =
        |client: &mut Client| -> i64 { ask(client, "SELECT events_confirmed FROM amqp.status") };
    run(&mut client, &format!("INSERT INTO child SELECT g, g FROM generate_series(1, {ROWS}) g"));
    for _ in 0..5 {
        let until = confirmed(&mut client) + 100;
        wait_until("some more are confirmed", DEADLINE, || {
            (confirmed(&mut client) >= until).then_some(())
        });
        proxy.cut();
    }
    let in_the_middle = confirmed(&mut client);
    assert!(in_the_middle < i64::from(2 * ROWS), "all was confirmed before the last cut");
    bed.postgres.set("amqp.max_in_flight", "2000");
    let messages = published_so_far(&fixture, &mut client);
    let first = numbered_alike(&messages);
    assert!(first.iter().all(|message| message.headers["tx_size"] == json!(2 * ROWS)));
    assert_eq!(told(&first), families(1..=ROWS));
    let resent = messages.iter().filter(|message| message.headers.contains_key("resent"));
    assert!(resent.count() > 0, "no connection broke in the middle of the transaction");
}

/// The first deliveries. Whatever comes again has the `tx_seq` that it had.
fn numbered_alike(messages: &[Message]) -> Vec<Message> {
    let mut numbers: BTreeMap<&str, &Value> = BTreeMap::new();
    let mut first = Vec::new();
    for message in messages {
        let id = message.message_id.as_deref().expect("every message has a message_id");
        match numbers.insert(id, &message.headers["tx_seq"]) {
            None => first.push(message.clone()),
            Some(before) => assert_eq!(before, &message.headers["tx_seq"], "{id}"),
        }
    }
    first
}

/// The new primary reads what the old one wrote, of its timeline, and what it writes itself.
#[test]
fn a_promotion_in_the_middle_of_a_transaction_does_not_change_its_order() {
    const ROWS: i32 = 2000;
    let bed = Testbed::private(&["amqp.max_in_flight = 20", "logical_decoding_work_mem = '64kB'"]);
    let fixture = bed.scene("promotion");
    let mut client = fixture.client();
    make_blog(&mut client);
    make_family(&mut client);
    let standby = bed.postgres.standby("follower", &["wal_keep_size = 1GB"]);
    let insert = |from: i32, to: i32| {
        format!("INSERT INTO child SELECT g, g FROM generate_series({from}, {to}) g")
    };
    run(
        &mut client,
        &format!(
            "BEGIN; {}; PREPARE TRANSACTION 'on the old primary'; {}",
            insert(ROWS + 1, ROWS + 100),
            insert(1, ROWS)
        ),
    );
    wait_until("a part of it is confirmed", DEADLINE, || {
        ask::<bool>(&mut client, "SELECT events_confirmed > 100 FROM amqp.status").then_some(())
    });
    let mut reader = standby.connect(&fixture.database);
    wait_until_replayed(&mut reader, insert_lsn(&mut client));
    bed.postgres.stop(Shutdown::Immediate);
    standby.promote();
    standby.set("amqp.max_in_flight", "2000");
    let mut client = standby.connect(&fixture.database);
    run(&mut client, &insert(ROWS + 101, ROWS + 200));
    run(&mut client, "COMMIT PREPARED 'on the old primary'");
    let mut messages = published_so_far(&fixture, &mut client);
    messages.retain(is_change);
    let first = numbered_alike(&messages);
    let ids = [1..=ROWS, ROWS + 101..=ROWS + 200, ROWS + 1..=ROWS + 100].into_iter().flatten();
    assert_eq!(told(&first), families(ids));
    let timelines: BTreeSet<_> = first
        .iter()
        .filter_map(|message| message.message_id.as_deref()?.split('/').nth(1))
        .collect();
    assert_eq!(timelines, BTreeSet::from(["1", "2"]));
    // What was prepared on the old one bears its name, and says that it did not commit there.
    for message in &first {
        let was_prepared =
            (ROWS + 1..=ROWS + 100).any(|id| message.json()["current"]["id"] == json!(id));
        let timeline = was_prepared.then(|| json!(2));
        assert_eq!(message.headers.get("commit_timeline"), timeline.as_ref(), "{message:?}");
        let size = if message.headers["tx_size"] == json!(2 * ROWS) { 2 * ROWS } else { 200 };
        assert_eq!(message.headers["tx_size"], json!(size));
    }
}

/// The new version of a row is not on the page of the old one: its record has both.
#[test]
fn rows_that_move_to_another_page_in_the_middle_of_a_statement_come_in_order() {
    const ROWS: i32 = 40;
    let fixture = testbed().scene("pages");
    let mut client = fixture.client();
    make_blog(&mut client);
    table(&mut client, "t (id int PRIMARY KEY, v int, filler text)");
    table(&mut client, "log (id int)");
    run(
        &mut client,
        &format!(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql
             AS 'BEGIN INSERT INTO log VALUES (NEW.id); RETURN NEW; END';
             CREATE TRIGGER note BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note();
             INSERT INTO t SELECT g, 0, repeat('x', 1000) FROM generate_series(1, {ROWS}) g"
        ),
    );
    published_so_far(&fixture, &mut client);
    run(&mut client, "UPDATE t SET v = 1");
    let events = published_so_far(&fixture, &mut client);
    let seen: Vec<_> = events
        .iter()
        .map(|event| (event.json()["tablename"].clone(), event.json()["current"]["id"].clone()))
        .collect();
    let expected: Vec<_> =
        (1..=ROWS).flat_map(|id| [(json!("log"), json!(id)), (json!("t"), json!(id))]).collect();
    assert_eq!(seen, expected);
}

/// What a late event says more than others is told by no event of a later transaction of the session.
#[test]
fn an_event_takes_as_much_wal_behind_a_transaction_with_late_ones_as_before() {
    let bed = Testbed::private(&["autovacuum = off", "wal_level = replica"]);
    let fixture = bed.scene("wal_of_an_event");
    let mut client = fixture.client();
    make_blog(&mut client);
    make_family(&mut client);
    table(&mut client, "plain (id int)");
    // Something else may be written in between: of several the least counts.
    let least = |client: &mut Client| {
        let take = |_| {
            run(client, "BEGIN; SELECT pg_current_xact_id()");
            let before = insert_lsn(client);
            run(client, "INSERT INTO plain VALUES (1)");
            let taken = insert_lsn(client) - before;
            run(client, "COMMIT");
            taken
        };
        (0..20).map(take).min().unwrap()
    };
    let before = least(&mut client);
    run(&mut client, "INSERT INTO child VALUES (1, 1), (2, 2), (3, 3)");
    assert_eq!(least(&mut client), before);
}

/// Two capture triggers see the same changes: both tell them in the same order.
#[test]
fn two_capture_triggers_on_a_table_both_tell_the_order_of_the_changes() {
    let fixture = testbed().scene("two_triggers");
    let mut client = fixture.client();
    make_blog(&mut client);
    make_family(&mut client);
    run(
        &mut client,
        "CREATE TRIGGER a_second AFTER INSERT ON child FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture('second');
         INSERT INTO child VALUES (1, 10), (2, 20)",
    );
    assert_eq!(
        told(&published_so_far(&fixture, &mut client)),
        [
            "parent insert 10",
            "child insert 1,10",
            "child insert 1,10",
            "parent insert 20",
            "child insert 2,20",
            "child insert 2,20"
        ]
    );
}
