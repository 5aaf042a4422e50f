//! Numbers and texts as bytes, the lowest byte first, and back. One writer and one reader for what is
//! kept in the WAL and in lists. Reading never panics: what is not there is `None`.

use crate::memory;

/// Appends a number in as few bytes as it needs: seven bits each, the lowest first; the eighth says that
/// more follow (LEB128).
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7F {
        memory::push(out, number as u8 | 0x80);
        number >>= 7;
    }
    memory::push(out, number as u8);
}

/// Bytes that [`put_number`] appends.
#[cfg(test)]
pub fn number_size(number: u64) -> usize {
    (u64::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize
}

/// Takes bytes off the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the first of these bytes on.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// What was not taken yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes one byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Takes two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Takes four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes eight bytes, of a number of either sign.
    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// Takes what [`put_number`] appended.
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// Takes so many bytes.
    pub fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    /// Takes so many bytes as there are in the array.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (&bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_comes_back_and_takes_no_more_bytes_than_it_needs(number in any::<u64>(), bits in 0..64u32) {
            let number = number >> bits;
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            prop_assert_eq!(bytes.len(), number_size(number));
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.number(), Some(number));
            prop_assert!(reader.rest().is_empty());
            bytes.pop();
            prop_assert_eq!(Reader::new(&bytes).number(), None);
        }
    }

    #[test]
    fn what_is_not_there_is_none_and_takes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u32(), None);
        assert_eq!(reader.bytes(4), None);
        assert_eq!(reader.u16(), Some(0x0201));
        assert_eq!(reader.bytes(1), Some(&[3][..]));
        assert_eq!((reader.byte(), reader.number()), (None, None));
        assert_eq!(Reader::new(&[0xFF; 11]).number(), None);
    }
}
