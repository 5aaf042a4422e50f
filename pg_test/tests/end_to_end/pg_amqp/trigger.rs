//! The trigger in PL/pgSQL with hstore that people wrote for pg_amqp runs as it stands, and sends what it sent.

use pg_test::{Fixture, Message};
use postgres::Client;

use super::{TRIGGER, is_installed, testbed_with_pg_amqp, use_pg_amqp};
use crate::helpers::run;

/// The table, and its trigger.
#[track_caller]
pub fn make_articles(client: &mut Client, fixture: &Fixture<'_>) {
    run(
        client,
        &format!(
            "CREATE EXTENSION hstore; {TRIGGER}
             CREATE TABLE articles (id int PRIMARY KEY, title text, tags text[], price numeric(6,2), seen boolean);
             CREATE TRIGGER send AFTER INSERT OR UPDATE OR DELETE ON articles
               FOR EACH ROW EXECUTE FUNCTION send_row_change('article', '{}')",
            fixture.exchange
        ),
    );
}

/// Changes of all kinds, some of which are taken back.
pub const CHANGES: &str = "BEGIN;
    INSERT INTO articles VALUES (1, 'first', '{a,b}', 1.50, NULL), (2, 'zweiter ü', NULL, NULL, false);
    UPDATE articles SET title = 'changed', seen = true WHERE id = 1;
    UPDATE articles SET title = title WHERE id = 2;
    DELETE FROM articles WHERE id = 2;
    COMMIT;
    BEGIN; INSERT INTO articles VALUES (3, 'rolled back'); ROLLBACK;
    DELETE FROM articles";

/// Routing keys, and bodies but for their time.
pub const EXPECTED: [(&str, &str); 6] = [
    (
        "cdc.article.insert",
        r#"{"previous" : null, "current" : {"id":1,"title":"first","tags":["a","b"],"price":1.50,"seen":null}, "targets" : ["id","seen","tags","price","title"], "timestamp" : ?, "operation" : "insert", "resource" : "article", "tablename" : "articles", "routing_key" : "cdc.article.insert"}"#,
    ),
    (
        "cdc.article.insert",
        r#"{"previous" : null, "current" : {"id":2,"title":"zweiter ü","tags":null,"price":null,"seen":false}, "targets" : ["id","seen","tags","price","title"], "timestamp" : ?, "operation" : "insert", "resource" : "article", "tablename" : "articles", "routing_key" : "cdc.article.insert"}"#,
    ),
    (
        "cdc.article.update",
        r#"{"previous" : {"id":1,"title":"first","tags":["a","b"],"price":1.50,"seen":null}, "current" : {"id":1,"title":"changed","tags":["a","b"],"price":1.50,"seen":true}, "targets" : ["seen","title"], "timestamp" : ?, "operation" : "update", "resource" : "article", "tablename" : "articles", "routing_key" : "cdc.article.update"}"#,
    ),
    (
        "cdc.article.update",
        r#"{"previous" : {"id":2,"title":"zweiter ü","tags":null,"price":null,"seen":false}, "current" : {"id":2,"title":"zweiter ü","tags":null,"price":null,"seen":false}, "targets" : [], "timestamp" : ?, "operation" : "update", "resource" : "article", "tablename" : "articles", "routing_key" : "cdc.article.update"}"#,
    ),
    (
        "cdc.article.delete",
        r#"{"previous" : {"id":2,"title":"zweiter ü","tags":null,"price":null,"seen":false}, "current" : null, "targets" : ["id","seen","tags","price","title"], "timestamp" : ?, "operation" : "delete", "resource" : "article", "tablename" : "articles", "routing_key" : "cdc.article.delete"}"#,
    ),
    (
        "cdc.article.delete",
        r#"{"previous" : {"id":1,"title":"changed","tags":["a","b"],"price":1.50,"seen":true}, "current" : null, "targets" : ["id","seen","tags","price","title"], "timestamp" : ?, "operation" : "delete", "resource" : "article", "tablename" : "articles", "routing_key" : "cdc.article.delete"}"#,
    ),
];

/// The body with its time left out.
fn timeless(message: &Message) -> String {
    let (before, rest) = message.text().split_once(r#""timestamp" : "#).expect("it has a time");
    let (_, after) = rest.split_once(", ").expect("something follows");
    format!(r#"{before}"timestamp" : ?, {after}"#)
}

#[track_caller]
pub fn assert_sent(messages: &[Message]) {
    let sent: Vec<_> = messages.iter().map(|it| (it.routing_key.as_str(), timeless(it))).collect();
    let expected = EXPECTED.map(|(key, body)| (key, body.to_owned()));
    assert_eq!(sent, expected);
    for message in messages {
        let said = (message.content_type.as_deref(), message.delivery_mode);
        assert_eq!(said, (Some("application/json"), Some(2)));
    }
}

#[test]
fn it_sends_what_it_sent_with_pg_amqp() {
    let bed = testbed_with_pg_amqp(&[]);
    if is_installed() {
        let theirs = bed.scene("trigger_theirs");
        let mut client = theirs.client();
        use_pg_amqp(&mut client, &theirs);
        make_articles(&mut client, &theirs);
        run(&mut client, CHANGES);
        assert_sent(&theirs.consumer.wait_for_events(EXPECTED.len()));
    }
    let ours = bed.scene("trigger_ours");
    let mut client = ours.client();
    make_articles(&mut client, &ours);
    run(&mut client, CHANGES);
    let messages = ours.consumer.wait_for_events(EXPECTED.len());
    assert_sent(&messages);
    let sizes: Vec<_> = messages.iter().map(|it| it.headers["tx_size"].as_i64()).collect();
    assert_eq!(sizes, [Some(5), Some(5), Some(5), Some(5), Some(5), Some(1)]);
}
