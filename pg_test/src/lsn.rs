//! Places in the WAL, as PostgreSQL spells them.

/// The number that an LSN such as `16/B374D848` is.
pub fn parse(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some(u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?)
}

/// The other way round.
pub fn spelt(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_are_hexadecimal() {
        assert_eq!((parse("0/A"), parse("1/0"), parse("x")), (Some(10), Some(1 << 32), None));
        assert_eq!(spelt(0x1_0000_00AB), "1/AB");
    }
}
