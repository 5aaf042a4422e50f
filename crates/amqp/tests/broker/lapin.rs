//! With lapin on the other side: what it understands of what we publish, and we of what it publishes.

use std::time::Duration;

use amqp::{Consume, Event, Publish, QueueDeclare};
use futures_lite::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use crate::client::Client;
use crate::everything::{TIMESTAMP, headers, properties};
use crate::scenario::login;
use crate::shared::broker;

/// Everything, as lapin has it.
fn theirs() -> BasicProperties {
    let mut inner = FieldTable::default();
    inner.insert("deep".into(), AMQPValue::LongString("down".into()));
    inner.insert("none".into(), AMQPValue::Void);
    let array = FieldArray::from(vec![
        AMQPValue::LongInt(-1),
        AMQPValue::FieldTable(inner.clone()),
        AMQPValue::FieldArray(FieldArray::from(vec![])),
    ]);
    let fields = [
        ("array", AMQPValue::FieldArray(array)),
        ("boolean", AMQPValue::Boolean(true)),
        ("bytes", AMQPValue::ByteArray(vec![0, 0xFF, 0xCE].into())),
        ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 31_415 })),
        ("empty", AMQPValue::FieldTable(FieldTable::default())),
        ("f32", AMQPValue::Float(-2.0)),
        ("f64", AMQPValue::Double(1e100)),
        ("i16", AMQPValue::ShortInt(-300)),
        ("i32", AMQPValue::LongInt(-70_000)),
        ("i64", AMQPValue::LongLongInt(1 << 40)),
        ("i8", AMQPValue::ShortShortInt(100)),
        ("table", AMQPValue::FieldTable(inner)),
        ("text", AMQPValue::LongString("Grüße 🦀".into())),
        ("timestamp", AMQPValue::Timestamp(TIMESTAMP)),
        ("u16", AMQPValue::ShortUInt(60_000)),
        ("u32", AMQPValue::LongUInt(4_000_000_000)),
        ("u8", AMQPValue::ShortShortUInt(100)),
        ("void", AMQPValue::Void),
    ];
    let mut headers = FieldTable::default();
    for (name, value) in fields {
        headers.insert(name.into(), value);
    }
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("identity".into())
        .with_headers(headers)
        .with_delivery_mode(2)
        .with_priority(9)
        .with_correlation_id("correlation".into())
        .with_reply_to("somewhere".into())
        .with_expiration("60000".into())
        .with_message_id("7/1/0/16B3748".into())
        .with_timestamp(TIMESTAMP)
        .with_type("insert".into())
        .with_user_id("guest".into())
        .with_app_id("amqp".into())
        .with_cluster_id("reserved".into())
}

/// Something that lapin does, within a minute.
fn with_lapin<T>(work: impl AsyncFnOnce(&Channel) -> lapin::Result<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let work = async {
        let connection =
            Connection::connect(&broker().url(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let done = work(&channel).await?;
        connection.close(200, "done".into()).await?;
        Ok::<_, lapin::Error>(done)
    };
    let in_time = async { tokio::time::timeout(Duration::from_secs(60), work).await };
    runtime.expect("there is one").block_on(in_time).expect("in time").expect("it works")
}

fn queue<'a>(name: &'a str, client: &mut Client) -> &'a str {
    let declare = QueueDeclare { queue: name, is_durable: true, ..QueueDeclare::default() };
    client.amqp.declare_queue(1, &declare);
    client.until("QueueDeclared");
    name
}

#[test]
fn lapin_consumes_what_we_publish() {
    let mut client = Client::open(broker().port(), login());
    let name = queue("to-lapin", &mut client);
    let headers = headers();
    let message = Publish {
        exchange: "",
        routing_key: name,
        is_mandatory: true,
        properties: properties(&headers),
    };
    let bodies = [b"small".to_vec(), Vec::new(), vec![7; 300_000]];
    for body in &bodies {
        client.publish(&message, body);
    }
    client.close();
    let seen = with_lapin(async |channel| {
        let options = BasicConsumeOptions::default();
        let (queue, tag) = (ShortString::from(name), ShortString::from("lapin"));
        let mut consumer =
            channel.basic_consume(queue, tag, options, FieldTable::default()).await?;
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let delivery = consumer.next().await.expect("it is not cancelled")?;
            delivery.acker.ack(BasicAckOptions::default()).await?;
            seen.push((delivery.properties, delivery.data.to_vec()));
        }
        Ok(seen)
    });
    for ((properties, data), body) in seen.iter().zip(&bodies) {
        assert_eq!(properties, &theirs());
        assert!(data == body);
    }
    broker().delete_queue(name);
}

#[test]
fn we_consume_what_lapin_publishes() {
    let mut client = Client::open(broker().port(), login());
    let name = queue("from-lapin", &mut client);
    let bodies = [b"small".to_vec(), Vec::new(), vec![7; 300_000]];
    with_lapin(async |channel| {
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        for body in &bodies {
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let (exchange, key) = (ShortString::from(""), ShortString::from(name));
            let publish = channel.basic_publish(exchange, key, options, body, theirs());
            assert!(publish.await?.await?.is_ack());
        }
        Ok(())
    });
    client.amqp.consume(1, &Consume { queue: name, consumer: "us", ..Consume::default() });
    let headers = headers();
    for body in &bodies {
        let (is_same, tag, size) = client
            .wait_for(|event| match event {
                Event::Delivered(delivery) => {
                    assert_eq!(delivery.properties, properties(&headers));
                    let is_same = delivery.exchange == "" && delivery.routing_key == name;
                    Some((is_same && delivery.consumer == "us", delivery.tag, delivery.body_size))
                }
                _ => None,
            })
            .expect("it comes");
        assert!(is_same && size == body.len() as u64);
        let mut seen = Vec::new();
        while seen.len() < body.len() {
            client
                .wait_for(|event| match event {
                    Event::Body { part, .. } => {
                        seen.extend_from_slice(part);
                        Some(())
                    }
                    _ => None,
                })
                .expect("it comes");
        }
        assert!(seen == *body);
        client.amqp.ack(1, tag, false);
    }
    broker().delete_queue(name);
    client.close();
}
