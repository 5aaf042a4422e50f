//! PostgreSQL's ERRORs and Rust's panics where the two meet in a session, without any memory that there may
//! not be. What C raises unwinds through Rust and is raised again behind it, as `PG_TRY` and `PG_RE_THROW`
//! would (elog.h): it stays all the while where PostgreSQL keeps it (elog.c: `errordata`), with its context and
//! its fields. pgrx's own guard copies it, and where there is no memory for the copy, the next ERROR is raised
//! in the midst of that; a few of these end the server (elog.c: `ERRORDATA_STACK_SIZE`).

use std::any::Any;
use std::ffi::{CStr, c_int, c_void};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};

use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel, pgrx_extern_c_guard};
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};

use super::sys::plain::{
    call_closure_with_sigsetjmp, errcode, errdetail, errfinish, errhint, errmsg, errstart,
    geterrcode, pg_re_throw,
};
use crate::memory::{self, OutOfMemory};

/// What a panic carries that an ERROR began: PostgreSQL has the ERROR itself.
struct Raised;

/// Why something failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Problem {
    /// There was no memory for it.
    OutOfMemory,
    /// Anything else, in PostgreSQL's words.
    Other(String),
}

/// An ERROR, or a panic, that was caught. PostgreSQL has the ERROR for as long as this is there.
pub struct Failure {
    /// None: it goes on.
    payload: Option<Box<dyn Any + Send>>,
    sqlstate: c_int,
    problem: Problem,
}

/// Has panics that are no bugs pass without pgrx's hook, which asks for memory, keeps it, and has it given back at the
/// end of the thread, which takes memory, too. To be called once.
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
            // SAFETY: C called the caller of `at_boundary`, which has nothing that would have to be dropped; nor
            // has this frame, but for the payload, which goes on.
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

/// An ERROR in the midst of this leaves the report behind; else it is dropped before the frame is left.
fn raise_report(report: ManuallyDrop<Box<ErrorReportWithLevel>>) -> ! {
    // SAFETY: on the main thread; the texts are copied before the report is dropped, and this frame has
    // nothing else to drop.
    unsafe {
        errstart(PgLogLevel::ERROR as c_int, std::ptr::null());
        say(report.sql_error_code(), report.message(), report.detail(), report.hint());
    }
    drop(ManuallyDrop::into_inner(report));
    finish()
}

/// Sends a report to the client or the server log, after which all goes on.
pub(super) fn tell(
    level: PgLogLevel,
    sqlstate: PgSqlErrorCode,
    message: &str,
    detail: Option<&str>,
    hint: Option<&str>,
) {
    // SAFETY: main thread; what is in the guarded code has no destructor. The names are constants.
    unsafe {
        guard(|| {
            if errstart(level as c_int, std::ptr::null()) {
                say(sqlstate, message, detail, hint);
                errfinish(c"guard.rs".as_ptr(), 0, c"amqp_cdc".as_ptr());
            }
        });
    }
}

/// The texts are copied to where PostgreSQL has memory in store for them.
///
/// # Safety
///
/// Main thread; a report was begun. An ERROR leaves the frame.
unsafe fn say(sqlstate: PgSqlErrorCode, message: &str, detail: Option<&str>, hint: Option<&str>) {
    const TEXT: &CStr = c"%.*s";
    let length = |text: &str| text.len() as c_int;
    // SAFETY: a report was begun, on the main thread; the format asks for a length and a text.
    unsafe {
        errcode(sqlstate as c_int);
        errmsg(TEXT.as_ptr(), length(message), message.as_ptr());
        if let Some(detail) = detail {
            errdetail(TEXT.as_ptr(), length(detail), detail.as_ptr());
        }
        if let Some(hint) = hint {
            errhint(TEXT.as_ptr(), length(hint), hint.as_ptr());
        }
    }
}

fn finish() -> ! {
    // SAFETY: an ERROR was begun; the names are constants. It does not return.
    unsafe { errfinish(c"guard.rs".as_ptr(), 0, c"amqp_cdc".as_ptr()) };
    unreachable!("ERROR does not return");
}

