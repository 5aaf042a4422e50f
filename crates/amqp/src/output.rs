//! Bytes to send.

use std::collections::TryReserveError;
use std::fmt;

use crate::error::Error;
use crate::frame::{self, LARGEST, OVERHEAD, SMALLEST};

/// Bytes that are gathered for one write: enough for its cost not to matter.
pub(crate) const BATCH: usize = 64 * 1024;

/// Room for all that a publisher ever has to send: what was sent or is to be when it [has room](Output::has_room),
/// the frames before a message's body, and a part of that.
const ROOM: usize = 2 * BATCH + 2 * LARGEST;

/// Bytes to send above which a broker gets no more answers: it asks, and does not read them.
const MOST_UNREAD: usize = 1024 * 1024;

/// What is to be sent, and of which message some is not in it yet.
pub(crate) struct Output {
    bytes: Vec<u8>,
    /// So much of them the transport has taken.
    sent: usize,
    frame_max: usize,
    unfinished: Option<Unfinished>,
    /// Frames of the channel of the unfinished message, which may come only behind it.
    behind: Vec<u8>,
}

// What is sent is nobody's business: there is a password in it.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({} bytes, {:?})", self.unsent().len(), self.unfinished)
    }
}

/// A message of whose body some is to come.
#[derive(Debug)]
struct Unfinished {
    channel: u16,
    left: u64,
}

impl Output {
    /// Error: there is no memory for it.
    pub(crate) fn new() -> Result<Output, TryReserveError> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(ROOM)?;
        Ok(Output { bytes, sent: 0, frame_max: SMALLEST, unfinished: None, behind: Vec::new() })
    }

    pub(crate) fn set_frame_max(&mut self, frame_max: usize) {
        self.frame_max = frame_max;
    }

    pub(crate) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// The transport has taken so many more.
    pub(crate) fn take_sent(&mut self, count: usize) {
        self.sent = self.bytes.len().min(self.sent + count);
        if self.sent == self.bytes.len() || self.sent >= BATCH {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Whether there is little to send, so that more is welcome.
    pub(crate) fn has_room(&self) -> bool {
        self.unsent().len() < BATCH
    }

    /// Where frames go that belong to no channel.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Where frames of this channel go.
    pub(crate) fn bytes_of(&mut self, channel: u16) -> &mut Vec<u8> {
        if self.is_in_message_of(channel) { &mut self.behind } else { &mut self.bytes }
    }

    /// The same for an answer.
    ///
    /// # Errors
    ///
    /// If the broker has not read the answers to a great many questions.
    pub(crate) fn answer(&mut self, channel: u16) -> Result<&mut Vec<u8>, Error> {
        if self.unsent().len() + self.behind.len() > MOST_UNREAD {
            return Err(Error::Deaf);
        }
        Ok(self.bytes_of(channel))
    }

    pub(crate) fn is_in_message(&self) -> bool {
        self.unfinished.is_some()
    }

    pub(crate) fn is_in_message_of(&self, channel: u16) -> bool {
        self.unfinished.as_ref().is_some_and(|unfinished| unfinished.channel == channel)
    }

    /// Adds the frames that come before a body of this size. Not while another message is unfinished.
    /// Error: the size of a frame that is too large.
    pub(crate) fn begin_message(
        &mut self,
        channel: u16,
        body_size: u64,
        method: impl FnOnce(&mut Vec<u8>),
        header: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), usize> {
        let before = self.bytes.len();
        method(&mut self.bytes);
        let between = self.bytes.len();
        header(&mut self.bytes);
        let header_size = self.bytes.len() - between;
        if header_size > self.frame_max {
            self.bytes.truncate(before);
            return Err(header_size);
        }
        if body_size > 0 {
            self.unfinished = Some(Unfinished { channel, left: body_size });
        }
        Ok(())
    }

    /// Adds of the rest of a body what there is room for. How much that was.
    pub(crate) fn put_body(&mut self, rest: &[u8]) -> usize {
        let mut taken = 0;
        while self.has_room()
            && taken < rest.len()
            && let Some(Unfinished { channel, left }) = &mut self.unfinished
        {
            let most = usize::try_from(*left).unwrap_or(usize::MAX).min(self.frame_max - OVERHEAD);
            let part = &rest[taken..];
            let part = &part[..part.len().min(most)];
            frame::put_body(&mut self.bytes, *channel, part);
            taken += part.len();
            *left -= part.len() as u64;
            if *left == 0 {
                self.unfinished = None;
                self.bytes.append(&mut self.behind);
            }
        }
        taken
    }

    /// Leaves the rest of an unfinished message, and what was to come behind it, unsent. Whether there was one.
    pub(crate) fn abandon_message(&mut self) -> bool {
        self.behind.clear();
        self.unfinished.take().is_some()
    }
}
