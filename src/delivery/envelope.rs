//! What a message says of itself on the wire: where it goes, its properties and its headers.

use amqp::{Properties, Publish, TableBuf, Value};

use super::message::{HeaderValue, Message, ResendReason};

/// `delivery_mode` of a message that survives a broker restart.
const PERSISTENT: u8 = 2;

/// The AMQP property `app_id`.
const APP_ID: &str = "amqp_cdc";

/// Adds the message's headers, and header `resent` if it is sent again.
pub fn put_headers(headers: &mut TableBuf, message: &Message, resent: Option<ResendReason>) {
    for (name, value) in &message.headers {
        let value = match value {
            HeaderValue::Text(text) => Value::Text((&**text).into()),
            HeaderValue::Number(number) => Value::I64(*number),
            HeaderValue::Boolean(boolean) => Value::Boolean(*boolean),
        };
        headers.put(name, value);
    }
    if let Some(reason) = resent {
        headers.put_text("resent", reason.as_str());
    }
}

/// The message as it is published, but for its body. The broker is to return it if no queue is bound for it.
pub fn address<'a>(message: &'a Message, headers: &'a TableBuf) -> Publish<'a> {
    Publish {
        exchange: &message.exchange,
        routing_key: &message.routing_key,
        is_mandatory: true,
        properties: Properties {
            content_type: Some("application/json".into()),
            headers: Some(headers.as_table()),
            delivery_mode: Some(PERSISTENT),
            message_id: Some(message.message_id.as_str().into()),
            timestamp: Some(message.timestamp),
            kind: Some(message.kind.into()),
            app_id: Some(APP_ID.into()),
            ..Properties::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_it_is_and_that_it_comes_again() {
        let message = Message {
            exchange: "pg-messaging".into(),
            routing_key: "cdc.article.insert".into(),
            message_id: "7/1/0/16B3748".to_owned(),
            timestamp: 1_790_000_000,
            kind: "insert",
            headers: vec![
                ("table", HeaderValue::Text("blog articles".into())),
                ("tx_seq", HeaderValue::Number(-5)),
                ("truncated", HeaderValue::Boolean(true)),
            ],
            ..Message::default()
        };
        let mut headers = TableBuf::new();
        put_headers(&mut headers, &message, Some(ResendReason::Nack));
        let published = address(&message, &headers);
        assert_eq!(
            (published.exchange, published.routing_key),
            ("pg-messaging", "cdc.article.insert")
        );
        assert!(published.is_mandatory);
        let properties = published.properties;
        let texts =
            [properties.content_type, properties.message_id, properties.kind, properties.app_id];
        let texts = texts.map(|text| text.expect("it is there").to_string());
        assert_eq!(texts, ["application/json", "7/1/0/16B3748", "insert", "amqp_cdc"]);
        let numbers = (properties.delivery_mode, properties.timestamp);
        assert_eq!(numbers, (Some(2), Some(1_790_000_000)));
        let fields: Vec<_> =
            headers.as_table().fields().map(|field| field.expect("it is one")).collect();
        let expected = [
            ("table".into(), Value::Text("blog articles".into())),
            ("tx_seq".into(), Value::I64(-5)),
            ("truncated".into(), Value::Boolean(true)),
            ("resent".into(), Value::Text("nack".into())),
        ];
        assert_eq!(fields, expected);
    }
}
