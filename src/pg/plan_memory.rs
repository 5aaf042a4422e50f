//! Memory of PostgreSQL's that lives as long as a plan does.

use std::cell::{Cell, RefCell};

use pgrx::pg_sys;

thread_local! {
    /// Memory whose plans are gone. A plan may be dropped while an error unwinds, when nothing of
    /// PostgreSQL's is to be called; so it is freed when the next plan is made.
    static ABANDONED: RefCell<Vec<pg_sys::MemoryContext>> = const { RefCell::new(Vec::new()) };
}

/// A memory context, made when it is first needed.
pub struct PlanMemory {
    context: Cell<pg_sys::MemoryContext>,
}

impl PlanMemory {
    /// Frees the memory of plans that are gone.
    pub fn new() -> PlanMemory {
        for context in ABANDONED.take() {
            // SAFETY: a context that was made below and that nobody uses any more.
            unsafe { pg_sys::MemoryContextDelete(context) };
        }
        PlanMemory { context: Cell::new(std::ptr::null_mut()) }
    }

    /// The function, ready to be called; whatever it keeps from call to call it keeps here.
    pub(super) fn function(&self, function: pg_sys::Oid) -> *mut pg_sys::FmgrInfo {
        let context = self.context();
        // SAFETY: a live context; fmgr_info_cxt fills the structure, or raises an error if there is
        // no such function.
        unsafe {
            let info = pg_sys::MemoryContextAllocZero(context, size_of::<pg_sys::FmgrInfo>())
                .cast::<pg_sys::FmgrInfo>();
            pg_sys::fmgr_info_cxt(function, info, context);
            info
        }
    }

    fn context(&self) -> pg_sys::MemoryContext {
        if self.context.get().is_null() {
            // SAFETY: the name is a constant, as the function demands. Sizes as
            // ALLOCSET_SMALL_SIZES (utils/memutils.h).
            self.context.set(unsafe {
                pg_sys::AllocSetContextCreateInternal(
                    pg_sys::TopMemoryContext,
                    c"amqp_cdc plan".as_ptr(),
                    0,
                    1024,
                    8 * 1024,
                )
            });
        }
        self.context.get()
    }
}

impl Drop for PlanMemory {
    fn drop(&mut self) {
        let context = self.context.get();
        if !context.is_null() {
            // Fails only while the process ends, when nobody misses the memory.
            let _ = ABANDONED.try_with(|abandoned| abandoned.borrow_mut().push(context));
        }
    }
}
