//! A transaction and those of its subtransactions that ended with it. Pure.

/// Counted xids in ascending order: subtransactions are younger than their transaction, and PostgreSQL lists them
/// in order (xact.c: `AtSubCommit_childXids`).
#[derive(Clone, Copy, Debug)]
pub struct Family<'a> {
    /// The transaction, or a subtransaction that ended with its own subtransactions.
    pub xid: u64,
    /// Lower 32 bits of the xids of the others.
    pub subxids: &'a [u32],
}

impl Family<'_> {
    /// How many members there are.
    pub fn len(&self) -> usize {
        1 + self.subxids.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        std::iter::once(self.xid).chain(self.subxids.iter().map(|&subxid| self.whole(subxid)))
    }

    /// The youngest.
    pub fn last(&self) -> u64 {
        self.subxids.last().map_or(self.xid, |&last| self.whole(last))
    }

    /// Returns the number of the first member that is not older than `xid`.
    fn position(&self, xid: u64, from: usize) -> usize {
        if xid <= self.xid {
            return from;
        }
        let younger = |subxids: &[u32]| subxids.partition_point(|&subxid| self.whole(subxid) < xid);
        let from = from.max(1);
        from + self.subxids.get(from - 1..).map_or(0, younger)
    }

    fn get(&self, number: usize) -> Option<u64> {
        match number.checked_sub(1) {
            None => Some(self.xid),
            Some(number) => self.subxids.get(number).map(|&subxid| self.whole(subxid)),
        }
    }

    fn whole(&self, subxid: u32) -> u64 {
        self.xid + u64::from(subxid.wrapping_sub(self.xid as u32))
    }
}

/// Goes through a family from the oldest to the youngest.
#[derive(Clone, Copy, Debug)]
pub struct FamilyCursor<'a> {
    family: Family<'a>,
    number: usize,
}

impl<'a> FamilyCursor<'a> {
    /// Before the oldest.
    pub fn new(family: Family<'a>) -> FamilyCursor<'a> {
        FamilyCursor { family, number: 0 }
    }

    /// Returns the first member that is not older than `xid`. `xid` must not be lower than in the call before.
    pub fn seek(&mut self, xid: u64) -> Option<u64> {
        // Mostly it is the next one.
        for _ in 0..2 {
            let found = self.family.get(self.number)?;
            if found >= xid {
                return Some(found);
            }
            self.number += 1;
        }
        self.number = self.family.position(xid, self.number);
        self.family.get(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_members_are_found_in_their_order_across_the_wraparound() {
        let xid = u64::from(u32::MAX) - 1;
        let subxids = [u32::MAX, 3, 4, 9, 10, 11, 90, 91];
        let family = Family { xid, subxids: &subxids };
        let all: Vec<_> = family.iter().collect();
        assert!(all.is_sorted() && all.len() == family.len());
        assert_eq!(family.last(), xid + 93);
        for first in 0..103 {
            for second in first..103 {
                let mut cursor = FamilyCursor::new(family);
                for sought in [first, second].map(|offset| xid - 3 + offset) {
                    let expected = all.iter().copied().find(|&member| member >= sought);
                    assert_eq!(cursor.seek(sought), expected);
                }
            }
        }
    }
}
