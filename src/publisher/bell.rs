//! A bell that wakes another thread out of its wait: a pipe that becomes readable.

use std::io::{ErrorKind, PipeReader, PipeWriter, Result};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::pipe;

/// The end that rings.
#[derive(Clone)]
pub struct Bell {
    pipe: Arc<PipeWriter>,
    rung: Arc<AtomicBool>,
}

/// The end that is woken.
pub struct BellListener {
    pipe: PipeReader,
    rung: Arc<AtomicBool>,
}

/// Makes a bell.
///
/// # Errors
///
/// If the operating system has no more file descriptors.
pub fn bell() -> Result<(Bell, BellListener)> {
    let (reader, writer) = pipe::new()?;
    let rung = Arc::new(AtomicBool::new(false));
    Ok((
        Bell { pipe: Arc::new(writer), rung: Arc::clone(&rung) },
        BellListener { pipe: reader, rung },
    ))
}

impl Bell {
    /// Rings, unless it has been rung since the listener last looked. Never waits.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) && !pipe::knock(&self.pipe) {
            self.rung.store(false, Ordering::SeqCst);
        }
    }
}

impl BellListener {
    /// To be called before looking at what the bell was rung for: what happens afterwards rings it
    /// again. The pipe is emptied first, or a ring in between would leave it marked but silent.
    pub fn clear(&self) {
        pipe::drain(&self.pipe);
        self.rung.store(false, Ordering::SeqCst);
    }

    /// Waits until the bell rings, which clears it, or the time has come.
    ///
    /// # Errors
    ///
    /// If the operating system cannot wait.
    pub fn wait(&self, until: Option<Instant>) -> Result<()> {
        wait(&mut [PollFd::new(&self.pipe, PollFlags::IN)], until)?;
        self.clear();
        Ok(())
    }

    /// Waits for the bell as [`BellListener::wait`] does, and for a socket to become readable or, if
    /// that `is_full` now, writable. Whether it is worth reading from: has data, an end or an error.
    ///
    /// # Errors
    ///
    /// If the operating system cannot wait.
    pub fn wait_beside(
        &self,
        socket: &TcpStream,
        is_full: bool,
        until: Option<Instant>,
    ) -> Result<bool> {
        let interest = if is_full { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut both = [PollFd::new(socket, interest), PollFd::new(&self.pipe, PollFlags::IN)];
        wait(&mut both, until)?;
        let [socket, bell] = both.map(|one| one.revents());
        if !bell.is_empty() {
            self.clear();
        }
        Ok(!(socket - PollFlags::OUT).is_empty())
    }
}

/// poll(2), with a point in time.
fn wait(descriptors: &mut [PollFd<'_>], until: Option<Instant>) -> Result<()> {
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    // A time that no timespec holds is no limit.
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    match poll(descriptors, timeout.as_ref()) {
        // Signals are for the main thread; the caller looks and waits again.
        Err(error) if error.kind() != ErrorKind::Interrupted => Err(error.into()),
        _ => Ok(()),
    }
}

impl AsFd for BellListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn is_ringing(listener: &BellListener) -> bool {
        std::io::Read::read(&mut &listener.pipe, &mut [0]).is_ok()
    }

    #[test]
    fn rings_once_until_it_is_cleared() {
        let (bell, listener) = bell().unwrap();
        assert!(!is_ringing(&listener));
        bell.ring();
        bell.ring();
        assert!(is_ringing(&listener));
        assert!(!is_ringing(&listener));
        listener.clear();
        bell.ring();
        assert!(is_ringing(&listener));
    }

    #[test]
    fn a_wait_ends_with_a_ring_and_with_its_time() {
        let (bell, listener) = bell().unwrap();
        bell.ring();
        listener.wait(None).unwrap();
        let until = Instant::now() + Duration::from_millis(2);
        listener.wait(Some(until)).unwrap();
        assert!(Instant::now() >= until);
    }
}
