//! `amqp.exchange_declare`, which asks nobody, and `amqp.disconnect`, which does nothing.

use std::sync::mpsc::{self, Receiver};

use pg_test::{Fixture, testbed};
use postgres::Client;
use postgres::error::DbError;

use crate::helpers::{ask, refusal, run};

/// A session, and what it is told beside answers.
fn session(fixture: &Fixture<'_>) -> (Client, Receiver<DbError>) {
    let (sender, said) = mpsc::channel();
    let line = fixture.testbed.postgres.connection_string(&fixture.database);
    let mut config = line.parse::<postgres::Config>().unwrap();
    config.notice_callback(move |notice| drop(sender.send(notice)));
    (config.connect(postgres::NoTls).unwrap(), said)
}

#[test]
fn what_the_worker_declares_on_first_use_is_declared() {
    let fixture = testbed().scene("declare");
    let (mut client, said) = session(&fixture);
    let name = format!("{}-other", fixture.database);
    let declare = format!("SELECT amqp.exchange_declare(1, '{name}', 'topic', false, true)");
    assert!(ask::<bool>(&mut client, &declare));
    assert!(said.try_recv().is_err());
    assert!(!fixture.broker().has_exchange(&name));
    // A message without a queue is dropped, one behind it is not.
    run(
        &mut client,
        &format!(
            "SELECT amqp.publish(1, '{name}', 'rk', 'm'); SELECT amqp.publish(1, '{}', 'rk', 'n')",
            fixture.exchange
        ),
    );
    assert_eq!(fixture.consumer.wait_for_events(1)[0].text(), "n");
    assert!(fixture.broker().has_exchange(&name));
    for (name, kind) in [("amq.direct", "direct"), ("amq.topic", "topic")] {
        let declare =
            format!("SELECT amqp.exchange_declare(1, '{name}', '{kind}', false, true, false)");
        assert!(ask::<bool>(&mut client, &declare));
    }
    assert!(said.try_recv().is_err());
}

#[test]
fn what_it_does_not_declare_is_false_and_the_warning_has_the_command() {
    let fixture = testbed().scene("declare_not");
    let (mut client, said) = session(&fixture);
    for (arguments, command) in [
        ("1, 'ex', 'direct', false, true", "name=ex type=direct durable=true auto_delete=false"),
        ("1, 'ex', 'topic', false, false", "name=ex type=topic durable=false auto_delete=false"),
        ("1, 'ex', 'topic', false, true, true", "name=ex type=topic durable=true auto_delete=true"),
        ("1, 'ex', NULL, NULL, NULL, NULL", "name=ex type='' durable=false auto_delete=false"),
        (
            "1, 'it''s', 'fanout', false, true",
            r"name='it'\''s' type=fanout durable=true auto_delete=false",
        ),
    ] {
        assert!(!ask::<bool>(&mut client, &format!("SELECT amqp.exchange_declare({arguments})")));
        let warning = said.try_recv().expect("something is said");
        assert_eq!((warning.severity(), warning.code().code()), ("WARNING", "01000"));
        assert!(warning.message().ends_with("is not declared"), "{warning:?}");
        assert!(
            warning.detail().unwrap().contains("of type topic (amqp.exchange_type)"),
            "{warning:?}"
        );
        let hint = warning.hint().unwrap();
        assert_eq!(
            hint,
            format!("Declare it at the broker: rabbitmqadmin declare exchange {command}")
        );
    }
    assert!(!ask::<bool>(
        &mut client,
        "SELECT amqp.exchange_declare(1, 'amq.mine', 'topic', false, true)"
    ));
    let warning = said.try_recv().expect("something is said");
    assert!(warning.detail().unwrap().contains("the broker's own"), "{warning:?}");
    let error = refusal(&mut client, "SELECT amqp.exchange_declare(1, NULL, 'topic', false, true)");
    assert_eq!((error.code().code(), error.message()), ("22004", "exchange must not be null"));
    let error = refusal(
        &mut client,
        "SELECT amqp.exchange_declare(1, repeat('x', 256), 'topic', false, true)",
    );
    assert_eq!(error.message(), "exchange is longer than 255 bytes");
}

#[test]
fn to_look_whether_it_is_there_is_true_with_a_notice() {
    let fixture = testbed().scene("declare_passive");
    let (mut client, said) = session(&fixture);
    for arguments in ["1, 'nowhere', 'topic', true, true", "1, 'nowhere', NULL, true, NULL, NULL"] {
        assert!(ask::<bool>(&mut client, &format!("SELECT amqp.exchange_declare({arguments})")));
        let notice = said.try_recv().expect("something is said");
        assert_eq!((notice.severity(), notice.code().code()), ("NOTICE", "00000"));
        assert_eq!(notice.message(), "nobody was asked whether exchange \"nowhere\" is there");
    }
    assert!(!fixture.broker().has_exchange("nowhere"));
}

#[test]
fn to_disconnect_does_nothing() {
    let fixture = testbed().scene("disconnect");
    let mut client = fixture.client();
    run(
        &mut client,
        "SELECT amqp.disconnect(1); SELECT amqp.disconnect(NULL);
         DO $$ BEGIN PERFORM amqp.disconnect(7); END $$;
         BEGIN READ ONLY; SELECT amqp.disconnect(1); COMMIT",
    );
}
