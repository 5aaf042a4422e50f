//! What PostgreSQL calls the trigger function with.

use super::catalog::{FunctionId, RelationId, with_inheritors};
use super::descriptor::Descriptor;
use super::invalidation::Dependencies;
use super::rights::Role;
use super::stored_column::StoredColumn;
use super::sys::versions;
use super::text::take_name;
pub use super::timing::Timing;
use super::tuple::Row;
use super::worker_types::WorkerType;
use super::{sys, text};
use crate::memory;
use crate::place::{Place, TableFile};
use pgrx::pg_sys;

/// What the statement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Insert,
    Update,
    Delete,
    Truncate,
}

/// One call of the trigger function.
pub struct TriggerCall<'a> {
    data: &'a pg_sys::TriggerData,
}

impl<'a> TriggerCall<'a> {
    /// A call of the function manager's; none if it does not call a trigger.
    ///
    /// # Safety
    ///
    /// `fcinfo` is what the function manager passed, in the call that lasts for `'a`.
    pub(super) unsafe fn of(fcinfo: pg_sys::FunctionCallInfo) -> Option<TriggerCall<'a>> {
        // SAFETY: the node tag says what the context is, which is there as long as the call.
        unsafe {
            let context = (*fcinfo).context;
            let is_trigger =
                !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_TriggerData;
            is_trigger.then(|| TriggerCall { data: &*context.cast::<pg_sys::TriggerData>() })
        }
    }

    /// When the trigger fires.
    pub fn timing(&self) -> Timing {
        match self.data.tg_event & pg_sys::TRIGGER_EVENT_TIMINGMASK {
            pg_sys::TRIGGER_EVENT_BEFORE => Timing::Before,
            pg_sys::TRIGGER_EVENT_INSTEAD => Timing::InsteadOf,
            _ => Timing::After,
        }
    }

    /// Returns whether it fires for each row rather than for each statement.
    pub fn is_for_each_row(&self) -> bool {
        self.data.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0
    }

    /// What the statement did.
    pub fn action(&self) -> Action {
        match self.data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT => Action::Insert,
            pg_sys::TRIGGER_EVENT_DELETE => Action::Delete,
            pg_sys::TRIGGER_EVENT_UPDATE => Action::Update,
            _ => Action::Truncate,
        }
    }

    /// Returns whether it fires for nothing but INSERT.
    pub fn is_for_insert_alone(&self) -> bool {
        // SAFETY: PostgreSQL keeps the trigger's description while the trigger runs.
        let kind = unsafe { (*self.data.tg_trigger).tgtype } as u32;
        kind & pg_sys::TRIGGER_TYPE_EVENT_MASK == pg_sys::TRIGGER_TYPE_INSERT
    }

    /// Name of the trigger.
    pub fn trigger_name(&self) -> String {
        // SAFETY: a live trigger; the name is NUL-terminated.
        unsafe { text::c_to_utf8((*self.data.tg_trigger).tgname) }
    }

    /// The trigger function, as the catalogs have it.
    pub fn function(&self) -> FunctionId {
        // SAFETY: PostgreSQL keeps the trigger's description while the trigger runs.
        FunctionId(unsafe { (*self.data.tg_trigger).tgfoid })
    }

    /// The arguments of CREATE TRIGGER, in order.
    pub fn arguments(&self) -> Vec<String> {
        // SAFETY: a live trigger with that many NUL-terminated arguments.
        unsafe {
            let trigger = &*self.data.tg_trigger;
            let count = trigger.tgnargs.max(0) as usize;
            memory::collect((0..count).map(|n| text::c_to_utf8(*trigger.tgargs.add(n))))
        }
    }

    fn relation(&self) -> &'a pg_sys::RelationData {
        // SAFETY: open and locked while the trigger runs.
        unsafe { &*self.data.tg_relation }
    }

    fn class(&self) -> &'a pg_sys::FormData_pg_class {
        // SAFETY: the row of pg_class is part of the relation, which stays open meanwhile.
        unsafe { &*self.relation().rd_rel }
    }

    /// Name of the table that fired.
    pub fn table(&self) -> String {
        // SAFETY: a NameData is NUL-terminated.
        unsafe { text::c_to_utf8(self.class().relname.data.as_ptr()) }
    }

    /// Name of the table that fired, with its schema, as SQL wants it.
    pub fn quoted_table(&self) -> String {
        pgrx::spi::quote_qualified_identifier(self.schema(), self.table())
    }

    /// Schema of the table that fired.
    pub fn schema(&self) -> String {
        // SAFETY: a syscache look-up in a transaction; the result is palloc'd or null.
        unsafe { take_name(sys::get_namespace_name(self.class().relnamespace)) }
    }

    /// Name of the table, or of the topmost parent if the table is a partition.
    pub fn topmost_table(&self, dependencies: &mut Dependencies) -> String {
        if !self.class().relispartition {
            return self.table();
        }
        let relation = self.relation().rd_id;
        // SAFETY: reads pg_inherits in a transaction; the last ancestor is the topmost.
        unsafe {
            let ancestors = sys::get_partition_ancestors(relation);
            let mut name = None;
            for ancestor in pgrx::PgList::<pg_sys::Oid>::from_pg(ancestors).iter_oid() {
                dependencies.on_relation(ancestor);
                name = Some(ancestor);
            }
            match name {
                Some(topmost) => take_name(sys::get_rel_name(topmost)),
                None => self.table(),
            }
        }
    }

    /// What tells this trigger from others of the database, for as long as it exists: its oid, and
    /// that of the table.
    pub fn identity(&self) -> (u32, u32) {
        // SAFETY: PostgreSQL keeps the trigger's description while the trigger runs.
        let trigger = unsafe { (*self.data.tg_trigger).tgoid };
        (trigger.to_u32(), self.relation().rd_id.to_u32())
    }

    /// Who owns the table.
    pub fn owner(&self) -> Role {
        Role(self.class().relowner)
    }

    /// Notes that a plan is made of what the table, its schema and this trigger are now.
    pub fn depend(&self, dependencies: &mut Dependencies) {
        dependencies.on_relation(self.relation().rd_id);
        dependencies.on_schema(self.class().relnamespace);
    }

    /// The table's columns.
    pub fn descriptor(&self) -> Descriptor<'a> {
        // SAFETY: the relation stays open, and locked, while the trigger runs.
        unsafe { Descriptor::new(self.relation().rd_att) }
    }

    /// Numbers and names of the table's columns, but for virtual generated ones.
    pub fn column_names(&self) -> Vec<(usize, String)> {
        let attributes = self.descriptor().attributes();
        let mut names = memory::with_room(attributes.len());
        for attribute in attributes.filter(|attribute| attribute.is_there()) {
            names.push((attribute.number, attribute.name()));
            memory::check();
        }
        names
    }

    /// The type of the values of a column, of a domain that which it is of, if it needs no look into the catalogs to
    /// be rendered.
    pub fn known_type(&self, number: usize) -> Option<WorkerType> {
        let attribute = self.descriptor().attributes().nth(number)?;
        WorkerType::of(attribute.type_id().base())
    }

    /// How the columns with these numbers are stored.
    pub fn stored(&self, numbers: &[usize]) -> Vec<StoredColumn> {
        let attributes = self.descriptor().attributes();
        attributes
            .filter(|attribute| numbers.contains(&attribute.number))
            .map(|attribute| StoredColumn {
                number: attribute.number,
                storage: attribute.storage(),
            })
            .collect()
    }

    /// Numbers of the columns of the primary key; none if the table has none. The index is looked for
    /// here, since RelationGetIndexAttrBitmap passes over deferrable ones in 15 to 17 (relcache.c:
    /// `RelationGetIndexList`).
    pub fn primary_key(&self) -> Vec<usize> {
        // SAFETY: the relation is open; the list is palloc'd; each tuple is released after its last
        // use, and holds as many attribute numbers as it says.
        unsafe {
            let indexes = sys::RelationGetIndexList(self.data.tg_relation);
            for index in pgrx::PgList::<pg_sys::Oid>::from_pg(indexes).iter_oid() {
                let key = pg_sys::Datum::from(index);
                let cache = pg_sys::SysCacheIdentifier::INDEXRELID as i32;
                let tuple = sys::SearchSysCache1(cache, key);
                if tuple.is_null() {
                    continue;
                }
                let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_index>();
                let numbers = form.indkey.values.as_slice(form.indnkeyatts.max(0) as usize);
                let columns = form.indisprimary.then(|| {
                    // Attribute numbers begin with 1.
                    numbers.iter().filter_map(|&number| usize::try_from(number - 1).ok()).collect()
                });
                pg_sys::ReleaseSysCache(tuple);
                if let Some(columns) = columns {
                    return columns;
                }
            }
            Vec::new()
        }
    }

    /// The row before the change; none for INSERT and TRUNCATE.
    pub fn old_row(&self) -> Option<Row<'a>> {
        match self.action() {
            Action::Update | Action::Delete => self.row(self.data.tg_trigtuple),
            Action::Insert | Action::Truncate => None,
        }
    }

    /// The row after the change; none for DELETE and TRUNCATE.
    pub fn new_row(&self) -> Option<Row<'a>> {
        match self.action() {
            Action::Insert => self.row(self.data.tg_trigtuple),
            Action::Update => self.row(self.data.tg_newtuple),
            Action::Delete | Action::Truncate => None,
        }
    }

    fn row(&self, tuple: pg_sys::HeapTuple) -> Option<Row<'a>> {
        // SAFETY: PostgreSQL keeps the tuples of the event alive while the trigger runs.
        (!tuple.is_null()).then(|| unsafe { Row::new(tuple, self.relation().rd_att) })
    }

    /// The command of the transaction that made this change. Rows of heap tables say so, even when
    /// the trigger fires later than the command; for anything else it is the statement's.
    pub fn command_id(&self) -> u32 {
        let from_row = if self.is_heap_table() {
            match (self.new_row(), self.old_row()) {
                (Some(new), _) => new.inserting_command(),
                (None, Some(old)) => old.deleting_command(),
                (None, None) => None,
            }
        } else {
            None
        };
        from_row.unwrap_or_else(statement_command)
    }

    /// Where the change of this command left its trace in the WAL: at the place of the new version of the row,
    /// of the old one if it was deleted, or in the file that a truncated table has now (a partitioned one: its
    /// first logged partition). Returns none if it left none that could be told (unlogged, temporary and
    /// foreign tables, access methods other than heap), and for a trigger that fires later than its statement,
    /// at the end of the transaction or by SET CONSTRAINTS.
    pub fn place(&self, command_id: u32) -> Option<Place> {
        if self.action() == Action::Truncate {
            let is_partitioned = self.class().relkind as u8 == pg_sys::RELKIND_PARTITIONED_TABLE;
            let file = if is_partitioned {
                first_partitions_file(self.relation().rd_id)
            } else {
                logged_file(self.relation())
            };
            return file.map(|file| Place { file, ..Place::default() });
        }
        if !self.is_heap_table() || self.is_deferred(command_id) {
            return None;
        }
        let file = logged_file(self.relation())?;
        let (block, offset) = self.new_row().or(self.old_row())?.place();
        Some(Place { file, block, offset })
    }

    /// The active snapshot is that of the statement whose rows are captured, or of one further out, if the
    /// trigger fires at its end, and a later one otherwise (trigger.c: `AfterTriggerFireDeferred`,
    /// `AfterTriggerSetState`). Where nothing came between the statement and the end of the transaction it is
    /// as good as the statement's; then the place can be told, too.
    fn is_deferred(&self, command_id: u32) -> bool {
        // SAFETY: PostgreSQL keeps the trigger's description while the trigger runs.
        let may_be = unsafe { (*self.data.tg_trigger).tgdeferrable };
        may_be && command_id < statement_command()
    }

    fn is_heap_table(&self) -> bool {
        let class = self.class();
        class.relkind as u8 == pg_sys::RELKIND_RELATION
            && class.relam.to_u32() == pg_sys::HEAP_TABLE_AM_OID.to_u32()
    }
}

