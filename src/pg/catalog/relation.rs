//! Relations and their columns, as the catalogs have them.

use pgrx::pg_sys;
use pgrx::pg_sys::SysCacheIdentifier::RELOID;

use super::capture_trigger::{CaptureTrigger, capture_triggers};
use super::dependency::{Dependent, rows_of_dependents};
use super::ids::RelationId;
use super::scan::{Rows, scan};
use crate::memory;
use crate::pg::rights::Role;
use crate::pg::text::take_name;
use crate::pg::type_id::TypeId;
use crate::pg::{descriptor, sys, text};

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
    /// The type of its values.
    pub of: TypeId,
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
    // SAFETY: in a transaction, with a registered snapshot or none; catalog, index and column are those of
    // pg_attribute, whose rows begin with their fixed part. Name and number are copied.
    unsafe {
        scan(rows, snapshot, |tuple, _| {
            let attribute = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_attribute>();
            if let Ok(number) = usize::try_from(attribute.attnum - 1)
                && descriptor::is_there(attribute)
            {
                let name = text::c_to_utf8(attribute.attname.data.as_ptr());
                let of = TypeId(attribute.atttypid);
                memory::push(&mut found, Column { number, name, of });
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

impl Relation {
    /// Its name, as SQL wants it.
    pub fn quoted_name(&self) -> String {
        pgrx::spi::quote_qualified_identifier(&self.schema, &self.name)
    }

    /// Its name alone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The schema that it is in.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The role that owns it.
    pub fn owner(&self) -> Role {
        Role(self.owner)
    }

    /// Returns whether it is a table that may have capture triggers.
    pub fn is_table(&self) -> bool {
        use pg_sys::{RELKIND_FOREIGN_TABLE, RELKIND_PARTITIONED_TABLE, RELKIND_RELATION};
        [RELKIND_RELATION, RELKIND_PARTITIONED_TABLE, RELKIND_FOREIGN_TABLE].contains(&self.kind)
    }

    /// Returns whether it has partitions, or may get some.
    pub fn is_partitioned(&self) -> bool {
        self.kind == pg_sys::RELKIND_PARTITIONED_TABLE
    }

    /// Returns whether it is what pg_class has of a composite type.
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
        // SAFETY: event triggers ask this, in the transaction of their command; no snapshot is given.
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
        let rows = rows_of_dependents(pg_sys::TypeRelationId, self.row_type);
        let mut found = Vec::new();
        // SAFETY: in a transaction; a row of pg_depend begins so.
        unsafe {
            scan(rows, std::ptr::null_mut(), |tuple, _| {
                let dependent = &*pg_sys::GETSTRUCT(tuple).cast::<Dependent>();
                if dependent.catalog == pg_sys::RelationRelationId && dependent.column == 0 {
                    memory::push(&mut found, RelationId::of(dependent.object));
                }
            });
        }
        found
    }
}
