//! The trigger function: one row change in, one event in the WAL out, inside the writer's
//! transaction.
//!
//! Where possible an event holds the rows as they are stored, and the worker renders them. The body is rendered
//! here where the worker cannot do it, because values are stored out of line or columns are excluded, or should
//! not do it, because the text is far longer than the row.
//!
//! The function raises an error that says what to do wherever an event would be lost, or would not be what the
//! user meant. It never waits for the broker, and never fails because of it.
//!
//! | file | owns |
//! |---|---|
//! | [`arguments`], [`options`], [`problem`] | what a trigger is defined with |
//! | [`names`], [`key_template`], [`exchange_right`] | routing key and exchange: what AMQP can carry, what keys are made by, and who may send there |
//! | [`requirements`] | what a server and a trigger need to capture changes |
//! | [`plan`], [`sql_version`] | what the events of one trigger have in common; the check of the SQL's version |
//! | [`message_columns`], [`message_row`] | rows that are messages of a user's own: their options, and how one is sent |
//! | [`emission`] | writing an event into the WAL, whoever emits it |

mod arguments;
mod column_names;
pub mod emission;
pub mod exchange_right;
mod key_template;
pub mod message_columns;
mod message_row;
mod names;
mod options;
mod plan;
mod problem;
mod requirements;
mod sql_version;

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::PgSqlErrorCode;

use crate::bytes::put_number;
use crate::event::{Codec, HeadStart, Image, ImagesStart, Operation};
use crate::memory;
use crate::pg::report::Report;
use crate::pg::server;
use crate::pg::trigger::{Action, TriggerCall};
use crate::pg::tuple::{Row, ValueMemory};
use crate::row::body::{BodyMemory, Change, push_key};
use crate::row::json::Json;
use crate::row::made_key::MadeKey;
use crate::row::timestamp::TimestampText;
use crate::settings::{self, Oversize};
pub use arguments::{Arguments, arguments_with};
pub use message_row::null_key;
use message_row::{MessageKey, MessageMemory};
use names::require_short_string;
pub use names::{long_part_problem, routing_key, short_string_problem};
pub use plan::OPERATIONS;
use plan::{OperationPlan, Plan};
use requirements::require_a_trigger_that_sees_the_outcome;
pub use requirements::{
    message_timing_problem, require_a_server_that_keeps_events, require_preload, timing_problem,
};

/// A body of this many bytes may be too large for some broker.
const LARGE: usize = 16 * 1024;

/// Captures the change of one trigger call. `None`: the function was called, but not as a trigger.
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

/// What the next event is likely to need again, in one block that is found in one step: in a statement
/// of one row, most of an event's cost is to fetch the memory that it touches into a cache.
struct Workplace {
    /// The plan of the last event.
    plan: Option<Rc<Plan>>,
    old: ValueMemory,
    new: ValueMemory,
    changed: Vec<bool>,
    body: BodyMemory,
    json: Json,
    exchange: String,
    /// The bytes of the event before its body or its rows.
    head: Vec<u8>,
    /// When the transaction began.
    timestamp: TimestampText,
    /// What is needed where routing keys are made of rows.
    making: Making,
    message: MessageMemory,
}

/// Memory for routing keys, and for a second body.
struct Making {
    /// A value.
    value: Json,
    /// The end of a body.
    tail: Vec<u8>,
    second: Json,
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
            making: Making { value: Json::new(), tail: Vec::new(), second: Json::new() },
            message: MessageMemory::new(),
        }
    }

    /// Frees what only a large event needed.
    fn give_back(&mut self) {
        for json in [&mut self.json, &mut self.making.value, &mut self.making.second] {
            json.give_back();
        }
        self.message.give_back();
    }
}

