//! What a message of a user's own looks like to its consumer.

use pg_test::{Message, testbed};
use postgres::Client;
use serde_json::json;

use super::bodies;
use crate::helpers::{ask, blog, published_so_far, run};

/// Sends with these arguments, and returns the message that came of it.
#[track_caller]
fn sent(arguments: &str) -> Message {
    let (fixture, mut client) = blog("sent");
    run(&mut client, &format!("SELECT amqp.publish({arguments})"));
    let mut messages = published_so_far(&fixture, &mut client);
    assert_eq!(messages.len(), 1, "{arguments}");
    messages.remove(0)
}

#[test]
fn a_body_of_each_type_has_its_content_type_and_comes_as_it_is() {
    let (fixture, mut client) = blog("bodies");
    run(
        &mut client,
        r#"SELECT amqp.publish('a', jsonb_build_object('b', 1, 'a', 'ü'));
           SELECT amqp.publish('b', '{"b" : 1,  "a":"ü"}'::json);
           SELECT amqp.publish('c', row_to_json(r)) FROM (SELECT 1 AS n, 'x' AS t) r;
           SELECT amqp.publish('d', 'plain ü');
           SELECT amqp.publish('e', '\x00ff4100'::bytea);
           SELECT amqp.publish('f', '')"#,
    );
    let messages = published_so_far(&fixture, &mut client);
    let seen: Vec<_> = messages
        .iter()
        .map(|message| {
            let kind = message.content_type.as_deref().unwrap_or_default();
            (message.routing_key.as_str(), kind, message.body.as_slice())
        })
        .collect();
    let json = "application/json";
    assert_eq!(
        seen,
        [
            ("a", json, r#"{"a": "ü", "b": 1}"#.as_bytes()),
            ("b", json, r#"{"b" : 1,  "a":"ü"}"#.as_bytes()),
            ("c", json, br#"{"n":1,"t":"x"}"#),
            ("d", "text/plain", "plain ü".as_bytes()),
            ("e", "application/octet-stream", b"\x00\xFFA\x00"),
            ("f", "text/plain", b""),
        ]
    );
}

#[test]
fn what_nobody_asks_for_has_its_default_and_the_rest_is_absent() {
    let message = sent("'k', 'body'");
    assert_eq!((message.delivery_mode, message.kind.as_deref()), (Some(2), Some("message")));
    assert_eq!(message.app_id.as_deref(), Some("amqp_cdc"));
    let texts = [
        &message.content_encoding,
        &message.correlation_id,
        &message.reply_to,
        &message.expiration,
    ];
    assert!(texts.iter().all(|text| text.is_none()), "{message:?}");
    assert_eq!(message.priority, None);
    let names: Vec<_> = message.headers.keys().map(String::as_str).collect();
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
}

#[test]
fn every_property_and_header_arrives() {
    let message = sent(
        r#"'order.placed', 'body', content_type => 'text/csv', content_encoding => 'gzip', correlation_id => 'c-1',
           reply_to => 'answers', type => 'OrderPlaced', expiration => '1 day 00:00:01.5', priority => 7::smallint,
           delivery_mode => 1::smallint, headers => '{"tenant": "ü", "attempt": 3, "big": 1e20, "rate": 0.5,
             "is": true, "no": null, "inner": {"list": [1, "two", [], {}]}, "CC": ["other.key"]}'"#,
    );
    assert_eq!(message.content_type.as_deref(), Some("text/csv"));
    assert_eq!(message.content_encoding.as_deref(), Some("gzip"));
    assert_eq!(message.correlation_id.as_deref(), Some("c-1"));
    assert_eq!(message.reply_to.as_deref(), Some("answers"));
    assert_eq!(message.kind.as_deref(), Some("OrderPlaced"));
    assert_eq!(message.expiration.as_deref(), Some("86401500"));
    assert_eq!((message.priority, message.delivery_mode), (Some(7), Some(1)));
    for (name, value) in [
        ("tenant", json!("ü")),
        ("attempt", json!(3)),
        ("big", json!(1e20)),
        ("rate", json!(0.5)),
        ("is", json!(true)),
        ("no", json!(null)),
        ("inner", json!({"list": [1, "two", [], {}]})),
        ("CC", json!(["other.key"])),
    ] {
        assert_eq!(message.headers[name], value, "{name}");
    }
}

#[test]
fn null_is_the_same_as_nothing() {
    let message = sent("'k', 'body', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL");
    assert_eq!(message.content_type.as_deref(), Some("text/plain"));
    assert_eq!((message.delivery_mode, message.kind.as_deref()), (Some(2), Some("message")));
    assert_eq!(message.content_encoding, None);
}

#[test]
fn it_says_who_sent_it_in_which_transaction_and_by_which_name_it_is_known_for_ever() {
    let (fixture, mut client) = blog("who");
    run(
        &mut client,
        "SET application_name = 'shop'; CREATE ROLE clerk_who;
         CREATE FUNCTION trusted() RETURNS text SECURITY DEFINER LANGUAGE sql AS
           $$ SELECT amqp.publish('k', 'definer') $$;
         GRANT USAGE ON SCHEMA amqp TO clerk_who; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA amqp TO clerk_who;
         BEGIN",
    );
    let owner: String = ask(&mut client, "SELECT current_user::text");
    let xid: i64 = ask(&mut client, "SELECT pg_current_xact_id()::text::bigint");
    let returned: [String; 3] = [
        ask(&mut client, "SELECT amqp.publish('k', 'a')"),
        {
            run(&mut client, "INSERT INTO blog_articles VALUES (1); SET ROLE clerk_who");
            ask(&mut client, "SELECT amqp.publish('k', 'b')")
        },
        ask(&mut client, "SELECT trusted()"),
    ];
    run(&mut client, "COMMIT; RESET ROLE; DROP OWNED BY clerk_who; DROP ROLE clerk_who");
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!(messages.len(), 4);
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(message.headers["xid"], json!(xid));
        assert_eq!(message.headers["database"], json!(fixture.database));
        assert_eq!(
            (&message.headers["tx_seq"], &message.headers["tx_size"]),
            (&json!(number + 1), &json!(4))
        );
    }
    let own = [&messages[0], &messages[2], &messages[3]];
    for (message, (id, user)) in
        own.iter().zip(returned.iter().zip([&*owner, "clerk_who", &*owner]))
    {
        assert_eq!(message.message_id.as_ref(), Some(id));
        assert_eq!(message.headers["published"], json!(true));
        assert_eq!(message.headers["user"], json!(user));
        assert_eq!(message.headers["application"], json!("shop"));
        assert!(!message.headers.contains_key("table"), "{message:?}");
    }
    assert!(!messages[1].headers.contains_key("published"));
}

#[test]
fn every_byte_and_sixteen_megabytes_pass() {
    let (fixture, mut client) = blog("bytes");
    let all: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = all.iter().copied().cycle().take(16 * 1024 * 1024).collect();
    let send = "SELECT amqp.publish('k', $1::bytea)";
    client.execute(send, &[&all]).unwrap();
    client.execute(send, &[&large]).unwrap();
    let messages = published_so_far(&fixture, &mut client);
    assert!(messages[0].body == all && messages[1].body == large && messages.len() == 2);
}

#[test]
fn text_of_any_encoding_is_sent_as_utf8_and_bytes_as_they_are() {
    let bed = testbed();
    let fixture = bed.scene("publish_encodings");
    let mut server = bed.postgres.connect("postgres");
    for (encoding, word) in [("LATIN1", "Grüße"), ("EUC_JP", "日本語"), ("SQL_ASCII", "ascii")]
    {
        let database = format!("{}_{}", fixture.database, encoding.to_lowercase());
        let make = format!(
            "CREATE DATABASE {database} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'"
        );
        run(&mut server, &make);
        run(
            &mut bed.postgres.connect(&database),
            &format!(
                r#"CREATE EXTENSION amqp_cdc; SET amqp.exchange = '{}';
                   SELECT amqp.publish('{word}', '{word}', type => '{word}', headers => '{{"{word}": "{word}"}}');
                   SELECT amqp.publish('{word}', jsonb_build_object('{word}', '{word}'))"#,
                fixture.exchange
            ),
        );
        let messages = fixture.consumer.wait_for_events(2);
        assert_eq!((messages[0].text(), messages[0].routing_key.as_str()), (word, word));
        assert_eq!(
            (messages[0].kind.as_deref(), &messages[0].headers[word]),
            (Some(word), &json!(word))
        );
        assert_eq!(messages[1].json(), json!({word: word}));
        assert!(messages.iter().all(|message| !message.headers.contains_key("encoding")));
    }
    let database = format!("{}_sql_ascii", fixture.database);
    let mut client: Client = bed.postgres.connect(&database);
    run(
        &mut client,
        &format!(
            r"SET amqp.exchange = '{}'; SELECT amqp.publish('k', E'caf\xe9'), amqp.publish('k', '\xe9'::bytea)",
            fixture.exchange
        ),
    );
    let messages = fixture.consumer.wait_for_events(2);
    assert_eq!(bodies(&messages[..1]), ["caf\u{FFFD}"]);
    assert_eq!(messages[0].headers["encoding"], json!("lossy"));
    assert_eq!(
        (messages[1].body.as_slice(), messages[1].headers.get("encoding")),
        (&b"\xE9"[..], None)
    );
}

#[test]
fn amqp_capture_off_silences_triggers_and_not_who_asks_by_name() {
    let (fixture, mut client) = blog("publish_capture_off");
    run(
        &mut client,
        "SET amqp.capture = off; INSERT INTO blog_articles VALUES (1);
         SELECT amqp.publish('k', 'asked for'); SET amqp.capture = on",
    );
    assert_eq!(bodies(&published_so_far(&fixture, &mut client)), ["asked for"]);
}
