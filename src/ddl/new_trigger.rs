//! Checks a capture trigger at CREATE TRIGGER, with the errors that it would otherwise raise at each write. A
//! trigger that is older than this check, or got past it, still raises them at each write.

use pgrx::PgSqlErrorCode;

use crate::capture::{self, Arguments, OPERATIONS, routing_key};
use crate::event::Operation;
use crate::memory;
use crate::outbox::headers;
use crate::pg::catalog::{CaptureTrigger, Relation, quoted};
use crate::pg::event_trigger;
use crate::pg::report::Report;
use crate::pg::rights::Role;
use crate::pg::trigger;
use crate::pg::worker_types::WorkerType;
use crate::routing_key::{Names, Side};

/// Returns the error if the trigger could not capture anything. Each rule has a function of its own; the first rule
/// that is broken counts.
pub fn problem(trigger: &CaptureTrigger, table: &Relation) -> Option<Report> {
    if let Some(problem) = wrong_timing(trigger) {
        return Some(problem);
    }
    match Arguments::parse(memory::texts(&trigger.arguments)) {
        Ok(arguments) => not_for_insert_alone(trigger, &arguments)
            .or_else(|| unknown_column(trigger, table, &arguments))
            .or_else(|| long_name(table, &arguments))
            .or_else(|| reserved_routing_key(table, &arguments))
            .or_else(|| exchange_of_others(trigger, table, &arguments)),
        Err(problem) => Some(problem.of_trigger(&trigger.name)),
    }
}

fn wrong_timing(trigger: &CaptureTrigger) -> Option<Report> {
    capture::timing_problem(
        &trigger.name,
        trigger.timing(),
        trigger.is_for_each_row() || trigger.is_for_truncate_alone(),
    )
}

/// Checks that the trigger of rows that are messages fires for INSERT alone.
fn not_for_insert_alone(trigger: &CaptureTrigger, arguments: &Arguments) -> Option<Report> {
    if !arguments.options.message.is_there() {
        return None;
    }
    capture::message_timing_problem(&trigger.name, trigger.is_for_insert_alone())
}

fn unknown_column(
    trigger: &CaptureTrigger,
    table: &Relation,
    arguments: &Arguments,
) -> Option<Report> {
    let columns = table.columns();
    let type_of = |number| {
        let column = columns.iter().find(|column| column.number == number)?;
        WorkerType::of(column.of.base())
    };
    let names = columns.iter().map(|column| (column.number, column.name.clone()));
    let names = memory::collect(names);
    let chosen = arguments.options.message.find(&names, type_of).map(drop);
    let problem = chosen.and_then(|()| arguments.options.choose(&names).map(drop)).err()?;
    Some(problem.of_trigger(&trigger.name))
}

/// Checks AMQP's limit for names. A partition's events may be named after its parent; only the trigger itself can
/// check that.
fn long_name(table: &Relation, arguments: &Arguments) -> Option<Report> {
    let resource = arguments.resource.as_deref().unwrap_or(table.name());
    if let Some(problem) = capture::long_part_problem(&arguments.prefix, resource) {
        return Some(problem);
    }
    // What a template makes is cut.
    let keys = match &arguments.options.routing_key {
        None => {
            &OPERATIONS.map(|operation| routing_key(&arguments.prefix, resource, operation))[..]
        }
        Some(_) => &[],
    };
    let exchange = arguments.options.exchange.as_deref().unwrap_or_default();
    keys.iter()
        .find_map(|key| capture::short_string_problem("routing key", key))
        .or_else(|| capture::short_string_problem("exchange", exchange))
}

/// Checks that rows that are messages may have the routing key that the trigger gives them.
fn reserved_routing_key(table: &Relation, arguments: &Arguments) -> Option<Report> {
    if !arguments.options.message.is_there() {
        return None;
    }
    let resource = arguments.resource.as_deref().unwrap_or(table.name());
    let Some(key) = &arguments.options.routing_key else {
        let key = routing_key(&arguments.prefix, resource, Operation::Insert);
        return headers::check_routing_key(&key).err();
    };
    let names = Names {
        prefix: &arguments.prefix,
        resource,
        is_resource_written: arguments.resource.is_some(),
        database: &trigger::database(),
        schema: table.schema(),
        table: table.name(),
    };
    // Of a row with some values; what is wrong with this key is wrong with all.
    let pattern = key.template.pattern(&names, |_| Some(0));
    let filling = pattern.fill(Operation::Insert.as_str(), |side, _, filling| {
        filling.add_value((side == Side::New).then_some(b"\"x\""));
    });
    if filling.has_null() {
        return Some(capture::null_key());
    }
    headers::check_routing_key(&filling.into_key()).err()
}

/// Checks that the table's owner may choose another exchange than the session's, and whoever makes the trigger: to
/// make one on the table of another takes no more than the privilege TRIGGER. Who makes a partition makes a clone.
fn exchange_of_others(
    trigger: &CaptureTrigger,
    table: &Relation,
    arguments: &Arguments,
) -> Option<Report> {
    let exchange = arguments.options.exchange.as_deref()?;
    let maker = (!trigger.is_clone).then(Role::current);
    let roles = std::iter::once(table.owner()).chain(maker);
    roles.into_iter().find_map(|role| capture::exchange_right::refusal(exchange, role))
}

/// Warns of what will fail later, in another command, for another user.
pub fn advise(trigger: &CaptureTrigger, table: &Relation) {
    let owner = table.owner();
    if !table.is_partitioned() || trigger.may_be_attached_by(owner) || event_trigger::is_restoring()
    {
        return;
    }
    let owner = owner.name();
    let function = trigger.function();
    Report::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("the owner of partitioned table {} may not execute {function}", table.quoted_name()),
    )
    .detail(format!(
        "Each new partition gets trigger \"{}\", too: CREATE TABLE ... PARTITION OF and ATTACH PARTITION will \
         fail for \"{owner}\".",
        trigger.name
    ))
    .hint(format!("GRANT EXECUTE ON FUNCTION {function} TO {};", quoted(&owner)))
    .warn();
}
