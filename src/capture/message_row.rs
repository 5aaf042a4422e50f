//! Rows that are messages of a user's own: what option `body=` makes of an INSERT. The message is checked as
//! `amqp.publish` checks its own ([`crate::outbox::draft`]), and the statement fails with what is wrong. It has the
//! place that the row's event would have.

use std::borrow::Cow;

use pgrx::PgSqlErrorCode;

use super::emission;
use super::message_columns::{MessageColumn, MessageColumns};
use crate::event::{Codec, Operation};
use crate::outbox::arguments::{PERSISTENT, content_type};
use crate::outbox::draft::{Draft, Part, Refusal, too_large};
use crate::outbox::headers::{LONGEST, too_many_properties};
use crate::outbox::sender;
use crate::pg::entry_points::BodyType;
use crate::pg::plan_memory::PlanMemory;
use crate::pg::report::Report;
use crate::pg::stored_column::StoredColumn;
use crate::pg::trigger::TriggerCall;
use crate::pg::tuple::{ValueMemory, Values};
use crate::pg::worker_types::WorkerType;
use crate::routing_key::Pattern;
use crate::row::columns::Columns;
use crate::row::json::Json;
use crate::row::kind::Kind;
use crate::row::made_key::MadeKey;
use crate::settings;

/// How the rows of one trigger become messages.
pub struct MessageRow {
    body: Source,
    body_type: BodyType,
    headers: Option<Source>,
    kind: Option<Source>,
}

/// The routing key of such a message.
#[derive(Clone, Copy)]
pub enum MessageKey<'a> {
    Fixed(&'a str),
    /// Made of values of the row, which has these columns.
    Made(&'a Pattern, &'a Columns),
}

/// A column, and how its values are read.
struct Source {
    name: String,
    stored: StoredColumn,
    /// None: as bytes.
    kind: Option<Kind>,
}

/// Memory for the messages of rows, used again from row to row.
pub struct MessageMemory {
    body: Json,
    headers: Json,
    kind: Json,
    /// Of the routing key.
    value: Json,
}

impl MessageMemory {
    /// None yet.
    pub fn new() -> MessageMemory {
        let [body, headers, kind, value] = [(); 4].map(|()| Json::new());
        MessageMemory { body, headers, kind, value }
    }

    /// Frees what only a large message needed.
    pub fn give_back(&mut self) {
        let MessageMemory { body, headers, kind, value } = self;
        [body, headers, kind, value].into_iter().for_each(Json::give_back);
    }
}

impl MessageRow {
    /// How rows become messages of what is in these columns.
    pub fn new(columns: MessageColumns) -> MessageRow {
        let body_type = match columns.body.of {
            WorkerType::Bytea => BodyType::Bytea,
            WorkerType::Jsonb => BodyType::Jsonb,
            WorkerType::Json => BodyType::Json,
            _ => BodyType::Text,
        };
        MessageRow {
            body: Source::new(columns.body),
            body_type,
            headers: columns.headers.map(Source::new),
            kind: columns.kind.map(Source::new),
        }
    }

