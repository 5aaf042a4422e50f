//! A message stands and falls with its transaction, and with its savepoint.

use serde_json::json;

use super::bodies;
use crate::helpers::{blog, published_so_far, run};

#[test]
fn a_message_is_sent_if_its_transaction_commits_and_never_else() {
    let (fixture, mut client) = blog("publish_commit");
    run(
        &mut client,
        "BEGIN; SELECT amqp.publish('k', 'rolled back'); ROLLBACK;
         BEGIN; SELECT amqp.publish('k', 'committed'); COMMIT;
         SELECT amqp.publish('k', 'alone')",
    );
    let failed = client.batch_execute("SELECT amqp.publish('k', 'failed'), 1 / 0");
    assert!(failed.is_err());
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), ["committed", "alone"]);
}

#[test]
fn a_rollback_to_a_savepoint_takes_its_messages_back_and_a_release_keeps_them() {
    let (fixture, mut client) = blog("publish_savepoints");
    run(
        &mut client,
        "BEGIN; SELECT amqp.publish('k', '1');
         SAVEPOINT a; SELECT amqp.publish('k', '2');
           SAVEPOINT b; SELECT amqp.publish('k', '3'); RELEASE b;
         ROLLBACK TO a; SELECT amqp.publish('k', '4');
         SAVEPOINT c; SELECT amqp.publish('k', '5'); RELEASE c;
         DO $$ BEGIN
           PERFORM amqp.publish('k', '6');
           BEGIN PERFORM amqp.publish('k', '7'); RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END;
           BEGIN PERFORM amqp.publish('k', '8'); EXCEPTION WHEN raise_exception THEN NULL; END;
         END $$;
         SELECT amqp.publish('k', '9'); COMMIT",
    );
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!(bodies(&messages), ["1", "4", "5", "6", "8", "9"]);
    assert!(messages.iter().all(|message| message.headers["tx_size"] == json!(6)));
}

/// What was rolled back may have been the first: then the next one is.
#[test]
fn messages_behind_a_first_one_that_was_rolled_back_have_lost_nothing() {
    let (fixture, mut client) = blog("publish_first");
    run(
        &mut client,
        "BEGIN; SAVEPOINT a; SELECT amqp.publish('k', '1'); ROLLBACK TO a;
         SELECT amqp.publish('k', '2'); SELECT amqp.publish('k', '3'); COMMIT",
    );
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!(bodies(&messages), ["2", "3"]);
    assert!(messages.iter().all(|message| !message.headers.contains_key("truncated")));
}

#[test]
fn a_prepared_transaction_sends_its_messages_when_another_session_commits_it() {
    let (fixture, mut client) = blog("publish_prepared");
    let (keep, drop) = (format!("{}-keep", fixture.database), format!("{}-drop", fixture.database));
    run(
        &mut client,
        &format!(
            "BEGIN; SELECT amqp.publish('k', '1'); INSERT INTO blog_articles VALUES (1);
             SAVEPOINT a; SELECT amqp.publish('k', '2'); ROLLBACK TO a; SELECT amqp.publish('k', '3');
             PREPARE TRANSACTION '{keep}';
             BEGIN; SELECT amqp.publish('k', '4'); PREPARE TRANSACTION '{drop}'"
        ),
    );
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), [""; 0]);
    let mut other = fixture.client();
    run(&mut other, &format!("ROLLBACK PREPARED '{drop}'"));
    run(&mut other, &format!("COMMIT PREPARED '{keep}'"));
    let messages = published_so_far(&fixture, &mut other);
    let keys: Vec<_> = messages.iter().map(|message| message.routing_key.as_str()).collect();
    assert_eq!(keys, ["k", "cdc.article.insert", "k"]);
    assert_eq!((messages[0].text(), messages[2].text()), ("1", "3"));
    assert!(messages.iter().all(|message| message.headers["tx_size"] == json!(3)));
}

#[test]
fn a_procedure_that_commits_sends_what_it_committed() {
    let (fixture, mut client) = blog("publish_procedure");
    run(
        &mut client,
        "CREATE PROCEDURE work() LANGUAGE plpgsql AS $$ BEGIN
           PERFORM amqp.publish('k', '1'); COMMIT;
           PERFORM amqp.publish('k', '2'); ROLLBACK;
           PERFORM amqp.publish('k', '3');
         END $$",
    );
    run(&mut client, "CALL work()");
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!(bodies(&messages), ["1", "3"]);
    assert!(messages.iter().all(|message| message.headers["tx_size"] == json!(1)));
}
