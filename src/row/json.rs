//! JSON text under construction, in memory that is used again from event to event. It counts against
//! a limit: once that is passed, values are left out, and only how many bytes they would take at
//! least is added up.

use super::escape;
use crate::memory;
use crate::pg::text;

/// Memory that is kept from event to event; what a larger event needed is given back.
const KEPT: usize = 1024 * 1024;

/// Bytes of a text after which the limit is looked at again: escaping may make six of one.
const STRETCH: usize = 64 * 1024;

/// UTF-8 text that is to become one JSON value.
pub struct Json {
    bytes: Vec<u8>,
    /// Bytes that it may take.
    limit: usize,
    /// Bytes that the values which were left out would take at least.
    left_out: usize,
    /// Whether bytes had to be replaced that have no meaning in UTF-8.
    lossy: bool,
    /// Whether the database's own encoding is UTF-8.
    same_encoding: bool,
}

impl Json {
    /// An empty text, for the database that this session is connected to.
    pub fn new() -> Json {
        let same_encoding = text::database_is_utf8();
        Json { bytes: Vec::new(), limit: 0, left_out: 0, lossy: false, same_encoding }
    }

    /// An empty text for values that are UTF-8, whatever database this process is connected to, in `bytes`,
    /// which are overwritten, with room for so many.
    pub fn utf8(mut bytes: Vec<u8>, room: usize) -> Json {
        bytes.clear();
        memory::reserve(&mut bytes, room);
        Json { bytes, limit: 0, left_out: 0, lossy: false, same_encoding: true }
    }

    /// An empty text outside a server.
    #[cfg(test)]
    pub fn for_test(limit: usize) -> Json {
        Json { limit, ..Json::utf8(Vec::new(), 0) }
    }

    /// Begins anew.
    pub fn begin(&mut self, limit: usize) {
        self.bytes.clear();
        self.limit = limit;
        (self.left_out, self.lossy) = (0, false);
    }

    /// Appends a piece of JSON.
    pub fn push(&mut self, piece: &[u8]) {
        memory::append(&mut self.bytes, piece);
    }

    /// Appends a copy of something that was appended before.
    pub fn repeat(&mut self, range: std::ops::Range<usize>) {
        memory::reserve(&mut self.bytes, range.len());
        self.bytes.extend_from_within(range);
    }

    /// The text so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The text, whose memory becomes the caller's.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns whether the limit is passed: something is missing, or too much is there.
    pub fn is_full(&self) -> bool {
        self.left_out > 0 || self.bytes.len() > self.limit
    }

    /// Bytes of the whole, of what was left out at least.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.left_out
    }

    /// Returns whether bytes had to be replaced that have no meaning in UTF-8.
    pub fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// Frees what only a large event needed.
    pub fn give_back(&mut self) {
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
    }

    /// Returns whether a value of at least so many bytes is to be left out; it is counted then.
    pub fn leaves_out(&mut self, least_size: usize) -> bool {
        let too_much = self.is_full() || self.bytes.len() + least_size > self.limit;
        if too_much {
            self.left_out += least_size;
        }
        too_much
    }

    /// Takes back what was appended from `start` on.
    pub fn truncate(&mut self, start: usize) {
        self.bytes.truncate(start);
    }

    /// To append to. What is not ASCII must be settled afterwards.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends text of the database's encoding as a string literal, in the same encoding.
    pub fn push_literal(&mut self, text: &[u8]) {
        memory::reserve(&mut self.bytes, text.len() + 2);
        self.bytes.push(b'"');
        for (n, stretch) in text.chunks(STRETCH).enumerate() {
            if self.bytes.len() > self.limit {
                self.left_out += text.len() - n * STRETCH;
                break;
            }
            escape::push_escaped(&mut self.bytes, stretch);
        }
        memory::push(&mut self.bytes, b'"');
    }

    /// Converts what was appended from `start` on from the database's encoding to UTF-8. What
    /// PostgreSQL itself has checked to be valid in that encoding need not be looked at if both are
    /// the same.
    pub fn settle(&mut self, start: usize, checked: bool) {
        let piece = &self.bytes[start..];
        let is_settled = if self.same_encoding {
            checked || std::str::from_utf8(piece).is_ok()
        } else {
            piece.is_ascii()
        };
        if !is_settled {
            let converted = text::owned(text::to_utf8_noting_loss(piece, &mut self.lossy));
            self.bytes.truncate(start);
            memory::append(&mut self.bytes, converted.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(limit: usize) -> Json {
        Json::for_test(limit)
    }

    #[test]
    fn a_value_that_would_pass_the_limit_is_left_out_and_so_is_all_that_follows() {
        let mut json = json(10);
        json.push(b"12345");
        assert!(!json.leaves_out(5) && !json.is_full());
        assert!(json.leaves_out(6) && json.is_full());
        assert!(json.leaves_out(1));
        assert_eq!((json.bytes(), json.size()), (b"12345".as_slice(), 12));
        json.begin(3);
        assert!(!json.is_full() && json.size() == 0);
    }

    #[test]
    fn a_text_is_not_escaped_much_further_than_the_limit() {
        let mut json = json(100);
        let text = vec![b'"'; 10 * STRETCH];
        json.push_literal(&text);
        assert!(json.bytes().len() <= 2 * STRETCH + 2);
        assert!(json.is_full() && json.size() > text.len());
    }

    #[test]
    fn memory_that_only_a_large_event_needed_is_given_back() {
        let mut json = json(usize::MAX);
        json.push(&vec![b'x'; 2 * KEPT]);
        json.give_back();
        assert_eq!(json.bytes.capacity(), 0);
        json.push(b"small");
        json.give_back();
        assert_eq!(json.bytes(), b"small");
    }
}
