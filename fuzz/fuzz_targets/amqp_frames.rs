//! Frames from a broker that knows what frames are and not when to send them: the protocol never panics, what it
//! says of a message adds up, and after an error nothing counts.

#![no_main]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use amqp::{
    Connection, Consume, Credentials, Delivery, Event, Login, Properties, Publish, QueueDeclare, Returned,
    Table, TableBuf, Value,
};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    /// One of the four types of frames.
    Frame { kind: u8, channel: u8, payload: Vec<u8> },
    Method { channel: u8, class: u8, method: u8, arguments: Vec<u8> },
    Header { channel: u8, body_size: u16, flags: u16, properties: Vec<u8> },
    Open { channel: u8 },
    Close { channel: u8 },
    Ask { channel: u8 },
    Ack { channel: u8 },
    Publish { channel: u8, body: u8 },
    Body,
    Send,
}

fn frame(kind: u8, channel: u8, payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() as u32).to_be_bytes();
    [&[kind, 0, channel], size.as_slice(), payload, &[0xCE]].concat()
}

/// Looks at everything in a table, but not deeper than so.
fn look(table: Table<'_>, levels: u8) {
    for (_, value) in table.fields().map_while(Result::ok) {
        match value {
            Value::Table(inner) if levels > 0 => look(inner, levels - 1),
            Value::Array(inner) => assert!(inner.values().count() <= inner.as_bytes().len()),
            _ => {}
        }
    }
}

fn look_at(properties: &Properties<'_>) {
    if let Some(headers) = properties.headers {
        look(headers, 8);
    }
}

/// Takes all events. Whether the connection lives.
fn take_events(amqp: &mut Connection, coming: &mut HashMap<u16, u64>) -> bool {
    loop {
        match amqp.next_event() {
            Ok(Some(event)) => match event {
                Event::Delivered(Delivery { channel, body_size, properties, .. })
                | Event::Returned(Returned { channel, body_size, properties, .. }) => {
                    look_at(&properties);
                    coming.insert(channel, body_size);
                }
                Event::Body { channel, part, left } => {
                    let expected = coming.get_mut(&channel).expect("a message is coming");
                    assert_eq!(*expected, left + part.len() as u64);
                    *expected = left;
                }
                Event::Greeted { server_properties, .. } => look(server_properties, 8),
                _ => {}
            },
            Ok(None) => return true,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert_eq!(amqp.next_event(), Ok(None));
                assert_eq!(amqp.wake_at(), None);
                return false;
            }
        }
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let now = Instant::now();
    let login = Login {
        credentials: Credentials::Password { user: "u".to_owned(), password: "p".to_owned() },
        virtual_host: "/".to_owned(),
        properties: TableBuf::new(),
        frame_max: 8192,
        channel_max: 200,
        heartbeat: 0,
        deadline: now + Duration::from_secs(1),
    };
    let mut amqp = Connection::new(login, now);
    let mut coming = HashMap::new();
    let mut hear = |amqp: &mut Connection, bytes: &[u8]| {
        let room = amqp.room();
        // A frame that is not complete would take the rest as its own.
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        amqp.received(count, now);
        take_events(amqp, &mut coming) && count == bytes.len()
    };
    let start = frame(1, 0, b"\0\x0A\0\x0A\0\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05en_US");
    let tune = frame(1, 0, b"\0\x0A\0\x1E\0\0\0\0\0\0\0\0");
    let open_ok = frame(1, 0, b"\0\x0A\0\x29\0");
    assert!(hear(&mut amqp, &[start, tune, open_ok].concat()));
    let body = vec![7u8; 255 * 1024];
    let mut rest: &[u8] = &[];
    for step in steps {
        let lives = match step {
            Step::Frame { kind, channel, payload } => {
                hear(&mut amqp, &frame([1, 2, 3, 8][usize::from(kind) % 4], channel, &payload))
            }
            Step::Method { channel, class, method, arguments } => {
                let id = [0, class, 0, method];
                hear(&mut amqp, &frame(1, channel, &[&id[..], &arguments].concat()))
            }
            Step::Header { channel, body_size, flags, properties } => {
                let head = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0];
                let size_and_flags = [body_size.to_be_bytes(), flags.to_be_bytes()].concat();
                hear(&mut amqp, &frame(2, channel, &[&head[..], &size_and_flags, &properties].concat()))
            }
            Step::Open { channel } => {
                let _ = amqp.open_channel(channel.into());
                true
            }
            Step::Close { channel } => {
                amqp.close_channel(channel.into());
                true
            }
            Step::Ask { channel } => {
                let channel = channel.into();
                amqp.declare_queue(channel, &QueueDeclare::default());
                amqp.set_prefetch(channel, 1);
                amqp.turn_confirms_on(channel);
                amqp.consume(channel, &Consume::default());
                true
            }
            Step::Ack { channel } => {
                amqp.ack(channel.into(), 1, true);
                true
            }
            Step::Publish { channel, body: kilobytes } => {
                let size = usize::from(kilobytes) * 1024;
                if amqp.publish(channel.into(), &Publish::default(), size as u64).is_ok() {
                    rest = &body[..size];
                }
                true
            }
            Step::Body => {
                rest = &rest[amqp.put_body(rest)..];
                true
            }
            Step::Send => {
                amqp.sent(amqp.to_send().len(), now);
                true
            }
        };
        if !lives {
            return;
        }
        if !amqp.is_in_message() {
            rest = &[];
        }
    }
});
