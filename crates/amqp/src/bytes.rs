//! The primitive types on the wire, read and written (AMQP 0-9-1, 4.2.5).

use crate::table::Table;
use crate::text::Text;

/// Bytes end before what they should hold does, or hold more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads from the front of some bytes.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// That nothing is left.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Bits, the first one lowest.
    pub(crate) fn bit(&mut self) -> Result<bool, Malformed> {
        Ok(self.u8()? & 1 != 0)
    }

    /// A text of at most 255 bytes.
    pub(crate) fn short(&mut self) -> Result<Text<'a>, Malformed> {
        let size = self.u8()?;
        Ok(Text::new(self.take(size.into())?))
    }

    /// Bytes with their number in 32 bits before them.
    pub(crate) fn long(&mut self) -> Result<&'a [u8], Malformed> {
        let size = self.u32()?;
        self.take(usize::try_from(size).map_err(|_| Malformed)?)
    }

    pub(crate) fn table(&mut self) -> Result<Table<'a>, Malformed> {
        Ok(Table::from_bytes(self.long()?))
    }
}

pub(crate) fn put_u16(out: &mut Vec<u8>, number: u16) {
    out.extend_from_slice(&number.to_be_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_be_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}

/// A text as a short string. What is too long for one is cut off.
pub(crate) fn put_short(out: &mut Vec<u8>, text: &str) {
    put_short_bytes(out, short(text).as_bytes());
}

/// The same for what need not be UTF-8.
pub(crate) fn put_short_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u8::MAX))];
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    put_sized(out, |out| out.extend_from_slice(bytes));
}

pub(crate) fn put_table(out: &mut Vec<u8>, table: Table<'_>) {
    put_long(out, table.as_bytes());
}

/// A size in 32 bits, then what has that size.
pub(crate) fn put_sized(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    content(out);
    let size = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// As much of a text as a short string holds: names are longer nowhere in AMQP.
pub fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(usize::from(u8::MAX))]
}
