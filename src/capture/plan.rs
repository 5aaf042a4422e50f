//! Everything about the events of one trigger that is the same from row to row, and the session's
//! collection of such plans. A plan is made when its trigger first fires, and made anew when
//! anything that it was made from has changed.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::rc::Rc;

use super::arguments::Arguments;
use super::message_row::MessageRow;
use super::names::{long_part_problem, require_short_string, routing_key};
use super::problem::Problem;
use super::requirements::message_timing_problem;
use super::{exchange_right, sql_version};
use crate::event::{EncodedNames, Operation};
use crate::memory;
use crate::pg::invalidation::{Dependencies, Stamp};
use crate::pg::stored_column::StoredColumn;
use crate::pg::trigger::{self, Action, TriggerCall};
use crate::pg::tuple::Values;
use crate::routing_key::{Names, Pattern, harmless};
use crate::row::columns::Columns;
use crate::row::growth::Growth;
use crate::row::made_key::MadeKey;
use crate::row::shape::Shape;
use crate::row::{body, layout};

/// What the events of one trigger have in common.
pub struct Plan {
    /// Identity of the trigger ([`TriggerCall::identity`]).
    identity: (u32, u32),
    stamp: Stamp,
    /// Whether an error came in the middle of using it.
    doubtful: Cell<bool>,
    /// How a row of the table becomes a body.
    pub shape: Shape,
    /// The shape as bytes; `None`: the bodies are rendered here.
    pub shape_bytes: Option<Vec<u8>>,
    /// How much longer the table's rows become as text.
    pub growth: Growth,
    /// Columns that are not published: an update of these alone is no event.
    pub excluded: Vec<StoredColumn>,
    /// How a row becomes a message of a user's own, if it does.
    pub message: Option<MessageRow>,
    /// Exchange of the events; `None`: that of the session.
    pub exchange: Option<String>,
    /// What routing keys are made by; `None`: those of an operation are all the same.
    pub pattern: Option<Pattern>,
    /// An update of one of these columns is to consumers a delete and an insert.
    pub split_by: Vec<StoredColumn>,
    /// Names of the columns that identify a row, as a JSON array.
    pub key_names: Vec<u8>,
    /// Name of the table whose trigger fires.
    pub table: String,
    operations: [OperationPlan; 4],
}

/// The operations that triggers fire for.
pub const OPERATIONS: [Operation; 4] =
    [Operation::Insert, Operation::Update, Operation::Delete, Operation::Truncate];

/// What the events of one operation have in common.
pub struct OperationPlan {
    pub operation: Operation,
    /// Empty if routing keys are made of rows.
    pub routing_key: String,
    /// The names in the event's head.
    pub names: EncodedNames,
    /// The body from the operation on; without the routing key if that is made of the row.
    pub tail: Vec<u8>,
}

thread_local! {
    /// Sorted by identity. Never dropped (see [`crate::pg`]'s `plan_memory`).
    static PLANS: ManuallyDrop<RefCell<Plans>> =
        const { ManuallyDrop::new(RefCell::new(Plans::new())) };
}

/// Plans with the identity of their trigger ([`TriggerCall::identity`]). This is a list and not a tree, because a
/// tree offers no way to ask for memory and be refused.
type Plans = Vec<((u32, u32), Rc<Plan>)>;

fn find(plans: &Plans, identity: (u32, u32)) -> Result<usize, usize> {
    plans.binary_search_by_key(&identity, |&(known, _)| known)
}

/// From this many plans on, those that are out of date are removed now and then: their tables may be gone.
const MANY: usize = 1024;

impl Plan {
    /// The plan of the trigger that fires.
    pub fn of(call: &TriggerCall<'_>) -> Rc<Plan> {
        let identity = call.identity();
        let known = PLANS.with(|plans| {
            let plans = plans.borrow();
            find(&plans, identity).ok().map(|at| Rc::clone(&plans[at].1))
        });
        if let Some(plan) = known.filter(|plan| plan.is_current()) {
            return plan;
        }
        let plan = Rc::new(Plan::make(call));
        // Nothing may be kept that came from the allocator's reserve.
        memory::check();
        PLANS.with(|plans| {
            let mut plans = plans.borrow_mut();
            memory::reserve(&mut plans, 1);
            if plans.len() >= MANY && plans.len().is_power_of_two() {
                plans.retain(|(_, plan)| plan.is_current());
            }
            match find(&plans, identity) {
                Ok(at) => plans[at].1 = Rc::clone(&plan),
                Err(at) => plans.insert(at, (identity, Rc::clone(&plan))),
            }
        });
        plan
    }

    /// Whether it is the plan of the trigger that fires.
    pub fn is_of(&self, call: &TriggerCall<'_>) -> bool {
        self.identity == call.identity() && self.is_current()
    }

    fn is_current(&self) -> bool {
        !self.doubtful.get() && self.stamp.is_current()
    }

