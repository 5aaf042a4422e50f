//! The trigger function: one row change in, one event in the WAL out, inside the writer's
//! transaction. It refuses, with an error that says what to do, wherever an event would be lost or
//! could not be what the user meant; it never waits and never fails because of the broker.

mod arguments;
mod body;

use std::sync::atomic::Ordering;

use pgrx::PgSqlErrorCode;

use crate::event::{EVENT_PREFIX, EventHead, MAX_SHORT_STRING, Operation};
use crate::pg::report::Report;
use crate::pg::trigger::{self, Action, Timing, TriggerCall};
use crate::pg::tuple::{Columns, Row};
use crate::pg::{message, output, server, shared, xact};
use crate::settings::{self, Oversize};
use arguments::Arguments;
use body::Body;

/// Captures one call of the trigger; `None` is a call that PostgreSQL did not make as a trigger.
pub fn capture(call: Option<TriggerCall<'_>>) {
    let Some(call) = call else {
        Report::new(
            PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            "amqp_change_data_capture() was not called by the trigger manager",
        )
        .hint("Use it in CREATE TRIGGER ... EXECUTE FUNCTION.")
        .raise();
    };
    if !settings::capture_is_on() {
        return;
    }
    require_a_server_that_keeps_events();
    require_a_trigger_that_sees_the_outcome(&call);
    emit(&call);
}

/// Errors wherever an event would be written that nobody will ever publish.
fn require_a_server_that_keeps_events() {
    require_preload();
    if server::wal_level_is_minimal() {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "change data capture needs a wal_level of replica or logical",
        )
        .detail("wal_level is minimal, so that no replication slot can retain the events.")
        .hint("Set wal_level = replica and restart the server, or SET amqp.capture = off for a migration.")
        .raise();
    }
    if shared::numbers().slot_missing.load(Ordering::Relaxed) {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "change data capture has no replication slot",
        )
        .detail("Without its slot \"amqp_cdc\" the events of this change could be lost.")
        .hint("See amqp.status and the server log; max_replication_slots may need to be raised.")
        .raise();
    }
}

/// Errors if the library is not preloaded.
pub fn require_preload() {
    if !shared::is_available() {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "amqp_cdc must be loaded via shared_preload_libraries",
        )
        .detail("The worker that publishes the events is started with the server.")
        .hint("Add amqp_cdc to shared_preload_libraries and restart the server.")
        .raise();
    }
}

/// Errors for triggers that fire before the change is final, or without its rows.
fn require_a_trigger_that_sees_the_outcome(call: &TriggerCall<'_>) {
    let wrong = match (call.timing(), call.is_for_each_row(), call.action()) {
        (Timing::Before, ..) => "fires BEFORE the change",
        (Timing::InsteadOf, ..) => "fires INSTEAD OF the change",
        (Timing::After, false, Action::Insert | Action::Update | Action::Delete) => {
            "fires FOR EACH STATEMENT and sees no rows"
        }
        (Timing::After, ..) => return,
    };
    Report::new(
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        "amqp_change_data_capture() must be an AFTER ... FOR EACH ROW trigger",
    )
    .detail(format!("Trigger \"{}\" {wrong}.", call.trigger_name()))
    .hint("Define it AFTER INSERT OR UPDATE OR DELETE ... FOR EACH ROW; only TRUNCATE takes FOR EACH STATEMENT.")
    .raise();
}

fn emit(call: &TriggerCall<'_>) {
    let arguments = match Arguments::parse(call.arguments()) {
        Ok(arguments) => arguments,
        Err(problem) => {
            Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, problem.message)
                .detail(format!(
                    "Trigger \"{}\" has argument \"{}\".",
                    call.trigger_name(),
                    problem.argument
                ))
                .hint(problem.hint)
                .raise()
        }
    };
    let operation = match call.action() {
        Action::Insert => Operation::Insert,
        Action::Update => Operation::Update,
        Action::Delete => Operation::Delete,
        Action::Truncate => Operation::Truncate,
    };
    let resource = arguments.resource.unwrap_or_else(|| call.topmost_table());
    let routing_key =
        format!("{}.{resource}.{}", arguments.prefix, operation.as_str()).to_lowercase();
    require_short_string("routing key", &routing_key);
    let exchange = settings::exchange();
    require_short_string("exchange", &exchange);

    let columns = call.columns();
    let rows = [call.old_row(), call.new_row()];
    let targets = match rows {
        [Some(old), Some(new)] => columns.changed(old, new),
        [None, None] => Vec::new(),
        _ => columns.names(),
    };
    let table = call.table();
    let timestamp = output::json_timestamp(server::transaction_start());
    let render = |columns: &Columns<'_>, rows: &[Option<Row<'_>>]| {
        let (rows, lossy) = columns.render(rows);
        let body = Body {
            previous: rows[0].as_deref(),
            current: rows[1].as_deref(),
            targets: &targets,
            timestamp: &timestamp,
            operation: operation.as_str(),
            resource: &resource,
            table: &table,
            routing_key: &routing_key,
        };
        (body.render(), lossy)
    };

    let limit = settings::max_message_size();
    let least_size = columns.least_size(&rows);
    let whole = (least_size <= limit).then(|| render(&columns, &rows));
    let (body, lossy, oversize) = match whole {
        Some((body, lossy)) if body.len() <= limit => (body, lossy, None),
        too_large => {
            let size = too_large.map_or(least_size, |(body, _)| body.len());
            if settings::oversize() == Oversize::Error {
                refuse_oversize(&table, size, limit);
            }
            let (keys, rows) = columns.reduce(&call.key_columns(), &rows);
            let (body, lossy) = render(&keys, &rows);
            (body, lossy, Some(size as u64))
        }
    };

    let head = EventHead {
        command_id: call.command_id(),
        first_lsn: xact::first_event(),
        operation,
        exchange,
        routing_key: routing_key.clone(),
        database: trigger::database(),
        schema: call.schema(),
        table: table.clone(),
        lossy,
        oversize,
    };
    let mut encoded = Vec::with_capacity(256);
    head.encode_into(&mut encoded);
    xact::prepare_to_emit();
    xact::emitted(message::write_transactional(EVENT_PREFIX, &encoded, &body));
}

/// Errors for what AMQP cannot carry: names are at most 255 bytes (AMQP 0-9-1, 4.2.5.3).
fn require_short_string(what: &str, value: &str) {
    if value.len() > MAX_SHORT_STRING {
        Report::new(
            PgSqlErrorCode::ERRCODE_NAME_TOO_LONG,
            format!("{what} is longer than {MAX_SHORT_STRING} bytes"),
        )
        .detail(format!("\"{value}\" has {} bytes.", value.len()))
        .hint("Shorten the trigger's arguments or amqp.exchange; AMQP allows no more.")
        .raise();
    }
}

fn refuse_oversize(table: &str, size: usize, limit: usize) -> ! {
    Report::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "event is too large to be published")
        .detail(format!(
            "The change of a row of \"{table}\" takes at least {size} bytes as JSON; amqp.max_message_size is {limit}."
        ))
        .hint("Raise amqp.max_message_size and the broker's limit, or set amqp.oversize = keys to publish the primary key alone.")
        .raise();
}
