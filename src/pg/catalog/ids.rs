//! The oids of tables, triggers and functions.

use pgrx::pg_sys;

/// The oid of something in pg_class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelationId(u32);

impl RelationId {
    pub(in crate::pg) fn of(oid: pg_sys::Oid) -> RelationId {
        RelationId(oid.to_u32())
    }

    pub(in crate::pg) fn oid(self) -> pg_sys::Oid {
        pg_sys::Oid::from_u32(self.0)
    }
}

/// The oid of a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriggerId(pub(in crate::pg) pg_sys::Oid);

/// The oid of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionId(pub(in crate::pg) pg_sys::Oid);