/// Does `work`. What fails in it is caught.
///
/// # Errors
///
/// What failed.
///
/// # Safety
///
/// Main thread; whatever an ERROR leaves behind is none of the process's, or the caller puts it away.
pub(super) unsafe fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Failure> {
    // SAFETY: a plain read of a variable that nothing but this thread changes.
    let memory = unsafe { pg_sys::CurrentMemoryContext };
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        // SAFETY: the context is there: `work` does not end those of its caller. The ERROR, if it is one, was
        // not flushed.
        unsafe {
            pg_sys::CurrentMemoryContext = memory;
            Failure::of(payload)
        }
    })
}

impl Failure {
    /// # Safety
    ///
    /// Main thread; the ERROR that began the panic, if one did, is there.
    unsafe fn of(payload: Box<dyn Any + Send>) -> Failure {
        // SAFETY: on the main thread; the ERROR that began the panic was not flushed.
        let (sqlstate, words) = unsafe { sqlstate_and_words(&*payload) };
        let problem = match words {
            Some(words) if sqlstate != PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as c_int => {
                Problem::Other(words)
            }
            _ => Problem::OutOfMemory,
        };
        Failure { payload: Some(payload), sqlstate, problem }
    }

    /// What it says.
    pub fn message(&self) -> &str {
        match &self.problem {
            Problem::OutOfMemory => "out of memory",
            Problem::Other(words) => words,
        }
    }

    /// Returns whether there was no memory.
    pub fn is_for_memory(&self) -> bool {
        self.problem == Problem::OutOfMemory
    }

    /// So many bytes were asked for, as far as that is known.
    pub fn bytes_wanted(&self) -> usize {
        let wanted = self.payload.as_ref().and_then(|payload| payload.downcast_ref());
        wanted.map_or(0, |&OutOfMemory { bytes }| bytes)
    }

    /// Returns whether a file is not there.
    pub fn is_about_a_missing_file(&self) -> bool {
        self.sqlstate == PgSqlErrorCode::ERRCODE_UNDEFINED_FILE as c_int
    }

    /// Goes on with it.
    pub fn rethrow(mut self) -> ! {
        match self.payload.take() {
            Some(payload) => resume_unwind(payload),
            None => unreachable!("only this takes it"),
        }
    }

    /// It is over, and nothing of it is left with PostgreSQL.
    pub fn into_problem(mut self) -> Problem {
        std::mem::replace(&mut self.problem, Problem::OutOfMemory)
    }
}

impl Drop for Failure {
    fn drop(&mut self) {
        if self.payload.as_ref().is_some_and(|payload| payload.is::<Raised>()) {
            // SAFETY: main thread; it is done with.
            unsafe { pg_sys::FlushErrorState() };
        }
    }
}

/// What a panic is about. No words: there is no memory.
///
/// # Safety
///
/// As for [`Failure::of`].
unsafe fn sqlstate_and_words(payload: &(dyn Any + Send)) -> (c_int, Option<String>) {
    if payload.is::<Raised>() {
        // SAFETY: PostgreSQL still has the ERROR that the payload stands for.
        return unsafe { (geterrcode(), words()) };
    }
    let of_pgrx = match payload.downcast_ref() {
        Some(
            CaughtError::PostgresError(report)
            | CaughtError::ErrorReport(report)
            | CaughtError::RustPanic { ereport: report, .. },
        ) => Some(report),
        None => payload.downcast_ref::<ErrorReportWithLevel>(),
    };
    if let Some(report) = of_pgrx {
        return (report.sql_error_code() as c_int, Some(report.message().to_owned()));
    }
    let constant = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let words = constant.or_else(|| payload.downcast_ref::<String>().cloned());
    let is_short = payload.is::<OutOfMemory>();
    let words = words.or_else(|| (!is_short).then(|| "unknown".to_owned()));
    (PgSqlErrorCode::ERRCODE_INTERNAL_ERROR as c_int, words)
}

/// The message of the ERROR that was raised, as far as it is worth being told. Returns none if there is no
/// memory to tell it.
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
