//! Scans of a catalog by an index, and attributes of its rows.

use pgrx::pg_sys;

use crate::memory;
use crate::pg::sys;

/// Rows of a catalog: those that have these oids in these columns, which an index begins with.
pub(super) struct Rows<const N: usize> {
    pub catalog: pg_sys::Oid,
    pub index: u32,
    pub keys: [(u32, pg_sys::Oid); N],
}

/// Calls `see` with each of the rows; under the newest snapshot if none is given.
///
/// # Safety
///
/// In a transaction; catalog, index and columns belong together (without keys the index does not count); the
/// snapshot is null or registered; `see` keeps nothing of the row.
pub(super) unsafe fn scan<const N: usize>(
    rows: Rows<N>,
    snapshot: pg_sys::Snapshot,
    mut see: impl FnMut(pg_sys::HeapTuple, pg_sys::TupleDesc),
) {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    let mut keys = rows.keys.map(|_| pg_sys::ScanKeyData::default());
    // SAFETY: in a transaction; the index is one of the catalog's, and begins with the columns of the keys,
    // which outlive the scan. What an error leaves open, the end of the transaction closes.
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

/// One attribute of a row; none if it is null.
///
/// # Safety
///
/// `descriptor` describes the row, and has the attribute.
pub(super) unsafe fn attribute(
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
    number: u32,
) -> Option<pg_sys::Datum> {
    // SAFETY: the descriptor describes the row, and there is room for all its attributes.
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
