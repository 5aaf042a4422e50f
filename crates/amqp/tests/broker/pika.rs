//! With pika on the other side, a client in Python: lapin's frames are made by the same people as the generated
//! parser that other tests hold us against, pika's by others.

use std::process::Command;

use amqp::{Consume, Event, Publish, QueueDeclare, TableBuf};
use serde_json::{Value as Json, json};

use crate::client::Client;
use crate::everything::{headers, properties};
use crate::scenario::login;
use crate::shared::broker;

/// What the script prints.
fn pika(arguments: &[&str]) -> Vec<u8> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "/usr/bin/python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/pika_peer.py");
    let (what, rest) = arguments.split_first().expect("it is told what to do");
    let output = Command::new(python)
        .args([script, what, &broker().url()])
        .args(rest)
        .output()
        .expect("Python could not be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn queue(name: &str, client: &mut Client) {
    let declare = QueueDeclare { queue: name, is_durable: true, ..QueueDeclare::default() };
    client.amqp.declare_queue(1, &declare);
    client.until("QueueDeclared");
}

/// pika 1.2 takes `b` for unsigned and `B` for signed, `l` for unsigned, and cuts the fraction off floating point
/// numbers: the values are such that this does not show.
#[test]
fn pika_consumes_what_we_publish() {
    let mut client = Client::open(broker().port(), login());
    queue("to-pika", &mut client);
    let headers = headers();
    let message = Publish {
        exchange: "",
        routing_key: "to-pika",
        is_mandatory: true,
        properties: properties(&headers),
    };
    client.publish(&message, b"body");
    client.publish(&message, b"");
    client.publish(&Publish { properties: Default::default(), ..message }, &[b'x'; 300_000]);
    client.close();
    let seen: Json =
        serde_json::from_slice(&pika(&["consume", "to-pika", "3"])).expect("it is JSON");
    let all = json!({
        "content_type": "application/json",
        "content_encoding": "identity",
        "headers": {
            "array": [-1, {"deep": "down", "none": null}, []],
            "boolean": true,
            "bytes": ["bytes", "AP/O"],
            "decimal": ["Decimal", "314.15"],
            "empty": {},
            "f32": -2,
            "f64": seen[0]["properties"]["headers"]["f64"],
            "i16": -300,
            "i32": -70_000,
            "i64": 1u64 << 40,
            "i8": 100,
            "table": {"deep": "down", "none": null},
            "text": "Grüße 🦀",
            "timestamp": ["datetime", "2026-09-21 14:13:20"],
            "u16": 60_000,
            "u32": 4_000_000_000u32,
            "u8": 100,
            "void": null,
        },
        "delivery_mode": 2,
        "priority": 9,
        "correlation_id": "correlation",
        "reply_to": "somewhere",
        "expiration": "60000",
        "message_id": "7/1/0/16B3748",
        "timestamp": 1_790_000_000u64,
        "type": "insert",
        "user_id": "guest",
        "app_id": "amqp",
        "cluster_id": "reserved",
    });
    assert_eq!(seen[0]["properties"], all);
    assert_eq!(seen[1]["properties"], all);
    assert_eq!(seen[0]["properties"]["headers"]["f64"].as_f64(), Some(1e100));
    let none = seen[2]["properties"].as_object().expect("they have names");
    assert!(none.values().all(Json::is_null), "{none:?}");
    assert_eq!((&seen[0]["body"], &seen[1]["body"]), (&json!("Ym9keQ=="), &json!("")));
    assert_eq!(seen[2]["body"].as_str().map(str::len), Some(400_000));
    assert_eq!((&seen[0]["exchange"], &seen[0]["routing_key"]), (&json!(""), &json!("to-pika")));
    broker().delete_queue("to-pika");
}

#[test]
fn we_consume_what_pika_publishes() {
    let mut client = Client::open(broker().port(), login());
    queue("from-pika", &mut client);
    let large = "x".repeat(100_000);
    let bodies = ["body", "", &large];
    pika(&["publish", "from-pika", bodies[0], bodies[1], bodies[2]]);
    client.amqp.consume(1, &Consume { queue: "from-pika", ..Consume::default() });
    // Python's dictionaries keep their order, and pika 1.2 writes no other types.
    let (all, mut expected) = (headers(), TableBuf::new());
    for field in all.as_table().fields() {
        let (name, value) = field.expect("it is a field");
        if !["f32", "f64", "i16", "i8", "u16", "u32", "u8"].iter().any(|other| name == *other) {
            expected.put_bytes(name.as_bytes(), value);
        }
    }
    for body in bodies {
        let size = client
            .wait_for(|event| match event {
                Event::Delivered(delivery) => {
                    assert_eq!(delivery.properties, properties(&expected));
                    Some(delivery.body_size)
                }
                _ => None,
            })
            .expect("it comes");
        assert_eq!(size, body.len() as u64);
    }
    broker().delete_queue("from-pika");
    client.close();
}
