//! Where a change left its trace: the WAL has a record of each, which names the file of the table and the
//! place of the row in it. Pure.

use crate::bytes::Reader;

/// The file of a table (PostgreSQL's `RelFileLocator`, until 15 `RelFileNode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableFile {
    /// Oid of the tablespace.
    pub tablespace: u32,
    /// Oid of the database.
    pub database: u32,
    /// Number of the file, another one after each rewrite of the table.
    pub number: u32,
}

/// The place of a row: what PostgreSQL calls its ctid, and the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file.
    pub file: TableFile,
    /// Number of the page in it; 0 for a TRUNCATE.
    pub block: u32,
    /// Number of the line pointer on the page, from 1; 0 for a TRUNCATE.
    pub offset: u16,
}

/// What kind of record a change leaves in the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trace {
    /// A row came to this place: INSERT, or the new version of an UPDATE.
    NewVersion = 0,
    /// The row at this place was deleted.
    Deletion = 1,
    /// The table's file was made or cut to nothing: TRUNCATE.
    Storage = 2,
    /// None but the event itself, which stands where it is: a message of a user's own.
    Itself = 3,
}

impl Trace {
    /// The inverse of `as u8`.
    pub fn from_number(number: u8) -> Option<Trace> {
        let all = [Trace::NewVersion, Trace::Deletion, Trace::Storage, Trace::Itself];
        all.into_iter().nth(usize::from(number))
    }
}

impl Place {
    /// Bytes of [`Place::to_bytes`].
    pub const SIZE: usize = 18;

    /// The place as bytes.
    pub fn to_bytes(self) -> [u8; Place::SIZE] {
        let Place { file: TableFile { tablespace, database, number }, block, offset } = self;
        let mut bytes = [0; Place::SIZE];
        let (numbers, rest) = bytes.as_chunks_mut::<4>();
        for (place, number) in numbers.iter_mut().zip([tablespace, database, number, block]) {
            *place = number.to_le_bytes();
        }
        rest.copy_from_slice(&offset.to_le_bytes());
        bytes
    }

    /// The place that the bytes are of; none if they are of none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Place> {
        let mut reader = Reader::new(bytes);
        let file =
            TableFile { tablespace: reader.u32()?, database: reader.u32()?, number: reader.u32()? };
        let place = Place { file, block: reader.u32()?, offset: reader.u16()? };
        reader.rest().is_empty().then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_as_it_was_written() {
        let file = TableFile { tablespace: 1663, database: 5, number: 16_384 };
        let place = Place { file, block: 0x0102_0304, offset: 0x0506 };
        let bytes = place.to_bytes();
        assert_eq!(Place::from_bytes(&bytes), Some(place));
        assert_eq!(Place::from_bytes(&bytes[1..]), None);
        assert_eq!(Place::from_bytes(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn a_trace_comes_back_from_its_number() {
        for trace in [Trace::NewVersion, Trace::Deletion, Trace::Storage, Trace::Itself] {
            assert_eq!(Trace::from_number(trace as u8), Some(trace));
        }
        assert_eq!(Trace::from_number(4), None);
    }
}
