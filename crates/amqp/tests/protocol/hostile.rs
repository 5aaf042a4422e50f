//! A peer that is no broker, or a broken one, or worse: whatever it sends is a named error, or harmless.

use std::time::Instant;

use amqp::{Error, Event, Phase, Publish, ReplyCode, Table, Value};

use crate::peer::{
    body, channel_open_ok, delivered, frame, header, hear, id, long, method, new, open, returned,
    send, start,
};

/// On a connection whose channel 1 is open.
fn error(bytes: &[u8]) -> Error {
    let mut connection = open();
    let error = hear(&mut connection, bytes).expect_err("that is an error");
    // After which nothing counts.
    assert_eq!(hear(&mut connection, &method(1, 60, 80, &[0; 9])), Ok(vec![]));
    assert!(connection.wake_at().is_none());
    error
}

#[test]
fn what_is_not_amqp_is_known_by_its_first_bytes() {
    for bytes in [&b"HTTP/1.1 400 Bad Request"[..], b"\x15\x03\x03\x00\x02\x02\x46", b"AMQX", b"\0"]
    {
        assert_eq!(hear(&mut new(), bytes), Err(Error::NotAmqp(bytes[0])));
    }
    assert_eq!(hear(&mut new(), b"AMQP\0\x01\0\0"), Err(Error::OtherVersion([0, 1, 0, 0])));
    assert_eq!(hear(&mut new(), b"AMQP\0\x01\0"), Ok(vec![]));
}

#[test]
fn a_frame_is_as_large_as_it_may_be_and_ends_where_it_says() {
    for kind in [1, 2, 3, 8] {
        for size in [131_065u32, u32::MAX, 1 << 31] {
            let bytes = [&[kind, 0, 1][..], &size.to_be_bytes()].concat();
            assert_eq!(error(&bytes), Error::FrameTooLarge { size });
        }
    }
    let mut largest = [returned(1), header(1, 131_064), body(1, &vec![7; 131_064])].concat();
    assert_eq!(hear(&mut open(), &largest).map(|events| events.len()), Ok(2));
    *largest.last_mut().expect("it has an end") = 0;
    assert_eq!(error(&largest), Error::FrameWithoutEnd);
}

#[test]
fn everything_has_its_channel() {
    let ack = [0; 9];
    assert_eq!(error(&method(0, 60, 80, &ack)), Error::WrongChannel(0));
    assert_eq!(error(&method(7, 60, 80, &ack)), Error::WrongChannel(7));
    assert_eq!(error(&method(65_535, 60, 80, &ack)), Error::WrongChannel(65_535));
    assert_eq!(error(&method(1, 10, 61, b"")), Error::WrongChannel(1));
    assert_eq!(error(&frame(8, 1, b"")), Error::WrongChannel(1));
    assert_eq!(error(&header(0, 0)), Error::StrayContent);
    assert_eq!(error(&body(0, b"x")), Error::StrayContent);
    assert_eq!(error(&body(2, b"x")), Error::WrongChannel(2));
}

#[test]
fn a_message_comes_in_one_piece_and_as_long_as_it_says() {
    let ack = method(1, 60, 80, &[0; 9]);
    let [returned, delivered] = [returned(1), delivered(1, 1)];
    for begin in [&returned, &delivered] {
        let cut = Error::MessageCutShort(id(60, 80));
        assert_eq!(error(&[&begin[..], &ack].concat()), cut);
        assert_eq!(error(&[&begin[..], &header(1, 5), &ack].concat()), cut);
        assert_eq!(error(&[&begin[..], &header(1, 5), &body(1, b"four"), &ack].concat()), cut);
        assert_eq!(error(&[&begin[..], &body(1, b"x")].concat()), Error::StrayContent);
        assert_eq!(
            error(&[&begin[..], &header(1, 5), &header(1, 5)].concat()),
            Error::StrayContent
        );
        assert_eq!(
            error(&[&begin[..], &header(1, 0), &body(1, b"")].concat()),
            Error::StrayContent
        );
        let long = [&begin[..], &header(1, 5), &body(1, b"four"), &body(1, b"45")].concat();
        assert_eq!(error(&long), Error::BodyTooLong);
        // Sizes that are none.
        let endless = [&begin[..], &header(1, u64::MAX), &body(1, b"x"), &body(1, b"")].concat();
        assert_eq!(hear(&mut open(), &endless).map(|events| events.len()), Ok(3));
    }
    assert_eq!(error(&header(1, 5)), Error::StrayContent);
    assert_eq!(error(&body(1, b"x")), Error::StrayContent);
    // In the middle of a message on one channel others go on.
    let mut connection = open();
    connection.open_channel(2).expect("it is free");
    let between = [delivered, header(1, 2), channel_open_ok(2), body(1, b"x"), frame(8, 0, b"")];
    assert_eq!(hear(&mut connection, &between.concat()).map(|events| events.len()), Ok(3));
    assert_eq!(hear(&mut connection, &body(1, b"y")).map(|events| events.len()), Ok(1));
}

