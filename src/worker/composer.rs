//! From an event in the stream to the message that the broker gets: its name for ever (message_id),
//! its properties and headers.

use std::fmt::Write;
use std::ops::Range;
use std::rc::Rc;

use pgrx::PgSqlErrorCode;

use crate::delivery::{Debt, HeaderValue, Message, ResendReason};
use crate::event::{Content, Event, EventHead, Half, Names, Operation, Second};
use crate::lsn::Lsn;
use crate::memory::{self, OutOfMemory};
use crate::pg::report::Report;
use crate::pg::server;
use crate::pg::timeline::Timelines;
use crate::row::timestamp::TimestampText;
use crate::stream::NextEvent;
use crate::stream::gap::{Gap, OwedGap};
use crate::wal::file_name;
use crate::worker::rendering::{Rendered, Rendering};

/// Seconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const POSTGRES_EPOCH: i64 = 946_684_800;

/// Bytes of a message_id with the longest numbers: two of 64 bits, one of them in hexadecimal with a slash,
/// and one of 32.
const LONGEST_ID: usize = 64;

/// Names events for ever, and makes messages of them.
pub struct Composer {
    system_identifier: u64,
    timelines: Timelines,
    /// Where the WAL began that the worker has read. A transaction whose first event lies before it
    /// has lost its beginning.
    begin: Lsn,
    /// Parts of the WAL that could not be read. A transaction that lies over one may have lost events.
    damage: Vec<Range<Lsn>>,
    /// What committed up to here an earlier life of the worker may have sent.
    maybe_sent_until: Lsn,
    /// When the last transaction committed.
    commit_time: TimestampText,
    rendering: Rendering,
    names: Names,
}

/// An event that no message can be made of.
#[derive(Debug)]
pub struct Unreadable {
    /// What the message would be called.
    pub message_id: String,
    /// Bytes in the WAL.
    pub size: usize,
    pub problem: String,
    /// Whether it is that there is no memory for it, and will be some day.
    pub is_for_memory: bool,
}

impl Composer {
    /// For this server, with the history of its timeline, and for WAL read from `begin` on, which an
    /// earlier life of the worker may have read up to `maybe_sent_until`.
    pub fn new(timelines: Timelines, begin: Lsn, maybe_sent_until: Lsn) -> Composer {
        Composer {
            system_identifier: server::system_identifier(),
            timelines,
            begin,
            damage: Vec::new(),
            maybe_sent_until,
            commit_time: TimestampText::default(),
            rendering: Rendering::new(),
            names: Names::default(),
        }
    }

    /// The WAL was not read from there to there.
    pub fn add_damage(&mut self, part: Range<Lsn>) {
        self.damage.push(part);
    }

    /// The WAL is read anew, from here on.
    pub fn begin_at(&mut self, begin: Lsn) {
        self.begin = begin;
    }

    fn is_truncated(&self, first: Lsn, commit: Lsn) -> bool {
        first < self.begin || self.damage.iter().any(|part| first < part.end && commit > part.start)
    }