    /// Calls `use_it`. If that does not return because of an error, the plan is not used again:
    /// what PostgreSQL's functions keep in its memory may be half made.
    pub fn guard(&self, use_it: impl FnOnce()) {
        struct Doubt<'a>(&'a Cell<bool>);
        impl Drop for Doubt<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.set(true);
                }
            }
        }
        let _doubt = Doubt(&self.doubtful);
        use_it();
    }

    fn make(call: &TriggerCall<'_>) -> Plan {
        sql_version::look_once(call);
        let mut dependencies = Dependencies::begin();
        call.depend(&mut dependencies);
        let arguments = accept(call, Arguments::parse(call.arguments()));
        let options = arguments.options;
        if let Some(exchange) = &options.exchange {
            require_short_string("exchange", exchange);
            if let Some(refusal) = exchange_right::refusal(exchange, call.owner()) {
                // What a row says that is a message is its writer's choice.
                if options.message.is_there() {
                    refusal.raise();
                }
                // CREATE TRIGGER refuses this. An earlier version did not, and its triggers go on working.
                refusal.log();
            }
        }
        let names = call.column_names();
        let message = accept(call, options.message.find(&names, |column| call.known_type(column)))
            .map(|columns| {
                require_insert_alone(call);
                MessageRow::new(columns)
            });
        let chosen = accept(call, options.choose(&names));
        let columns = Columns::of(call.descriptor(), &chosen.published, &mut dependencies);
        let key = chosen.key.unwrap_or_else(|| call.primary_key());
        let is_key = |number| key.contains(number);
        let key = memory::collect(chosen.published.iter().map(is_key));
        let (database, schema, table) = (trigger::database(), call.schema(), call.table());
        let is_resource_written = arguments.resource.is_some();
        let resource = arguments.resource.unwrap_or_else(|| call.topmost_table(&mut dependencies));
        if let Some(problem) = long_part_problem(&arguments.prefix, &resource) {
            problem.raise();
        }
        let known = Names {
            prefix: &arguments.prefix,
            resource: &resource,
            is_resource_written,
            database: &database,
            schema: &schema,
            table: &table,
        };
        let template = options.routing_key.as_ref();
        let (pattern, key_columns) =
            template.map(|key| key.pattern(&known, &names, &chosen.published)).unzip();
        let split_by = call.stored(&key_columns.unwrap_or_default());
        let operations = OPERATIONS.map(|operation| {
            let routing_key = match &pattern {
                None if message.is_some() => routing_key(&arguments.prefix, &resource, operation),
                None => harmless(routing_key(&arguments.prefix, &resource, operation)),
                Some(pattern) if pattern.is_fixed() => {
                    MadeKey::without_values(pattern, operation.as_str()).fit()
                }
                Some(_) => return OperationPlan::with_made_keys(operation, &resource, &known),
            };
            let tail = body::tail(operation, &resource, &table, &routing_key);
            let names = EncodedNames::new(&routing_key, &database, &schema, &table);
            OperationPlan { operation, routing_key, names, tail }
        });
        let shape = Shape::new(columns, key, options.without_previous, options.only_changed);
        // The key of a message is taken as it is, and may be none.
        let pattern = pattern.filter(|pattern| message.is_some() || !pattern.is_fixed());
        let layout = layout::encode(call.descriptor(), &shape.columns);
        let growth = Growth::of(call.descriptor(), &shape.columns);
        Plan {
            identity: call.identity(),
            doubtful: Cell::new(false),
            excluded: call.stored(&chosen.excluded),
            shape_bytes: layout.map(|layout| shape.encode(&resource, &layout, pattern.as_ref())),
            pattern,
            split_by,
            growth,
            key_names: shape.key_names(),
            shape,
            message,
            exchange: options.exchange,
            table,
            operations,
            stamp: dependencies.seal(),
        }
    }

    /// Whether an update from this row to that is to consumers a delete and an insert.
    pub fn is_split(&self, old: &Values<'_>, new: &Values<'_>) -> bool {
        self.split_by.iter().any(|column| !column.is_same(old, new))
    }

    /// What events of this kind have in common.
    pub fn operation(&self, action: Action) -> &OperationPlan {
        &self.operations[match action {
            Action::Insert => 0,
            Action::Update => 1,
            Action::Delete => 2,
            Action::Truncate => 3,
        }]
    }
}

impl OperationPlan {
    /// Where routing keys are made of rows.
    fn with_made_keys(operation: Operation, resource: &str, known: &Names<'_>) -> OperationPlan {
        let Names { database, schema, table, .. } = known;
        OperationPlan {
            operation,
            routing_key: String::new(),
            names: EncodedNames::of_table(database, schema, table),
            tail: body::tail_before_key(operation, resource, table),
        }
    }
}

/// Raises an error if the trigger's arguments make no sense.
fn accept<T>(call: &TriggerCall<'_>, result: Result<T, Problem>) -> T {
    result.unwrap_or_else(|problem| problem.of_trigger(&call.trigger_name()).raise())
}

/// Raises an error if the trigger, whose rows are messages, fires for anything but INSERT.
fn require_insert_alone(call: &TriggerCall<'_>) {
    if let Some(problem) = message_timing_problem(&call.trigger_name(), call.is_for_insert_alone())
    {
        problem.raise();
    }
}
