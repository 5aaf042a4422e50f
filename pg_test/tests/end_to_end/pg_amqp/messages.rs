//! What arrives of the calls that pg_amqp has, beside what arrived of them from pg_amqp itself.

use pg_test::{Fixture, Message, Testbed, testbed};
use postgres::Client;

use super::{is_installed, testbed_with_pg_amqp, use_pg_amqp};
use crate::helpers::{ask, blog, published_so_far, refusal, run};

/// A call, and what comes of it. `EXCHANGE` stands for an exchange, `KEY` for a key that is bound at `amq.direct`.
struct Case {
    arguments: &'static str,
    exchange: &'static str,
    routing_key: &'static str,
    body: &'static str,
    content_type: Option<&'static str>,
    reply_to: Option<&'static str>,
    correlation_id: Option<&'static str>,
    /// Of ours, and of pg_amqp's.
    delivery_mode: (Option<u8>, Option<u8>),
}

/// What most of them have.
const PLAIN: Case = Case {
    arguments: "",
    exchange: "EXCHANGE",
    routing_key: "rk",
    body: "m",
    content_type: None,
    reply_to: None,
    correlation_id: None,
    delivery_mode: (Some(2), None),
};

fn cases() -> Vec<Case> {
    vec![
        Case { arguments: "1, 'EXCHANGE', 'rk', 'm'", ..PLAIN },
        Case {
            arguments: "1, 'EXCHANGE', 'rk', 'm', 1",
            delivery_mode: (Some(1), Some(1)),
            ..PLAIN
        },
        Case {
            arguments: "1, 'EXCHANGE', 'rk', 'm', 2",
            delivery_mode: (Some(2), Some(2)),
            ..PLAIN
        },
        Case { arguments: "1, 'EXCHANGE', 'rk', 'm', NULL", ..PLAIN },
        Case { arguments: "1, 'EXCHANGE', 'rk', 'm', 3", ..PLAIN },
        Case { arguments: "1, 'EXCHANGE', 'rk', 'm', 0", ..PLAIN },
        Case { arguments: "1, 'EXCHANGE', 'rk', 'm', -1", ..PLAIN },
        Case {
            arguments: "1, 'EXCHANGE', 'rk', 'm', 1, 'text/csv', 'answers', 'c-1'",
            content_type: Some("text/csv"),
            reply_to: Some("answers"),
            correlation_id: Some("c-1"),
            delivery_mode: (Some(1), Some(1)),
            ..PLAIN
        },
        Case {
            arguments: "1, 'EXCHANGE', 'rk', 'm', correlation_id => 'c', content_type => ''",
            content_type: Some(""),
            correlation_id: Some("c"),
            ..PLAIN
        },
        Case {
            arguments: "1, 'EXCHANGE', 'rk', 'm', NULL, NULL, 'answers', NULL",
            reply_to: Some("answers"),
            ..PLAIN
        },
        Case {
            arguments: "1, NULL, 'KEY', 'm'",
            exchange: "amq.direct",
            routing_key: "KEY",
            ..PLAIN
        },
        Case { arguments: "1, '', 'QUEUE', 'm'", exchange: "", routing_key: "QUEUE", ..PLAIN },
        Case { arguments: "1, 'EXCHANGE', NULL, 'm'", routing_key: "", ..PLAIN },
        Case { arguments: "1, 'EXCHANGE', '', 'm'", routing_key: "", ..PLAIN },
        Case { arguments: "1, 'EXCHANGE', 'rk', NULL", body: "", ..PLAIN },
        Case { arguments: "1, 'EXCHANGE', 'rk', ''", body: "", ..PLAIN },
        Case {
            arguments: "1, 'EXCHANGE', 'ключ', 'тело ü'",
            routing_key: "ключ",
            body: "тело ü",
            ..PLAIN
        },
        Case {
            arguments: r#"1, 'EXCHANGE', 'rk', '{"a" :  1}', 2, 'application/json'"#,
            body: r#"{"a" :  1}"#,
            content_type: Some("application/json"),
            delivery_mode: (Some(2), Some(2)),
            ..PLAIN
        },
    ]
}

