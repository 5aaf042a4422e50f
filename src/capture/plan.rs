//! Everything about the events of one trigger that is the same from row to row, and the session's
//! collection of such plans. A plan is made when its trigger first fires, and made anew when
//! anything that it was made from has changed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::PgSqlErrorCode;

use super::arguments::{Arguments, Problem};
use crate::body::{self, Shape};
use crate::event::{EncodedNames, MAX_SHORT_STRING, Operation};
use crate::memory;
use crate::pg::invalidation::{Dependencies, Stamp};
use crate::pg::report::Report;
use crate::pg::stored::Stored;
use crate::pg::trigger::{self, Action, TriggerCall};

/// What the events of one trigger have in common.
pub struct Plan {
    /// Of its trigger ([`TriggerCall::identity`]).
    identity: (u32, u32),
    stamp: Stamp,
    /// Whether an error came in the middle of using it.
    doubtful: Cell<bool>,
    /// How a row of the table becomes a body.
    pub shape: Shape,
    /// The shape as bytes; `None`: the bodies are rendered here.
    pub shape_bytes: Option<Vec<u8>>,
    /// Columns that are not published: an update of these alone is no event.
    pub excluded: Vec<Stored>,
    /// Exchange of the events; `None`: that of the session.
    pub exchange: Option<String>,
    /// The table that fires.
    pub table: String,
    operations: [OperationPlan; 4],
}

/// What the events of one operation have in common.
pub struct OperationPlan {
    pub operation: Operation,
    pub routing_key: String,
    /// The names in the event's head.
    pub names: EncodedNames,
    /// The body from the operation on.
    pub tail: Vec<u8>,
}

thread_local! {
    /// Never dropped (see [`crate::pg`]'s `plan_memory`).
    static PLANS: ManuallyDrop<RefCell<Plans>> =
        const { ManuallyDrop::new(RefCell::new(Plans::with_hasher(BuildHasherDefault::new()))) };
}

/// Plans by the identity of their trigger ([`TriggerCall::identity`]).
type Plans = HashMap<(u32, u32), Rc<Plan>, BuildHasherDefault<OidHasher>>;

/// A hash of oids, which nobody chooses so that they collide. The usual one takes longer than all
/// else that is done to find a plan.
#[derive(Default)]
struct OidHasher(u64);

impl Hasher for OidHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(u32::from(byte)));
    }

    fn write_u32(&mut self, number: u32) {
        let mixed = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Plans after which those that are out of date are looked for: their tables may be gone.
const MANY: usize = 1024;

impl Plan {
    /// The plan of the trigger that fires.
    pub fn of(call: &TriggerCall<'_>) -> Rc<Plan> {
        let identity = call.identity();
        let known = PLANS.with(|plans| plans.borrow().get(&identity).cloned());
        if let Some(plan) = known.filter(|plan| plan.is_current()) {
            return plan;
        }
        let plan = Rc::new(Plan::make(call));
        // What comes from the reserve is not kept.
        memory::check();
        PLANS.with(|plans| {
            let mut plans = plans.borrow_mut();
            memory::reserve_entry(&mut plans);
            if plans.len() >= MANY && plans.len().is_power_of_two() {
                plans.retain(|_, plan| plan.is_current());
            }
            plans.insert(identity, Rc::clone(&plan));
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
        let mut dependencies = Dependencies::begin();
        call.depend(&mut dependencies);
        let arguments = accept(call, Arguments::parse(call.arguments()));
        let options = arguments.options;
        let names = call.column_names();
        let chosen = accept(call, options.choose(&names));
        let columns = call.columns(&chosen.published, &mut dependencies);
        let key = chosen.key.unwrap_or_else(|| call.primary_key());
        let is_key = |number| key.contains(number);
        let key = memory::collect(chosen.published.iter().map(is_key));
        let (database, schema, table) = (trigger::database(), call.schema(), call.table());
        let resource = arguments.resource.unwrap_or_else(|| call.topmost_table(&mut dependencies));
        // Of the key that is made of them; in lower case a letter may take a third.
        for part in [&arguments.prefix, &resource] {
            if part.len() > 3 * MAX_SHORT_STRING {
                super::require_short_string("routing key", part);
            }
        }
        let operations =
            [Operation::Insert, Operation::Update, Operation::Delete, Operation::Truncate];
        let operations = operations.map(|operation| {
            let routing_key =
                format!("{}.{resource}.{}", arguments.prefix, operation.as_str()).to_lowercase();
            let tail = body::tail(operation, &resource, &table, &routing_key);
            let names = EncodedNames::new(&routing_key, &database, &schema, &table);
            OperationPlan { operation, routing_key, names, tail }
        });
        let shape = Shape::new(columns, key, options.without_previous, options.only_changed);
        let layout = call.layout(&shape.columns);
        Plan {
            identity: call.identity(),
            doubtful: Cell::new(false),
            excluded: call.stored(&chosen.excluded),
            shape_bytes: layout.map(|layout| shape.encode(&resource, &layout)),
            shape,
            exchange: options.exchange,
            table,
            operations,
            stamp: dependencies.seal(),
        }
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

/// Errors for a trigger whose arguments make no sense.
fn accept<T>(call: &TriggerCall<'_>, result: Result<T, Problem>) -> T {
    match result {
        Ok(value) => value,
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
    }
}
