//! Makes the recordings that other tests replay.

use std::fmt::Write;

use amqp::{Connection, Event};

use crate::client::{Client, Heard};
use crate::scenario::{SCENARIOS, Scenario, path};
use crate::shared::broker;

/// Holds a conversation with a broker. What there is to see of it.
fn hold(scenario: &Scenario) -> Vec<Heard> {
    let mut client = Client::connect(broker().port(), (scenario.login)());
    for (heard, say) in scenario.steps {
        let mut is_error = false;
        let found = client
            .wait_for(|event: &Event<'_>| format!("{event:?}").starts_with(heard).then_some(()));
        if let Err(error) = found {
            is_error = format!("{error:?}").starts_with(heard);
            assert!(is_error, "{}: {error:?} instead of {heard}", scenario.name);
        }
        if *heard == "Body { channel: 1, part: [116" && client_is_last(&client) {
            client.flush();
            broker().delete_queue("amqp-test");
        }
        let say: fn(&mut Connection) = *say;
        say(&mut client.amqp);
        client.flush();
        if is_error {
            break;
        }
    }
    client.tee
}

/// Whether the second consumer has all.
fn client_is_last(client: &Client) -> bool {
    client.tee.iter().any(|heard| {
        matches!(heard, Heard::Event(event) if event.starts_with("Consuming") && event.contains("again"))
    })
}

#[test]
fn conversations_with_this_broker_come_to_their_end() {
    for scenario in SCENARIOS {
        hold(scenario);
    }
}

/// `cargo test --package amqp --test broker -- --ignored record` writes the recordings anew.
#[test]
#[ignore = "writes into the source"]
fn record() {
    let version = broker().version().expect("it is the one that is installed");
    for scenario in SCENARIOS {
        let mut text = format!(
            "# RabbitMQ {version}: \"{}\" of tests/shared/scenario.rs.\n\
             # C: a frame that the client sent. S: one that it received. E: what it made of it.\n",
            scenario.name
        );
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for heard in hold(scenario) {
            match heard {
                Heard::Sent(bytes) => {
                    sent.extend(bytes);
                    write_frames(&mut text, 'C', &mut sent);
                }
                Heard::Received(bytes) => {
                    received.extend(bytes);
                    write_frames(&mut text, 'S', &mut received);
                }
                Heard::Event(event) => writeln!(text, "E {event}").expect("memory takes it"),
            }
        }
        assert!(sent.is_empty() && received.is_empty(), "what is left is no frame");
        std::fs::write(path(scenario.name), text).expect("it is written");
    }
}

/// Lines for the frames in these bytes; what is left of an unfinished one stays.
fn write_frames(out: &mut String, who: char, bytes: &mut Vec<u8>) {
    loop {
        let size = match bytes.as_slice() {
            [b'A', ..] => 8,
            [_, _, _, a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]) as usize + 8,
            _ => return,
        };
        if bytes.len() < size {
            return;
        }
        let frame: Vec<u8> = bytes.drain(..size).collect();
        writeln!(out, "{who} {}", frame.escape_ascii()).expect("memory takes it");
    }
}
