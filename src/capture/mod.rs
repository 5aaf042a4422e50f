//! The trigger function: one row change in, one event in the WAL out, inside the writer's
//! transaction. It refuses, with an error that says what to do, wherever an event would be lost or
//! could not be what the user meant; it never waits and never fails because of the broker.

mod arguments;
mod body;
mod options;
mod plan;

use std::cell::Cell;
use std::sync::atomic::Ordering;

use pgrx::PgSqlErrorCode;

use crate::event::{EVENT_PREFIX, EventHead, MAX_SHORT_STRING};
use crate::lsn::Lsn;
use crate::pg::json::Json;
use crate::pg::report::Report;
use crate::pg::trigger::{Action, Timing, TriggerCall};
use crate::pg::tuple::ValueMemory;
use crate::pg::{message, output, server, shared, xact};
use crate::settings::{self, Oversize};
use body::{BodyMemory, Change, Extent};
use plan::Plan;

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

/// Memory for one event, used again by the next.
struct Workplace {
    old: ValueMemory,
    new: ValueMemory,
    changed: Vec<bool>,
    body: BodyMemory,
    json: Json,
    head: EventHead,
    encoded: Vec<u8>,
    /// When a transaction began, and the same as text.
    timestamp: (i64, String),
}

thread_local! {
    /// Empty while an event is made: a function that renders a value may itself change rows.
    static WORKPLACE: Cell<Option<Box<Workplace>>> = const { Cell::new(None) };
}

impl Workplace {
    fn new() -> Workplace {
        Workplace {
            old: ValueMemory::default(),
            new: ValueMemory::default(),
            changed: Vec::new(),
            body: BodyMemory::default(),
            json: Json::new(),
            head: EventHead {
                command_id: 0,
                first_lsn: Lsn(0),
                operation: crate::event::Operation::Insert,
                exchange: String::new(),
                routing_key: String::new(),
                database: String::new(),
                schema: String::new(),
                table: String::new(),
                lossy: false,
                oversize: None,
            },
            encoded: Vec::new(),
            timestamp: (i64::MIN, String::new()),
        }
    }
}

fn emit(call: &TriggerCall<'_>) {
    let plan = Plan::of(call);
    let mut workplace = WORKPLACE.take().unwrap_or_else(|| Box::new(Workplace::new()));
    plan.guard(|| write_event(call, &plan, &mut workplace));
    workplace.json.give_back();
    WORKPLACE.set(Some(workplace));
}

fn write_event(call: &TriggerCall<'_>, plan: &Plan, workplace: &mut Workplace) {
    let operation = plan.operation(call.action());
    require_short_string("routing key", &operation.routing_key);
    let Workplace { old, new, changed, body, json, head, encoded, timestamp } = workplace;
    let old = call.old_row().map(|row| old.take_apart(row));
    let new = call.new_row().map(|row| new.take_apart(row));
    if let (Some(old), Some(new)) = (&old, &new)
        && !plan.columns.compare(old, new, changed)
        && plan.excluded.iter().any(|column| !column.is_same(old, new))
    {
        return;
    }
    set_timestamp(timestamp);
    let timestamp = timestamp.1.as_str();
    let change = Change { plan, operation, old, new, changed, timestamp };
    let oversize = render(&change, body, json);

    head.operation = operation.operation;
    match &plan.exchange {
        Some(exchange) => head.exchange.clone_from(exchange),
        None => settings::copy_exchange(&mut head.exchange),
    }
    require_short_string("exchange", &head.exchange);
    head.routing_key.clone_from(&operation.routing_key);
    head.database.clone_from(&plan.database);
    head.schema.clone_from(&plan.schema);
    head.table.clone_from(&plan.table);
    (head.lossy, head.oversize) = (json.is_lossy(), oversize);
    head.command_id = call.command_id();
    head.first_lsn = xact::first_event();
    encoded.clear();
    head.encode_into(encoded);
    xact::prepare_to_emit();
    xact::emitted(message::write_transactional(EVENT_PREFIX, encoded, json.bytes()));
}

/// Renders the body: whole if it is not larger than amqp.max_message_size; otherwise with the keys
/// of its rows alone, and the size that the whole would have at least is returned.
fn render(change: &Change<'_>, body: &mut BodyMemory, json: &mut Json) -> Option<u64> {
    let limit = settings::max_message_size();
    let output = change.plan.columns.fix_output();
    let mut oversize = None;
    for extent in [Extent::Rows, Extent::Keys, Extent::Nothing] {
        json.begin(limit);
        change.render(extent, body, json);
        if !json.is_full() || extent == Extent::Nothing {
            break;
        }
        if extent == Extent::Rows {
            if settings::oversize() == Oversize::Error {
                refuse_oversize(&change.plan.table, json.size(), limit);
            }
            oversize = Some(json.size() as u64);
        }
    }
    output.undo();
    oversize
}

/// The start of the transaction as text. Made once in a transaction.
fn set_timestamp(timestamp: &mut (i64, String)) {
    let start = server::transaction_start();
    if timestamp.0 != start {
        *timestamp = (start, output::json_timestamp(start));
    }
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
