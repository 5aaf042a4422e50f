//! What a PostgreSQL process with threads has to see to itself: signals, and memory.

use mimalloc::MiMalloc;

/// What Rust's memory comes from here, in every process that loads the library; PostgreSQL's own stays
/// where it was. Messages are made on one thread, sent and freed on another one.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Runs `start` with every signal blocked, so that the threads it starts inherit that: a signal
/// handler of PostgreSQL that ran on one of them would set that thread's latch and lose the wake-up.
pub fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: plain C calls on local signal sets.
    unsafe {
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let result = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        result
    }
}

/// Gives memory that is free back to the operating system: what this thread and the large messages of
/// others left in the allocator that Rust uses here, and in the C library's, from which PostgreSQL
/// has its own.
pub fn give_memory_back() {
    // SAFETY: both take their own locks.
    unsafe {
        libmimalloc_sys::mi_collect(true);
        #[cfg(target_env = "gnu")]
        libc::malloc_trim(0);
    }
}
