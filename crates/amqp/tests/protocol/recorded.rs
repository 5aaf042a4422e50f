//! What a real broker said, in every way in which the network may cut it.

use std::time::Instant;

use amqp::Connection;
use proptest::prelude::*;

use crate::scenario::{SCENARIOS, Scenario, path};
use crate::way::Way;

/// What was recorded.
#[derive(Debug, Default, PartialEq, Eq)]
struct Recording {
    /// Everything that the client sent.
    sent: Vec<u8>,
    /// Everything that it received.
    received: Vec<u8>,
    /// What it made of it.
    events: Vec<String>,
}

impl Recording {
    /// Reads one.
    fn read(name: &str) -> Recording {
        let text = std::fs::read_to_string(path(name)).expect("it is there");
        let mut recording = Recording::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line.split_at(2) {
                ("C ", bytes) => recording.sent.extend(unescape(bytes)),
                ("S ", bytes) => recording.received.extend(unescape(bytes)),
                ("E ", event) => recording.events.push(event.to_owned()),
                _ => panic!("no recording: {line}"),
            }
        }
        recording
    }
}

/// The reverse of `escape_ascii`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().expect("something is escaped") {
                b't' => b'\t',
                b'r' => b'\r',
                b'n' => b'\n',
                b'x' => {
                    let digits = [rest.next(), rest.next()].map(|digit| digit.expect("two digits"));
                    let digits = str::from_utf8(&digits).expect("they are ASCII");
                    u8::from_str_radix(digits, 16).expect("they are digits")
                }
                itself => itself,
            },
            itself => itself,
        });
    }
    bytes
}

/// Holds a conversation with a recorded broker, which is heard in pieces of these sizes, over and over.
fn replay(scenario: &Scenario, received: &[u8], sizes: &[usize]) -> Recording {
    let mut connection = Connection::new((scenario.login)(), Instant::now());
    let mut steps = scenario.steps.iter().peekable();
    let mut replayed = Recording { received: received.to_vec(), ..Recording::default() };
    let mut way = Way::of(received);
    let mut sizes = sizes.iter().cycle();
    while !way.is_over() {
        let room = connection.room();
        let size = sizes.next().map_or(room.len(), |&size| size.clamp(1, room.len()));
        let count = way.read(&mut room[..size]);
        connection.received(count, Instant::now());
        loop {
            let event = match connection.next_event() {
                Ok(Some(event)) => format!("{event:?}"),
                Ok(None) => break,
                Err(error) => format!("{error:?}"),
            };
            if let Some((_, say)) = steps.next_if(|(heard, _)| event.starts_with(heard)) {
                say(&mut connection);
            }
            replayed.events.push(event);
            let count = connection.to_send().len();
            replayed.sent.extend_from_slice(connection.to_send());
            connection.sent(count, Instant::now());
        }
    }
    assert!(steps.next().is_none(), "{} did not come to its end", scenario.name);
    replayed
}

#[test]
fn what_was_recorded_is_understood_and_answered_as_it_was_whatever_the_cuts() {
    for scenario in SCENARIOS {
        let recording = Recording::read(scenario.name);
        for sizes in [vec![], vec![1], vec![7, 8, 1], vec![4096]] {
            assert_eq!(replay(scenario, &recording.received, &sizes), recording, "{sizes:?}");
        }
    }
}

#[test]
fn a_conversation_that_ends_too_soon_is_no_error_before_the_transport_says_so() {
    for scenario in SCENARIOS {
        let recording = Recording::read(scenario.name);
        for end in 0..recording.received.len().min(3000) {
            let mut connection = Connection::new((scenario.login)(), Instant::now());
            let piece = &recording.received[..end];
            connection.room()[..end].copy_from_slice(piece);
            connection.received(end, Instant::now());
            let mut steps = scenario.steps.iter().peekable();
            let mut events = recording.events.iter();
            loop {
                let heard = match connection.next_event() {
                    Ok(Some(event)) => format!("{event:?}"),
                    Ok(None) => break,
                    Err(error) => format!("{error:?}"),
                };
                assert_eq!(Some(&heard), events.next());
                if let Some((_, say)) = steps.next_if(|(begin, _)| heard.starts_with(begin)) {
                    say(&mut connection);
                }
            }
            assert!(matches!(connection.hung_up(), amqp::Error::HungUp(_)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_cuts_change_nothing(
        number in 0..SCENARIOS.len(),
        sizes in prop::collection::vec(1usize..300, 1..50),
    ) {
        let scenario = &SCENARIOS[number];
        let recording = Recording::read(scenario.name);
        prop_assert_eq!(replay(scenario, &recording.received, &sizes), recording);
    }
}
