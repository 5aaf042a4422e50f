//! The trigger function: one row change in, one event in the WAL out, inside the writer's
//! transaction. The rows go as they are stored, for the worker to render; where it cannot, because
//! values lie out of line or columns are excluded, or should not, because they become far longer, the body is
//! rendered here. The function refuses,
//! with an error that says what to do, wherever an event would be lost or could not be what the user
//! meant; it never waits and never fails because of the broker.

mod arguments;
pub mod exchange_right;
mod options;
mod plan;

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use pgrx::PgSqlErrorCode;

use crate::event::{
    Codec, EVENT_PREFIX, HeadStart, Highest, Image, ImagesStart, MAX_SHORT_STRING, Operation,
};
use crate::memory;
use crate::pg::report::Report;
use crate::pg::trigger::{Action, Timing, TriggerCall};
use crate::pg::tuple::{Row, ValueMemory};
use crate::pg::worker_process::MISSING_HINT;
use crate::pg::{logical_message, server, shared, xact};
use crate::row::body::{BodyMemory, Change};
use crate::row::json::Json;
use crate::row::timestamp::TimestampText;
use crate::settings::{self, Oversize};
pub use arguments::{Arguments, arguments_with, routing_key};
use plan::{OperationPlan, Plan};

/// The operations that triggers fire for.
pub const OPERATIONS: [Operation; 4] =
    [Operation::Insert, Operation::Update, Operation::Delete, Operation::Truncate];
/// Bytes of a body that some broker may find too large.
const LARGE: usize = 16 * 1024;

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
    let missing = &shared::numbers().missing;
    if missing.worker.load(Ordering::Relaxed) {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "change data capture has no background worker",
        )
        .detail("The server could not register it when it started, so that nobody would publish the events of this change.")
        .hint(MISSING_HINT)
        .raise();
    }
    if missing.slot.load(Ordering::Relaxed) {
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
    let has_its_rows = call.is_for_each_row() || call.action() == Action::Truncate;
    if call.timing() == Timing::After && has_its_rows {
        return;
    }
    if let Some(problem) = timing_problem(&call.trigger_name(), call.timing(), has_its_rows) {
        problem.raise();
    }
}

/// The error of a trigger that fires before the change is final, or without the rows that the change has.
pub fn timing_problem(trigger: &str, timing: Timing, has_its_rows: bool) -> Option<Report> {
    let wrong = match (timing, has_its_rows) {
        (Timing::Before, _) => "fires BEFORE the change",
        (Timing::InsteadOf, _) => "fires INSTEAD OF the change",
        (Timing::After, false) => "fires FOR EACH STATEMENT and sees no rows",
        (Timing::After, true) => return None,
    };
    let report = Report::new(
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        "amqp_change_data_capture() must be an AFTER ... FOR EACH ROW trigger",
    )
    .detail(format!("Trigger \"{trigger}\" {wrong}."))
    .hint("Define it AFTER INSERT OR UPDATE OR DELETE ... FOR EACH ROW; only TRUNCATE takes FOR EACH STATEMENT.");
    Some(report)
}

/// What the next event is likely to need again. Close together, and found in one step: in a statement
/// of one row, most of what an event costs is to fetch what it touches into a cache.
struct Workplace {
    /// That of the last event.
    plan: Option<Rc<Plan>>,
    old: ValueMemory,
    new: ValueMemory,
    changed: Vec<bool>,
    body: BodyMemory,
    json: Json,
    exchange: String,
    /// All of the event that comes before its body or its rows.
    head: Vec<u8>,
    /// When the transaction began.
    timestamp: TimestampText,
}

thread_local! {
    /// Empty while an event is made: a function that renders a value may itself change rows. Never dropped
    /// (see [`crate::pg`]'s `plan_memory`).
    static WORKPLACE: ManuallyDrop<Cell<Option<Box<Workplace>>>> =
        const { ManuallyDrop::new(Cell::new(None)) };
}

