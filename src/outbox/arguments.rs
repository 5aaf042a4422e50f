//! The arguments of `amqp.publish` and `amqp.autonomous_publish`, in the order of sql/amqp_cdc--*.sql.

use std::borrow::Cow;

use pgrx::PgSqlErrorCode;

use super::draft::Draft;
use crate::pg::entry_points::BodyType;
use crate::pg::function_call::FunctionCall;
use crate::pg::report::Report;

const ROUTING_KEY: usize = 0;
const BODY: usize = 1;
const EXCHANGE: usize = 2;
const CONTENT_TYPE: usize = 3;
const HEADERS: usize = 4;
const CORRELATION_ID: usize = 5;
const REPLY_TO: usize = 6;
const TYPE: usize = 7;
const EXPIRATION: usize = 8;
const PRIORITY: usize = 9;
const DELIVERY_MODE: usize = 10;
const CONTENT_ENCODING: usize = 11;

/// `delivery_mode` of a message that outlives a restart of the broker, which is what is asked for if nothing is.
pub const PERSISTENT: i32 = 2;

/// What the caller wants to send.
pub fn draft<'a>(call: FunctionCall<'a>, body: BodyType) -> Draft<'a> {
    let mut is_lossy = false;
    let mut text = |number| call.text(number, &mut is_lossy);
    let draft = Draft {
        routing_key: text(ROUTING_KEY).unwrap_or_else(|| refuse_null("routing_key")),
        exchange: text(EXCHANGE),
        content_type: text(CONTENT_TYPE).or(Some(content_type(body).into())),
        content_encoding: text(CONTENT_ENCODING),
        correlation_id: text(CORRELATION_ID),
        reply_to: text(REPLY_TO),
        kind: text(TYPE),
        body: match body {
            BodyType::Bytea => call.bytes(BODY).map(Cow::Borrowed),
            BodyType::Jsonb => call.jsonb(BODY, &mut is_lossy).map(bytes),
            BodyType::Json | BodyType::Text => text(BODY).map(bytes),
        }
        .unwrap_or_else(|| refuse_null("body")),
        headers: call.jsonb(HEADERS, &mut is_lossy),
        expiration: call.interval(EXPIRATION),
        priority: call.small_integer(PRIORITY),
        delivery_mode: call.small_integer(DELIVERY_MODE).or(Some(PERSISTENT)),
        is_lossy: false,
    };
    Draft { is_lossy, ..draft }
}

fn bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// The content type of a body of this type.
pub fn content_type(body: BodyType) -> &'static str {
    match body {
        BodyType::Jsonb | BodyType::Json => "application/json",
        BodyType::Text => "text/plain",
        BodyType::Bytea => "application/octet-stream",
    }
}

fn refuse_null(argument: &str) -> ! {
    Report::new(
        PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
        format!("{argument} of a message must not be null"),
    )
    .raise();
}