/// Methods that a broker may say without having been asked, with arguments.
fn unasked() -> Vec<(u16, u16, Vec<u8>)> {
    let refusal = b"\x01\x94\x09NOT_FOUND\0\x3c\0\x28";
    vec![
        (20, 20, vec![1]),
        (20, 40, refusal.to_vec()),
        (60, 30, b"\x02me\x01".to_vec()),
        (60, 50, b"\x01\x38\x08NO_ROUTE\x01x\x03key".to_vec()),
        (60, 60, b"\x02me\0\0\0\0\0\0\0\x01\0\x01x\x03key".to_vec()),
        (60, 80, b"\0\0\0\0\0\0\0\x01\0".to_vec()),
        (60, 120, b"\0\0\0\0\0\0\0\x01\x03".to_vec()),
    ]
}

#[test]
fn methods_that_are_cut_short_or_have_more_than_they_should_are_named() {
    for (class, number, arguments) in unasked() {
        let malformed = Error::Malformed(Some(id(class, number)));
        assert!(hear(&mut open(), &method(1, class, number, &arguments)).is_ok());
        for end in 0..arguments.len() {
            assert_eq!(error(&method(1, class, number, &arguments[..end])), malformed);
        }
        let more = [&arguments[..], &[0]].concat();
        assert_eq!(error(&method(1, class, number, &more)), malformed);
    }
    for payload in [&b""[..], b"\0", b"\0\x3c\0"] {
        assert_eq!(error(&frame(1, 1, payload)), Error::Malformed(None));
    }
    // A text and a table that are longer than all there is.
    let endless = [b"\0\x09".as_slice(), &[0xFF; 4], b"x"].concat();
    assert_eq!(
        hear(&mut new(), &method(0, 10, 10, &endless)),
        Err(Error::Malformed(Some(id(10, 10))))
    );
}

#[test]
fn every_other_method_is_unexpected_or_unknown() {
    let unasked: Vec<_> = unasked().iter().map(|&(class, method, _)| (class, method)).collect();
    for class in 0..=100 {
        for number in 0..=130 {
            if unasked.contains(&(class, number)) || class == 10 {
                continue;
            }
            let id = id(class, number);
            let found = error(&method(1, class, number, &[0; 9]));
            if id.name().is_none() {
                assert_eq!(found, Error::UnknownMethod(id));
            } else {
                // With arguments that fit, or not.
                assert!(
                    [Error::Unexpected(id), Error::Malformed(Some(id))].contains(&found),
                    "{found:?}"
                );
            }
        }
    }
    // Answers that nobody waits for, as they should be.
    let answers: [(u16, u16, &[u8]); 8] = [
        (20, 11, &[0; 4]),
        (20, 41, b""),
        (40, 11, b""),
        (50, 11, b"\x01q\0\0\0\0\0\0\0\0"),
        (50, 21, b""),
        (60, 11, b""),
        (60, 21, b"\x02me"),
        (85, 11, b""),
    ];
    for (class, number, arguments) in answers {
        let unexpected = Error::Unexpected(id(class, number));
        assert_eq!(error(&method(1, class, number, arguments)), unexpected);
        // Another one is waited for.
        let mut connection = open();
        connection.set_prefetch(1, 1);
        connection.turn_confirms_on(1);
        let heard = hear(&mut connection, &method(1, class, number, arguments));
        assert_eq!(heard.is_ok(), (class, number) == (60, 11));
    }
    assert_eq!(id(60, 71).to_string(), "basic.get-ok");
    assert_eq!(id(60, 7).to_string(), "60.7");
}

