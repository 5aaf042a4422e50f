//! Triggers that call `amqp_change_data_capture()`, as the catalogs have them.

use pgrx::pg_sys;
use pgrx::pg_sys::SysCacheIdentifier::PROCOID;

use super::ids::{RelationId, TriggerId};
use super::scan::{Rows, attribute, scan};
use crate::memory;
use crate::pg::rights::Role;
use crate::pg::text::take_name;
use crate::pg::timing::Timing;
use crate::pg::{sys, text, varlena};

/// A trigger that calls `amqp_change_data_capture()`.
pub struct CaptureTrigger {
    id: TriggerId,
    /// Its table.
    pub table: RelationId,
    function: pg_sys::Oid,
    /// Its name.
    pub name: String,
    /// The arguments of CREATE TRIGGER, in order.
    pub arguments: Vec<String>,
    kind: u32,
    /// Whether it was made for a partition because the parent has it.
    pub is_clone: bool,
}

/// The trigger, if it calls `amqp_change_data_capture()`.
pub fn capture_trigger(id: TriggerId) -> Option<CaptureTrigger> {
    capture_triggers(pg_sys::TriggerOidIndexId, (pg_sys::Anum_pg_trigger_oid, id.0)).pop()
}

/// All capture triggers of this database.
pub fn all_capture_triggers() -> Vec<CaptureTrigger> {
    capture_triggers_by(pg_sys::TriggerOidIndexId, [])
}

pub(super) fn capture_triggers(index: u32, key: (u32, pg_sys::Oid)) -> Vec<CaptureTrigger> {
    capture_triggers_by(index, [key])
}

fn capture_triggers_by<const N: usize>(
    index: u32,
    keys: [(u32, pg_sys::Oid); N],
) -> Vec<CaptureTrigger> {
    let rows = Rows { catalog: pg_sys::TriggerRelationId, index, keys };
    let mut found = Vec::new();
    // SAFETY: in a transaction; a row of pg_trigger begins with its fixed part, and is copied.
    unsafe {
        scan(rows, std::ptr::null_mut(), |tuple, descriptor| {
            let trigger = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_trigger>();
            if is_capture_function(trigger.tgfoid) {
                let trigger = CaptureTrigger {
                    id: TriggerId(trigger.oid),
                    table: RelationId::of(trigger.tgrelid),
                    function: trigger.tgfoid,
                    name: text::c_to_utf8(trigger.tgname.data.as_ptr()),
                    arguments: arguments(tuple, descriptor),
                    kind: trigger.tgtype as u32,
                    is_clone: trigger.tgparentid != pg_sys::InvalidOid,
                };
                memory::push(&mut found, trigger);
            }
        });
    }
    found
}

/// The arguments of a trigger: each ends with a NUL (trigger.c: `CreateTriggerFiringOn`).
///
/// # Safety
///
/// `tuple` is a row of pg_trigger, which `descriptor` describes.
unsafe fn arguments(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> Vec<String> {
    // SAFETY: the descriptor is that of the row; tgargs is a bytea that is never null, and lives in the row.
    unsafe {
        let value = attribute(tuple, descriptor, pg_sys::Anum_pg_trigger_tgargs);
        let Some(value) = value else { return Vec::new() };
        varlena::with_content(value, |bytes| {
            let mut found = Vec::new();
            for text in bytes.split_inclusive(|&byte| byte == 0) {
                let text = text::to_utf8(text.strip_suffix(&[0]).unwrap_or(text));
                memory::push(&mut found, text::owned(text));
            }
            found
        })
    }
}

/// Returns whether it is the trigger function of this library, whatever its SQL name and schema are.
fn is_capture_function(function: pg_sys::Oid) -> bool {
    const SYMBOL: &[u8] = b"amqp_change_data_capture";
    const LIBRARY: &[u8] = b"amqp_cdc";
    // SAFETY: syscache look-ups in a transaction; the tuple is released after its last use. Only functions in
    // C have a probin.
    unsafe {
        let tuple = sys::SearchSysCache1(PROCOID as i32, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return false;
        }
        let is = |number: u32, is: &dyn Fn(&[u8]) -> bool| {
            let mut is_null = false;
            let value = sys::SysCacheGetAttr(
                PROCOID as i32,
                tuple,
                number as pg_sys::AttrNumber,
                &raw mut is_null,
            );
            !is_null && varlena::with_content(value, is)
        };
        let is_ours = is(pg_sys::Anum_pg_proc_prosrc, &|symbol| symbol == SYMBOL)
            && is(pg_sys::Anum_pg_proc_probin, &|path| {
                let file = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
                file.strip_suffix(b".so").unwrap_or(file) == LIBRARY
            });
        pg_sys::ReleaseSysCache(tuple);
        is_ours
    }
}

impl CaptureTrigger {
    /// When it fires.
    pub fn timing(&self) -> Timing {
        if self.kind & pg_sys::TRIGGER_TYPE_BEFORE != 0 {
            Timing::Before
        } else if self.kind & pg_sys::TRIGGER_TYPE_INSTEAD != 0 {
            Timing::InsteadOf
        } else {
            Timing::After
        }
    }

    /// Returns whether it fires for each row rather than for each statement.
    pub fn is_for_each_row(&self) -> bool {
        self.kind & pg_sys::TRIGGER_TYPE_ROW != 0
    }

    /// Returns whether it fires for nothing but TRUNCATE.
    pub fn is_for_truncate_alone(&self) -> bool {
        self.kind & pg_sys::TRIGGER_TYPE_EVENT_MASK == pg_sys::TRIGGER_TYPE_TRUNCATE
    }

    /// Returns whether it fires for nothing but INSERT.
    pub fn is_for_insert_alone(&self) -> bool {
        self.kind & pg_sys::TRIGGER_TYPE_EVENT_MASK == pg_sys::TRIGGER_TYPE_INSERT
    }

    /// The statement that would make it, as pg_get_triggerdef gives it: names qualified, without a semicolon.
    pub fn definition(&self) -> String {
        // SAFETY: a function of this one argument, an oid, which gives a text for a trigger that is there.
        unsafe {
            let (function, oid) = (pg_sys::F_PG_GET_TRIGGERDEF_OID, pg_sys::Datum::from(self.id.0));
            let definition = sys::OidFunctionCall1Coll(function, pg_sys::InvalidOid, oid);
            varlena::with_content(definition, |bytes| text::owned(text::to_utf8(bytes)))
        }
    }

    /// The trigger function, as GRANT wants it.
    pub fn function(&self) -> String {
        // SAFETY: syscache look-ups in a transaction.
        let (schema, name) = unsafe {
            let schema = sys::get_func_namespace(self.function);
            let schema = take_name(sys::get_namespace_name(schema));
            (schema, take_name(sys::get_func_name(self.function)))
        };
        format!("{}()", pgrx::spi::quote_qualified_identifier(schema, name))
    }

    /// Returns whether this role may execute the trigger function.
    pub fn may_be_attached_by(&self, role: Role) -> bool {
        // SAFETY: event triggers ask this, in the transaction of their command.
        unsafe { sys::versions::may_execute(self.function, role.0) }
    }
}
