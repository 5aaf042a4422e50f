//! Channels: what is said on them, and when nothing is heard any more.

use amqp::{Error, Login, NotSent, Properties, Publish, TableBuf};

use crate::peer::{
    body, channel_open_ok, delivered, header, hear, let_in, method, new, open, send,
};
use crate::scenario::login;

#[test]
fn a_cancel_is_answered_only_if_it_wants_that() {
    for (wants_no_answer, answer) in [(1, vec![]), (0, method(1, 60, 31, b"\x02me"))] {
        let mut connection = open();
        let cancel = method(1, 60, 30, &[b"\x02me".as_slice(), &[wants_no_answer]].concat());
        let events = hear(&mut connection, &cancel).expect("it is fine");
        assert_eq!(events, ["Cancelled { channel: 1, consumer: \"me\" }"]);
        assert_eq!(send(&mut connection), answer);
        // The channel stays, and late acknowledgements go out.
        connection.ack(1, 5, true);
        assert_eq!(send(&mut connection), method(1, 60, 80, b"\0\0\0\0\0\0\0\x05\x01"));
    }
}

#[test]
fn what_is_said_on_a_channel_that_the_broker_closed_goes_nowhere() {
    let mut connection = open();
    let close = method(1, 20, 40, b"\x01\x96\x03BAD\0\x3c\0\x50");
    hear(&mut connection, &close).expect("it is an event");
    assert_eq!(send(&mut connection), method(1, 20, 41, b""));
    connection.ack(1, 1, false);
    connection.set_prefetch(1, 1);
    connection.turn_confirms_on(1);
    connection.close_channel(1);
    let publish = connection.publish(1, &Publish::default(), 0);
    assert_eq!(publish, Err(NotSent::ChannelIsNotOpen));
    assert!(connection.to_send().is_empty());
    // And what the broker says there is an error, until it is open again.
    connection.open_channel(1).expect("it is free");
    assert_eq!(connection.open_channel(1), Err(NotSent::ChannelIsTaken));
    assert!(hear(&mut connection, &channel_open_ok(1)).is_ok());
}

#[test]
fn deliveries_to_a_channel_that_we_closed_are_passed_over_and_confirms_are_not() {
    let mut connection = open();
    let begun = [delivered(1, 1), header(1, 2), body(1, b"x")].concat();
    assert_eq!(hear(&mut connection, &begun).map(|events| events.len()), Ok(2));
    connection.close_channel(1);
    let late = [
        body(1, b"y"),
        delivered(1, 2),
        header(1, 1),
        body(1, b"z"),
        method(1, 60, 80, &[0; 9]),
        method(1, 20, 41, b""),
    ];
    let events = hear(&mut connection, &late.concat()).expect("they are fine");
    assert!(events[0].starts_with("Body") && events[1].starts_with("Acked"), "{events:?}");
    assert_eq!(events[2..], ["ChannelClosed { channel: 1 }"]);
}

#[test]
fn both_sides_may_close_a_channel_at_once() {
    let mut connection = open();
    connection.close_channel(1);
    send(&mut connection);
    let crossing = [method(1, 20, 40, b"\x01\x96\x03BAD\0\x3c\0\x50"), method(1, 20, 41, b"")];
    let events = hear(&mut connection, &crossing.concat()).expect("they are fine");
    assert_eq!(events, ["ChannelClosed { channel: 1 }"]);
    assert_eq!(send(&mut connection), method(1, 20, 41, b""));
    assert!(connection.open_channel(1).is_ok());
}

#[test]
fn a_channel_that_is_refused_in_the_middle_of_a_message_is_lost_and_the_others_are_not() {
    let mut connection = open();
    connection.open_channel(2).expect("it is free");
    hear(&mut connection, &channel_open_ok(2)).expect("it is open");
    connection.publish(1, &Publish::default(), 10).expect("it is open");
    assert_eq!(connection.publish(2, &Publish::default(), 10), Err(NotSent::InTheMiddleOfAMessage));
    assert_eq!(connection.put_body(b"four"), 4);
    // Behind the body.
    connection.ack(1, 1, false);
    send(&mut connection);
    let close = method(1, 20, 40, b"\x01\x96\x03BAD\0\x3c\0\x50");
    let events = hear(&mut connection, &close).expect("it is an event");
    assert!(
        events[0].starts_with(
            "ChannelRefused { channel: 1, refusal: Refusal { code: PreconditionFailed"
        )
    );
    // Not even agreement, nor what was to come behind the body.
    assert!(send(&mut connection).is_empty() && !connection.is_in_message());
    assert_eq!(connection.put_body(b"rest"), 0);
    assert_eq!(connection.open_channel(1), Err(NotSent::ChannelIsTaken));
    assert_eq!(connection.publish(2, &Publish::default(), 1), Ok(()));
    assert_eq!(connection.put_body(b"x"), 1);
    assert!(send(&mut connection).ends_with(&body(2, b"x")));
    assert_eq!(hear(&mut connection, &method(1, 60, 80, &[0; 9])), Err(Error::WrongChannel(1)));
}

#[test]
fn what_is_said_in_the_middle_of_a_message_follows_it_and_other_channels_do_not_wait() {
    let mut connection = open();
    connection.publish(1, &Publish::default(), 8).expect("it is open");
    send(&mut connection);
    assert_eq!(connection.put_body(b"four"), 4);
    connection.ack(1, 1, false);
    connection.open_channel(2).expect("it is free");
    assert_eq!(connection.put_body(b"more, and too much"), 4);
    let ack = method(1, 60, 80, b"\0\0\0\0\0\0\0\x01\0");
    let order = [body(1, b"four"), method(2, 20, 10, b"\0"), body(1, b"more"), ack];
    assert_eq!(send(&mut connection), order.concat());
}

#[test]
fn channels_have_numbers_from_one_to_what_was_agreed() {
    let mut connection = let_in(Login { channel_max: 2, ..login() });
    assert_eq!(connection.open_channel(0), Err(NotSent::NoSuchChannel));
    assert_eq!(connection.open_channel(3), Err(NotSent::NoSuchChannel));
    assert_eq!(connection.open_channel(2), Ok(()));
    assert_eq!(new().open_channel(1), Err(NotSent::ConnectionIsNotOpen));
    connection.close("");
    assert_eq!(connection.open_channel(1), Err(NotSent::ConnectionIsNotOpen));
}

#[test]
fn properties_that_no_frame_holds_are_refused_here() {
    let mut connection = open();
    let mut publish = |length| {
        let mut headers = TableBuf::new();
        headers.put_text("long", &"x".repeat(length));
        let headers = Some(headers.as_table());
        let properties = Properties { headers, ..Properties::default() };
        let published = connection.publish(1, &Publish { properties, ..Publish::default() }, 1);
        (published, send(&mut connection).len())
    };
    let too_large = Err(NotSent::PropertiesTooLarge(131_073));
    assert_eq!(publish(131_037), (too_large, 0));
    assert_eq!(publish(131_036), (Ok(()), 131_072 + 17));
}