/// The words that stand for something, in an argument or in what is expected.
fn fill_in(text: &str, fixture: &Fixture<'_>) -> String {
    text.replace("EXCHANGE", &fixture.exchange)
        .replace("QUEUE", fixture.queue().name())
        .replace("KEY", &key(fixture))
}

/// A routing key that the fixture's queue is bound by at `amq.direct`.
fn key(fixture: &Fixture<'_>) -> String {
    format!("{}-direct", fixture.database)
}

fn bind(fixture: &Fixture<'_>) {
    let queue = fixture.queue().bound_to("amq.direct", &key(fixture));
    fixture.broker().declare_queue(&queue);
}

/// Makes each of the calls, and returns what arrived.
#[track_caller]
fn messages_of_calls(function: &str, fixture: &Fixture<'_>, client: &mut Client) -> Vec<Message> {
    for case in cases() {
        let call = format!("SELECT amqp.{function}({})", fill_in(case.arguments, fixture));
        assert!(ask::<bool>(client, &call), "{call}");
    }
    fixture.consumer.wait_for_events(cases().len())
}

#[track_caller]
fn assert_expected(message: &Message, case: &Case, is_ours: bool, fixture: &Fixture<'_>) {
    let what = case.arguments;
    let places = [&message.exchange, &message.routing_key];
    let expected = [case.exchange, case.routing_key].map(|text| fill_in(text, fixture));
    assert_eq!(places, [&expected[0], &expected[1]], "{what}");
    assert_eq!(message.text(), case.body, "{what}");
    let texts = [&message.content_type, &message.reply_to, &message.correlation_id];
    assert_eq!(
        texts.map(Option::as_deref),
        [case.content_type, case.reply_to, case.correlation_id],
        "{what}"
    );
    let (ours, theirs) = case.delivery_mode;
    assert_eq!(message.delivery_mode, if is_ours { ours } else { theirs }, "{what}");
    // What is ours to say, and nobody said there.
    assert_eq!(message.message_id.is_some(), is_ours, "{what}");
    assert_eq!(message.headers.contains_key("published"), is_ours, "{what}");
    assert_eq!(message.kind.as_deref(), is_ours.then_some("message"), "{what}");
}

#[test]
fn each_call_gives_the_message_that_pg_amqp_gave() {
    let bed = testbed_with_pg_amqp(&[]);
    for function in ["publish", "autonomous_publish"] {
        if is_installed() {
            let theirs = bed.scene("theirs");
            bind(&theirs);
            let mut client = theirs.client();
            use_pg_amqp(&mut client, &theirs);
            let messages = messages_of_calls(function, &theirs, &mut client);
            for (message, case) in messages.iter().zip(cases()) {
                assert_expected(message, &case, false, &theirs);
            }
        }
        let ours = bed.scene("ours");
        bind(&ours);
        let messages = messages_of_calls(function, &ours, &mut ours.client());
        for (message, case) in messages.iter().zip(cases()) {
            assert_expected(message, &case, true, &ours);
        }
    }
}

#[test]
fn without_a_broker_nothing_is_sent_and_the_answer_is_false() {
    let (fixture, mut client) = blog("no_broker");
    for function in ["publish", "autonomous_publish"] {
        let call =
            format!("SELECT amqp.{function}(NULL::integer, '{}', 'rk', 'm')", fixture.exchange);
        assert!(!ask::<bool>(&mut client, &call));
    }
    assert!(!ask::<bool>(
        &mut client,
        "SELECT amqp.exchange_declare(NULL, 'ex', 'topic', false, true)"
    ));
    assert!(published_so_far(&fixture, &mut client).is_empty());
}

/// The connection goes where postgresql.conf says, whatever the number.
#[test]
fn any_number_is_the_one_broker() {
    let (fixture, mut client) = blog("brokers");
    for broker in [i32::MIN, -1, 0, 1, 2, i32::MAX] {
        let call =
            format!("SELECT amqp.publish({broker}, '{}', 'rk', '{broker}')", fixture.exchange);
        assert!(ask::<bool>(&mut client, &call));
    }
    let messages = published_so_far(&fixture, &mut client);
    let bodies: Vec<_> = messages.iter().map(Message::text).collect();
    assert_eq!(bodies, ["-2147483648", "-1", "0", "1", "2", "2147483647"]);
}

