//! The worker's only wait: its latch, the doorbell, the socket to the broker, the death of the postmaster.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use pgrx::pg_sys;

use super::shared;
use super::sys::versions;

/// A socket that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    pub descriptor: RawFd,
    /// Which one of all that there were: the operating system gives descriptors anew.
    pub number: u64,
    /// Whether it is also waited for until it can be written to.
    pub is_full: bool,
}

/// One WaitEventSet for as long as there is the same socket: building one per wait costs an epoll set
/// each time (latch.c: `WaitLatchOrSocket`), but a socket cannot be taken out of one.
pub struct WaitSet {
    set: *mut pg_sys::WaitEventSet,
    socket: Option<Socket>,
}

/// The doorbell's and the socket's places in the set, in the order in which they are added.
const DOORBELL: i32 = 0;
const SOCKET: i32 = 1;

/// All that can happen at once.
const MOST_EVENTS: usize = 4;

impl WaitSet {
    /// Waits will also end when the doorbell rings.
    pub fn new() -> WaitSet {
        WaitSet { set: make(None), socket: None }
    }

    /// Waits for this socket from now on, or for none.
    pub fn set_socket(&mut self, socket: Option<Socket>) {
        if socket == self.socket {
            return;
        }
        let is_same = match (socket, self.socket) {
            (Some(socket), Some(before)) => socket.number == before.number,
            _ => false,
        };
        // SAFETY: main thread. The socket is open: whoever wants it waited for has it. One that was closed
        // has left the set by itself (epoll(7)), or is not looked at again.
        unsafe {
            match socket {
                Some(socket) if is_same => {
                    let no_latch = std::ptr::null_mut();
                    pg_sys::ModifyWaitEvent(self.set, SOCKET, events(socket), no_latch);
                }
                _ => {
                    let before = std::mem::replace(&mut self.set, make(socket));
                    pg_sys::FreeWaitEventSet(before);
                }
            }
        }
        self.socket = socket;
    }

    /// Waits, at most `timeout`. Then serves PostgreSQL's own requests to this process: without that, DROP
    /// DATABASE in another session would wait for ever (procsignal.c: `WaitForProcSignalBarrier`). Returns
    /// whether the socket is worth reading from: has data, an end or an error.
    pub fn wait(&self, timeout: Duration) -> bool {
        let (mut has_rung, mut is_readable) = (false, false);
        // SAFETY: main thread; so many events have room.
        unsafe {
            let mut occurred: [pg_sys::WaitEvent; MOST_EVENTS] = std::mem::zeroed();
            let count = pg_sys::WaitEventSetWait(
                self.set,
                // Rounded up: it would not wait at all for less than one.
                timeout.as_micros().div_ceil(1000) as _,
                occurred.as_mut_ptr(),
                MOST_EVENTS as i32,
                pg_sys::PG_WAIT_EXTENSION,
            );
            pg_sys::ResetLatch(pg_sys::MyLatch);
            for event in &occurred[..count.max(0) as usize] {
                let can_be_read = event.events & pg_sys::WL_SOCKET_READABLE != 0;
                has_rung |= can_be_read && event.pos == DOORBELL;
                is_readable |= can_be_read && event.pos == SOCKET && self.socket.is_some();
            }
        }
        if has_rung {
            shared::answer_doorbell();
        }
        serve_interrupts();
        is_readable
    }
}

fn events(socket: Socket) -> u32 {
    pg_sys::WL_SOCKET_READABLE | if socket.is_full { pg_sys::WL_SOCKET_WRITEABLE } else { 0 }
}

/// A set with the doorbell, the socket if there is one, the latch and the postmaster.
fn make(socket: Option<Socket>) -> *mut pg_sys::WaitEventSet {
    // SAFETY: main thread; the latch lives as long as the process. WL_EXIT_ON_PM_DEATH leaves the process
    // from inside the wait.
    unsafe {
        let set = versions::new_wait_set(MOST_EVENTS as i32);
        let add = |events, descriptor, latch| {
            let data = std::ptr::null_mut();
            pg_sys::AddWaitEventToSet(set, events, descriptor, latch, data);
        };
        let no_latch = std::ptr::null_mut();
        if let Some(doorbell) = shared::doorbell() {
            add(pg_sys::WL_SOCKET_READABLE, doorbell.as_raw_fd(), no_latch);
        }
        if let Some(socket) = socket {
            add(events(socket), socket.descriptor, no_latch);
        }
        add(pg_sys::WL_LATCH_SET, -1, pg_sys::MyLatch);
        add(pg_sys::WL_EXIT_ON_PM_DEATH, -1, no_latch);
        set
    }
}

/// Has a backend sleep for so long, or until something is wanted of it: a cancelled statement ends here.
pub fn nap(longest: Duration) {
    // SAFETY: in a backend or the worker; the latch is this process's own.
    unsafe {
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        let timeout = longest.as_millis() as std::ffi::c_long;
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, timeout, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    serve_interrupts();
}

/// Serves PostgreSQL's requests to this process (procsignal barriers, log_memory_contexts).
pub fn serve_interrupts() {
    pgrx::check_for_interrupts!();
}
