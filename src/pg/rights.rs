//! What roles may do.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::sys;
use super::text::take_name;

/// A role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role(pub(super) pg_sys::Oid);

impl Role {
    /// The one whose rights count now: in a function with SECURITY DEFINER, its owner.
    pub fn current() -> Role {
        // SAFETY: reads a variable of this process; raises nothing.
        Role(unsafe { sys::plain::GetUserId() })
    }

    /// Returns whether the role may set this setting, which not everybody may: as a superuser, or since that
    /// was granted to it (`GRANT SET ON PARAMETER`). Only in a transaction.
    pub fn may_set(self, setting: &CStr) -> bool {
        // SAFETY: syscache look-ups; the name is NUL-terminated (aclchk.c: `pg_parameter_aclmask`).
        unsafe {
            let mode = pg_sys::AclMode::from(pg_sys::ACL_SET);
            let result = sys::pg_parameter_aclcheck(setting.as_ptr(), self.0, mode);
            result == pg_sys::AclResult::ACLCHECK_OK
        }
    }

    /// Returns whether it is a superuser. Only in a transaction.
    pub fn is_superuser(self) -> bool {
        // SAFETY: a syscache look-up, whose answer is kept for the next time; false if the role is gone.
        unsafe { sys::superuser_arg(self.0) }
    }

    /// Its name. Only in a transaction.
    pub fn name(self) -> String {
        // SAFETY: a syscache look-up; the result is palloc'd, or null if the role is gone.
        unsafe { take_name(sys::GetUserNameFromId(self.0, true)) }
    }
}
