//! What is not the same in all versions of PostgreSQL. Every list names the versions that it is right for, and
//! none says "not": a new version does not compile until somebody has read its source and put it into each list.

use std::ffi::{CStr, c_int, c_void};

use pgrx::pg_sys;
use pgrx::pg_sys::{
    DecodedBkpBlock, FormData_pg_attribute, Oid, RelationData, ReplicationSlotPersistentData,
    TransactionId, TupleDesc, WaitEventSet,
};

use crate::place::TableFile;

/// An attribute of a descriptor, by its index (access/tupdesc.h). 18 moved the array.
///
/// # Safety
///
/// `descriptor` lives for `'a`, and has so many attributes.
pub unsafe fn attribute<'a>(descriptor: TupleDesc, index: usize) -> &'a FormData_pg_attribute {
    // SAFETY: the attribute is part of the descriptor, which lives as long as the reference does.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17"))]
        return &*(*descriptor).attrs.as_ptr().add(index);
        #[cfg(feature = "pg18")]
        return &*pg_sys::TupleDescAttr(descriptor, index as i32);
    }
}

/// The file of a table (utils/rel.h). 16 renamed `RelFileNode`.
pub fn file_of_relation(relation: &RelationData) -> TableFile {
    #[cfg(feature = "pg15")]
    let file = (relation.rd_node.spcNode, relation.rd_node.dbNode, relation.rd_node.relNode);
    #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
    let file =
        (relation.rd_locator.spcOid, relation.rd_locator.dbOid, relation.rd_locator.relNumber);
    table_file(file)
}

/// The file that a reference of a WAL record is to (access/xlogreader.h). 16 renamed `RelFileNode`.
pub fn file_of_block(block: &DecodedBkpBlock) -> TableFile {
    #[cfg(feature = "pg15")]
    let file = (block.rnode.spcNode, block.rnode.dbNode, block.rnode.relNode);
    #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
    let file = (block.rlocator.spcOid, block.rlocator.dbOid, block.rlocator.relNumber);
    table_file(file)
}

fn table_file((tablespace, database, number): (Oid, Oid, Oid)) -> TableFile {
    TableFile {
        tablespace: tablespace.to_u32(),
        database: database.to_u32(),
        number: number.to_u32(),
    }
}

/// The oldest xid that pg_xact still knows (access/transam.h). 17 renamed the variable.
///
/// # Safety
///
/// The shared memory of the server is there.
pub unsafe fn oldest_known_xid() -> TransactionId {
    // SAFETY: a plain read of shared memory, which is there as long as the server runs.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        return (*pg_sys::ShmemVariableCache).oldestClogXid;
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        return (*pg_sys::TransamVariables).oldestClogXid;
    }
}

/// Returns whether a role may execute a function (utils/acl.h). 16 made one check of many.
///
/// # Safety
///
/// In a transaction, on the main thread.
pub unsafe fn may_execute(function: Oid, role: Oid) -> bool {
    let execute = pg_sys::ACL_EXECUTE as pg_sys::AclMode;
    // SAFETY: look-ups in the system caches, for which the caller has a transaction.
    let result = unsafe {
        #[cfg(feature = "pg15")]
        let result = pg_sys::pg_proc_aclcheck(function, role, execute);
        #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
        let result = pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, function, role, execute);
        result
    };
    result == pg_sys::AclResult::ACLCHECK_OK
}

/// Returns whether a slot has lost its WAL. 15 copies restart_lsn to invalidated_at and clears it (slot.c:
/// `InvalidatePossiblyObsoleteSlot`); later versions store a cause.
pub fn is_invalidated(data: &ReplicationSlotPersistentData) -> bool {
    #[cfg(feature = "pg15")]
    return data.invalidated_at != 0;
    #[cfg(any(feature = "pg16", feature = "pg17", feature = "pg18"))]
    return data.invalidated != pg_sys::ReplicationSlotInvalidationCause::RS_INVAL_NONE;
}

/// Makes a persistent physical slot (replication/slot.h). 17 added options of logical ones.
///
/// # Safety
///
/// On the main thread of a process that holds no slot.
pub unsafe fn create_slot(name: &CStr) {
    let persistent = pg_sys::ReplicationSlotPersistency::RS_PERSISTENT;
    // SAFETY: the name is NUL-terminated and is copied; the process holds no other slot.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        pg_sys::ReplicationSlotCreate(name.as_ptr(), false, persistent, false);
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        pg_sys::ReplicationSlotCreate(name.as_ptr(), false, persistent, false, false, false);
    }
}

/// Takes a slot, without a wait (replication/slot.h). 18 can refuse one that has lost its WAL, which is not
/// asked for: that is told in the same way in all versions, by [`is_invalidated`].
///
/// # Safety
///
/// On the main thread of a process that holds no slot.
pub unsafe fn acquire_slot(name: &CStr) {
    // SAFETY: the name is NUL-terminated; the process holds no other slot.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17"))]
        pg_sys::ReplicationSlotAcquire(name.as_ptr(), true);
        #[cfg(feature = "pg18")]
        pg_sys::ReplicationSlotAcquire(name.as_ptr(), true, false);
    }
}

/// A wait set that lives until it is freed (storage/latch.h). 17 asks for an owner instead of a memory context.
///
/// # Safety
///
/// On the main thread.
pub unsafe fn new_wait_set(size: c_int) -> *mut WaitEventSet {
    // SAFETY: a context that lives as long as the process; no owner, so that no transaction frees the set.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        return pg_sys::CreateWaitEventSet(pg_sys::TopMemoryContext, size);
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        return pg_sys::CreateWaitEventSet(std::ptr::null_mut(), size);
    }
}

/// Where the background worker is that was registered last (postmaster/bgworker_internals.h). A list of either
/// form (lib/ilist.h): `next` of its head leads to the first element. 18 made it a doubly linked one.
///
/// # Safety
///
/// In the postmaster, or in a server in single-user mode.
pub unsafe fn last_registered_worker() -> *const c_void {
    unsafe extern "C" {
        #[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17"))]
        static mut BackgroundWorkerList: pg_sys::slist_head;
        #[cfg(feature = "pg18")]
        static mut BackgroundWorkerList: pg_sys::dlist_head;
    }
    // SAFETY: a plain read of a pointer that nobody else changes.
    unsafe { (&raw const BackgroundWorkerList.head.next).read().cast() }
}
