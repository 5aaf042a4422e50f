//! What a PostgreSQL process has to see to itself: the signals of threads, and memory.

use super::shared;

/// Starts a thread that ends by itself, and wakes the worker when it does. All signals are blocked in it: a
/// signal handler of PostgreSQL that ran there would set that thread's latch and lose the wake-up.
///
/// # Errors
///
/// If the operating system refuses the thread.
pub fn spawn(work: Box<dyn FnOnce() + Send>) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name("amqp_cdc dial".to_owned());
    with_signals_blocked(|| {
        thread.spawn(move || {
            work();
            shared::wake_worker();
        })
    })
    .map(drop)
}

fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: plain C calls on local signal sets; a thread inherits the one that its maker has.
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

/// Has the C library keep no lists of small pieces for themselves. It goes through them whenever a large part
/// becomes free, which with tens of thousands of events in memory is all the time: an event of a backlog
/// took 5.8 µs instead of 4.8.
pub fn prepare_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a plain setting of the allocator's.
    unsafe {
        libc::mallopt(libc::M_MXFAST, 0);
    }
}

/// Gives memory that is free back to the operating system: what large messages left in the allocator.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes its own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
