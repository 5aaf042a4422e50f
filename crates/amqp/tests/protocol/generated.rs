//! Against amq-protocol, whose parser and generator are made from the specification's own grammar: it reads what
//! we write, and we read what it writes.

use std::time::Instant;

use amq_protocol::frame::{AMQPFrame, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue};
use amq_protocol::types::{AMQPValue, FieldTable};
use amqp::{Connection, Consume, ExchangeDeclare, QueueBind, QueueDeclare, TableBuf};

use crate::peer::{hear, open, send};
use crate::scenario::login;

/// Frames, as the generated parser has them.
pub fn parse(mut bytes: &[u8]) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).expect("it is a frame");
        frames.push(frame);
        bytes = rest;
    }
    frames
}

/// A frame's bytes, by the generator.
pub fn generate(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(Vec::new().into()).expect("memory takes it").into_inner().0
}

fn sent_methods(connection: &mut Connection) -> Vec<AMQPClass> {
    let methods = parse(&send(connection)).into_iter().map(|frame| match frame {
        AMQPFrame::Method(1, method) => method,
        other => panic!("{other:?}"),
    });
    methods.collect()
}

#[test]
fn what_we_ask_for_is_what_a_generated_parser_reads() {
    let mut arguments = TableBuf::new();
    arguments.put_text("x-queue-type", "quorum");
    let arguments = arguments.as_table();
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let mut connection = open();
    for flags in 0..16u8 {
        let [a, b, c, d] = [1, 2, 4, 8].map(|bit| flags & bit != 0);
        connection.declare_exchange(
            1,
            &ExchangeDeclare {
                exchange: "x",
                kind: "topic",
                is_passive: a,
                is_durable: b,
                is_auto_delete: c,
                is_internal: d,
                arguments,
            },
        );
        connection.declare_queue(
            1,
            &QueueDeclare {
                queue: "q",
                is_passive: a,
                is_durable: b,
                is_exclusive: c,
                is_auto_delete: d,
                arguments,
            },
        );
        connection.consume(
            1,
            &Consume { queue: "q", consumer: "me", is_without_acks: a, is_exclusive: b, arguments },
        );
        let expected = [
            AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
                exchange: "x".into(),
                kind: "topic".into(),
                passive: a,
                durable: b,
                auto_delete: c,
                internal: d,
                nowait: false,
                arguments: table.clone(),
            })),
            AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
                queue: "q".into(),
                passive: a,
                durable: b,
                exclusive: c,
                auto_delete: d,
                nowait: false,
                arguments: table.clone(),
            })),
            AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
                queue: "q".into(),
                consumer_tag: "me".into(),
                no_local: false,
                no_ack: a,
                exclusive: b,
                nowait: false,
                arguments: table.clone(),
            })),
        ];
        assert_eq!(sent_methods(&mut connection), expected);
    }
    let (queue, exchange, routing_key) = ("q", "x", "a.*");
    connection.bind_queue(1, &QueueBind { queue, exchange, routing_key, arguments });
    connection.set_prefetch(1, 500);
    connection.turn_confirms_on(1);
    connection.ack(1, 1 << 40, true);
    connection.ack(1, 7, false);
    connection.close_channel(1);
    let bind = queue::Bind {
        queue: "q".into(),
        exchange: "x".into(),
        routing_key: "a.*".into(),
        nowait: false,
        arguments: table,
    };
    let ack = |delivery_tag, multiple| {
        AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple }))
    };
    let expected = [
        AMQPClass::Queue(queue::AMQPMethod::Bind(bind)),
        AMQPClass::Basic(basic::AMQPMethod::Qos(basic::Qos { prefetch_count: 500, global: false })),
        AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false })),
        ack(1 << 40, true),
        ack(7, false),
        AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close {
            reply_code: 200,
            reply_text: "".into(),
            class_id: 0,
            method_id: 0,
        })),
    ];
    assert_eq!(sent_methods(&mut connection), expected);
}