#[test]
fn properties_that_are_cut_short_or_of_another_class_cannot_be_read() {
    let payload = b"\0\x3c\0\0\0\0\0\0\0\0\0\x01\xA0\x80\x04text\0\0\0\0\x03key";
    let whole = [returned(1), frame(2, 1, payload)].concat();
    assert!(hear(&mut open(), &whole).is_ok());
    for end in 0..payload.len() {
        assert_eq!(
            error(&[returned(1), frame(2, 1, &payload[..end])].concat()),
            Error::Malformed(None)
        );
    }
    for (at, byte) in [(1, 0x0A), (13, 0x81), (13, 0x82)] {
        let mut payload = payload.to_vec();
        payload[at] = byte;
        assert_eq!(error(&[returned(1), frame(2, 1, &payload)].concat()), Error::Malformed(None));
    }
}

#[test]
fn tables_in_one_another_take_no_stack() {
    let (mut table, mut levels) = (b"\x01xV".to_vec(), 0);
    while table.len() < 130_000 {
        table = [b"\x01xF".as_slice(), &long(&table)].concat();
        levels += 1;
        if levels > 200 {
            // The rest at once: that many copies would take long.
            break;
        }
    }
    let deep: Vec<u8> = (0..18_000u32)
        .flat_map(|level| {
            [b"\x01xF".as_slice(), &((17_999 - level) * 7 + 3).to_be_bytes()].concat()
        })
        .chain(*b"\x01xV")
        .collect();
    for table in [table, deep] {
        let mut connection = new();
        let start = start(&table);
        connection.room()[..start.len()].copy_from_slice(&start);
        connection.received(start.len(), Instant::now());
        let Ok(Some(Event::Greeted { server_properties, .. })) = connection.next_event() else {
            panic!("it is fine")
        };
        let (mut inner, mut depth) = (server_properties, 0);
        while let Ok(Some(Value::Table(next))) = inner.get("x") {
            (inner, depth) = (next, depth + 1);
        }
        assert_eq!(inner.get("x"), Ok(Some(Value::Void)));
        assert!(depth > 200, "{depth}");
    }
}

#[test]
fn a_table_that_is_none_says_so_to_whoever_looks() {
    for bytes in [
        &b"\x01x"[..],
        b"\x05x",
        b"\x01x?",
        b"\x01xI\0",
        b"\x01xS\xFF\xFF\xFF\xFF",
        b"\x01xA\0\0\0\x09V",
    ] {
        let mut fields = Table::from_bytes(bytes).fields();
        assert!(matches!(fields.next(), Some(Err(_))));
        assert!(fields.next().is_none());
        assert!(Table::from_bytes(bytes).get("y").is_err());
    }
    let good_then_bad = Table::from_bytes(b"\x01aV\x01b");
    assert_eq!(good_then_bad.get("a"), Ok(Some(Value::Void)));
    assert!(good_then_bad.get("b").is_err());
}

#[test]
fn a_broker_that_asks_and_does_not_read_is_left_before_it_takes_memory() {
    let flow = method(1, 20, 20, &[1]).repeat(1000);
    let mut connection = open();
    let mut rounds = 0;
    let error = loop {
        match hear(&mut connection, &flow) {
            Ok(_) => rounds += 1,
            Err(error) => break error,
        }
        assert!(rounds < 1000);
    };
    assert_eq!(error, Error::Deaf);
    assert!(connection.to_send().len() < 2 * 1024 * 1024);
    // What wants no answer may come for ever.
    let mut connection = open();
    for _ in 0..100 {
        hear(&mut connection, &method(1, 60, 80, &[0; 9]).repeat(1000)).expect("they are confirms");
    }
    assert!(connection.to_send().is_empty());
}

#[test]
fn a_connection_that_the_broker_closes_says_why_and_agrees() {
    let close = method(0, 10, 50, b"\x01\x40\x11CONNECTION_FORCED\0\0\0\0");
    let mut connection = open();
    connection.publish(1, &Publish::default(), 10).expect("it is open");
    send(&mut connection);
    let Err(error) = hear(&mut connection, &close) else { panic!("it is closed") };
    let expected = Error::Closed {
        phase: Phase::Open,
        code: ReplyCode::ConnectionForced,
        text: "CONNECTION_FORCED".to_owned(),
        method: None,
    };
    assert_eq!(error, expected);
    assert_eq!(error.to_string(), "broker closed the connection: CONNECTION_FORCED");
    assert_eq!(send(&mut connection), method(0, 10, 51, b""));
    assert_eq!(connection.phase(), Phase::Closed);
    connection.close("again");
    assert!(send(&mut connection).is_empty());
}
