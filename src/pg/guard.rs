//! PostgreSQL's ERRORs and Rust's panics where the two meet in a session, without any memory that there may
//! not be. What C raises unwinds through Rust and is raised again behind it, as `PG_TRY` and `PG_RE_THROW`
//! would (elog.h): it stays all the while where PostgreSQL keeps it (elog.c: `errordata`), with its context and
//! its fields. pgrx's own guard copies it, and where there is no memory for the copy, the next ERROR is raised
//! in the midst of that; a few of these end the server (elog.c: `ERRORDATA_STACK_SIZE`).

use std::any::Any;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};

use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel, pgrx_extern_c_guard};
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};

use crate::memory::{self, OutOfMemory};

unsafe extern "C-unwind" {
    /// Of pgrx-cshim.c: `sigsetjmp` is to be called from C.
    fn call_closure_with_sigsetjmp(
        save_mask: c_int,
        environment: *mut c_void,
        code: unsafe extern "C-unwind" fn(*mut pg_sys::sigjmp_buf, *mut c_void) -> c_int,
    ) -> c_int;
    // utils/elog.h
    fn errstart(level: c_int, domain: *const c_char) -> bool;
    fn errcode(sqlstate: c_int) -> c_int;
    fn errmsg(format: *const c_char, ...) -> c_int;
    fn errdetail(format: *const c_char, ...) -> c_int;
    fn errhint(format: *const c_char, ...) -> c_int;
    fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
    fn geterrcode() -> c_int;
    fn pg_re_throw() -> !;
}

/// What a panic carries that an ERROR began: PostgreSQL has the ERROR itself.
struct Raised;

/// What went wrong in [`attempt`].
#[derive(Debug, PartialEq, Eq)]
pub enum Problem {
    /// There was no memory for it.
    OutOfMemory,
    /// Anything else, in PostgreSQL's words.
    Other(String),
}

/// Has panics that are no bugs pass without pgrx's hook, which asks for memory, and would have a backtrace
/// sent to the client. To be called once.
pub fn init() {
    let others = take_hook();
    set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        if !payload.is::<ErrorReportWithLevel>() && !payload.is::<CaughtError>() {
            others(panic);
        }
    }));
}

struct Call<F, T> {
    function: ManuallyDrop<F>,
    result: MaybeUninit<T>,
}

/// Calls C; an ERROR unwinds from here.
///
/// # Safety
///
/// What C's functions ask for; main thread; nothing in `function` has a destructor or panics.
pub(super) unsafe fn guard<T, F: FnOnce() -> T>(function: F) -> T {
    unsafe extern "C-unwind" fn run<F: FnOnce() -> T, T>(
        buffer: *mut pg_sys::sigjmp_buf,
        environment: *mut c_void,
    ) -> c_int {
        // SAFETY: called once, with what `guard` passes.
        unsafe {
            pg_sys::PG_exception_stack = buffer;
            let call = &mut *environment.cast::<Call<F, T>>();
            call.result.write(ManuallyDrop::take(&mut call.function)());
        }
        0
    }
    let function = ManuallyDrop::new(function);
    let mut call = Call::<F, T> { function, result: MaybeUninit::uninit() };
    // SAFETY: as `PG_TRY` and `PG_CATCH` do it (elog.h). The frames that an ERROR leaves have no destructor.
    unsafe {
        let stack = pg_sys::PG_exception_stack;
        let context_stack = pg_sys::error_context_stack;
        let memory = pg_sys::CurrentMemoryContext;
        let jumped = call_closure_with_sigsetjmp(0, (&raw mut call).cast(), run::<F, T>);
        pg_sys::PG_exception_stack = stack;
        pg_sys::error_context_stack = context_stack;
        if jumped != 0 {
            pg_sys::CurrentMemoryContext = memory;
            resume_unwind(Box::new(Raised));
        }
        call.result.assume_init()
    }
}

/// Calls `body` for C, and raises for it what unwinds from there.
///
/// # Safety
///
/// C calls the caller, which has nothing that would have to be dropped.
pub(super) unsafe fn at_boundary<T>(body: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result,
        Err(payload) => raise(payload),
    }
}

#[cold]
#[inline(never)]
fn raise(payload: Box<dyn Any + Send>) -> ! {
    // What lived off the reserve is gone, or as good as that.
    memory::set_short(false);
    let payload = match payload.downcast::<Raised>() {
        // SAFETY: the ERROR is still where it was; this frame has nothing to drop.
        Ok(_) => unsafe { pg_re_throw() },
        Err(payload) => payload,
    };
    let payload = match payload.downcast::<OutOfMemory>() {
        Ok(problem) => {
            let OutOfMemory { bytes } = *problem;
            drop(problem);
            raise_out_of_memory(bytes)
        }
        Err(payload) => payload,
    };
    match payload.downcast::<ErrorReportWithLevel>() {
        Ok(report) => raise_report(ManuallyDrop::new(report)),
        Err(payload) => {
            // SAFETY: as for `at_boundary`.
            unsafe { pgrx_extern_c_guard(|| resume_unwind(payload)) }
        }
    }
}