#[test]
fn what_we_say_of_ourselves_is_what_a_generated_parser_reads() {
    let mut connection = Connection::new(login(), Instant::now());
    let start = connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: FieldTable::default(),
        mechanisms: "AMQPLAIN PLAIN".into(),
        locales: "en_US".into(),
    };
    let tune = connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 };
    let said = |method| generate(&AMQPFrame::Method(0, AMQPClass::Connection(method)));
    let said = [
        said(connection::AMQPMethod::Start(start)),
        said(connection::AMQPMethod::Tune(tune)),
        said(connection::AMQPMethod::OpenOk(connection::OpenOk {})),
    ];
    hear(&mut connection, &said.concat()).expect("it is let in");
    connection.open_channel(2047).expect("it is free");
    connection.close("done");
    let frames = parse(&send(&mut connection));
    let [
        AMQPFrame::ProtocolHeader(_),
        AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::StartOk(start_ok))),
        AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::TuneOk(tune_ok))),
        AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Open(open))),
        AMQPFrame::Method(2047, AMQPClass::Channel(channel::AMQPMethod::Open(_))),
        AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close))),
    ] = frames.as_slice()
    else {
        panic!("{frames:?}");
    };
    assert_eq!((start_ok.mechanism.as_str(), start_ok.locale.as_str()), ("PLAIN", "en_US"));
    assert_eq!(start_ok.response.as_bytes(), b"\0guest\0guest");
    let properties = start_ok.client_properties.inner();
    let AMQPValue::FieldTable(capabilities) = &properties["capabilities"] else {
        panic!("{properties:?}");
    };
    assert_eq!(properties["connection_name"], AMQPValue::LongString("test".into()));
    assert!(capabilities.inner().len() == 5);
    assert!(capabilities.inner().values().all(|value| *value == AMQPValue::Boolean(true)));
    assert_eq!((tune_ok.channel_max, tune_ok.frame_max, tune_ok.heartbeat), (2047, 131_072, 60));
    assert_eq!((open.virtual_host.as_str(), close.reply_code), ("/", 200));
}

/// What the generated parser made, as our own events print it.
#[test]
fn what_a_generator_writes_is_what_we_read() {
    let mut connection = open();
    connection.declare_queue(1, &QueueDeclare::default());
    let on_channel = |method| generate(&AMQPFrame::Method(1, method));
    let said = [
        on_channel(AMQPClass::Queue(queue::AMQPMethod::DeclareOk(queue::DeclareOk {
            queue: "q".into(),
            message_count: 70_000,
            consumer_count: 3,
        }))),
        on_channel(AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack {
            delivery_tag: 1 << 33,
            multiple: true,
        }))),
        on_channel(AMQPClass::Basic(basic::AMQPMethod::Nack(basic::Nack {
            delivery_tag: 2,
            multiple: false,
            requeue: true,
        }))),
        on_channel(AMQPClass::Basic(basic::AMQPMethod::Cancel(basic::Cancel {
            consumer_tag: "me".into(),
            nowait: true,
        }))),
        generate(&AMQPFrame::Heartbeat),
        generate(&AMQPFrame::Method(
            0,
            AMQPClass::Connection(connection::AMQPMethod::Blocked(connection::Blocked {
                reason: "low on memory".into(),
            })),
        )),
        generate(&AMQPFrame::Method(
            0,
            AMQPClass::Connection(connection::AMQPMethod::Unblocked(connection::Unblocked {})),
        )),
        on_channel(AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close {
            reply_code: 404,
            reply_text: "NOT_FOUND".into(),
            class_id: 60,
            method_id: 40,
        }))),
    ];
    let events = hear(&mut connection, &said.concat()).expect("it is a broker");
    let expected = [
        "QueueDeclared { channel: 1, queue: \"q\", messages: 70000, consumers: 3 }",
        "Acked { channel: 1, tag: 8589934592, is_multiple: true }",
        "Nacked { channel: 1, tag: 2, is_multiple: false }",
        "Cancelled { channel: 1, consumer: \"me\" }",
        "Blocked { reason: \"low on memory\" }",
        "Unblocked",
        "ChannelRefused { channel: 1, refusal: Refusal { code: NotFound, text: \"NOT_FOUND\", \
         method: Some(basic.publish) } }",
    ];
    assert_eq!(events, expected);
}
