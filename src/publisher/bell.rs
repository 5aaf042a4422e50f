//! A bell that wakes the worker's main thread out of its wait: a socket that becomes readable.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The end that rings.
#[derive(Clone)]
pub struct Bell {
    socket: Arc<UnixStream>,
    rung: Arc<AtomicBool>,
}

/// The end that is woken.
pub struct BellListener {
    socket: UnixStream,
    rung: Arc<AtomicBool>,
}

/// Makes a bell.
///
/// # Errors
///
/// If the operating system has no more file descriptors.
pub fn bell() -> std::io::Result<(Bell, BellListener)> {
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    let rung = Arc::new(AtomicBool::new(false));
    Ok((
        Bell { socket: Arc::new(near), rung: Arc::clone(&rung) },
        BellListener { socket: far, rung },
    ))
}

impl Bell {
    /// Rings, unless it has been rung since the listener last looked. Never waits.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            // A full socket is a bell that was rung, and a closed one has nobody to wake.
            let _ = (&*self.socket).write(&[1]);
        }
    }
}

impl BellListener {
    /// To be called before looking at what the bell was rung for: what happens afterwards rings it
    /// again. The socket is emptied first, or a ring in between would leave it marked but silent.
    pub fn clear(&self) {
        let mut bytes = [0; 16];
        loop {
            match (&self.socket).read(&mut bytes) {
                // Nothing is left after less than was asked for.
                Ok(count) if count < bytes.len() => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.rung.store(false, Ordering::SeqCst);
    }
}

impl AsFd for BellListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ringing(listener: &BellListener) -> bool {
        (&listener.socket).read(&mut [0]).is_ok()
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
}