impl Workplace {
    fn new() -> Workplace {
        Workplace {
            plan: None,
            old: ValueMemory::default(),
            new: ValueMemory::default(),
            changed: Vec::new(),
            body: BodyMemory::default(),
            json: Json::new(),
            exchange: String::new(),
            head: Vec::new(),
            timestamp: TimestampText::default(),
        }
    }
}

fn emit(call: &TriggerCall<'_>) {
    WORKPLACE.with(|place| {
        let mut workplace = place.take().unwrap_or_else(|| Box::new(Workplace::new()));
        let last = workplace.plan.take().filter(|plan| plan.is_of(call));
        let plan = last.unwrap_or_else(|| Plan::of(call));
        plan.guard(|| write_event(call, &plan, &mut workplace));
        // What comes from the reserve is not kept, and the statement fails.
        memory::check();
        workplace.json.give_back();
        workplace.plan = Some(plan);
        place.set(Some(workplace));
    });
}

fn write_event(call: &TriggerCall<'_>, plan: &Plan, workplace: &mut Workplace) {
    let operation = plan.operation(call.action());
    require_short_string("routing key", &operation.routing_key);
    match &plan.exchange {
        Some(exchange) => workplace.exchange.clone_from(exchange),
        None => settings::copy_exchange(&mut workplace.exchange),
    }
    require_short_string("exchange", &workplace.exchange);
    if !write_images(call, plan, operation, workplace) {
        write_body(call, plan, operation, workplace);
    }
}

/// Writes an event with the rows as they are stored. False, and nothing was written, if the worker
/// could not render them, or could not refuse a body that is too large.
fn write_images(
    call: &TriggerCall<'_>,
    plan: &Plan,
    operation: &OperationPlan,
    workplace: &mut Workplace,
) -> bool {
    let Some(shape) = &plan.shape_bytes else { return false };
    if settings::oversize() == Oversize::Error {
        return false;
    }
    let (old, new) = (call.old_row(), call.new_row());
    let (Ok(old_image), Ok(new_image)) = (image(old), image(new)) else { return false };
    if [old_image, new_image].into_iter().flatten().any(|image| is_too_much(plan, image)) {
        return false;
    }
    let Workplace { old: old_memory, new: new_memory, json, exchange, head, .. } = workplace;
    let limit = settings::max_message_size();
    json.begin(limit);
    if plan.shape.columns.need_this_database() {
        let output = plan.shape.columns.fix_output();
        for (row, memory) in [(old, old_memory), (new, new_memory)] {
            if let Some(row) = row {
                plan.shape.columns.prerender(&memory.take_apart(row), json);
            }
        }
        output.undo();
        if json.is_full() {
            return false;
        }
    }
    head.clear();
    let start = head_start(call, operation, Codec::Images, json.is_lossy(), exchange);
    start.encode_into(&operation.names, head);
    let timestamp = server::transaction_start();
    let prerendered = json.bytes();
    ImagesStart { timestamp, limit, shape, prerendered, old: old_image, new: new_image }
        .encode_into(head);
    let [old, new] = [old_image, new_image].map(|image| image.map_or(&[][..], |image| image.bytes));
    insert(&start, &[head, prerendered, old, new]);
    true
}

