//! Properties and headers of every type, against the generated parser and generator: whatever they are.

use std::collections::BTreeMap;
use std::time::Instant;

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::basic::AMQPProperties;
use amq_protocol::protocol::{AMQPClass, basic};
use amq_protocol::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, ShortString};
use amqp::table::{Array, ArrayBuf};
use amqp::{Event, Properties, Publish, Table, TableBuf, Value};
use proptest::prelude::*;

use crate::generated::{generate, parse};
use crate::peer::{open, send};

fn value() -> impl Strategy<Value = AMQPValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u8>().prop_map(AMQPValue::ShortShortUInt),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<u32>().prop_map(AMQPValue::LongUInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        any::<f32>().prop_filter("comparable", |n| !n.is_nan()).prop_map(AMQPValue::Float),
        any::<f64>().prop_filter("comparable", |n| !n.is_nan()).prop_map(AMQPValue::Double),
        any::<(u8, u32)>()
            .prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
        prop::collection::vec(any::<u8>(), 0..40)
            .prop_map(|bytes| AMQPValue::LongString(bytes.into())),
        prop::collection::vec(any::<u8>(), 0..40)
            .prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(4, 30, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6)
                .prop_map(|values| AMQPValue::FieldArray(FieldArray::from(values))),
            prop::collection::btree_map("[a-z]{0,9}", inner, 0..6)
                .prop_map(|fields| AMQPValue::FieldTable(table_of(fields))),
        ]
    })
}

fn table_of(fields: BTreeMap<String, AMQPValue>) -> FieldTable {
    let named = fields.into_iter().map(|(name, value)| (ShortString::from(name), value));
    FieldTable::from(named.collect::<BTreeMap<_, _>>())
}

