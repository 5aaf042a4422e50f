//! Conversations with a broker, as they are held with a real one and with a recorded one alike: what is said
//! when something is heard.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use amqp::table::ArrayBuf;
use amqp::{
    Connection, Consume, Credentials, ExchangeDeclare, Login, Properties, Publish, QueueBind,
    QueueDeclare, TableBuf, Value,
};

/// What is heard: the beginning of an event, as it is printed. And what is said then.
pub type Step = (&'static str, fn(&mut Connection));

/// A conversation.
pub struct Scenario {
    /// Its name, and that of its recording.
    pub name: &'static str,
    /// How it begins.
    pub login: fn() -> Login,
    /// How it goes on. It is over after the last step.
    pub steps: &'static [Step],
}

/// Where its recording is: a line for each frame that the client sent (`C`) or received (`S`), and for each event
/// that it made of it (`E`), in their order. Bytes are written as in a byte string of Rust.
pub fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "recorded", &format!("{name}.txt")].iter().collect()
}

/// A login that RabbitMQ lets in.
pub fn login() -> Login {
    let mut properties = TableBuf::new();
    properties.put_text("product", "amqp").put_text("connection_name", "test");
    Login {
        credentials: Credentials::Password {
            user: "guest".to_owned(),
            password: "guest".to_owned(),
        },
        virtual_host: "/".to_owned(),
        properties,
        frame_max: 131_072,
        channel_max: 2047,
        heartbeat: 60,
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

/// Publishes a message with its whole body.
fn publish(connection: &mut Connection, message: &Publish<'_>, body: &[u8]) {
    connection.publish(1, message, body.len() as u64).expect("the channel is open");
    assert_eq!(connection.put_body(body), body.len());
}

fn publish_to(connection: &mut Connection, exchange: &str, routing_key: &str, body: &[u8]) {
    let message = Publish { exchange, routing_key, is_mandatory: true, ..Publish::default() };
    publish(connection, &message, body);
}

fn open(connection: &mut Connection) {
    connection.open_channel(1).expect("it is free");
}

fn close(connection: &mut Connection) {
    connection.close("done");
}

fn nothing(_: &mut Connection) {}

const EXCHANGE: ExchangeDeclare<'_> = ExchangeDeclare {
    exchange: "amqp-test",
    kind: "topic",
    is_passive: false,
    is_durable: true,
    is_auto_delete: false,
    is_internal: false,
    arguments: NO_ARGUMENTS,
};

const QUEUE: QueueDeclare<'_> = QueueDeclare {
    queue: "amqp-test",
    is_passive: false,
    is_durable: true,
    is_exclusive: false,
    is_auto_delete: false,
    arguments: NO_ARGUMENTS,
};

const NO_ARGUMENTS: amqp::Table<'_> = amqp::Table::EMPTY;

pub const SCENARIOS: &[Scenario] =
    &[PUBLISHING, REFUSALS, CONSUMING, NACK, WRONG_PASSWORD, NO_VIRTUAL_HOST];

/// Confirms, and a message that comes back with 12 kilobytes of headers.
const PUBLISHING: Scenario = Scenario {
    name: "publishing",
    login,
    steps: &[
        ("Ready", |connection| {
            open(connection);
            connection.turn_confirms_on(1);
            connection.declare_exchange(1, &EXCHANGE);
        }),
        ("ExchangeDeclared", |connection| {
            let mut headers = TableBuf::new();
            headers.put_text("long", &"x".repeat(12_000)).put("number", Value::I64(-7));
            let properties = Properties {
                message_id: Some("the first".into()),
                headers: Some(headers.as_table()),
                ..Properties::default()
            };
            let message = Publish {
                exchange: "amqp-test",
                routing_key: "nobody.wants.it",
                is_mandatory: true,
                properties,
            };
            publish(connection, &message, b"returned");
        }),
        ("Acked", |connection| publish_to(connection, "amqp-test", "empty", b"")),
        ("Returned", nothing),
        ("Acked", close),
        ("Closed", nothing),
    ],
};