    /// Sends the row that was inserted, or raises an error that says what is wrong with it.
    pub fn send(
        &self,
        call: &TriggerCall<'_>,
        key: MessageKey<'_>,
        exchange: &str,
        values: &mut ValueMemory,
        memory: &mut MessageMemory,
    ) {
        let Some(row) = call.new_row() else { return };
        let row = values.take_apart(row);
        let limit = settings::max_message_size();
        if let Err(size) = self.body.read(&row, &mut memory.body, limit) {
            let (part, report) = (Part::Body, too_large(size, limit));
            self.explain(call, Refusal { part, report }).raise();
        }
        let is_there = |source: &Option<Source>, json| {
            let Some(source) = source else { return false };
            source.read(&row, json, LONGEST).unwrap_or_else(|size| {
                let (part, report) = (Part::Headers, too_many_properties(size));
                self.explain(call, Refusal { part, report }).raise()
            })
        };
        let has_headers = is_there(&self.headers, &mut memory.headers);
        let has_kind = is_there(&self.kind, &mut memory.kind);
        let (routing_key, is_key_lossy) = match key {
            MessageKey::Fixed(key) => (Cow::Borrowed(key), false),
            MessageKey::Made(pattern, columns) => {
                let insert = Operation::Insert.as_str();
                let value = &mut memory.value;
                let MadeKey { filling, is_lossy } =
                    MadeKey::of(pattern, insert, columns, None, Some(&row), value);
                if filling.has_null() {
                    let (part, report) = (Part::RoutingKey, null_key());
                    self.explain(call, Refusal { part, report }).raise();
                }
                (Cow::Owned(filling.into_key()), is_lossy)
            }
        };
        let MessageMemory { body, headers, kind, .. } = memory;
        let draft = Draft {
            routing_key,
            body: body.bytes().into(),
            content_type: Some(content_type(self.body_type).into()),
            headers: has_headers.then(|| String::from_utf8_lossy(headers.bytes())),
            kind: has_kind.then(|| String::from_utf8_lossy(kind.bytes())),
            delivery_mode: Some(PERSISTENT),
            is_lossy: is_key_lossy
                || body.is_lossy()
                || (has_headers && headers.is_lossy())
                || (has_kind && kind.is_lossy()),
            ..Draft::default()
        };
        let made = match draft.check(limit) {
            Ok(made) => made,
            Err(refusal) => self.explain(call, refusal).raise(),
        };
        let (operation, codec, id) = (Operation::PublishedRow, Codec::Message, call.command_id());
        let place = || call.place(id);
        let head = emission::head(operation, codec, id, place, draft.is_lossy, exchange);
        sender::with(|sender| sender.write_behind(&head, &draft, &made));
    }

    /// Adds where what is wrong came from.
    fn explain(&self, call: &TriggerCall<'_>, Refusal { part, report }: Refusal) -> Report {
        let (what, source) = match part {
            Part::Body => ("body", Some(&self.body)),
            Part::Headers => ("headers", self.headers.as_ref()),
            Part::Kind => ("type", self.kind.as_ref()),
            Part::RoutingKey | Part::Property => ("routing key", None),
        };
        let table = call.quoted_table();
        let mut detail = match source {
            Some(Source { name, .. }) => {
                format!("Column \"{name}\" of table {table} holds the {what} of the message.")
            }
            None => {
                let trigger = call.trigger_name();
                format!("Trigger \"{trigger}\" of table {table} makes the {what} of the message.")
            }
        };
        if let Some(more) = &report.detail {
            detail.push(' ');
            detail.push_str(more);
        }
        report.detail(detail)
    }
}

impl Source {
    fn new(column: MessageColumn) -> Source {
        let kind = match column.of {
            WorkerType::Bytea => None,
            WorkerType::Jsonb => Some(Kind::of(WorkerType::Jsonb, &PlanMemory::new())),
            // A text is taken as it stands, like a json.
            _ => Some(Kind::Json),
        };
        let stored = StoredColumn { number: column.number, storage: column.of.storage() };
        Source { name: column.name, stored, kind }
    }

    /// Reads the column's value into `json`: text in UTF-8, or bytes. Returns whether it is not null.
    ///
    /// # Errors
    ///
    /// How many bytes it takes at least, if a few that are stored would make more than `most`: the numbers of a jsonb.
    fn read(&self, row: &Values<'_>, json: &mut Json, most: usize) -> Result<bool, usize> {
        json.begin(usize::MAX);
        let Some(value) = self.stored.value(row) else { return Ok(false) };
        let Some(kind) = &self.kind else {
            value.with_content(|bytes| json.push(bytes));
            return Ok(true);
        };
        if !kind.is_looked_into() {
            kind.render(value, json);
            return Ok(true);
        }
        let value = self.stored.fetch(row).unwrap_or(value);
        if let Some(size) = kind.size(value, most).filter(|&size| size > most) {
            return Err(size);
        }
        kind.render(value, json);
        Ok(true)
    }
}

/// What is wrong with a routing key in which a value is null: for `amqp.publish` it is none.
pub fn null_key() -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
        "routing key of a message must not be null",
    )
    .detail("A value in it is null, a null of JSON, or larger than a key may be.")
    .hint("Declare the columns that capture option routing_key= names NOT NULL. An INSERT has no old row.")
}
