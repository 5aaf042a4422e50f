//! Consuming from a real broker.

use amqp::{
    Consume, Event, ExchangeDeclare, Login, Publish, QueueBind, QueueDeclare, TableBuf, Value,
};
use pg_test::RabbitMq;

use crate::client::Client;
use crate::scenario::login;
use crate::shared::broker;

fn declared<'a>(client: &mut Client, declare: &QueueDeclare<'a>) -> &'a str {
    client.amqp.declare_queue(1, declare);
    client.until("QueueDeclared");
    declare.queue
}

fn to(routing_key: &str) -> Publish<'_> {
    Publish { exchange: "", routing_key, is_mandatory: true, ..Publish::default() }
}

/// The tag and the mark of being delivered again of the next delivery, and its body.
fn delivery(client: &mut Client) -> (u64, bool, Vec<u8>) {
    let (tag, is_redelivered) = client
        .wait_for(|event| match event {
            Event::Delivered(delivery) => Some((delivery.tag, delivery.is_redelivered)),
            _ => None,
        })
        .expect("it comes");
    let mut body = Vec::new();
    client
        .wait_for(|event| match event {
            Event::Body { part, left, .. } => {
                body.extend_from_slice(part);
                (*left == 0).then_some(())
            }
            _ => None,
        })
        .expect("it comes whole");
    (tag, is_redelivered, body)
}

#[test]
fn what_is_asked_in_one_write_is_answered_in_its_order() {
    let mut client = Client::open(broker().port(), login());
    let exchange =
        ExchangeDeclare { exchange: "all-at-once", kind: "fanout", ..ExchangeDeclare::default() };
    client.amqp.declare_exchange(1, &exchange);
    let queue =
        QueueDeclare { queue: "all-at-once", is_exclusive: true, ..QueueDeclare::default() };
    client.amqp.declare_queue(1, &queue);
    let bind = QueueBind { queue: "all-at-once", exchange: "all-at-once", ..QueueBind::default() };
    client.amqp.bind_queue(1, &bind);
    client.amqp.set_prefetch(1, 2);
    client.amqp.turn_confirms_on(1);
    client.amqp.consume(1, &Consume { queue: "all-at-once", consumer: "me", ..Consume::default() });
    let answers = [
        "ExchangeDeclared",
        "QueueDeclared",
        "QueueBound",
        "PrefetchSet",
        "ConfirmsOn",
        "Consuming",
    ];
    for answer in answers {
        let next = client.wait_for(|event| Some(format!("{event:?}"))).expect("it answers");
        assert!(next.starts_with(answer), "{next}");
    }
    client.close();
}

#[test]
fn no_more_comes_than_was_asked_for_until_it_is_acknowledged() {
    let mut client = Client::open(broker().port(), login());
    let queue = QueueDeclare { queue: "few", is_exclusive: true, ..QueueDeclare::default() };
    declared(&mut client, &queue);
    for number in 0..5u8 {
        client.publish(&to("few"), &[number]);
    }
    client.amqp.set_prefetch(1, 2);
    client.amqp.consume(1, &Consume { queue: "few", ..Consume::default() });
    assert_eq!(delivery(&mut client), (1, false, vec![0]));
    assert_eq!(delivery(&mut client), (2, false, vec![1]));
    // On another channel everything that was sent on the first one before has arrived.
    client.amqp.open_channel(2).expect("it is free");
    let passive = QueueDeclare { queue: "few", is_passive: true, ..QueueDeclare::default() };
    client.amqp.declare_queue(2, &passive);
    assert!(client.until("QueueDeclared").contains("messages: 3, consumers: 1"));
    client.amqp.ack(1, 2, true);
    assert_eq!(delivery(&mut client), (3, false, vec![2]));
    assert_eq!(delivery(&mut client), (4, false, vec![3]));
    client.close();
}

#[test]
fn a_channel_that_is_closed_gives_back_what_was_not_acknowledged_in_order() {
    let mut arguments = TableBuf::new();
    arguments
        .put_text("x-queue-type", "quorum")
        .put("x-single-active-consumer", Value::Boolean(true));
    let mut client = Client::open(broker().port(), login());
    let arguments = arguments.as_table();
    let queue = QueueDeclare {
        queue: "given-back",
        is_durable: true,
        arguments,
        ..QueueDeclare::default()
    };
    declared(&mut client, &queue);
    for number in 0..5u8 {
        client.publish(&to("given-back"), &[number]);
    }
    client.amqp.set_prefetch(1, 5);
    client.amqp.consume(1, &Consume { queue: "given-back", ..Consume::default() });
    for number in 0..5u8 {
        assert_eq!(delivery(&mut client).2, [number]);
    }
    client.amqp.ack(1, 2, true);
    client.amqp.close_channel(1);
    client.until("ChannelClosed");
    client.amqp.open_channel(1).expect("it is free");
    client.amqp.set_prefetch(1, 5);
    client.amqp.consume(1, &Consume { queue: "given-back", ..Consume::default() });
    for number in 2..5u8 {
        assert_eq!(delivery(&mut client), (u64::from(number) - 1, true, vec![number]));
    }
    broker().delete_queue("given-back");
    client.close();
}

