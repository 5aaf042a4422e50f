//! A whole connection that is fed with arbitrary bytes in arbitrary cuts, from its first byte on: it never panics,
//! always has room for more once its events are taken, and makes the same of them whatever the cuts.

#![no_main]

use std::time::{Duration, Instant};

use amqp::{Connection, Credentials, Login, TableBuf};
use libfuzzer_sys::fuzz_target;

/// What a broker would say, to get further than a random peer would.
const HANDSHAKE: &[u8] = b"\x01\0\0\0\0\0\x1C\0\x0A\0\x0A\0\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05en_US\xCE\
\x01\0\0\0\0\0\x0C\0\x0A\0\x1E\x07\xFF\0\x02\0\0\0\x3C\xCE\x01\0\0\0\0\0\x05\0\x0A\0\x29\0\xCE\
\x01\0\x01\0\0\0\x08\0\x14\0\x0B\0\0\0\0\xCE";

/// Everything that comes of these bytes in pieces of these sizes.
fn hear(bytes: &[u8], sizes: &[u8], now: Instant) -> Vec<String> {
    let login = Login {
        credentials: Credentials::Password { user: "u".to_owned(), password: "p".to_owned() },
        virtual_host: "/".to_owned(),
        properties: TableBuf::new(),
        frame_max: 131_072,
        channel_max: 2047,
        heartbeat: 60,
        deadline: now + Duration::from_secs(1),
    };
    let mut amqp = Connection::new(login, now);
    let mut seen = Vec::new();
    let mut rest = bytes;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let size = sizes.next().map_or(rest.len(), |&size| usize::from(size).max(1));
        let room = amqp.room();
        assert!(!room.is_empty());
        let count = size.min(rest.len()).min(room.len());
        room[..count].copy_from_slice(&rest[..count]);
        amqp.received(count, now);
        rest = &rest[count..];
        loop {
            let is_ready = match amqp.next_event() {
                Ok(Some(event)) => {
                    seen.push(format!("{event:?}"));
                    seen.last().is_some_and(|event| event == "Ready")
                }
                Ok(None) => break,
                Err(error) => {
                    seen.push(format!("{error:?}"));
                    seen.push(format!("{:?}", amqp.to_send()));
                    return seen;
                }
            };
            if is_ready {
                amqp.open_channel(1).expect("it is free");
                amqp.turn_confirms_on(1);
            }
        }
    }
    seen.push(format!("{:?}", amqp.to_send()));
    seen
}

fuzz_target!(|input: (bool, Vec<u8>, Vec<u8>)| {
    let (is_let_in, sizes, bytes) = input;
    let bytes = if is_let_in { [HANDSHAKE, &bytes].concat() } else { bytes };
    let now = Instant::now();
    assert_eq!(hear(&bytes, &[], now), hear(&bytes, &sizes, now));
});
