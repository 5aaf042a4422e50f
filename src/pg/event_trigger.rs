//! Event triggers: what PostgreSQL says that a DDL command touched, and at which command of the transaction the
//! one before it ended.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use pgrx::pg_sys;

use super::catalog::{RelationId, TriggerId};
use super::{sys, text, varlena};
use crate::memory;

/// Returns whether an event trigger is called.
///
/// # Safety
///
/// `fcinfo` is what the function manager passed.
pub(super) unsafe fn is_call_for_an_event(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: a valid call; the node tag says what the context is.
    unsafe {
        let context = (*fcinfo).context;
        !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_EventTriggerData
    }
}

/// What a command touched. It names the table that the command named, not those that inherit from it.
#[derive(Default)]
pub struct Touched {
    /// Relations that were created or altered, or that lost columns.
    pub relations: BTreeSet<RelationId>,
    /// Triggers that CREATE TRIGGER made or replaced.
    pub new_triggers: Vec<TriggerId>,
}

/// The command of the current transaction at which its last DDL command ended: whatever changed the catalogs
/// since is of the one that ends now. Zero at the start of a transaction.
static LAST_END: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Relations that lost columns by the command that ends now. Never dropped (see [`super::plan_memory`]).
    static SHORTENED: ManuallyDrop<RefCell<BTreeSet<RelationId>>> =
        const { ManuallyDrop::new(RefCell::new(BTreeSet::new())) };
}

/// Whether this process has registered its callback.
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// The command of the current transaction at which its last DDL command ended.
pub fn last_end() -> u32 {
    LAST_END.load(Ordering::Relaxed)
}

/// To be called when nothing more is to be asked of the command that ends now.
pub fn end_command() {
    forget_at_transaction_end();
    // SAFETY: reads a variable. PostgreSQL has counted on since the command (event_trigger.c:
    // `EventTriggerDDLCommandEnd`), so that none of its changes bear this number.
    LAST_END.store(unsafe { pg_sys::GetCurrentCommandId(false) }, Ordering::Relaxed);
}

fn forget_at_transaction_end() {
    if !REGISTERED.swap(true, Ordering::Relaxed) {
        // SAFETY: the callback has the C ABI, no argument and no way to unwind.
        unsafe { sys::RegisterXactCallback(Some(at_transaction_end), std::ptr::null_mut()) };
    }
}

unsafe extern "C-unwind" fn at_transaction_end(
    event: pg_sys::XactEvent::Type,
    _argument: *mut std::ffi::c_void,
) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    if [XACT_EVENT_COMMIT, XACT_EVENT_ABORT, XACT_EVENT_PREPARE].contains(&event) {
        LAST_END.store(0, Ordering::Relaxed);
        SHORTENED.with(|shortened| {
            if let Ok(mut shortened) = shortened.try_borrow_mut() {
                shortened.clear();
            }
        });
    }
}

/// To be called in an event trigger on sql_drop: notes which relations lose columns, for [`touched`].
pub fn note_dropped() {
    static PLAN: Plan = Plan::of(
        c"SELECT classid, objid, objsubid FROM pg_catalog.pg_event_trigger_dropped_objects()",
    );
    forget_at_transaction_end();
    let mut lost = Vec::new();
    PLAN.run(|row| {
        let column = row.number(3).is_some_and(|column| column > 0);
        if let Some(relation) = row.oid(2)
            && row.oid(1) == Some(pg_sys::RelationRelationId)
            && column
        {
            memory::push(&mut lost, RelationId::of(relation));
        }
    });
    SHORTENED.with(|shortened| {
        for relation in lost {
            memory::check();
            shortened.borrow_mut().insert(relation);
        }
    });
}

/// To be called in an event trigger on ddl_command_end: what the command touched.
pub fn touched() -> Touched {
    static PLAN: Plan = Plan::of(
        c"SELECT classid, objid, command_tag FROM pg_catalog.pg_event_trigger_ddl_commands()",
    );
    let relations = SHORTENED.with(|shortened| shortened.take());
    let mut touched = Touched { relations, new_triggers: Vec::new() };
    PLAN.run(|row| match (row.oid(1), row.oid(2)) {
        (Some(pg_sys::RelationRelationId), Some(relation)) => {
            memory::check();
            touched.relations.insert(RelationId::of(relation));
        }
        (Some(pg_sys::TriggerRelationId), Some(trigger)) if row.text(3) == "CREATE TRIGGER" => {
            memory::push(&mut touched.new_triggers, TriggerId(trigger));
        }
        _ => {}
    });
    touched
}

/// Returns whether this session applies what another server has decided (session_replication_role).
pub fn is_replica() -> bool {
    // SAFETY: a plain read of a setting, which nothing but this thread changes.
    unsafe { pg_sys::SessionReplicationRole == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32 }
}

/// Returns whether this session restores a dump, which gives privileges last (pg_dump turns
/// check_function_bodies off).
pub fn is_restoring() -> bool {
    // SAFETY: a plain read of a setting, which nothing but this thread changes.
    unsafe { !pg_sys::check_function_bodies }
}

/// A query that is planned once in a session.
struct Plan {
    query: &'static CStr,
    plan: AtomicPtr<pg_sys::_SPI_plan>,
}

/// One row of a query's result.
struct ResultRow {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl Plan {
    const fn of(query: &'static CStr) -> Plan {
        Plan { query, plan: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Runs the query, and calls `see` with each row.
    fn run(&self, mut see: impl FnMut(ResultRow)) {
        // SAFETY: in a transaction; a plan that is kept stays for the life of the process; the rows are there
        // until SPI_finish. Errors of PostgreSQL unwind, and its end of the (sub)transaction closes SPI.
        unsafe {
            sys::SPI_connect();
            let mut plan = self.plan.load(Ordering::Relaxed);
            if plan.is_null() {
                plan = sys::SPI_prepare(self.query.as_ptr(), 0, std::ptr::null_mut());
                sys::SPI_keepplan(plan);
                self.plan.store(plan, Ordering::Relaxed);
            }
            // Not as read-only: that takes the snapshot of the statement, where there is one.
            sys::SPI_execute_plan(plan, std::ptr::null_mut(), std::ptr::null(), false, 0);
            let table = pg_sys::SPI_tuptable;
            if !table.is_null() {
                let descriptor = (*table).tupdesc;
                for index in 0..(*table).numvals as usize {
                    see(ResultRow { tuple: *(*table).vals.add(index), descriptor });
                }
            }
            sys::SPI_finish();
        }
    }
}

impl ResultRow {
    /// The column with this number, from 1; none if it is null.
    fn value(&self, column: i32) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: a row of the query's result, which is there while it is seen.
        let value =
            unsafe { sys::SPI_getbinval(self.tuple, self.descriptor, column, &raw mut is_null) };
        (!is_null).then_some(value)
    }

    fn oid(&self, column: i32) -> Option<pg_sys::Oid> {
        self.value(column).map(|value| pg_sys::Oid::from_u32(value.value() as u32))
    }

    fn number(&self, column: i32) -> Option<i32> {
        self.value(column).map(|value| value.value() as i32)
    }

    fn text(&self, column: i32) -> String {
        let read = |bytes: &[u8]| text::owned(text::to_utf8(bytes));
        // SAFETY: the column is a text.
        self.value(column)
            .map_or_else(String::new, |value| unsafe { varlena::with_content(value, read) })
    }
}