#[test]
fn a_delivery_mode_that_there_is_not_is_ignored_with_a_warning() {
    let (sender, said) = std::sync::mpsc::channel();
    let fixture = testbed().scene("delivery_mode");
    let line = fixture.testbed.postgres.connection_string(&fixture.database);
    let mut config = line.parse::<postgres::Config>().unwrap();
    config.notice_callback(move |notice| drop(sender.send(notice)));
    let mut client = config.connect(postgres::NoTls).unwrap();
    for mode in [0, 3, -1] {
        let call = format!("SELECT amqp.publish(1, '{}', 'rk', 'm', {mode})", fixture.exchange);
        assert!(ask::<bool>(&mut client, &call));
        let warning = said.try_recv().expect("something is said");
        assert_eq!((warning.severity(), warning.code().code()), ("WARNING", "01000"));
        assert_eq!(warning.message(), format!("delivery_mode {mode} is ignored"));
        assert!(warning.detail().unwrap().contains("1 (transient) or 2 (persistent)"));
    }
    let modes: Vec<_> =
        fixture.consumer.wait_for_events(3).iter().map(|message| message.delivery_mode).collect();
    assert_eq!(modes, [Some(2); 3]);
    // One that there is says nothing.
    run(&mut client, &format!("SELECT amqp.publish(1, '{}', 'rk', 'm', 1)", fixture.exchange));
    assert!(said.try_recv().is_err());
}

/// pg_amqp sent what the broker then refused, or cut off; here the caller is told.
#[test]
fn what_a_broker_would_refuse_is_refused_as_of_publish() {
    let (fixture, mut client) = blog("refused");
    run(&mut client, "SET amqp.max_message_size = '64kB'");
    let exchange = &fixture.exchange;
    for function in ["publish", "autonomous_publish"] {
        for (arguments, message) in [
            (
                format!("1, '{exchange}', repeat('k', 256), 'm'"),
                "routing key is longer than 255 bytes",
            ),
            ("1, repeat('x', 256), 'rk', 'm'".to_owned(), "exchange is longer than 255 bytes"),
            (
                format!("1, '{exchange}', 'rk', 'm', 2, repeat('x', 256)"),
                "content_type is longer than 255 bytes",
            ),
            (
                format!("1, '{exchange}', 'amqp_cdc.gap', 'm'"),
                "routing key \"amqp_cdc.gap\" is reserved",
            ),
            (
                format!("1, '{exchange}', 'rk', 'm', 2, NULL, 'amq.rabbitmq.reply-to'"),
                "reply_to \"amq.rabbitmq.reply-to\" cannot be used",
            ),
            (
                format!("1, '{exchange}', 'rk', repeat('x', 70000)"),
                "message is too large to be published",
            ),
        ] {
            let error = refusal(&mut client, &format!("SELECT amqp.{function}({arguments})"));
            assert_eq!(error.message(), message);
        }
        run(&mut client, "BEGIN READ ONLY");
        let call = format!("SELECT amqp.{function}(1, '{exchange}', 'rk', 'm')");
        let error = refusal(&mut client, &call);
        let expected = format!("cannot execute amqp.{function}() in a read-only transaction");
        assert_eq!(error.message(), expected);
        run(&mut client, "ROLLBACK");
    }
    assert!(published_so_far(&fixture, &mut client).is_empty());
}

