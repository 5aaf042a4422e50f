//! What a caller wants to send, and whether a broker takes it: what makes it close the channel must not get into the
//! stream, which would stand still there. Pure.

use std::borrow::Cow;

use amqp::TableBuf;
use pgrx::PgSqlErrorCode;

use super::headers::{self, MOST_PROPERTIES, too_long, too_many_properties};
use super::reserved;
use crate::event::{MAX_SHORT_STRING, PropertiesStart};
use crate::pg::function_call::Interval;
use crate::pg::report::Report;

/// The latest that a message may expire, in milliseconds (RabbitMQ: `MAX_EXPIRY_TIMER`): 49.7 days.
const LATEST: i128 = u32::MAX as i128;

/// Where the broker sends answers to a consumer of the same connection; it closes the channel if there is none.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to";

/// A message, as it was asked for.
#[derive(Clone, Debug, Default)]
pub struct Draft<'a> {
    pub routing_key: Cow<'a, str>,
    /// None: that of the session.
    pub exchange: Option<Cow<'a, str>>,
    pub body: Cow<'a, [u8]>,
    pub content_type: Option<Cow<'a, str>>,
    pub content_encoding: Option<Cow<'a, str>>,
    /// A JSON object.
    pub headers: Option<Cow<'a, str>>,
    pub correlation_id: Option<Cow<'a, str>>,
    pub reply_to: Option<Cow<'a, str>>,
    /// The AMQP property `type`.
    pub kind: Option<Cow<'a, str>>,
    pub expiration: Option<Interval>,
    pub priority: Option<i32>,
    pub delivery_mode: Option<i32>,
    /// Whether bytes without a meaning in UTF-8 were replaced.
    pub is_lossy: bool,
}

/// What had to be made of a draft.
#[derive(Debug, Default)]
pub struct Made {
    headers: TableBuf,
    expiration: Option<String>,
    priority: Option<u8>,
    delivery_mode: Option<u8>,
}

/// What of a draft is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    RoutingKey,
    Body,
    Headers,
    /// The AMQP property `type`.
    Kind,
    /// Any other property.
    Property,
}

/// Why a draft is not sent.
#[derive(Debug)]
pub struct Refusal {
    pub part: Part,
    pub report: Report,
}

impl Refusal {
    /// Aborts the current statement.
    pub fn raise(self) -> ! {
        self.report.raise()
    }
}

impl Part {
    /// Says of an error that it is this part's.
    fn refused(self) -> impl FnOnce(Report) -> Refusal {
        move |report| Refusal { part: self, report }
    }
}

impl Draft<'_> {
    /// Checks all but the exchange. `limit` is the size of the largest body.
    ///
    /// # Errors
    ///
    /// What a broker would not take, or is not the caller's to say.
    pub fn check(&self, limit: usize) -> Result<Made, Refusal> {
        headers::check_routing_key(&self.routing_key).map_err(Part::RoutingKey.refused())?;
        if self.body.len() > limit {
            return Err(Part::Body.refused()(too_large(self.body.len(), limit)));
        }
        self.check_kind().map_err(Part::Kind.refused())?;
        let table = self.headers.as_deref().map(headers::table).transpose();
        let headers = table.map_err(Part::Headers.refused())?.unwrap_or_default();
        let made = self.made(headers).map_err(Part::Property.refused())?;
        self.check_size(&made).map_err(Part::Headers.refused())?;
        Ok(made)
    }

    fn check_kind(&self) -> Result<(), Report> {
        let Some(kind) = self.kind.as_deref() else { return Ok(()) };
        check_length("type", kind)?;
        if reserved::is_kind(kind) {
            return Err(wrong(format!("type \"{kind}\" is reserved"))
                .detail("Consumers take a message of that type for a change of a row, or for a word about the stream.")
                .hint(format!("Reserved are: {}.", reserved::kinds())));
        }
        Ok(())
    }

    /// Checks the other properties, and makes of them what must be made.
    fn made(&self, headers: TableBuf) -> Result<Made, Report> {
        for (what, text) in self.texts() {
            check_length(what, text)?;
        }
        if self.reply_to.as_deref() == Some(DIRECT_REPLY) {
            return Err(wrong(format!("reply_to \"{DIRECT_REPLY}\" cannot be used"))
                .detail("It stands for a consumer on the connection that sends the message, which is the worker's and has none.")
                .hint("Name a queue."));
        }
        Ok(Made {
            headers,
            expiration: self.expiration.map(milliseconds).transpose()?,
            priority: self
                .priority
                .map(|number| in_range("priority", number, 0..=255))
                .transpose()?,
            delivery_mode: self
                .delivery_mode
                .map(|number| in_range("delivery_mode", number, 1..=2))
                .transpose()?,
        })
    }

    fn check_size(&self, made: &Made) -> Result<(), Report> {
        let texts: usize = self.texts().map(|(_, text)| text.len()).sum();
        let size = texts + made.headers.as_table().as_bytes().len();
        if size > MOST_PROPERTIES {
            return Err(too_many_properties(size));
        }
        Ok(())
    }

    /// The properties that are texts, with their names.
    fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let texts = [
            ("content_type", &self.content_type),
            ("content_encoding", &self.content_encoding),
            ("correlation_id", &self.correlation_id),
            ("reply_to", &self.reply_to),
            ("type", &self.kind),
        ];
        texts.into_iter().filter_map(|(what, text)| Some((what, text.as_deref()?)))
    }

    /// The properties, but for who sends them and when.
    pub fn properties<'a>(&'a self, made: &'a Made) -> PropertiesStart<'a> {
        PropertiesStart {
            content_type: self.content_type.as_deref(),
            content_encoding: self.content_encoding.as_deref(),
            headers: made.headers.as_table().as_bytes(),
            delivery_mode: made.delivery_mode,
            priority: made.priority,
            correlation_id: self.correlation_id.as_deref(),
            reply_to: self.reply_to.as_deref(),
            expiration: made.expiration.as_deref(),
            kind: self.kind.as_deref(),
            ..PropertiesStart::default()
        }
    }
}

