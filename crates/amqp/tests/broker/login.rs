//! Being let in, or not.

use amqp::{Credentials, Error, Event, Login, Phase, ReplyCode, Value};

use crate::client::Client;
use crate::scenario::login;
use crate::shared::broker;

fn refused(login: Login) -> Error {
    let mut client = Client::connect(broker().port(), login);
    let error = client.wait_for(|event| matches!(event, Event::Ready).then_some(()));
    error.expect_err("it is refused")
}

#[test]
fn a_broker_says_who_it_is_and_what_it_can() {
    let mut client = Client::connect(broker().port(), login());
    let greeted = client.wait_for(|event| {
        let Event::Greeted { server_properties, mechanisms } = event else { return None };
        let Ok(Some(Value::Text(product))) = server_properties.get("product") else { return None };
        let Ok(Some(Value::Text(version))) = server_properties.get("version") else { return None };
        let Ok(Some(Value::Table(can))) = server_properties.get("capabilities") else {
            return None;
        };
        assert_eq!(can.get("consumer_cancel_notify"), Ok(Some(Value::Boolean(true))));
        Some((product.to_string(), version.to_string(), mechanisms.to_string()))
    });
    let (product, version, mechanisms) = greeted.expect("it says so");
    assert_eq!(product, "RabbitMQ");
    if let Some(installed) = broker().version() {
        assert_eq!(version, installed);
    }
    assert!(mechanisms.contains("PLAIN"));
    client.until("Ready");
    client.close();
}

#[test]
fn a_wrong_password_and_a_host_that_is_not_there_are_refused_in_words() {
    let credentials = Credentials::Password { user: "guest".to_owned(), password: "no".to_owned() };
    let error = refused(Login { credentials, ..login() });
    let Error::Closed { phase: Phase::LoggingIn, code: ReplyCode::AccessRefused, text, .. } = error
    else {
        panic!("{error:?}");
    };
    assert!(text.contains("Login was refused"), "{text}");
    let error = refused(Login { virtual_host: "nowhere".to_owned(), ..login() });
    assert!(
        matches!(error, Error::Closed { phase: Phase::Opening, code: ReplyCode::NotAllowed, .. }),
        "{error:?}"
    );
}

#[test]
fn a_way_to_log_in_that_the_broker_does_not_have_is_named_with_those_that_it_has() {
    let error = refused(Login { credentials: Credentials::External, ..login() });
    let Error::MechanismNotOffered(offered) = error else { panic!("{error:?}") };
    assert!(offered.contains("PLAIN"), "{offered}");
}

#[test]
fn limits_that_the_broker_hangs_up_at_are_not_asked_for() {
    // Whoever asks for these is let in with the nearest that it takes.
    for (frame_max, channel_max) in [(0, 0), (1, 1), (4096, 65_535), (u32::MAX, 2047)] {
        let mut client =
            Client::connect(broker().port(), Login { frame_max, channel_max, ..login() });
        client.until("Ready");
        client.close();
    }
}

#[test]
fn a_broker_that_goes_says_so_or_hangs_up() {
    let rabbitmq = pg_test::RabbitMq::create();
    let mut first = Client::open(rabbitmq.port(), login());
    let mut second = Client::open(rabbitmq.port(), login());
    rabbitmq.ctl(&["close_all_connections", "--vhost", "/", "maintenance"]);
    let error = first.wait_for(|_| None::<()>).expect_err("it ends");
    let Error::Closed { phase: Phase::Open, code: ReplyCode::ConnectionForced, text, .. } = error
    else {
        panic!("{error:?}");
    };
    assert!(text.contains("maintenance"), "{text}");
    assert!(second.wait_for(|_| None::<()>).is_err());
    let mut third = Client::open(rabbitmq.port(), login());
    rabbitmq.kill();
    let error = third.wait_for(|_| None::<()>).expect_err("it ends");
    assert_eq!(error, Error::HungUp(Phase::Open));
}
