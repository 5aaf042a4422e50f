//! Memory of PostgreSQL's that is used while a row is rendered, in a process that has no executor to
//! provide it, and no statement that could fail.

use std::marker::PhantomData;

use pgrx::pg_sys;

use super::guard::{Failure, Problem};
use super::worker_process;

/// A memory context that is emptied after each use.
pub struct RowContext {
    context: pg_sys::MemoryContext,
}

/// Says that PostgreSQL's memory is that of a [`RowContext`]: what is read of a row with it cannot be kept
/// until that is emptied. Only the thread that has the context has it.
pub struct RowToken {
    _stays: PhantomData<*mut ()>,
}

impl RowContext {
    /// Makes the context, for as long as the process lives. On the main thread, which it stays on.
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

    /// Calls `work`; what PostgreSQL's functions allocate meanwhile is freed afterwards. What it reads of a row
    /// with the token cannot be in what it returns.
    ///
    /// # Errors
    ///
    /// What was raised. What an ERROR leaves behind is cleaned up.
    pub fn within<T>(&mut self, work: impl FnOnce(&RowToken) -> T) -> Result<T, Problem> {
        let token = RowToken { _stays: PhantomData };
        // SAFETY: a pointer makes this type stay on its thread. The context is live, and nobody is within it
        // already, who would lose his memory: that borrows it. `work` may return nothing that was allocated in
        // it: a value is there no longer than the token, which is lent for the call alone.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.context);
            let result = worker_process::catch(|| work(&token)).map_err(Failure::into_problem);
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::MemoryContextReset(self.context);
            result
        }
    }
}
