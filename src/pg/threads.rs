//! What a PostgreSQL process with threads has to see to itself: signals, and memory.

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

/// Has the C library's allocator put what is freed where it can be used again at once. It keeps small
/// pieces aside otherwise, and goes through all of them each time a large one is freed, as the body
/// of every message is: a fifth of the CPU time of publishing (malloc.c: `malloc_consolidate`).
pub fn tune_allocator() {
    // SAFETY: sets a parameter of the allocator.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MXFAST, 0);
    }
}

/// Gives memory that no thread uses any more back to the operating system: the C library keeps what
/// was freed in pieces, as messages are when they are sent.
pub fn give_memory_back() {
    // SAFETY: takes the allocator's own locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
