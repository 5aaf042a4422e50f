//! Where a session waits. It says what for and pauses; the worker's loop, which waits for all that there is
//! to wait for, steps it on when that may have come. Nothing else in a session is ever awaited, and so
//! nothing in it ever blocks.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use crate::pg::wait::Socket;

/// What is waited for: whichever of these comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    pub socket: Option<Socket>,
    pub until: Option<Instant>,
}

/// The place where sessions wait, one at a time.
#[derive(Debug, Default)]
pub struct Pause {
    wants: Cell<Wants>,
    is_readable: Cell<bool>,
}

impl Pause {
    /// What is waited for now.
    pub fn wants(&self) -> Wants {
        self.wants.get()
    }

    /// Says, before a step, whether the socket is worth reading from.
    pub fn set_readable(&self, is_readable: bool) {
        self.is_readable.set(is_readable);
    }

    /// Waits until the next step. It may come for another reason than what is waited for. Whether the socket
    /// is worth reading from.
    pub async fn wait(&self, wants: Wants) -> bool {
        self.wants.set(wants);
        let mut has_waited = false;
        poll_fn(|_| {
            if std::mem::replace(&mut has_waited, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        self.wants.set(Wants::default());
        self.is_readable.replace(false)
    }
}

/// Steps a story until it ends. Instead of waiting it tries again and again.
#[cfg(test)]
pub fn block_on<T>(pause: &Pause, story: impl Future<Output = T>) -> T {
    let mut story = std::pin::pin!(story);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let Poll::Ready(end) = story.as_mut().poll(&mut context) {
            return end;
        }
        pause.set_readable(true);
        std::thread::yield_now();
    }
}
