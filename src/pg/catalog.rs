//! Tables, columns and triggers as the catalogs have them, for who is told that they changed and has no open
//! table. Read by scans of the catalogs, never by SQL, which a search_path of the caller's could bend. Each
//! function gives nothing for what is not there any more.

use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::pg_sys::SysCacheIdentifier::{PROCOID, RELOID};

use super::rights::Role;
use super::trigger::Timing;
use super::tuple::take_name;
use super::{columns, sys, text, varlena};
use crate::memory;

/// The oid of something in pg_class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelationId(u32);

impl RelationId {
    pub(super) fn of(oid: pg_sys::Oid) -> RelationId {
        RelationId(oid.to_u32())
    }

    pub(super) fn oid(self) -> pg_sys::Oid {
        pg_sys::Oid::from_u32(self.0)
    }
}

/// The oid of a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriggerId(pub(super) pg_sys::Oid);

/// The oid of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionId(pub(super) pg_sys::Oid);

/// A name as SQL wants it.
pub fn quoted(name: &str) -> String {
    pgrx::spi::quote_identifier(name)
}

/// What pg_class says of a relation.
pub struct Relation {
    pub id: RelationId,
    schema: String,
    name: String,
    kind: u8,
    owner: pg_sys::Oid,
    row_type: pg_sys::Oid,
    has_triggers: bool,
}

/// A column that has values; its number stays what it is when it is renamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub number: usize,
    pub name: String,
}

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

/// Rows of a catalog: those that have these oids in these columns, which an index begins with.
struct Rows<const N: usize> {
    catalog: pg_sys::Oid,
    index: u32,
    keys: [(u32, pg_sys::Oid); N],
}

/// Calls `see` with each of the rows; under the newest snapshot if none is given.
///
/// # Safety
///
/// In a transaction; catalog, index and columns belong together (without keys the index does not count); the
/// snapshot is null or registered; `see` keeps nothing of the row.
unsafe fn scan<const N: usize>(
    rows: Rows<N>,
    snapshot: pg_sys::Snapshot,
    mut see: impl FnMut(pg_sys::HeapTuple, pg_sys::TupleDesc),
) {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    let mut keys = rows.keys.map(|_| pg_sys::ScanKeyData::default());
    // SAFETY: the caller's; the keys outlive the scan. What an error leaves open, the end of the transaction
    // closes.
    unsafe {
        for (key, (column, wanted)) in keys.iter_mut().zip(rows.keys) {
            sys::ScanKeyInit(
                key,
                column as pg_sys::AttrNumber,
                pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                pg_sys::Oid::from_u32(pg_sys::F_OIDEQ),
                pg_sys::Datum::from(wanted),
            );
        }
        let relation = sys::table_open(rows.catalog, lock);
        let index = pg_sys::Oid::from_u32(rows.index);
        let scan =
            sys::systable_beginscan(relation, index, N > 0, snapshot, N as i32, keys.as_mut_ptr());
        loop {
            let tuple = sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            see(tuple, (*relation).rd_att);
        }
        sys::systable_endscan(scan);
        sys::table_close(relation, lock);
    }
}

/// The columns' attribute rows that a snapshot sees.
///
/// # Safety
///
/// In a transaction; the snapshot is null or registered.
unsafe fn attributes(relation: RelationId, snapshot: pg_sys::Snapshot) -> Vec<Column> {
    let rows = Rows {
        catalog: pg_sys::AttributeRelationId,
        index: pg_sys::AttributeRelidNumIndexId,
        keys: [(pg_sys::Anum_pg_attribute_attrelid, relation.oid())],
    };
    let mut found = Vec::new();
    // SAFETY: the caller's; a row of pg_attribute begins with its fixed part.
    unsafe {
        scan(rows, snapshot, |tuple, _| {
            let attribute = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_attribute>();
            if let Ok(number) = usize::try_from(attribute.attnum - 1)
                && columns::is_there(attribute)
            {
                let name = text::c_to_utf8(attribute.attname.data.as_ptr());
                memory::push(&mut found, Column { number, name });
            }
        });
    }
    found
}

/// A relation; none if it is gone.
pub fn relation(id: RelationId) -> Option<Relation> {
    // SAFETY: a syscache look-up in a transaction; the tuple is released after its last use.
    unsafe {
        let tuple = sys::SearchSysCache1(RELOID as i32, pg_sys::Datum::from(id.oid()));
        if tuple.is_null() {
            return None;
        }
        let class = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
        let relation = Relation {
            id,
            schema: take_name(sys::get_namespace_name(class.relnamespace)),
            name: text::c_to_utf8(class.relname.data.as_ptr()),
            kind: class.relkind as u8,
            owner: class.relowner,
            row_type: class.reltype,
            has_triggers: class.relhastriggers,
        };
        pg_sys::ReleaseSysCache(tuple);
        Some(relation)
    }
}