/// The command of the statement that fires triggers now. Not `GetCurrentCommandId`, which other triggers may
/// have moved on since.
fn statement_command() -> u32 {
    // SAFETY: reads variables; an active snapshot is there until it is popped.
    unsafe {
        if pg_sys::ActiveSnapshotSet() {
            (*pg_sys::GetActiveSnapshot()).curcid
        } else {
            pg_sys::GetCurrentCommandId(false)
        }
    }
}

/// The file of a table that leaves records in the WAL.
fn logged_file(relation: &pg_sys::RelationData) -> Option<TableFile> {
    // SAFETY: the row of pg_class is part of the relation, which stays open meanwhile.
    let class = unsafe { &*relation.rd_rel };
    let is_logged = class.relkind as u8 == pg_sys::RELKIND_RELATION
        && class.relpersistence as u8 == pg_sys::RELPERSISTENCE_PERMANENT;
    is_logged.then(|| versions::file_of_relation(relation))
}

/// The file of the first partition that leaves records in the WAL, of a partitioned table that was truncated.
fn first_partitions_file(table: pg_sys::Oid) -> Option<TableFile> {
    // The transaction has locked all partitions (tablecmds.c: `ExecuteTruncate`).
    with_inheritors(RelationId::of(table)).into_iter().find_map(|table| {
        // SAFETY: a relation that is there; it is closed as it was opened.
        unsafe {
            let relation = sys::RelationIdGetRelation(table.oid());
            if relation.is_null() {
                return None;
            }
            let file = logged_file(&*relation);
            pg_sys::RelationClose(relation);
            file
        }
    })
}

/// Name of the current database.
pub fn database() -> String {
    // SAFETY: a syscache look-up in a transaction; the result is palloc'd or null.
    unsafe { take_name(sys::get_database_name(pg_sys::MyDatabaseId)) }
}