    /// The message of an event, in the memory of one that is done with.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] if another version of the extension wrote its bytes, which this one cannot read, or if
    /// there is no memory for it.
    pub fn message(&mut self, next: NextEvent, spare: Message) -> Result<Message, Unreadable> {
        let lsn = next.recorded.lsn;
        let size = next.recorded.payload.len();
        let name = (lsn, next.half);
        let names = &mut self.names;
        let decoded = memory::attempt(|| Event::decode(next.recorded.payload, names));
        let mut event = match decoded {
            Ok(Ok(event)) => event,
            Ok(Err(error)) => return Err(self.unreadable(name, size, error.to_string())),
            Err(OutOfMemory { .. }) => return Err(self.without_memory(name, size)),
        };
        let mut properties = None;
        let EventHead { oversize, .. } = event.head;
        let key = event.head.key.clone();
        let rendered = match event.content {
            Content::Body(body) => Some(Rendered { oversize, key, ..Rendered::of(body) }),
            Content::Bodies(first, second) => Some(match (next.half, event.head.second.take()) {
                (Half::Insert, Some(Second { routing_key, oversize })) => {
                    let routing_key = Some(routing_key);
                    Rendered { routing_key, oversize, key, ..Rendered::of(second) }
                }
                _ => Rendered { oversize, key, ..Rendered::of(first) },
            }),
            Content::Message(said, body) => {
                properties = Some(said);
                Some(Rendered::of(body))
            }
            Content::Images(images) => {
                match self.rendering.render(&event.head, next.half, &images, spare.body) {
                    Ok(rendered) => rendered,
                    Err(OutOfMemory { .. }) => return Err(self.without_memory(name, size)),
                }
            }
        };
        let Some(Rendered { body, routing_key, oversize, damage, key }) = rendered else {
            return Err(self.unreadable(name, size, "its shape is unknown".to_owned()));
        };
        if let Some(damage) = &damage {
            warn_of_damage(lsn, &event.head, damage);
        }
        let EventHead { database, schema, table, .. } = event.head;
        let operation = match event.head.operation {
            Operation::Split => next.half.operation(),
            whole => whole,
        };
        let text = HeaderValue::Text;
        let number = |n: u64| HeaderValue::Number(n as i64);
        let Message { mut headers, mut message_id, .. } = spare;
        headers.reserve(11);
        if !operation.is_notice() {
            headers.push(("database", text(database)));
        }
        if operation.is_change() {
            headers.push(("schema", text(schema)));
            headers.push(("table", text(table)));
        }
        if next.xid != 0 {
            headers.push(("xid", number(u64::from(next.xid as u32))));
        }
        headers.push(("commit_lsn", text(next.commit_lsn.to_string().into())));
        headers.push(("commit_ts", text(self.commit_time.of(next.commit_time).into())));
        headers.push(("tx_seq", number(next.tx_seq)));
        headers.push(("tx_size", number(next.tx_size)));
        // Prepared before a failover, and committed after it: message_id tells the timeline of the event.
        let timeline = self.timelines.before(next.commit_lsn);
        if !operation.is_notice() && timeline != self.timelines.of(lsn) {
            headers.push(("commit_timeline", number(u64::from(timeline))));
        }
        if event.head.lossy {
            headers.push(("encoding", text("lossy".into())));
        }
        if let Some(bytes) = oversize {
            headers.push(("oversize", number(bytes)));
        }
        if let Some(damage) = damage {
            headers.push(("damaged", text(damage.into())));
        }
        let first = if event.head.first_lsn.is_valid() { event.head.first_lsn } else { lsn };
        if !operation.is_notice() && self.is_truncated(first, next.commit_lsn) {
            headers.push(("truncated", HeaderValue::Boolean(true)));
        }
        if let Some(said) = &properties {
            headers.push(("published", HeaderValue::Boolean(true)));
            headers.push(("user", text(Rc::clone(&said.user))));
            headers.push(("application", text(Rc::clone(&said.application))));
        }
        let suffix = match operation {
            Operation::Gap => "/gap",
            Operation::Timeline => "/timeline",
            _ if event.head.operation == Operation::Split => suffix(next.half),
            _ => "",
        };
        self.put_id(&mut message_id, lsn, suffix);
        Ok(Message {
            exchange: event.head.exchange,
            routing_key: routing_key.unwrap_or(event.head.routing_key),
            body,
            message_id,
            timestamp: unix_time(next.commit_time),
            kind: operation.as_str(),
            headers,
            resent: (next.commit_lsn <= self.maybe_sent_until).then_some(ResendReason::Restart),
            lsn,
            without_it: Gap {
                // What a gap would have told of began earlier.
                from: (!operation.is_notice()).then_some(lsn),
                to: next.commit_lsn,
            },
            key,
            properties,
        })
    }

    /// A message of the event at this place, of so many bytes in the WAL as far as they can be had, which make no
    /// message.
    pub fn unreadable(&self, (lsn, half): (Lsn, Half), size: usize, problem: String) -> Unreadable {
        let message_id = self.message_id(lsn, suffix(half));
        Unreadable { message_id, size, problem, is_for_memory: false }
    }

    /// The same, if there is no memory for it.
    pub fn without_memory(&self, (lsn, half): (Lsn, Half), size: usize) -> Unreadable {
        Unreadable {
            message_id: self.message_id(lsn, suffix(half)),
            size,
            problem: "out of memory".to_owned(),
            is_for_memory: true,
        }
    }

    /// The WAL file that holds this place.
    pub fn file_of(&self, lsn: Lsn) -> String {
        let segment_size = server::wal_segment_size();
        file_name::name(self.timelines.of(lsn), lsn.segment(segment_size), segment_size)
    }

    /// The name of a record for ever.
    pub fn record_id(&self, lsn: Lsn) -> String {
        self.message_id(lsn, "")
    }

    /// What an exchange is owed from an earlier life.
    pub fn debt(&mut self, owed: OwedGap) -> Debt {
        let now = server::now();
        Debt {
            message_id: self.message_id(owed.last, ""),
            timestamp: unix_time(now),
            commit_ts: self.commit_time.of(now).into(),
            owed,
        }
    }

    /// The name of the event at `lsn`, for ever. What has no WAL record of its own is named after the place where
    /// the WAL goes on, with a suffix.
    fn message_id(&self, lsn: Lsn, suffix: &str) -> String {
        let mut id = String::new();
        self.put_id(&mut id, lsn, suffix);
        id
    }

    fn put_id(&self, id: &mut String, lsn: Lsn, suffix: &str) {
        id.reserve(LONGEST_ID);
        // Writing to a String never fails.
        let _ = write!(id, "{}/{}/{lsn}{suffix}", self.system_identifier, self.timelines.of(lsn));
    }
}

/// What tells the second message of an event from the first, which is named after the event alone.
fn suffix(half: Half) -> &'static str {
    match half {
        Half::Delete => "",
        Half::Insert => "/2",
    }
}

/// Seconds since 1970 of microseconds since 2000.
fn unix_time(time: i64) -> u64 {
    (time.div_euclid(1_000_000) + POSTGRES_EPOCH).max(0) as u64
}

/// What the writer would have been told if it had rendered its row.
fn warn_of_damage(lsn: Lsn, head: &EventHead, damage: &str) {
    let EventHead { database, schema, table, .. } = head;
    Report::new(
        PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        format!(
            "a row of table \"{schema}.{table}\" in database \"{database}\" is damaged: {damage}"
        ),
    )
    .detail(format!("The event at {lsn} is published with what could be told of it."))
    .hint("Look for the row with SELECT, and for what may have damaged its table.")
    .warn();
}