/// The table, and all that inherit from it, partitions included. Nothing that is gone.
pub fn with_inheritors(table: RelationId) -> Vec<RelationId> {
    let no_lock = pg_sys::NoLock as pg_sys::LOCKMODE;
    // SAFETY: reads pg_inherits in a transaction, of a relation that is there; the list is palloc'd.
    let tables = unsafe {
        let tables = sys::find_all_inheritors(table.oid(), no_lock, std::ptr::null_mut());
        pgrx::PgList::<pg_sys::Oid>::from_pg(tables)
    };
    let mut found = memory::with_room(tables.len());
    found.extend(tables.iter_oid().map(RelationId::of));
    found
}

/// The trigger, if it calls `amqp_change_data_capture()`.
pub fn capture_trigger(id: TriggerId) -> Option<CaptureTrigger> {
    capture_triggers(pg_sys::TriggerOidIndexId, (pg_sys::Anum_pg_trigger_oid, id.0)).pop()
}

fn capture_triggers(index: u32, key: (u32, pg_sys::Oid)) -> Vec<CaptureTrigger> {
    let rows = Rows { catalog: pg_sys::TriggerRelationId, index, keys: [key] };
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
    // SAFETY: the caller's; tgargs is a bytea that is never null.
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

/// One attribute of a row; none if it is null.
///
/// # Safety
///
/// `descriptor` describes the row, and has the attribute.
unsafe fn attribute(
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
    number: u32,
) -> Option<pg_sys::Datum> {
    // SAFETY: the caller's; there is room for all attributes.
    unsafe {
        let count = (*descriptor).natts.max(0) as usize;
        let (mut values, mut nulls) = (Vec::new(), Vec::new());
        memory::resize(&mut values, count, pg_sys::Datum::from(0));
        memory::resize(&mut nulls, count, true);
        sys::heap_deform_tuple(tuple, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        let index = number as usize - 1;
        (!nulls[index]).then(|| values[index])
    }
}

/// Whether it is the trigger function of this library, whatever its SQL name and schema are.
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

impl Relation {
    /// Its name, as SQL wants it.
    pub fn quoted_name(&self) -> String {
        pgrx::spi::quote_qualified_identifier(&self.schema, &self.name)
    }

    /// Its name alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role that owns it.
    pub fn owner(&self) -> Role {
        Role(self.owner)
    }

    /// Whether it is a table that may have capture triggers.
    pub fn is_table(&self) -> bool {
        use pg_sys::{RELKIND_FOREIGN_TABLE, RELKIND_PARTITIONED_TABLE, RELKIND_RELATION};
        [RELKIND_RELATION, RELKIND_PARTITIONED_TABLE, RELKIND_FOREIGN_TABLE].contains(&self.kind)
    }

    /// Whether it has partitions, or may get some.
    pub fn is_partitioned(&self) -> bool {
        self.kind == pg_sys::RELKIND_PARTITIONED_TABLE
    }

    /// Whether it is what pg_class has of a composite type.
    pub fn is_composite_type(&self) -> bool {
        self.kind == pg_sys::RELKIND_COMPOSITE_TYPE
    }

    /// The capture triggers of the table.
    pub fn capture_triggers(&self) -> Vec<CaptureTrigger> {
        if !self.has_triggers {
            return Vec::new();
        }
        let key = (pg_sys::Anum_pg_trigger_tgrelid, self.id.oid());
        capture_triggers(pg_sys::TriggerRelidNameIndexId, key)
    }

    /// Its columns.
    pub fn columns(&self) -> Vec<Column> {
        // SAFETY: in a transaction.
        unsafe { attributes(self.id, std::ptr::null_mut()) }
    }

    /// Its columns as they were before this command of the transaction.
    pub fn columns_before(&self, command_id: u32) -> Vec<Column> {
        // SAFETY: in a transaction. The newest snapshot, since that of the transaction may be older than what
        // this command waited for; it is a copy, once the transaction has a snapshot of its own (snapmgr.c:
        // `GetLatestSnapshot`, `RegisterSnapshot`). After an error the end of the transaction forgets it.
        unsafe {
            sys::GetTransactionSnapshot();
            let snapshot = sys::RegisterSnapshot(sys::GetLatestSnapshot());
            (*snapshot).curcid = command_id;
            let columns = attributes(self.id, snapshot);
            sys::UnregisterSnapshot(snapshot);
            columns
        }
    }

    /// The tables that were made of this composite type (CREATE TABLE ... OF): their columns are its attributes.
    pub fn typed_tables(&self) -> Vec<RelationId> {
        // catalog/pg_depend.h; missing from pgrx.
        const DEPEND: pg_sys::Oid = pg_sys::Oid::from_u32(2608);
        const REFERENCE_INDEX: u32 = 2674;
        const REFCLASSID: u32 = 4;
        const REFOBJID: u32 = 5;
        /// The columns before these.
        #[repr(C)]
        struct Depend {
            classid: pg_sys::Oid,
            objid: pg_sys::Oid,
            objsubid: i32,
        }
        let rows = Rows {
            catalog: DEPEND,
            index: REFERENCE_INDEX,
            keys: [(REFCLASSID, pg_sys::TypeRelationId), (REFOBJID, self.row_type)],
        };
        let mut found = Vec::new();
        // SAFETY: in a transaction; a row of pg_depend has these columns first, none of them null.
        unsafe {
            scan(rows, std::ptr::null_mut(), |tuple, _| {
                let depend = &*pg_sys::GETSTRUCT(tuple).cast::<Depend>();
                if depend.classid == pg_sys::RelationRelationId && depend.objsubid == 0 {
                    memory::push(&mut found, RelationId::of(depend.objid));
                }
            });
        }
        found
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

    /// Whether it fires for each row rather than for each statement.
    pub fn is_for_each_row(&self) -> bool {
        self.kind & pg_sys::TRIGGER_TYPE_ROW != 0
    }

    /// Whether it fires for nothing but TRUNCATE.
    pub fn is_for_truncate_alone(&self) -> bool {
        self.kind & pg_sys::TRIGGER_TYPE_EVENT_MASK == pg_sys::TRIGGER_TYPE_TRUNCATE
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

    /// Whether this role may execute the trigger function.
    pub fn may_be_attached_by(&self, role: Role) -> bool {
        // SAFETY: event triggers ask this, in the transaction of their command.
        unsafe { sys::versions::may_execute(self.function, role.0) }
    }
}

/// The version of the extension that a function is a member of; none if it is of none.
pub fn version_of_extension_of(function: FunctionId) -> Option<String> {
    // SAFETY: in a transaction.
    let extension = unsafe { sys::getExtensionOfObject(pg_sys::ProcedureRelationId, function.0) };
    let rows = Rows {
        catalog: pg_sys::ExtensionRelationId,
        index: pg_sys::ExtensionOidIndexId,
        keys: [(pg_sys::Anum_pg_extension_oid, extension)],
    };
    let mut version = None;
    // SAFETY: in a transaction; extversion is a text.
    unsafe {
        scan(rows, std::ptr::null_mut(), |tuple, descriptor| {
            let value = attribute(tuple, descriptor, pg_sys::Anum_pg_extension_extversion);
            version = value.map(|value| {
                varlena::with_content(value, |bytes| text::owned(text::to_utf8(bytes)))
            });
        });
    }
    version
}

/// Who owns the schema of this name, and an extension whose objects are in it; none if there is no such schema.
pub fn owner_of_schema(name: &str) -> Option<(Role, Option<String>)> {
    let name = CString::new(name).ok()?;
    // SAFETY: look-ups in a transaction; the tuple is released after its last use.
    unsafe {
        let schema = sys::get_namespace_oid(name.as_ptr(), true);
        let cache = pg_sys::SysCacheIdentifier::NAMESPACEOID as i32;
        let tuple = sys::SearchSysCache1(cache, pg_sys::Datum::from(schema));
        if tuple.is_null() {
            return None;
        }
        let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_namespace>();
        let owner = Role(form.nspowner);
        pg_sys::ReleaseSysCache(tuple);
        Some((owner, extension_in(schema)))
    }
}

/// An extension whose objects are in this schema.
fn extension_in(schema: pg_sys::Oid) -> Option<String> {
    let rows = Rows { catalog: pg_sys::ExtensionRelationId, index: 0, keys: [] };
    let mut found = None;
    // SAFETY: in a transaction; a row of pg_extension begins with its fixed part.
    unsafe {
        scan(rows, std::ptr::null_mut(), |tuple, _| {
            let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_extension>();
            if form.extnamespace == schema {
                found = Some(text::c_to_utf8(form.extname.data.as_ptr()));
            }
        });
    }
    found
}

/// The schema that what a script creates without one is created in, and whether it has a function of this name
/// and no arguments.
pub fn creation_schema_with_function(name: &str) -> Option<(String, bool)> {
    let name = CString::new(name).ok()?;
    // SAFETY: look-ups in a transaction; the list and the vector are palloc'd.
    unsafe {
        let path = sys::fetch_search_path(false);
        let schema = pgrx::PgList::<pg_sys::Oid>::from_pg(path).iter_oid().next()?;
        let function = sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as pg_sys::AttrNumber,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(sys::buildoidvector(std::ptr::null(), 0)),
            pg_sys::Datum::from(schema),
            pg_sys::Datum::from(0),
        );
        let schema = take_name(sys::get_namespace_name(schema));
        Some((schema, function != pg_sys::InvalidOid))
    }
}