/// The same value, as ours.
fn put(value: &AMQPValue, with: &mut dyn FnMut(Value<'_>)) {
    match value {
        AMQPValue::Boolean(it) => with(Value::Boolean(*it)),
        AMQPValue::ShortShortInt(it) => with(Value::I8(*it)),
        AMQPValue::ShortShortUInt(it) => with(Value::U8(*it)),
        AMQPValue::ShortInt(it) => with(Value::I16(*it)),
        AMQPValue::ShortUInt(it) => with(Value::U16(*it)),
        AMQPValue::LongInt(it) => with(Value::I32(*it)),
        AMQPValue::LongUInt(it) => with(Value::U32(*it)),
        AMQPValue::LongLongInt(it) => with(Value::I64(*it)),
        AMQPValue::Float(it) => with(Value::F32(*it)),
        AMQPValue::Double(it) => with(Value::F64(*it)),
        AMQPValue::DecimalValue(it) => {
            with(Value::Decimal { scale: it.scale, unscaled: it.value });
        }
        AMQPValue::LongString(it) => with(Value::Text(amqp::Text::new(it.as_bytes()))),
        AMQPValue::ByteArray(it) => with(Value::Bytes(it.as_slice())),
        AMQPValue::Timestamp(it) => with(Value::Timestamp(*it)),
        AMQPValue::Void => with(Value::Void),
        AMQPValue::FieldArray(it) => {
            let mut array = ArrayBuf::new();
            for value in it.as_slice() {
                put(value, &mut |value| {
                    array.put(value);
                });
            }
            with(Value::Array(array.as_array()));
        }
        AMQPValue::FieldTable(it) => with(Value::Table(table(it).as_table())),
        AMQPValue::ShortString(_) => unreachable!("there are none"),
    }
}

fn table(fields: &FieldTable) -> TableBuf {
    let mut table = TableBuf::new();
    for (name, value) in fields {
        put(value, &mut |value| {
            table.put(name.as_str(), value);
        });
    }
    table
}

/// Ours, as the other's.
fn understood(value: Value<'_>) -> AMQPValue {
    match value {
        Value::Boolean(it) => AMQPValue::Boolean(it),
        Value::I8(it) => AMQPValue::ShortShortInt(it),
        Value::U8(it) => AMQPValue::ShortShortUInt(it),
        Value::I16(it) => AMQPValue::ShortInt(it),
        Value::U16(it) => AMQPValue::ShortUInt(it),
        Value::I32(it) => AMQPValue::LongInt(it),
        Value::U32(it) => AMQPValue::LongUInt(it),
        Value::I64(it) => AMQPValue::LongLongInt(it),
        Value::F32(it) => AMQPValue::Float(it),
        Value::F64(it) => AMQPValue::Double(it),
        Value::Decimal { scale, unscaled } => {
            AMQPValue::DecimalValue(DecimalValue { scale, value: unscaled })
        }
        Value::Text(it) => AMQPValue::LongString(it.as_bytes().to_vec().into()),
        Value::Bytes(it) => AMQPValue::ByteArray(it.into()),
        Value::Timestamp(it) => AMQPValue::Timestamp(it),
        Value::Void => AMQPValue::Void,
        Value::Array(it) => AMQPValue::FieldArray(array_understood(it)),
        Value::Table(it) => AMQPValue::FieldTable(table_understood(it)),
    }
}

fn array_understood(array: Array<'_>) -> FieldArray {
    let values = array.values().map(|value| understood(value.expect("it is a value")));
    FieldArray::from(values.collect::<Vec<_>>())
}

fn table_understood(table: Table<'_>) -> FieldTable {
    let mut fields = FieldTable::default();
    for field in table.fields() {
        let (name, value) = field.expect("it is a field");
        fields.insert(name.to_str().expect("it is UTF-8").into(), understood(value));
    }
    fields
}

/// Some of the properties of a message.
#[derive(Clone, Debug)]
struct Some14 {
    texts: [Option<String>; 10],
    headers: Option<FieldTable>,
    numbers: (Option<u8>, Option<u8>, Option<u64>),
}

fn some14() -> impl Strategy<Value = Some14> {
    let texts = prop::array::uniform10(prop::option::of("[ -~]{0,20}"));
    let fields = prop::collection::btree_map("[a-z]{0,9}", value(), 0..6).prop_map(table_of);
    let numbers = any::<(Option<u8>, Option<u8>, Option<u64>)>();
    (texts, prop::option::of(fields), numbers).prop_map(|(texts, headers, numbers)| Some14 {
        texts,
        headers,
        numbers,
    })
}

impl Some14 {
    fn ours<'a>(&'a self, headers: &'a TableBuf) -> Properties<'a> {
        let text = |at: usize| self.texts[at].as_deref().map(Into::into);
        Properties {
            content_type: text(0),
            content_encoding: text(1),
            headers: self.headers.as_ref().map(|_| headers.as_table()),
            delivery_mode: self.numbers.0,
            priority: self.numbers.1,
            correlation_id: text(2),
            reply_to: text(3),
            expiration: text(4),
            message_id: text(5),
            timestamp: self.numbers.2,
            kind: text(6),
            user_id: text(7),
            app_id: text(8),
            cluster_id: text(9),
        }
    }

    fn theirs(&self) -> AMQPProperties {
        let mut all = AMQPProperties::default();
        let with: [fn(AMQPProperties, ShortString) -> AMQPProperties; 10] = [
            AMQPProperties::with_content_type,
            AMQPProperties::with_content_encoding,
            AMQPProperties::with_correlation_id,
            AMQPProperties::with_reply_to,
            AMQPProperties::with_expiration,
            AMQPProperties::with_message_id,
            AMQPProperties::with_type,
            AMQPProperties::with_user_id,
            AMQPProperties::with_app_id,
            AMQPProperties::with_cluster_id,
        ];
        for (text, with) in self.texts.iter().zip(with) {
            if let Some(text) = text {
                all = with(all, ShortString::from(text.as_str()));
            }
        }
        if let Some(headers) = &self.headers {
            all = all.with_headers(headers.clone());
        }
        if let Some(mode) = self.numbers.0 {
            all = all.with_delivery_mode(mode);
        }
        if let Some(priority) = self.numbers.1 {
            all = all.with_priority(priority);
        }
        if let Some(timestamp) = self.numbers.2 {
            all = all.with_timestamp(timestamp);
        }
        all
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_properties_are_read_as_they_were_written_both_ways(
        some in some14(),
        body in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let headers = some.headers.as_ref().map(table).unwrap_or_default();
        let ours = some.ours(&headers);
        let mut connection = open();
        let message = Publish {
            exchange: "x",
            routing_key: "key",
            is_mandatory: true,
            properties: ours,
        };
        connection.publish(1, &message, body.len() as u64).expect("it is open");
        prop_assert_eq!(connection.put_body(&body), body.len());
        let sent = send(&mut connection);
        let frames = parse(&sent);
        let AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Publish(publish))) = &frames[0] else {
            panic!("{frames:?}");
        };
        prop_assert_eq!((publish.exchange.as_str(), publish.routing_key.as_str()), ("x", "key"));
        prop_assert!(publish.mandatory && !publish.immediate);
        let AMQPFrame::Header(1, header) = &frames[1] else { panic!("{frames:?}") };
        prop_assert_eq!(header.body_size, body.len() as u64);
        prop_assert_eq!(&header.properties, &some.theirs());
        // And the other way round: as a delivery, the header as the generator writes it.
        let deliver = basic::Deliver {
            consumer_tag: "me".into(),
            delivery_tag: 5,
            redelivered: true,
            exchange: "x".into(),
            routing_key: "key".into(),
        };
        let deliver = AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver));
        let bytes = [generate(&AMQPFrame::Method(1, deliver)), generate(&frames[1])].concat();
        connection.room()[..bytes.len()].copy_from_slice(&bytes);
        connection.received(bytes.len(), Instant::now());
        let Ok(Some(Event::Delivered(delivery))) = connection.next_event() else { panic!("it is one") };
        prop_assert_eq!(delivery.properties, ours);
        let seen = delivery.properties.headers.map(table_understood);
        prop_assert_eq!(seen, some.headers);
        prop_assert_eq!((delivery.tag, delivery.is_redelivered), (5, true));
    }
}