/// What is not there, three times.
const REFUSALS: Scenario = Scenario {
    name: "refusals",
    login,
    steps: &[
        ("Ready", |connection| {
            open(connection);
            connection.turn_confirms_on(1);
            publish_to(connection, "nowhere", "x", b"lost");
        }),
        ("ChannelRefused", |connection| {
            // Too late, and so nowhere.
            connection.ack(1, 1, false);
            open(connection);
            let declare = ExchangeDeclare { exchange: "nowhere", is_passive: true, ..EXCHANGE };
            connection.declare_exchange(1, &declare);
        }),
        ("ChannelRefused", |connection| {
            open(connection);
            connection.consume(1, &Consume { queue: "nowhere", ..Consume::default() });
        }),
        ("ChannelRefused", close),
        ("Closed", nothing),
    ],
};

/// Deliveries of every size, a channel that is closed with some of them, and a queue that goes.
const CONSUMING: Scenario = Scenario {
    name: "consuming",
    login,
    steps: &[
        ("Ready", |connection| {
            open(connection);
            connection.declare_exchange(1, &EXCHANGE);
            connection.declare_queue(1, &QUEUE);
            let (queue, exchange, routing_key) = ("amqp-test", "amqp-test", "a.*");
            connection
                .bind_queue(1, &QueueBind { queue, exchange, routing_key, ..QueueBind::default() });
            connection.set_prefetch(1, 3);
            let mut array = ArrayBuf::new();
            array.put(Value::Boolean(true)).put(Value::Void);
            let mut headers = TableBuf::new();
            headers.put("array", Value::Array(array.as_array()));
            let headers = Some(headers.as_table());
            let properties = Properties { headers, priority: Some(3), ..Properties::default() };
            let message = Publish { exchange, routing_key: "a.b", is_mandatory: true, properties };
            publish(connection, &message, b"first");
            publish_to(connection, "amqp-test", "a.empty", b"");
            publish_to(connection, "amqp-test", "a.last", b"third");
            connection.consume(1, &Consume { queue, consumer: "me", ..Consume::default() });
        }),
        ("Body { channel: 1, part: [102", |connection| connection.ack(1, 1, false)),
        ("Body { channel: 1, part: [116", |connection| connection.close_channel(1)),
        ("ChannelClosed", |connection| {
            open(connection);
            connection.consume(
                1,
                &Consume { queue: "amqp-test", consumer: "again", ..Consume::default() },
            );
        }),
        // The last one.
        ("Body { channel: 1, part: [116", nothing),
        // Whoever records this deletes the queue now.
        ("Cancelled", |connection| {
            connection.ack(1, 2, true);
            connection.close_channel(1);
        }),
        ("ChannelClosed", close),
        ("Closed", nothing),
    ],
};

/// A queue that is full.
const NACK: Scenario = Scenario {
    name: "nack",
    login,
    steps: &[
        ("Ready", |connection| {
            open(connection);
            connection.turn_confirms_on(1);
            let mut arguments = TableBuf::new();
            arguments.put("x-max-length", Value::I32(1)).put_text("x-overflow", "reject-publish");
            let arguments = arguments.as_table();
            let queue =
                QueueDeclare { queue: "amqp-test-full", is_exclusive: true, arguments, ..QUEUE };
            connection.declare_queue(1, &queue);
            publish_to(connection, "", "amqp-test-full", b"fits");
        }),
        ("Acked", |connection| publish_to(connection, "", "amqp-test-full", b"does not")),
        ("Nacked", close),
        ("Closed", nothing),
    ],
};

const WRONG_PASSWORD: Scenario = Scenario {
    name: "wrong_password",
    login: || Login {
        credentials: Credentials::Password {
            user: "guest".to_owned(),
            password: "wrong".to_owned(),
        },
        ..login()
    },
    steps: &[("Closed { phase: LoggingIn, code: AccessRefused", nothing)],
};

const NO_VIRTUAL_HOST: Scenario = Scenario {
    name: "no_virtual_host",
    login: || Login { virtual_host: "nowhere".to_owned(), ..login() },
    steps: &[("Closed { phase: Opening, code: NotAllowed", nothing)],
};