fn emit(call: &TriggerCall<'_>) {
    WORKPLACE.with(|place| {
        let mut workplace = place.take().unwrap_or_else(|| Box::new(Workplace::new()));
        let last = workplace.plan.take().filter(|plan| plan.is_of(call));
        let plan = last.unwrap_or_else(|| Plan::of(call));
        plan.guard(|| write_event(call, &plan, &mut workplace));
        // The statement fails if memory came from the allocator's reserve: none of that may be kept.
        memory::check();
        workplace.give_back();
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
    if let Some(message) = &plan.message {
        let Workplace { new, exchange, message: memory, .. } = workplace;
        let key = match &plan.pattern {
            Some(pattern) => MessageKey::Made(pattern, &plan.shape.columns),
            None => MessageKey::Fixed(&operation.routing_key),
        };
        return message.send(call, key, exchange, new, memory);
    }
    if !write_images(call, plan, operation, workplace) {
        write_body(call, plan, operation, workplace);
    }
}

/// Writes an event with the rows as they are stored. Returns false, and writes nothing, if the body must be
/// rendered here: the worker could not render the rows, or a body that is too large must be refused.
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
    let is_split = !plan.split_by.is_empty()
        && old.zip(new).is_some_and(|(old, new)| {
            plan.is_split(&old_memory.take_apart(old), &new_memory.take_apart(new))
        });
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
    let what = if is_split { Operation::Split } else { operation.operation };
    let start = head_of(call, what, Codec::Images, json.is_lossy(), exchange);
    start.encode_into(&operation.names, head);
    let timestamp = server::transaction_start();
    let prerendered = json.bytes();
    ImagesStart { timestamp, limit, shape, prerendered, old: old_image, new: new_image }
        .encode_into(head);
    let [old, new] = [old_image, new_image].map(|image| image.map_or(&[][..], |image| image.bytes));
    emission::write(&start, &[head, prerendered, old, new]);
    true
}

/// Returns the row as it is stored, or None if there is no row. Fails if the worker could not render it.
fn image(row: Option<Row<'_>>) -> Result<Option<Image<'_>>, ()> {
    let Some(row) = row else { return Ok(None) };
    let (has_nulls, bytes) = row.image().ok_or(())?;
    Ok(Some(Image { has_nulls, bytes }))
}

/// Returns true if the row's text may be far longer than the row: then its writer pays for rendering it.
fn is_too_much(plan: &Plan, image: Image<'_>) -> bool {
    plan.growth.is_too_much(&plan.shape.columns, image.has_nulls, image.bytes)
}

/// Writes an event with its body, or, where it makes two messages, with both bodies.
fn write_body(
    call: &TriggerCall<'_>,
    plan: &Plan,
    operation: &OperationPlan,
    workplace: &mut Workplace,
) {
    let Workplace { old, new, changed, body, json, exchange, head, timestamp, making, .. } =
        workplace;
    let old = call.old_row().map(|row| old.take_apart(row));
    let new = call.new_row().map(|row| new.take_apart(row));
    if let (Some(old), Some(new)) = (&old, &new)
        && !plan.shape.columns.compare(old, new, changed)
        && plan.excluded.iter().any(|column| !column.is_same(old, new))
    {
        return;
    }
    let is_split = old.as_ref().zip(new.as_ref()).is_some_and(|(old, new)| plan.is_split(old, new));
    let timestamp = timestamp.of(server::transaction_start());
    let limit = settings::max_message_size();
    let Making { value, tail, second } = making;
    let mut render = |operation: &OperationPlan, old, new, json: &mut Json| {
        let made = plan.pattern.as_ref().map(|pattern| {
            let what = operation.operation.as_str();
            let columns = &plan.shape.columns;
            MadeKey::of(pattern, what, columns, Option::as_ref(&old), Option::as_ref(&new), value)
        });
        let is_lossy = made.as_ref().is_some_and(|made| made.is_lossy);
        let routing_key = made.map(|made| made.filling.fit());
        let tail = match &routing_key {
            None => &operation.tail,
            Some(routing_key) => {
                tail.clear();
                memory::append(tail, &operation.tail);
                push_key(tail, routing_key);
                &*tail
            }
        };
        let change = Change { shape: &plan.shape, tail, old, new, changed, timestamp };
        let oversize = change.render(limit, body, json);
        if let Some(size) = oversize
            && settings::oversize() == Oversize::Error
        {
            refuse_oversize(&plan.table, size, limit);
        }
        Rendered { routing_key, oversize, is_lossy: is_lossy || json.is_lossy() }
    };
    head.clear();
    // If a broker refuses a body as too large, the keys alone are sent.
    let key = |size: usize| (size >= LARGE).then_some(plan.key_names.as_slice());
    if is_split {
        let first = render(plan.operation(Action::Delete), old, None, json);
        let then = render(plan.operation(Action::Insert), None, new, second);
        let is_lossy = first.is_lossy || then.is_lossy;
        let start = HeadStart {
            oversize: first.oversize,
            key: key(json.bytes().len().max(second.bytes().len())),
            made: first.routing_key.as_deref(),
            second: then.routing_key.as_deref().map(|key| (key, then.oversize)),
            ..head_of(call, Operation::Split, Codec::Bodies, is_lossy, exchange)
        };
        start.encode_into(&operation.names, head);
        put_number(head, json.bytes().len() as u64);
        emission::write(&start, &[head, json.bytes(), second.bytes()]);
        return;
    }
    let whole = render(operation, old, new, json);
    let start = HeadStart {
        oversize: whole.oversize,
        key: key(json.bytes().len()),
        made: whole.routing_key.as_deref(),
        ..head_of(call, operation.operation, Codec::Body, whole.is_lossy, exchange)
    };
    start.encode_into(&operation.names, head);
    emission::write(&start, &[head, json.bytes()]);
}

/// What of a message is not in its body.
struct Rendered {
    /// If it was made of the row.
    routing_key: Option<String>,
    oversize: Option<u64>,
    is_lossy: bool,
}

/// The head of the event of this call.
fn head_of<'a>(
    call: &TriggerCall<'_>,
    operation: Operation,
    codec: Codec,
    lossy: bool,
    exchange: &'a str,
) -> HeadStart<'a> {
    let id = call.command_id();
    emission::head(operation, codec, id, || call.place(id), lossy, exchange)
}

fn refuse_oversize(table: &str, size: u64, limit: usize) -> ! {
    Report::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "event is too large to be published")
        .detail(format!(
            "The change of a row of \"{table}\" takes at least {size} bytes as JSON; amqp.max_message_size is {limit}."
        ))
        .hint("Raise amqp.max_message_size and the broker's limit, or set amqp.oversize = keys to publish the primary key alone.")
        .raise();
}
