//! What belongs to a committed transaction is published whole, what was rolled back never is.

use std::fmt::Write;

use serde_json::json;

use crate::helpers::{blog, changes, published_so_far, run, titles};

#[test]
fn a_rolled_back_transaction_publishes_nothing() {
    let (fixture, mut client) = blog("rollback");
    run(&mut client, "BEGIN; INSERT INTO blog_articles VALUES (1); ROLLBACK");
    assert_eq!(changes(&published_so_far(&fixture, &mut client)), [""; 0]);
}

#[test]
fn a_savepoint_publishes_only_what_was_not_rolled_back_to_it() {
    let (fixture, mut client) = blog("savepoints");
    run(
        &mut client,
        "BEGIN;
         INSERT INTO blog_articles VALUES (1);
         SAVEPOINT a;
           INSERT INTO blog_articles VALUES (2);
           SAVEPOINT b;
             INSERT INTO blog_articles VALUES (3);
           RELEASE b;
         ROLLBACK TO a;
         INSERT INTO blog_articles VALUES (4);
         SAVEPOINT c;
           INSERT INTO blog_articles VALUES (5);
         RELEASE c;
         INSERT INTO blog_articles VALUES (6);
         COMMIT",
    );
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(changes(&events), ["insert:1", "insert:4", "insert:5", "insert:6"]);
    let sequence: Vec<_> = events.iter().map(|event| event.headers["tx_seq"].clone()).collect();
    assert_eq!(sequence, [json!(1), json!(2), json!(3), json!(4)]);
    assert!(events.iter().all(|event| event.headers["tx_size"] == json!(4)));
}

#[test]
fn a_deferred_constraint_that_fails_at_commit_publishes_nothing() {
    let (fixture, mut client) = blog("deferred");
    run(
        &mut client,
        "ALTER TABLE blog_articles ADD CONSTRAINT one_title UNIQUE (title)
           DEFERRABLE INITIALLY DEFERRED",
    );
    run(&mut client, "BEGIN; INSERT INTO blog_articles VALUES (1, 'x'), (2, 'x')");
    assert!(client.batch_execute("COMMIT").is_err());
    assert_eq!(changes(&published_so_far(&fixture, &mut client)), [""; 0]);
}

#[test]
fn a_prepared_transaction_is_published_when_another_session_commits_it() {
    let (fixture, mut client) = blog("prepared");
    let (keep, drop) = (format!("{}-keep", fixture.database), format!("{}-drop", fixture.database));
    run(
        &mut client,
        &format!(
            "BEGIN; INSERT INTO blog_articles VALUES (1); SAVEPOINT a;
               INSERT INTO blog_articles VALUES (2); RELEASE a; SAVEPOINT b;
               INSERT INTO blog_articles VALUES (3); ROLLBACK TO b;
             PREPARE TRANSACTION '{keep}';
             BEGIN; INSERT INTO blog_articles VALUES (4); PREPARE TRANSACTION '{drop}'"
        ),
    );
    assert_eq!(changes(&published_so_far(&fixture, &mut client)), [""; 0]);
    let mut other = fixture.client();
    run(&mut other, &format!("ROLLBACK PREPARED '{drop}'"));
    run(&mut other, &format!("COMMIT PREPARED '{keep}'"));
    let events = published_so_far(&fixture, &mut other);
    assert_eq!(changes(&events), ["insert:1", "insert:2"]);
    assert!(events.iter().all(|event| event.headers["tx_size"] == json!(2)));
}

#[test]
fn two_hundred_nested_subtransactions_are_all_published_in_row_order() {
    let (fixture, mut client) = blog("nested");
    let mut statements = String::from("BEGIN;");
    for n in 1..=200 {
        let _ = write!(statements, "SAVEPOINT s{n}; INSERT INTO blog_articles VALUES ({n});");
    }
    run(&mut client, &format!("{statements} COMMIT"));
    let expected: Vec<_> = (1..=200).map(|n| format!("insert:{n}")).collect();
    assert_eq!(changes(&published_so_far(&fixture, &mut client)), expected);
}

#[test]
fn what_a_plpgsql_exception_block_undid_is_not_published() {
    let (fixture, mut client) = blog("exception");
    run(
        &mut client,
        "DO $$ BEGIN
           INSERT INTO blog_articles VALUES (1);
           BEGIN
             INSERT INTO blog_articles VALUES (2);
             INSERT INTO blog_articles VALUES (1);
           EXCEPTION WHEN unique_violation THEN
             INSERT INTO blog_articles VALUES (3);
           END;
         END $$",
    );
    assert_eq!(changes(&published_so_far(&fixture, &mut client)), ["insert:1", "insert:3"]);
}

#[test]
fn changes_that_other_triggers_make_come_in_the_order_of_the_changes() {
    let (fixture, mut client) = blog("nested_triggers");
    run(
        &mut client,
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
           IF NEW.title NOT LIKE '%!' THEN
             UPDATE blog_articles SET title = NEW.title || '!' WHERE id = NEW.id;
           END IF;
           RETURN NULL;
         END $$;
         CREATE TRIGGER a_touch AFTER INSERT OR UPDATE ON blog_articles
           FOR EACH ROW EXECUTE FUNCTION touch();
         INSERT INTO blog_articles VALUES (1, 'a'), (2, 'b');
         UPDATE blog_articles SET title = 'c'",
    );
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(titles(&events), ["a", "b", "a!", "b!", "c", "c", "c!", "c!"]);
    let ids: Vec<_> = events.iter().map(|event| event.json()["current"]["id"].clone()).collect();
    assert_eq!(ids, [1, 2, 1, 2, 1, 2, 1, 2].map(|id| json!(id)));
    for update in &events[2..] {
        assert_eq!(update.json()["targets"], json!(["title"]), "{}", update.text());
    }
}

#[test]
fn every_statement_that_changes_rows_is_captured() {
    let (fixture, mut client) = blog("statements");
    run(
        &mut client,
        "INSERT INTO blog_articles VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET title = 'x';
         INSERT INTO blog_articles VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET title = 'x';
         INSERT INTO blog_articles VALUES (1, 'a') ON CONFLICT DO NOTHING;
         MERGE INTO blog_articles USING (VALUES (1), (2)) AS new (id)
           ON blog_articles.id = new.id
           WHEN MATCHED THEN UPDATE SET title = 'merged'
           WHEN NOT MATCHED THEN INSERT VALUES (new.id, 'merged');
         COPY blog_articles (id) FROM PROGRAM 'echo 3'",
    );
    assert_eq!(
        changes(&published_so_far(&fixture, &mut client)),
        ["insert:1", "update:1", "update:1", "insert:2", "insert:3"]
    );
}