/// In PostgreSQL's words (aset.c: `AllocSetAlloc` and its neighbours).
fn raise_out_of_memory(bytes: usize) -> ! {
    // SAFETY: main thread; constants with what their formats ask for; this frame has nothing to drop.
    unsafe {
        errstart(PgLogLevel::ERROR as c_int, std::ptr::null());
        errcode(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as c_int);
        errmsg(c"out of memory".as_ptr());
        if bytes > 0 {
            errdetail(c"Failed on request of size %zu for change data capture.".as_ptr(), bytes);
        } else {
            errdetail(c"Failed on small requests for change data capture.".as_ptr());
        }
    }
    finish()
}

/// The texts are copied to where PostgreSQL has memory in store for them.
fn raise_report(report: ManuallyDrop<Box<ErrorReportWithLevel>>) -> ! {
    const TEXT: &CStr = c"%.*s";
    let length = |text: &str| text.len() as c_int;
    // SAFETY: main thread; the format asks for a length and a text. An ERROR in the midst of this leaves the
    // report behind; else it is dropped before the frame is left.
    unsafe {
        errstart(PgLogLevel::ERROR as c_int, std::ptr::null());
        errcode(report.sql_error_code() as c_int);
        let message = report.message();
        errmsg(TEXT.as_ptr(), length(message), message.as_ptr());
        if let Some(detail) = report.detail() {
            errdetail(TEXT.as_ptr(), length(detail), detail.as_ptr());
        }
        if let Some(hint) = report.hint() {
            errhint(TEXT.as_ptr(), length(hint), hint.as_ptr());
        }
    }
    drop(ManuallyDrop::into_inner(report));
    finish()
}

fn finish() -> ! {
    // SAFETY: an ERROR was begun; the names are constants. It does not return.
    unsafe { errfinish(c"guard.rs".as_ptr(), 0, c"amqp_cdc".as_ptr()) };
    unreachable!("ERROR does not return");
}

/// Does `work`, and tells what is raised meanwhile.
///
/// # Errors
///
/// What was raised. It is over then: nothing of it is left with PostgreSQL.
///
/// # Safety
///
/// Main thread; whatever an ERROR leaves behind is none of the process's, or the caller puts it away.
pub(super) unsafe fn attempt<T>(work: impl FnOnce() -> T) -> Result<T, Problem> {
    let payload = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => return Ok(result),
        Err(payload) => payload,
    };
    // SAFETY: the ERROR, if it is one, is there.
    let problem = unsafe { problem_of(&*payload) };
    if payload.is::<Raised>() {
        // SAFETY: it is done with.
        unsafe { pg_sys::FlushErrorState() };
    }
    Err(problem)
}

/// What a panic is about.
///
/// # Safety
///
/// Main thread; the ERROR that began it, if one did, was not flushed.
pub(super) unsafe fn problem_of(payload: &(dyn Any + Send)) -> Problem {
    let code_and_words = if payload.is::<Raised>() {
        // SAFETY: an ERROR is there.
        unsafe { (geterrcode(), words()) }
    } else if let Some(
        CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic { ereport: report, .. },
    ) = payload.downcast_ref()
    {
        (report.sql_error_code() as c_int, Some(report.message().to_owned()))
    } else if let Some(report) = payload.downcast_ref::<ErrorReportWithLevel>() {
        (report.sql_error_code() as c_int, Some(report.message().to_owned()))
    } else {
        let constant = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let words = constant.or_else(|| payload.downcast_ref::<String>().cloned());
        let is_short = payload.is::<OutOfMemory>();
        let words = words.or_else(|| (!is_short).then(|| "unknown".to_owned()));
        (PgSqlErrorCode::ERRCODE_INTERNAL_ERROR as c_int, words)
    };
    match code_and_words {
        (code, Some(words)) if code != PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as c_int => {
            Problem::Other(words)
        }
        _ => Problem::OutOfMemory,
    }
}

/// The message of the ERROR that was raised, as far as it is worth being told. None if there is no memory to
/// tell it.
///
/// # Safety
///
/// One was raised.
unsafe fn words() -> Option<String> {
    /// Bytes of a message that are enough.
    const ENOUGH: usize = 1024;
    let copied = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: an ERROR in the midst of it unwinds, and is flushed with the other.
        unsafe { guard(|| pg_sys::CopyErrorData()) }
    }));
    let error = copied.ok()?;
    // SAFETY: a copy in the current memory context; its message is null or NUL-terminated.
    unsafe {
        let message = (*error).message;
        if message.is_null() {
            return Some(String::new());
        }
        let bytes = CStr::from_ptr(message).to_bytes();
        Some(String::from_utf8_lossy(&bytes[..bytes.len().min(ENOUGH)]).into_owned())
    }
}
