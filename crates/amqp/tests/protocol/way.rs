//! How what one side says comes to the other one: at once. tests/over_tls has another way.

/// Bytes on their way from the broker.
pub struct Way<'a>(&'a [u8]);

impl<'a> Way<'a> {
    /// The broker says this.
    pub fn of(bytes: &'a [u8]) -> Way<'a> {
        Way(bytes)
    }

    /// Whether all of it has come.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts what has come into this room, some at least if there is any. How much that was.
    pub fn read(&mut self, room: &mut [u8]) -> usize {
        let (now, later) = self.0.split_at(self.0.len().min(room.len()));
        room[..now.len()].copy_from_slice(now);
        self.0 = later;
        now.len()
    }
}

/// What the broker hears of this.
pub fn back(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}