fn wrong(message: impl Into<String>) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
}

fn check_length(what: &str, text: &str) -> Result<(), Report> {
    if text.len() > MAX_SHORT_STRING { Err(too_long(what, text.len())) } else { Ok(()) }
}

/// What is wrong with a body of so many bytes.
pub fn too_large(size: usize, limit: usize) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        "message is too large to be published",
    )
    .detail(format!("Its body has {size} bytes; amqp.max_message_size is {limit}."))
    .hint("Raise amqp.max_message_size and the broker's limit, or send where the body is instead.")
}

fn in_range(what: &str, number: i32, range: std::ops::RangeInclusive<u8>) -> Result<u8, Report> {
    let found = u8::try_from(number).ok().filter(|number| range.contains(number));
    found.ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        Report::new(
            PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            format!("{what} must be from {least} to {most}"),
        )
        .detail(format!("It is {number}."))
    })
}

/// An interval as the property `expiration` has it. A month has 30 days, and a day 24 hours, as PostgreSQL compares
/// intervals (timestamp.c: `interval_cmp_value`).
fn milliseconds(interval: Interval) -> Result<String, Report> {
    const DAY: i128 = 24 * 60 * 60 * 1000 * 1000;
    let days = i128::from(interval.months) * 30 + i128::from(interval.days);
    let milliseconds = (days * DAY + i128::from(interval.microseconds)).div_euclid(1000);
    if (0..=LATEST).contains(&milliseconds) {
        return Ok(milliseconds.to_string());
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
        "expiration must be from 0 to 49 days",
    )
    .detail(format!("It is {milliseconds} milliseconds; a broker takes 0 to {LATEST}.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(change: impl FnOnce(&mut Draft<'_>)) -> Result<Made, Refusal> {
        let mut draft = Draft { routing_key: "k".into(), ..Draft::default() };
        change(&mut draft);
        draft.check(1000)
    }

    #[track_caller]
    fn refusal(change: impl FnOnce(&mut Draft<'_>)) -> String {
        checked(change).expect_err("it is taken").report.message
    }

    fn text(length: usize) -> Option<Cow<'static, str>> {
        Some("x".repeat(length).into())
    }

    #[test]
    fn no_text_is_longer_than_amqp_has_room_for() {
        type Set = fn(&mut Draft<'_>, usize);
        let setters: [(&str, Set); 6] = [
            ("routing key", |draft, length| draft.routing_key = text(length).unwrap()),
            ("content_type", |draft, length| draft.content_type = text(length)),
            ("content_encoding", |draft, length| draft.content_encoding = text(length)),
            ("correlation_id", |draft, length| draft.correlation_id = text(length)),
            ("reply_to", |draft, length| draft.reply_to = text(length)),
            ("type", |draft, length| draft.kind = text(length)),
        ];
        for (what, set) in setters {
            assert!(checked(|draft| set(draft, 255)).is_ok(), "{what}");
            let expected = format!("{what} is longer than 255 bytes");
            assert_eq!(refusal(|draft| set(draft, 256)), expected);
        }
    }

    #[test]
    fn expiration_is_milliseconds_that_a_broker_takes() {
        let expiration = |months, days, microseconds| {
            let interval = Interval { months, days, microseconds };
            checked(|draft| draft.expiration = Some(interval)).map(|made| made.expiration.unwrap())
        };
        assert_eq!(expiration(0, 0, 1_500_000).unwrap(), "1500");
        assert_eq!(expiration(0, 0, 999).unwrap(), "0");
        assert_eq!(expiration(1, 1, 0).unwrap(), (31u64 * 86_400_000).to_string());
        assert_eq!(expiration(0, 0, 4_294_967_295_999).unwrap(), "4294967295");
        for (months, days, microseconds) in [
            (0, 0, -1),
            (0, 0, 4_294_967_296_000),
            (0, -1, 0),
            (i32::MAX, i32::MAX, i64::MAX),
            (i32::MIN, i32::MIN, i64::MIN),
        ] {
            let message = expiration(months, days, microseconds).unwrap_err().report.message;
            assert_eq!(message, "expiration must be from 0 to 49 days");
        }
    }

    #[test]
    fn numbers_are_those_that_amqp_has() {
        let priority =
            |number| checked(|draft| draft.priority = Some(number)).map(|made| made.priority);
        assert_eq!((priority(0).unwrap(), priority(255).unwrap()), (Some(0), Some(255)));
        assert!(priority(-1).is_err() && priority(256).is_err());
        let mode = |number| checked(|draft| draft.delivery_mode = Some(number)).is_ok();
        assert_eq!([0, 1, 2, 3, -1].map(mode), [false, true, true, false, false]);
    }

    #[test]
    fn what_is_not_the_callers_to_say_is_refused() {
        for (kind, is_taken) in
            [("GAP", false), ("snapshot-end", false), ("message", true), ("order", true)]
        {
            assert_eq!(checked(|draft| draft.kind = Some(kind.into())).is_ok(), is_taken, "{kind}");
        }
        assert!(refusal(|draft| draft.routing_key = "amqp_cdc.gap".into()).contains("reserved"));
        assert!(
            refusal(|draft| draft.reply_to = Some(DIRECT_REPLY.into())).contains("cannot be used")
        );
        assert!(checked(|draft| draft.reply_to = Some("amq.rabbitmq.reply-to.g1".into())).is_ok());
    }

    #[test]
    fn body_and_properties_have_a_limit() {
        assert!(checked(|draft| draft.body = vec![0; 1000].into()).is_ok());
        let message = refusal(|draft| draft.body = vec![0; 1001].into());
        assert_eq!(message, "message is too large to be published");
        let headers = |size: usize| Some(Cow::from(format!("{{\"h\": \"{}\"}}", "x".repeat(size))));
        // A name of one letter with its length, a type, four bytes of a length.
        let most = MOST_PROPERTIES - 7;
        assert!(checked(|draft| draft.headers = headers(most)).is_ok());
        let too_large = "properties and headers are too large";
        assert_eq!(refusal(|draft| draft.headers = headers(most + 1)), too_large);
        let message = refusal(|draft| {
            draft.headers = headers(most);
            draft.correlation_id = Some("c".into());
        });
        assert_eq!(message, too_large);
    }

    #[test]
    fn a_refusal_tells_which_part_is_wrong() {
        let part = |change: fn(&mut Draft<'_>)| checked(change).expect_err("it is taken").part;
        assert_eq!(part(|draft| draft.routing_key = "amqp_cdc.gap".into()), Part::RoutingKey);
        assert_eq!(part(|draft| draft.body = vec![0; 1001].into()), Part::Body);
        assert_eq!(part(|draft| draft.kind = Some("gap".into())), Part::Kind);
        assert_eq!(part(|draft| draft.kind = text(256)), Part::Kind);
        assert_eq!(part(|draft| draft.headers = Some("[]".into())), Part::Headers);
        let large = |draft: &mut Draft<'_>| {
            draft.headers = Some(format!("{{\"h\": \"{}\"}}", "x".repeat(MOST_PROPERTIES)).into());
        };
        assert_eq!(part(large), Part::Headers);
        assert_eq!(part(|draft| draft.priority = Some(256)), Part::Property);
        assert_eq!(part(|draft| draft.correlation_id = text(256)), Part::Property);
    }

    #[test]
    fn what_was_asked_for_is_what_is_sent() {
        let draft = Draft {
            content_type: Some("text/plain".into()),
            headers: Some(r#"{"n": null}"#.into()),
            kind: Some("order".into()),
            priority: Some(3),
            delivery_mode: Some(1),
            expiration: Some(Interval { microseconds: 1000, ..Interval::default() }),
            ..Draft::default()
        };
        let made = draft.check(0).unwrap();
        let said = draft.properties(&made);
        assert_eq!((said.content_type, said.kind), (Some("text/plain"), Some("order")));
        assert_eq!((said.content_encoding, said.correlation_id, said.reply_to), (None, None, None));
        assert_eq!((said.priority, said.delivery_mode), (Some(3), Some(1)));
        assert_eq!((said.expiration, said.headers), (Some("1"), b"\x01nV".as_slice()));
    }
}
