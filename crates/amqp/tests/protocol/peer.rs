//! A broker's side of a conversation, made by hand; and a client that hears it.

use std::time::Instant;

use amqp::{Connection, Error, Login, MethodId};

use crate::scenario::login;
use crate::way::{self, Way};

/// A method's name.
pub fn id(class: u16, method: u16) -> MethodId {
    MethodId { class, method }
}

/// A connection on which nothing was said.
pub fn new() -> Connection {
    Connection::new(Login { heartbeat: 0, ..login() }, Instant::now())
}

/// A frame.
pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() as u32).to_be_bytes();
    [&[kind], channel.to_be_bytes().as_slice(), &size, payload, &[0xCE]].concat()
}

/// A frame with a method.
pub fn method(channel: u16, class: u16, method: u16, arguments: &[u8]) -> Vec<u8> {
    let id = [class.to_be_bytes(), method.to_be_bytes()].concat();
    frame(1, channel, &[&id, arguments].concat())
}

/// A frame with the properties of a message, of which it has none.
pub fn header(channel: u16, body_size: u64) -> Vec<u8> {
    frame(2, channel, &[b"\0\x3c\0\0", body_size.to_be_bytes().as_slice(), &[0, 0]].concat())
}

/// A frame with a part of a body.
pub fn body(channel: u16, part: &[u8]) -> Vec<u8> {
    frame(3, channel, part)
}

/// `basic.return`.
pub fn returned(channel: u16) -> Vec<u8> {
    method(channel, 60, 50, b"\x01\x38\x08NO_ROUTE\x01x\x03key")
}

/// `basic.deliver`.
pub fn delivered(channel: u16, tag: u64) -> Vec<u8> {
    let arguments = [b"\x02me", tag.to_be_bytes().as_slice(), b"\0\x01x\x03key"].concat();
    method(channel, 60, 60, &arguments)
}

/// Bytes with their number before them.
pub fn long(bytes: &[u8]) -> Vec<u8> {
    [(bytes.len() as u32).to_be_bytes().as_slice(), bytes].concat()
}

/// `connection.start` with these properties of the broker, as their bytes.
pub fn start(properties: &[u8]) -> Vec<u8> {
    let parts = [b"\0\x09".to_vec(), long(properties), long(b"PLAIN EXTERNAL"), long(b"en_US")];
    method(0, 10, 10, &parts.concat())
}

/// `connection.tune`.
pub fn tune(channel_max: u16, frame_max: u32, heartbeat: u16) -> Vec<u8> {
    let mut arguments = channel_max.to_be_bytes().to_vec();
    arguments.extend(frame_max.to_be_bytes());
    arguments.extend(heartbeat.to_be_bytes());
    method(0, 10, 30, &arguments)
}

/// `connection.open-ok`.
pub fn open_ok() -> Vec<u8> {
    method(0, 10, 41, b"\0")
}

/// `channel.open-ok`.
pub fn channel_open_ok(channel: u16) -> Vec<u8> {
    method(channel, 20, 11, &[0; 4])
}

/// The client hears these bytes; the events as they are printed.
pub fn hear(connection: &mut Connection, bytes: &[u8]) -> Result<Vec<String>, Error> {
    let mut events = Vec::new();
    let mut way = Way::of(bytes);
    loop {
        let count = way.read(connection.room());
        connection.received(count, Instant::now());
        while let Some(event) = connection.next_event()? {
            events.push(format!("{event:?}"));
        }
        if way.is_over() {
            return Ok(events);
        }
        assert!(!connection.room().is_empty(), "there is room once all events are taken");
    }
}

/// What is to be sent is sent.
pub fn send(connection: &mut Connection) -> Vec<u8> {
    let sent = way::back(connection.to_send());
    connection.sent(sent.len(), Instant::now());
    sent
}

/// A connection that was let in, without heartbeats.
pub fn let_in(login: Login) -> Connection {
    let mut connection = Connection::new(login, Instant::now());
    let said = [start(b""), tune(2047, 131_072, 0), open_ok()].concat();
    let events = hear(&mut connection, &said).expect("it is let in");
    assert!(events[0].starts_with("Greeted") && events[1] == "Ready", "{events:?}");
    send(&mut connection);
    connection
}

/// The same with channel 1 open.
pub fn open() -> Connection {
    let mut connection = let_in(Login { heartbeat: 0, ..login() });
    connection.open_channel(1).expect("it is free");
    hear(&mut connection, &channel_open_ok(1)).expect("it is open");
    send(&mut connection);
    connection
}
