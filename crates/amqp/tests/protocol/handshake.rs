//! Being let in by a broker, or not; and what is asked for.

use std::time::Instant;

use amqp::{Connection, Credentials, Error, Login, Phase, TableBuf};

use crate::peer::{hear, id, long, method, new, open_ok, send, start, tune};
use crate::scenario::login;

#[test]
fn the_handshake_has_one_order() {
    let said = |frames: &[Vec<u8>]| hear(&mut new(), &frames.concat());
    let (start, tune, open_ok) = (start(b""), tune(2047, 131_072, 60), open_ok());
    assert_eq!(said(std::slice::from_ref(&tune)), Err(Error::Unexpected(id(10, 30))));
    assert_eq!(said(std::slice::from_ref(&open_ok)), Err(Error::Unexpected(id(10, 41))));
    assert_eq!(said(&[start.clone(), start.clone()]), Err(Error::Unexpected(id(10, 10))));
    assert_eq!(said(&[start.clone(), open_ok.clone()]), Err(Error::Unexpected(id(10, 41))));
    let secure = method(0, 10, 20, &long(b"who?"));
    assert_eq!(said(&[start.clone(), secure]), Err(Error::Challenge));
    assert_eq!(said(&[start.clone(), tune.clone(), tune]), Err(Error::Unexpected(id(10, 30))));
    let small = crate::peer::tune(2047, 4095, 60);
    assert_eq!(said(&[start.clone(), small]), Err(Error::FramesTooSmall(4095)));
    let close_ok = method(0, 10, 51, b"");
    assert_eq!(said(&[start, close_ok]), Err(Error::Unexpected(id(10, 51))));
}

#[test]
fn a_refusal_without_a_word_tells_how_far_things_had_come() {
    let mut connection = new();
    assert_eq!(connection.hung_up(), Error::HungUp(Phase::Greeting));
    hear(&mut connection, &start(b"")).expect("it is fine");
    assert_eq!(connection.hung_up(), Error::HungUp(Phase::LoggingIn));
    hear(&mut connection, &tune(0, 0, 0)).expect("it is fine");
    assert_eq!(connection.hung_up(), Error::HungUp(Phase::Opening));
    hear(&mut connection, &open_ok()).expect("it is fine");
    assert_eq!(connection.hung_up(), Error::HungUp(Phase::Open));
    connection.close("done");
    assert_eq!(connection.hung_up(), Error::HungUp(Phase::Closing));
    hear(&mut connection, &method(0, 10, 51, b"")).expect("it is fine");
    assert_eq!(connection.phase(), Phase::Closed);
}

#[test]
fn a_login_that_cannot_work_is_not_tried() {
    let offers = |mechanisms: &[u8]| {
        let arguments = [b"\0\x09".to_vec(), long(b""), long(mechanisms), long(b"en_US")].concat();
        method(0, 10, 10, &arguments)
    };
    let not_offered = Err(Error::MechanismNotOffered("AMQPLAIN PLAINER".to_owned()));
    assert_eq!(hear(&mut new(), &offers(b"AMQPLAIN PLAINER")), not_offered);
    let external = Login { credentials: Credentials::External, ..login() };
    let mut connection = Connection::new(external, Instant::now());
    assert!(hear(&mut connection, &offers(b"PLAIN EXTERNAL")).is_ok());
    assert!(send(&mut connection).windows(12).any(|bytes| bytes == b"EXTERNAL\0\0\0\0"));

    let mut properties = TableBuf::new();
    properties.put_text("product", &"x".repeat(4096));
    let mut connection = Connection::new(Login { properties, ..login() }, Instant::now());
    let size = match hear(&mut connection, &start(b"")) {
        Err(Error::LoginTooLarge(size)) => size,
        other => panic!("{other:?}"),
    };
    assert!(size > 4096);
    // Nothing but the greeting.
    assert_eq!(send(&mut connection).len(), 8);
}

#[test]
fn the_lower_of_two_limits_holds_and_none_is_one_that_a_broker_hangs_up_at() {
    // Theirs, ours, agreed: channels, bytes of a frame, seconds.
    let cases = [
        ((2047, 131_072, 60), (2047, 131_072, 30), (2047, 131_072, 30)),
        ((0, 0, 0), (2047, 131_072, 30), (2047, 131_072, 30)),
        ((2047, 131_072, 60), (0, 0, 0), (1, 8192, 60)),
        ((2047, 131_072, 60), (65_535, u32::MAX, 600), (2047, 131_072, 60)),
        ((10, 4096, 5), (2047, 131_072, 30), (10, 4096, 5)),
    ];
    for (theirs, ours, agreed) in cases {
        let login = Login { channel_max: ours.0, frame_max: ours.1, heartbeat: ours.2, ..login() };
        let mut connection = Connection::new(login, Instant::now());
        hear(&mut connection, &start(b"")).expect("it is fine");
        send(&mut connection);
        hear(&mut connection, &tune(theirs.0, theirs.1, theirs.2)).expect("it is fine");
        let mut tune_ok = tune(agreed.0, agreed.1, agreed.2);
        tune_ok[10] = 31;
        assert!(send(&mut connection).starts_with(&tune_ok), "{theirs:?} {ours:?}");
    }
}

#[test]
fn the_password_is_printed_nowhere() {
    let credentials =
        Credentials::Password { user: "me".to_owned(), password: "hunter2".to_owned() };
    let mut connection = Connection::new(Login { credentials, ..login() }, Instant::now());
    assert!(!format!("{connection:?}").contains("hunter2"));
    hear(&mut connection, &start(b"")).expect("it is fine");
    let printed = format!("{connection:?}");
    assert!(!printed.contains("hunter2") && !printed.contains("104, 117, 110"), "{printed}");
}