/// A row as it is stored, if there is one. An error if the worker could not render it.
fn image(row: Option<Row<'_>>) -> Result<Option<Image<'_>>, ()> {
    let Some(row) = row else { return Ok(None) };
    let (has_nulls, bytes) = row.image().ok_or(())?;
    Ok(Some(Image { has_nulls, bytes }))
}

/// Whether a row is to be rendered by its writer, who is to pay for a text that is far longer than the row.
fn is_too_much(plan: &Plan, image: Image<'_>) -> bool {
    plan.growth.is_too_much(&plan.shape.columns, image.has_nulls, image.bytes)
}

/// Writes an event with its body.
fn write_body(
    call: &TriggerCall<'_>,
    plan: &Plan,
    operation: &OperationPlan,
    workplace: &mut Workplace,
) {
    let Workplace { old, new, changed, body, json, exchange, head, timestamp, .. } = workplace;
    let old = call.old_row().map(|row| old.take_apart(row));
    let new = call.new_row().map(|row| new.take_apart(row));
    let shape = &plan.shape;
    if let (Some(old), Some(new)) = (&old, &new)
        && !shape.columns.compare(old, new, changed)
        && plan.excluded.iter().any(|column| !column.is_same(old, new))
    {
        return;
    }
    let timestamp = timestamp.of(server::transaction_start());
    let change = Change { shape, tail: &operation.tail, old, new, changed, timestamp };
    let limit = settings::max_message_size();
    let oversize = change.render(limit, body, json);
    if let Some(size) = oversize
        && settings::oversize() == Oversize::Error
    {
        refuse_oversize(&plan.table, size, limit);
    }
    head.clear();
    let start = HeadStart {
        oversize,
        // A broker may find it too large, and then wants the keys alone.
        key: (json.bytes().len() >= LARGE).then_some(plan.key_names.as_slice()),
        ..head_start(call, operation, Codec::Body, json.is_lossy(), exchange)
    };
    start.encode_into(&operation.names, head);
    insert(&start, &[head, json.bytes()]);
}

fn head_start<'a>(
    call: &TriggerCall<'_>,
    operation: &OperationPlan,
    codec: Codec,
    lossy: bool,
    exchange: &'a str,
) -> HeadStart<'a> {
    let command_id = call.command_id();
    let is_late = highest().makes_late(command_id, operation.operation == Operation::Truncate);
    HeadStart {
        codec,
        command_id,
        first_lsn: xact::first_event(),
        place: if is_late { call.place(command_id) } else { None },
        operation: operation.operation,
        exchange,
        lossy,
        oversize: None,
        key: None,
    }
}

/// Writes an event into the WAL.
fn insert(start: &HeadStart<'_>, parts: &[&[u8]]) {
    xact::prepare_to_emit();
    xact::emitted(logical_message::write_transactional(EVENT_PREFIX, parts));
    let mut highest = highest();
    highest.note(start.command_id, start.operation == Operation::Truncate);
    xact::set_notes([highest.any, highest.row]);
}

/// The highest commands of which the current transaction has written events.
fn highest() -> Highest {
    let [any, row] = xact::notes();
    Highest { any, row }
}

/// As much of a user's text as is worth being told in an error.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(4 * MAX_SHORT_STRING)]
}

/// Errors for what AMQP cannot carry.
fn require_short_string(what: &str, value: &str) {
    if let Some(problem) = short_string_problem(what, value) {
        problem.raise();
    }
}

/// The error of what AMQP cannot carry: names are at most 255 bytes (AMQP 0-9-1, 4.2.5.3).
pub fn short_string_problem(what: &str, value: &str) -> Option<Report> {
    if value.len() <= MAX_SHORT_STRING {
        return None;
    }
    let report = Report::new(
        PgSqlErrorCode::ERRCODE_NAME_TOO_LONG,
        format!("{what} is longer than {MAX_SHORT_STRING} bytes"),
    )
    .detail(format!("\"{}\" has {} bytes.", cut(value), value.len()))
    .hint("Shorten the trigger's arguments or amqp.exchange; AMQP allows no more.");
    Some(report)
}

/// The error of what a routing key cannot be made of, as long as it is: in lower case a letter may take a third of its
/// bytes, no less.
pub fn long_part_problem(prefix: &str, resource: &str) -> Option<Report> {
    let longest = if prefix.len() > resource.len() { prefix } else { resource };
    (longest.len() > 3 * MAX_SHORT_STRING)
        .then(|| short_string_problem("routing key", longest))
        .flatten()
}

fn refuse_oversize(table: &str, size: u64, limit: usize) -> ! {
    Report::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "event is too large to be published")
        .detail(format!(
            "The change of a row of \"{table}\" takes at least {size} bytes as JSON; amqp.max_message_size is {limit}."
        ))
        .hint("Raise amqp.max_message_size and the broker's limit, or set amqp.oversize = keys to publish the primary key alone.")
        .raise();
}