#[test]
fn a_message_stands_at_its_place_and_falls_with_its_savepoint_and_transaction() {
    let (fixture, mut client) = blog("savepoints");
    let exchange = &fixture.exchange;
    let send = |body: &str| format!("SELECT amqp.publish(1, '{exchange}', 'rk', '{body}');");
    let prepared = format!("{}-tx", fixture.database);
    run(
        &mut client,
        &[
            "BEGIN; INSERT INTO blog_articles VALUES (1);",
            &send("1"),
            "SAVEPOINT a;",
            &send("taken back"),
            "ROLLBACK TO a; INSERT INTO blog_articles VALUES (2);",
            &send("2"),
            "COMMIT; BEGIN;",
            &send("rolled back"),
            &format!("SELECT amqp.autonomous_publish(1, '{exchange}', 'now', 'at once'); ROLLBACK; BEGIN;"),
            &send("prepared"),
            &format!("PREPARE TRANSACTION '{prepared}';"),
        ]
        .concat(),
    );
    run(&mut client, &send("before"));
    run(&mut client, &format!("COMMIT PREPARED '{prepared}'"));
    let messages = published_so_far(&fixture, &mut client);
    let seen: Vec<_> = messages
        .iter()
        .map(|message| match message.routing_key.as_str() {
            "rk" => message.text().to_owned(),
            key => key.to_owned(),
        })
        .collect();
    assert_eq!(
        seen,
        ["cdc.article.insert", "1", "cdc.article.insert", "2", "now", "before", "prepared"]
    );
}

/// A constant call was folded when its statement was planned, and published once.
#[test]
fn a_call_with_constants_is_made_for_each_row() {
    let (fixture, mut client) = blog("folded");
    let call = format!("amqp.publish(1, '{}', 'rk', 'm')", fixture.exchange);
    run(&mut client, &format!("SELECT {call} FROM generate_series(1, 3)"));
    run(&mut client, &format!("EXPLAIN SELECT {call}; PREPARE never AS SELECT {call}"));
    assert_eq!(published_so_far(&fixture, &mut client).len(), 3);
    run(&mut client, "CREATE TABLE t (v text)");
    let error = refusal(
        &mut client,
        &format!("CREATE INDEX ON t (amqp.publish(1, '{}', 'rk', v))", fixture.exchange),
    );
    assert_eq!(error.code().code(), "42P17");
}

/// What pg_amqp is: a function of a user's own that says so is folded all the same.
#[test]
fn a_function_that_is_wrongly_called_immutable_is_called_once() {
    let (fixture, mut client) = blog("immutable");
    run(
        &mut client,
        &format!(
            "CREATE FUNCTION send(said text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
               RETURN amqp.publish(1, '{}', 'rk', said); END $$;
             BEGIN; INSERT INTO blog_articles VALUES (1); SELECT send('once') FROM generate_series(1, 3);
             INSERT INTO blog_articles VALUES (2); COMMIT; ALTER FUNCTION send STABLE;
             BEGIN; INSERT INTO blog_articles VALUES (3); SELECT send('each') FROM generate_series(1, 2);
             INSERT INTO blog_articles VALUES (4); COMMIT",
            fixture.exchange
        ),
    );
    let messages = published_so_far(&fixture, &mut client);
    let seen = messages.iter().map(|message| match message.routing_key.as_str() {
        "rk" => message.text().to_owned(),
        _ => message.json()["current"]["id"].to_string(),
    });
    assert_eq!(seen.collect::<Vec<_>>(), ["1", "once", "2", "3", "each", "each", "4"]);
}

/// pg_amqp sent the bytes of the database's encoding.
#[test]
fn texts_are_sent_in_utf_8_whatever_the_encoding_of_the_database() {
    for (encoding, body, expected, is_lossy) in [
        ("LATIN1", "'körper'", "körper", false),
        ("SQL_ASCII", r"E'k\xc3\xb6rper'", "körper", false),
        ("SQL_ASCII", r"E'k\xf6rper'", "k\u{FFFD}rper", true),
    ] {
        let bed = Testbed::private_with(&[&format!("--encoding={encoding}")], &[]);
        let fixture = bed.scene("encoding");
        let send = format!("SELECT amqp.publish(1, '{}', 'schlüssel', {body})", fixture.exchange);
        run(&mut fixture.client(), &send);
        let message = &fixture.consumer.wait_for_events(1)[0];
        assert_eq!((message.routing_key.as_str(), message.text()), ("schlüssel", expected));
        assert_eq!(message.headers.contains_key("encoding"), is_lossy);
    }
}
