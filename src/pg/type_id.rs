//! The oid of a type.

use pgrx::pg_sys;

/// A type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeId(pub(super) pg_sys::Oid);

impl TypeId {
    /// The type that has this oid.
    pub fn of_number(number: u32) -> TypeId {
        TypeId(pg_sys::Oid::from_u32(number))
    }

    /// Its oid.
    pub fn number(self) -> u32 {
        self.0.to_u32()
    }
}
