//! A position in the write-ahead log, in bytes, as PostgreSQL counts and prints it.

use std::fmt;
use std::str::FromStr;

/// Byte position in the WAL. Zero is PostgreSQL's `InvalidXLogRecPtr`: no position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// No position.
    pub const INVALID: Lsn = Lsn(0);

    /// Whether this is a position at all.
    pub fn is_valid(self) -> bool {
        self != Lsn::INVALID
    }

    /// The number of the WAL segment this byte lies in, for segments of `segment_size` bytes.
    pub fn segment(self, segment_size: u64) -> u64 {
        self.0 / segment_size
    }
}

/// PostgreSQL's `%X/%X`.
impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 as u32)
    }
}

/// The same, read.
impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Lsn, NotAnLsn> {
        let part = |digits: &str| {
            let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            u32::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal)
        };
        let parts = text.split_once('/').and_then(|(high, low)| Some((part(high)?, part(low)?)));
        let (high, low) = parts.ok_or(NotAnLsn)?;
        Ok(Lsn(u64::from(high) << 32 | u64::from(low)))
    }
}

/// What is not of the form `%X/%X`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnLsn;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_postgresql_writes_it() {
        assert_eq!(Lsn(0).to_string(), "0/0");
        assert_eq!(Lsn(0x1_0000_00AB).to_string(), "1/AB");
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
    }

    #[test]
    fn is_read_as_it_is_written() {
        for lsn in [Lsn(0), Lsn(0x1_0000_00AB), Lsn(u64::MAX)] {
            assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }
        for wrong in ["", "/", "1", "1/", "1/G", "+1/1", "1/123456789", "1/2/3"] {
            assert_eq!(wrong.parse::<Lsn>(), Err(NotAnLsn), "{wrong}");
        }
    }

    #[test]
    fn knows_its_segment() {
        let size = 16 * 1024 * 1024;
        assert_eq!(Lsn(size - 1).segment(size), 0);
        assert_eq!(Lsn(size).segment(size), 1);
    }
}
