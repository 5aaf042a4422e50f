//! PostgreSQL's functions that may raise an ERROR where a client waits for the answer: when a session captures a
//! change or runs DDL. pgrx's wrappers ask for memory where an ERROR says that there is none
//! ([`crate::pg::guard`]), and some of these it does not have. Alike in 15 to 18.

#![allow(non_snake_case)]
#![allow(clippy::too_many_arguments)] // They are C's.

use std::ffi::{c_char, c_int, c_long, c_void};

use pgrx::pg_sys::{
    _SPI_plan, AclMode, AclResult, AttrNumber, CoercionContext, CoercionPathType, Datum, FmgrInfo,
    GucAction, GucContext, GucSource, HeapTuple, HeapTupleHeader, List, MemoryContext, Oid,
    Relation, ScanKey, Snapshot, StrategyNumber, SubXactCallback, SysScanDesc, TimeLineID,
    TransactionId, TupleDesc, XLogRecPtr, XactCallback, oidvector, pg_tz, varlena,
};

use crate::pg::guard::guard;

macro_rules! guarded {
    ($(
        $(#[$comment:meta])*
        fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $result:ty)?;
    )*) => {
        $(
            $(#[$comment])*
            ///
            /// # Safety
            ///
            /// As in C; main thread. An ERROR unwinds.
            pub(in crate::pg) unsafe fn $name($($argument: $kind),*) $(-> $result)? {
                unsafe extern "C-unwind" {
                    fn $name($($argument: $kind),*) $(-> $result)?;
                }
                // SAFETY: what C asks for is what the caller of this function sees to; the guarded code holds
                // numbers and pointers, which have no destructor.
                unsafe { guard(|| $name($($argument),*)) }
            }
        )*
    };
}

guarded! {
    /// access/genam.h
    fn systable_beginscan(
        relation: Relation,
        index: Oid,
        with_index: bool,
        snapshot: Snapshot,
        count: c_int,
        keys: ScanKey,
    ) -> SysScanDesc;
    /// access/genam.h
    fn systable_getnext(scan: SysScanDesc) -> HeapTuple;
    /// access/genam.h
    fn systable_endscan(scan: SysScanDesc);
    /// access/htup_details.h
    fn heap_deform_tuple(tuple: HeapTuple, descriptor: TupleDesc, values: *mut Datum, nulls: *mut bool);
    /// access/htup_details.h
    fn HeapTupleGetUpdateXid(tuple: HeapTupleHeader) -> TransactionId;
    /// access/timeline.h
    fn readTimeLineHistory(target: TimeLineID) -> *mut List;
    /// access/timeline.h
    fn tliOfPointInHistory(lsn: XLogRecPtr, history: *mut List) -> TimeLineID;
    /// access/timeline.h
    fn tliSwitchPoint(
        timeline: TimeLineID,
        history: *mut List,
        next: *mut TimeLineID,
    ) -> XLogRecPtr;
    /// access/skey.h
    fn ScanKeyInit(
        key: ScanKey,
        column: AttrNumber,
        strategy: StrategyNumber,
        function: Oid,
        argument: Datum,
    );
    /// access/table.h
    fn table_open(relation: Oid, lock: c_int) -> Relation;
    /// access/table.h
    fn table_close(relation: Relation, lock: c_int);
    /// access/xact.h
    fn RegisterXactCallback(callback: XactCallback, argument: *mut c_void);
    /// access/xact.h
    fn RegisterSubXactCallback(callback: SubXactCallback, argument: *mut c_void);
    /// catalog/dependency.h
    fn getExtensionOfObject(class: Oid, object: Oid) -> Oid;
    /// catalog/namespace.h
    fn FindDefaultConversionProc(from: i32, to: i32) -> Oid;
    /// catalog/namespace.h
    fn fetch_search_path(with_implicit: bool) -> *mut List;
    /// catalog/namespace.h
    fn get_namespace_oid(name: *const c_char, may_be_missing: bool) -> Oid;
    /// catalog/partition.h
    fn get_partition_ancestors(relation: Oid) -> *mut List;
    /// catalog/pg_inherits.h
    fn find_all_inheritors(parent: Oid, lock: c_int, parents: *mut *mut List) -> *mut List;
    /// commands/dbcommands.h
    fn get_database_name(database: Oid) -> *mut c_char;
    /// executor/spi.h
    fn SPI_connect() -> c_int;
    /// executor/spi.h
    fn SPI_prepare(query: *const c_char, count: c_int, types: *mut Oid) -> *mut _SPI_plan;
    /// executor/spi.h
    fn SPI_keepplan(plan: *mut _SPI_plan) -> c_int;
    /// executor/spi.h
    fn SPI_execute_plan(
        plan: *mut _SPI_plan,
        values: *mut Datum,
        nulls: *const c_char,
        is_read_only: bool,
        most: c_long,
    ) -> c_int;
    /// executor/spi.h
    fn SPI_getbinval(
        tuple: HeapTuple,
        descriptor: TupleDesc,
        column: c_int,
        is_null: *mut bool,
    ) -> Datum;
    /// executor/spi.h
    fn SPI_finish() -> c_int;
    /// access/detoast.h
    fn toast_raw_datum_size(value: Datum) -> usize;
    /// fmgr.h
    fn pg_detoast_datum(value: *mut varlena) -> *mut varlena;
    /// fmgr.h
    fn pg_detoast_datum_packed(value: *mut varlena) -> *mut varlena;
    /// fmgr.h
    fn fmgr_info_cxt(function: Oid, info: *mut FmgrInfo, memory: MemoryContext);
    /// fmgr.h
    fn OidFunctionCall1Coll(function: Oid, collation: Oid, argument: Datum) -> Datum;
    /// fmgr.h
    fn OutputFunctionCall(function: *mut FmgrInfo, value: Datum) -> *mut c_char;
    /// miscadmin.h
    fn superuser_arg(role: Oid) -> bool;
    /// miscadmin.h
    fn GetUserNameFromId(role: Oid, may_be_missing: bool) -> *mut c_char;
    /// mb/pg_wchar.h
    fn pg_do_encoding_conversion_buf(
        conversion: Oid,
        from: c_int,
        to: c_int,
        source: *const u8,
        length: c_int,
        target: *mut u8,
        room: c_int,
        no_error: bool,
    ) -> c_int;
    /// parser/parse_coerce.h
    fn find_coercion_pathway(
        target: Oid,
        source: Oid,
        context: CoercionContext::Type,
        function: *mut Oid,
    ) -> CoercionPathType::Type;
    /// pgtime.h
    fn pg_tzset(name: *const c_char) -> *mut pg_tz;
    /// replication/syncrep.h
    fn SyncRepWaitForLSN(lsn: XLogRecPtr, is_commit: bool);
    /// utils/acl.h
    fn pg_parameter_aclcheck(name: *const c_char, role: Oid, mode: AclMode) -> AclResult::Type;
    /// utils/builtins.h
    fn cstring_to_text_with_len(text: *const c_char, length: c_int) -> *mut varlena;
    /// utils/builtins.h
    fn buildoidvector(oids: *const Oid, count: c_int) -> *mut oidvector;
    /// utils/datum.h
    fn datum_image_eq(a: Datum, b: Datum, by_value: bool, length: c_int) -> bool;
    /// utils/guc.h
    fn AtEOXact_GUC(is_commit: bool, nesting: c_int);
    /// utils/guc.h
    fn set_config_option(
        name: *const c_char,
        value: *const c_char,
        context: GucContext::Type,
        source: GucSource::Type,
        action: GucAction::Type,
        changes: bool,
        level: c_int,
        is_reload: bool,
    ) -> c_int;
    /// utils/json.h
    fn JsonEncodeDateTime(
        buffer: *mut c_char,
        value: Datum,
        type_oid: Oid,
        offset: *const c_int,
    ) -> *mut c_char;
    /// utils/lsyscache.h
    fn getBaseType(type_oid: Oid) -> Oid;
    /// utils/lsyscache.h
    fn getTypeOutputInfo(type_oid: Oid, function: *mut Oid, is_varlena: *mut bool);
    /// utils/lsyscache.h
    fn get_func_name(function: Oid) -> *mut c_char;
    /// utils/lsyscache.h
    fn get_func_namespace(function: Oid) -> Oid;
    /// utils/lsyscache.h
    fn get_element_type(type_oid: Oid) -> Oid;
    /// utils/lsyscache.h
    fn get_multirange_range(type_oid: Oid) -> Oid;
    /// utils/lsyscache.h
    fn get_namespace_name(schema: Oid) -> *mut c_char;
    /// utils/lsyscache.h
    fn get_range_subtype(type_oid: Oid) -> Oid;
    /// utils/lsyscache.h
    fn get_rel_name(relation: Oid) -> *mut c_char;
    /// utils/lsyscache.h
    fn get_typ_typrelid(type_oid: Oid) -> Oid;
    /// utils/lsyscache.h
    fn get_typlenbyvalalign(type_oid: Oid, length: *mut i16, by_value: *mut bool, alignment: *mut c_char);
    /// utils/lsyscache.h
    fn get_typtype(type_oid: Oid) -> c_char;
    /// utils/lsyscache.h
    fn type_is_rowtype(type_oid: Oid) -> bool;
    /// utils/memutils.h
    fn AllocSetContextCreateInternal(
        parent: MemoryContext,
        name: *const c_char,
        least: usize,
        first_block: usize,
        largest_block: usize,
    ) -> MemoryContext;
    /// utils/palloc.h
    fn MemoryContextAllocZero(context: MemoryContext, size: usize) -> *mut c_void;
    /// utils/relcache.h
    fn RelationGetIndexList(relation: Relation) -> *mut List;
    /// utils/relcache.h
    fn RelationIdGetRelation(relation: Oid) -> Relation;
    /// utils/snapmgr.h
    fn GetLatestSnapshot() -> Snapshot;
    /// utils/snapmgr.h
    fn GetTransactionSnapshot() -> Snapshot;
    /// utils/snapmgr.h
    fn RegisterSnapshot(snapshot: Snapshot) -> Snapshot;
    /// utils/snapmgr.h
    fn UnregisterSnapshot(snapshot: Snapshot);
    /// utils/syscache.h
    fn GetSysCacheHashValue(cache: c_int, key1: Datum, key2: Datum, key3: Datum, key4: Datum) -> u32;
    /// utils/syscache.h
    fn GetSysCacheOid(
        cache: c_int,
        column: AttrNumber,
        key1: Datum,
        key2: Datum,
        key3: Datum,
        key4: Datum,
    ) -> Oid;
    /// utils/syscache.h
    fn SysCacheGetAttr(
        cache: c_int,
        tuple: HeapTuple,
        column: AttrNumber,
        is_null: *mut bool,
    ) -> Datum;
    /// utils/syscache.h
    fn SearchSysCache1(cache: c_int, key: Datum) -> HeapTuple;
    /// utils/typcache.h
    fn lookup_rowtype_tupdesc(type_oid: Oid, modifier: i32) -> TupleDesc;
}
