//! Bytes that were received.

use std::collections::TryReserveError;
use std::fmt;

use crate::frame::LARGEST;

/// Room for a frame and what follows it.
const SIZE: usize = 2 * LARGEST;

/// The receive buffer. Frames are looked at where they lie.
pub(crate) struct Input {
    bytes: Box<[u8]>,
    /// What was received and not looked at: from here ...
    start: usize,
    /// ... to here.
    end: usize,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({} bytes)", self.end - self.start)
    }
}

impl Input {
    /// Error: there is no memory for it.
    pub(crate) fn new() -> Result<Input, TryReserveError> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(SIZE)?;
        bytes.resize(SIZE, 0);
        Ok(Input { bytes: bytes.into_boxed_slice(), start: 0, end: 0 })
    }

    /// Where to put more.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.bytes[self.end..]
    }

    /// So much was put there.
    pub(crate) fn take(&mut self, count: usize) {
        self.end = self.bytes.len().min(self.end + count);
    }

    /// Everything that was received, and where what was not looked at begins.
    pub(crate) fn unread(&mut self) -> (&[u8], &mut usize) {
        (&self.bytes[..self.end], &mut self.start)
    }
}