#[test]
fn a_queue_that_goes_cancels_and_late_acknowledgements_do_no_harm() {
    let mut client = Client::open(broker().port(), login());
    let queue = QueueDeclare { queue: "going", is_durable: true, ..QueueDeclare::default() };
    declared(&mut client, &queue);
    client.publish(&to("going"), b"last");
    client.amqp.consume(1, &Consume { queue: "going", consumer: "me", ..Consume::default() });
    assert_eq!(delivery(&mut client).2, b"last");
    broker().delete_queue("going");
    assert_eq!(client.until("Cancelled"), "Cancelled { channel: 1, consumer: \"me\" }");
    // No answer is owed to it: the broker would close the connection.
    client.amqp.ack(1, 1, false);
    client.amqp.declare_queue(1, &QueueDeclare { is_exclusive: true, ..QueueDeclare::default() });
    client.until("QueueDeclared");
    client.close();
}

#[test]
fn an_acknowledgement_of_nothing_closes_the_channel_and_what_comes_after_it_is_too_late() {
    let mut client = Client::open(broker().port(), login());
    client.amqp.ack(1, 99, false);
    // Some of these the broker gets after it has closed the channel, and passes over.
    client.amqp.ack(1, 100, false);
    let refused = client.until("ChannelRefused");
    assert!(refused.contains("PreconditionFailed"), "{refused}");
    assert!(refused.contains("unknown delivery tag 99"), "{refused}");
    client.amqp.ack(1, 101, false);
    client.amqp.open_channel(1).expect("it is free");
    client.until("ChannelOpened");
    client.close();
}

#[test]
fn a_consumer_that_acknowledges_nothing_loses_its_channel() {
    let rabbitmq = RabbitMq::create();
    // The broker looks once in 60 seconds, or as often as is said here.
    rabbitmq.ctl(&[
        "eval",
        "application:set_env(rabbit, consumer_timeout, 1000), \
         application:set_env(rabbit, channel_tick_interval, 500).",
    ]);
    let mut client = Client::open(rabbitmq.port(), login());
    let queue = QueueDeclare { queue: "slow", is_exclusive: true, ..QueueDeclare::default() };
    declared(&mut client, &queue);
    client.publish(&to("slow"), b"x");
    client.amqp.consume(1, &Consume { queue: "slow", ..Consume::default() });
    delivery(&mut client);
    let refused = client.until("ChannelRefused");
    assert!(refused.contains("delivery acknowledgement on channel 1 timed out"), "{refused}");
    client.amqp.ack(1, 1, false);
    client.amqp.open_channel(1).expect("it is free");
    client.until("ChannelOpened");
    client.close();
}

#[test]
fn headers_as_large_as_a_frame_are_delivered_even_to_who_asked_for_small_ones() {
    let mut publisher = Client::open(broker().port(), login());
    let queue =
        QueueDeclare { queue: "large-headers", is_durable: true, ..QueueDeclare::default() };
    declared(&mut publisher, &queue);
    let mut headers = TableBuf::new();
    // By name, as they come from RabbitMQ 4.0 on.
    headers.put_text("large", &"x".repeat(131_000)).put("tail", Value::Void);
    let mut message = to("large-headers");
    message.properties.headers = Some(headers.as_table());
    publisher.publish(&message, &[7; 20_000]);
    // So that the broker has it.
    publisher.close();
    for frame_max in [131_072, 8192] {
        let mut consumer = Client::open(broker().port(), Login { frame_max, ..login() });
        consumer.amqp.consume(1, &Consume { queue: "large-headers", ..Consume::default() });
        let is_whole = consumer.wait_for(|event| match event {
            Event::Delivered(delivery) => {
                Some(delivery.properties.headers == Some(headers.as_table()))
            }
            _ => None,
        });
        assert_eq!(is_whole, Ok(true));
        consumer
            .wait_for(|event| matches!(event, Event::Body { left: 0, .. }).then_some(()))
            .expect("it comes");
        consumer.close();
    }
    broker().delete_queue("large-headers");
}
