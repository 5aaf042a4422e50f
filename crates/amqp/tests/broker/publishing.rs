//! Publishing to a real broker.

use amqp::{Event, ExchangeDeclare, Login, Publish, QueueDeclare, ReplyCode, TableBuf, Value};
use pg_test::RabbitMq;

use crate::client::Client;
use crate::scenario::login;
use crate::shared::broker;

fn confirming() -> Client {
    let mut client = Client::open(broker().port(), login());
    client.amqp.turn_confirms_on(1);
    client.until("ConfirmsOn");
    client
}

fn to(routing_key: &str) -> Publish<'_> {
    Publish { exchange: "", routing_key, is_mandatory: true, ..Publish::default() }
}

/// The confirmed up to which tag, taking those with `is_multiple` for what they are.
fn confirmed(client: &mut Client, count: u64) {
    let (mut all, mut up_to) = (std::collections::BTreeSet::new(), 0);
    client
        .wait_for(|event| {
            match *event {
                Event::Acked { tag, is_multiple: true, .. } => up_to = up_to.max(tag),
                Event::Acked { tag, .. } => {
                    all.insert(tag);
                }
                Event::Nacked { .. } => panic!("it refuses"),
                _ => {}
            }
            (1..=count).all(|tag| tag <= up_to || all.contains(&tag)).then_some(())
        })
        .expect("they are confirmed");
}

#[test]
fn every_message_is_confirmed_whatever_its_size() {
    let mut client = confirming();
    let queue = QueueDeclare { queue: "sizes", is_exclusive: true, ..QueueDeclare::default() };
    client.amqp.declare_queue(1, &queue);
    client.until("QueueDeclared");
    let sizes = [0, 1, 131_063, 131_064, 131_065, 262_128, 5_000_000];
    for size in sizes {
        client.publish(&to("sizes"), &vec![b'x'; size]);
    }
    confirmed(&mut client, sizes.len() as u64);
    let consume = amqp::Consume { queue: "sizes", ..amqp::Consume::default() };
    client.amqp.consume(1, &consume);
    for size in sizes {
        assert_eq!(client.message().expect("it comes").1.len(), size);
    }
    client.close();
}

#[test]
fn what_no_queue_wants_comes_back_with_headers_as_large_as_a_frame() {
    let mut client = confirming();
    let mut headers = TableBuf::new();
    // By name, as they come from RabbitMQ 4.0 on.
    headers.put_text("large", &"x".repeat(131_000)).put("tail", Value::Void);
    let mut message = to("nobody");
    message.properties.headers = Some(headers.as_table());
    client.publish(&message, b"body");
    let is_whole = client
        .wait_for(|event| {
            let Event::Returned(returned) = event else { return None };
            assert_eq!(
                (returned.code, returned.routing_key),
                (ReplyCode::NoRoute, "nobody".into())
            );
            Some(returned.properties.headers == Some(headers.as_table()) && returned.body_size == 4)
        })
        .expect("it comes back");
    assert!(is_whole);
    confirmed(&mut client, 1);
    client.close();
}

#[test]
fn a_body_above_the_brokers_limit_closes_the_channel_and_not_the_connection() {
    let rabbitmq = RabbitMq::prepare();
    rabbitmq.start();
    rabbitmq.ctl(&["eval", "application:set_env(rabbit, max_message_size, 100000)."]);
    let mut client = Client::open(rabbitmq.port(), login());
    client.publish(&to("large"), &vec![0; 100_001]);
    let refused = client.until("ChannelRefused");
    assert!(refused.contains("code: PreconditionFailed"), "{refused}");
    assert!(refused.contains("message size 100001 is larger than"), "{refused}");
    client.amqp.open_channel(1).expect("it is free again");
    client.until("ChannelOpened");
    client.close();
}

#[test]
fn an_exchange_that_is_not_there_is_named_and_what_is_declared_is_there() {
    let mut client = confirming();
    let passive =
        ExchangeDeclare { exchange: "later", is_passive: true, ..ExchangeDeclare::default() };
    client.amqp.declare_exchange(1, &passive);
    let refused = client.until("ChannelRefused");
    assert!(
        refused.contains("code: NotFound") && refused.contains("no exchange 'later'"),
        "{refused}"
    );
    assert!(refused.contains("method: Some(exchange.declare)"), "{refused}");
    client.amqp.open_channel(1).expect("it is free");
    let declare = ExchangeDeclare { is_passive: false, kind: "topic", is_durable: true, ..passive };
    client.amqp.declare_exchange(1, &declare);
    client.amqp.declare_exchange(1, &passive);
    client.until("ExchangeDeclared");
    client.until("ExchangeDeclared");
    let other = ExchangeDeclare { kind: "fanout", ..declare };
    client.amqp.declare_exchange(1, &other);
    assert!(client.until("ChannelRefused").contains("code: PreconditionFailed"));
    client.close();
}

#[test]
fn a_queue_that_is_full_refuses_and_says_of_which_message() {
    let mut client = confirming();
    let mut arguments = TableBuf::new();
    arguments.put("x-max-length", Value::I64(1)).put_text("x-overflow", "reject-publish");
    let arguments = arguments.as_table();
    let queue =
        QueueDeclare { queue: "full", is_exclusive: true, arguments, ..QueueDeclare::default() };
    client.amqp.declare_queue(1, &queue);
    client.until("QueueDeclared");
    client.publish(&to("full"), b"fits");
    confirmed(&mut client, 1);
    client.publish(&to("full"), b"does not");
    client.until("Nacked { channel: 1, tag: 2,");
    client.close();
}

#[test]
fn an_alarm_blocks_whoever_publishes_and_its_end_lets_him_go_on() {
    let rabbitmq = RabbitMq::create();
    let mut client = Client::open(rabbitmq.port(), login());
    client.amqp.turn_confirms_on(1);
    client.until("ConfirmsOn");
    rabbitmq.ctl(&["set_vm_memory_high_watermark", "0.00001"]);
    client.publish(&to("nobody"), b"x");
    let blocked = client.until("Blocked");
    assert!(blocked.contains("low on memory"), "{blocked}");
    rabbitmq.ctl(&["set_vm_memory_high_watermark", "0.9"]);
    client.until("Unblocked");
    confirmed(&mut client, 1);
    client.close();
}

#[test]
fn heartbeats_keep_an_idle_connection() {
    let mut client = Client::open(broker().port(), Login { heartbeat: 1, ..login() });
    // Ten are five seconds. The broker hangs up after two without one, and we would.
    client.idle(10).expect("it lives");
    client.close();
}
