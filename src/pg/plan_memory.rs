//! Memory of PostgreSQL's that lives as long as a plan does.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::pg_sys;

use super::sys;

thread_local! {
    /// Memory whose plans are gone. A plan may be dropped while an error unwinds, when nothing of
    /// PostgreSQL's is to be called; so it is freed when the next plan is made.
    ///
    /// Never dropped, as all of the kind: what is to be dropped with its thread the C library notes down,
    /// and ends the process where it has no memory for that (glibc: `__cxa_thread_atexit_impl`).
    static ABANDONED: ManuallyDrop<RefCell<Vec<pg_sys::MemoryContext>>> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// A memory context, made when it is first needed. It is there until the last copy of this is dropped.
#[derive(Clone)]
pub struct PlanMemory {
    context: Rc<Context>,
}

/// Null until it is needed.
struct Context(Cell<pg_sys::MemoryContext>);

impl PlanMemory {
    /// Frees the memory of plans that are gone.
    pub fn new() -> PlanMemory {
        for context in ABANDONED.with(|abandoned| abandoned.take()) {
            // SAFETY: a context that was made below and that nobody uses any more.
            unsafe { pg_sys::MemoryContextDelete(context) };
        }
        PlanMemory { context: Rc::new(Context(Cell::new(std::ptr::null_mut()))) }
    }

    /// The function, ready to be called; whatever it keeps from call to call it keeps here.
    pub(super) fn function(&self, function: pg_sys::Oid) -> *mut pg_sys::FmgrInfo {
        let context = self.context();
        // SAFETY: a live context; fmgr_info_cxt fills the structure, or raises an error if there is
        // no such function.
        unsafe {
            let info = sys::MemoryContextAllocZero(context, size_of::<pg_sys::FmgrInfo>())
                .cast::<pg_sys::FmgrInfo>();
            sys::fmgr_info_cxt(function, info, context);
            info
        }
    }

    fn context(&self) -> pg_sys::MemoryContext {
        if self.context.0.get().is_null() {
            // SAFETY: the name is a constant, as the function demands. Sizes as
            // ALLOCSET_SMALL_SIZES (utils/memutils.h).
            self.context.0.set(unsafe {
                sys::AllocSetContextCreateInternal(
                    pg_sys::TopMemoryContext,
                    c"amqp_cdc plan".as_ptr(),
                    0,
                    1024,
                    8 * 1024,
                )
            });
        }
        self.context.0.get()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let context = self.0.get();
        if !context.is_null() {
            ABANDONED.with(|abandoned| {
                let mut abandoned = abandoned.borrow_mut();
                // Else it stays for ever, which is little.
                if abandoned.try_reserve(1).is_ok() {
                    abandoned.push(context);
                }
            });
        }
    }
}
