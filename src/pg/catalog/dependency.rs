//! What depends on an object (catalog/pg_depend.h; missing from pgrx).

use pgrx::pg_sys;

use super::scan::Rows;

const DEPEND: pg_sys::Oid = pg_sys::Oid::from_u32(2608);
const REFERENCE_INDEX: u32 = 2674;
const REFCLASSID: u32 = 4;
const REFOBJID: u32 = 5;

/// How a row of pg_depend begins: what depends. None of it is null.
#[repr(C)]
pub(super) struct Dependent {
    pub catalog: pg_sys::Oid,
    pub object: pg_sys::Oid,
    pub column: i32,
}

/// The rows of pg_depend that say what depends on this object, or on a part of it.
pub(super) fn rows_of_dependents(catalog: pg_sys::Oid, object: pg_sys::Oid) -> Rows<2> {
    Rows {
        catalog: DEPEND,
        index: REFERENCE_INDEX,
        keys: [(REFCLASSID, catalog), (REFOBJID, object)],
    }
}
