//! Names of the files in pg_wal: `TTTTTTTTXXXXXXXXYYYYYYYY`, the timeline, then the number of the segment in two
//! parts (access/xlog_internal.h: `XLogFileName`). Pure.

/// The name of a segment's file.
pub fn name(timeline: u32, segment: u64, segment_size: u64) -> String {
    let per_high = per_high(segment_size);
    format!("{timeline:08X}{:08X}{:08X}", segment / per_high, segment % per_high)
}

/// Returns timeline and segment of the WAL file of this name, or None if it is another file.
pub fn parse(name: &str, segment_size: u64) -> Option<(u32, u64)> {
    if name.len() != 24 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let part = |from: usize| u32::from_str_radix(&name[from..from + 8], 16).ok();
    Some((part(0)?, u64::from(part(8)?) * per_high(segment_size) + u64::from(part(16)?)))
}

/// Returns how many segments share the upper part of their number.
fn per_high(segment_size: u64) -> u64 {
    0x1_0000_0000 / segment_size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wal_file_names_are_read_and_written_as_postgresql_writes_them() {
        let size = 16 * 1024 * 1024;
        let known = "0000000200000001000000FE";
        assert_eq!(parse(known, size), Some((2, 256 + 254)));
        assert_eq!(name(2, 256 + 254, size), known);
        assert_eq!(parse("00000002.history", size), None);
        assert_eq!(parse("0000000200000001000000FE.partial", size), None);
    }
}
