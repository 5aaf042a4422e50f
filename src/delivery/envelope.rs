//! What a message says of itself on the wire: where it goes, its properties and its headers.

use amqp::{Properties, Publish, Table, TableBuf, Text, Value};

use std::rc::Rc;

use super::message::{HeaderValue, Message, ResendReason};

/// `delivery_mode` of a message that survives a broker restart.
const PERSISTENT: u8 = 2;

/// The AMQP property `app_id`.
const APP_ID: &str = "amqp_cdc";

/// Adds the message's headers, and header `resent` if it is sent again; then those of the user's own.
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
    if let Some(own) = &message.properties {
        headers.append(Table::from_bytes(&own.headers));
    }
}

/// The message as it is published, but for its body. The broker is to return it if no queue is bound for it.
pub fn address<'a>(message: &'a Message, headers: &'a TableBuf) -> Publish<'a> {
    Publish {
        exchange: &message.exchange,
        routing_key: &message.routing_key,
        is_mandatory: true,
        properties: properties(message, headers),
    }
}

fn properties<'a>(message: &'a Message, headers: &'a TableBuf) -> Properties<'a> {
    let ours = Properties {
        content_type: Some("application/json".into()),
        headers: Some(headers.as_table()),
        delivery_mode: Some(PERSISTENT),
        message_id: Some(message.message_id.as_str().into()),
        timestamp: Some(message.timestamp),
        kind: Some(message.kind.into()),
        app_id: Some(APP_ID.into()),
        ..Properties::default()
    };
    let Some(own) = &message.properties else { return ours };
    let text = |text: &'a Option<Rc<str>>| text.as_deref().map(Text::from);
    Properties {
        content_type: text(&own.content_type),
        content_encoding: text(&own.content_encoding),
        delivery_mode: own.delivery_mode,
        priority: own.priority,
        correlation_id: text(&own.correlation_id),
        reply_to: text(&own.reply_to),
        expiration: text(&own.expiration),
        kind: text(&own.kind).or(ours.kind),
        ..ours
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

    #[test]
    fn a_users_own_message_says_what_they_say_but_for_what_is_ours_to_say() {
        let mut own_headers = TableBuf::new();
        own_headers.put("n", Value::Void);
        let own = crate::event::Properties {
            content_encoding: Some("gzip".into()),
            headers: own_headers.as_table().as_bytes().to_vec(),
            delivery_mode: Some(1),
            priority: Some(7),
            correlation_id: Some("c".into()),
            reply_to: Some("r".into()),
            expiration: Some("100".into()),
            ..crate::event::Properties::default()
        };
        let message = Message {
            message_id: "7/1/0/16B3748".to_owned(),
            kind: "message",
            headers: vec![("published", HeaderValue::Boolean(true))],
            properties: Some(Box::new(own)),
            ..Message::default()
        };
        let mut headers = TableBuf::new();
        put_headers(&mut headers, &message, None);
        let sent = address(&message, &headers).properties;
        let texts = [sent.content_encoding, sent.correlation_id, sent.reply_to, sent.expiration];
        assert_eq!(texts.map(|text| text.unwrap().to_string()), ["gzip", "c", "r", "100"]);
        assert_eq!((sent.content_type, sent.user_id), (None, None));
        assert_eq!((sent.delivery_mode, sent.priority), (Some(1), Some(7)));
        assert_eq!((sent.kind, sent.app_id), (Some("message".into()), Some("amqp_cdc".into())));
        assert_eq!(sent.message_id, Some("7/1/0/16B3748".into()));
        let names: Vec<_> = headers.as_table().fields().map(|field| field.unwrap().0).collect();
        assert_eq!(names, ["published", "n"]);

        let mut named = message;
        named.properties.as_mut().unwrap().kind = Some("order.placed".into());
        assert_eq!(address(&named, &headers).properties.kind, Some("order.placed".into()));
    }
}
