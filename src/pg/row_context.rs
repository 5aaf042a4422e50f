//! Memory of PostgreSQL's that is used while a row is rendered, in a process that has no executor to
//! provide it, and no statement that could fail.

use pgrx::pg_sys;

use super::guard::{self, Failure, Problem};

/// A memory context that is emptied after each use.
pub struct RowContext {
    context: pg_sys::MemoryContext,
}

impl RowContext {
    /// Makes the context, for as long as the process lives.
    pub fn new() -> RowContext {
        // SAFETY: the name is a constant, as the function demands. Sizes as ALLOCSET_DEFAULT_SIZES
        // (utils/memutils.h).
        let context = unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                c"amqp_cdc row".as_ptr(),
                0,
                8 * 1024,
                8 * 1024 * 1024,
            )
        };
        RowContext { context }
    }

    /// Calls `work`; what PostgreSQL's functions allocate meanwhile is freed afterwards. `work` takes no
    /// lock, pins nothing and needs no transaction, so that nothing else is left behind by an error.
    ///
    /// # Errors
    ///
    /// What was raised.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> Result<T, Problem> {
        // SAFETY: a live context; nothing that `work` returns is allocated in it, since no function
        // here hands out PostgreSQL's memory.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.context);
            let result = guard::catch(work).map_err(Failure::into_problem);
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::MemoryContextReset(self.context);
            result
        }
    }
}
