//! The rows of a change, as they are stored: the content of an event that the worker renders.
//!
//! The bytes: flags; when the transaction started (i64); bytes of the largest body, and the lengths of the
//! shape, of the prerendered values and of the row before (u32 each); then these, and the row after.

use std::ops::Range;

use super::error::DecodeError;
use crate::bytes::Reader;
use crate::memory;

const FLAG_OLD: u8 = 1;
const FLAG_OLD_NULLS: u8 = 2;
const FLAG_NEW: u8 = 4;
const FLAG_NEW_NULLS: u8 = 8;

/// Bytes before the shape.
const START: usize = 1 + size_of::<i64>() + 4 * size_of::<u32>();

/// The rows of a change, as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Start of the transaction, in microseconds since 2000-01-01 UTC.
    pub timestamp: i64,
    /// Bytes of the largest body.
    pub limit: usize,
    payload: Vec<u8>,
    shape: Range<usize>,
    prerendered: Range<usize>,
    old: Option<(bool, Range<usize>)>,
    new: Option<(bool, Range<usize>)>,
}

/// One row as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// Whether some of its values are null.
    pub has_nulls: bool,
    /// Its bytes from the bitmap of nulls on.
    pub bytes: &'a [u8],
}

/// What comes between the head and the rows.
#[derive(Clone, Copy, Debug)]
pub struct ImagesStart<'a> {
    pub timestamp: i64,
    pub limit: usize,
    pub shape: &'a [u8],
    pub prerendered: &'a [u8],
    pub old: Option<Image<'a>>,
    pub new: Option<Image<'a>>,
}

impl ImagesStart<'_> {
    /// Appends all that comes before the prerendered values and the rows. The caller appends those: the values,
    /// the row before, the row after.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let flag = |image: Option<Image<'_>>, is_there: u8, has_nulls: u8| {
            image.map_or(0, |image| is_there + u8::from(image.has_nulls) * has_nulls)
        };
        memory::reserve(out, START + self.shape.len());
        out.push(
            flag(self.old, FLAG_OLD, FLAG_OLD_NULLS) + flag(self.new, FLAG_NEW, FLAG_NEW_NULLS),
        );
        out.extend_from_slice(&self.timestamp.to_le_bytes());
        let old = self.old.map_or(0, |old| old.bytes.len());
        for number in [self.limit, self.shape.len(), self.prerendered.len(), old] {
            out.extend_from_slice(&(number as u32).to_le_bytes());
        }
        out.extend_from_slice(self.shape);
    }
}

impl Images {
    /// Decodes the rows in a payload, from `at` on.
    pub(super) fn decode(payload: Vec<u8>, at: usize) -> Result<Images, DecodeError> {
        let mut reader = Reader::new(&payload[at..]);
        let flags = reader.byte().ok_or(DecodeError::Truncated)?;
        let timestamp = reader.i64().ok_or(DecodeError::Truncated)?;
        let mut number = || reader.u32().map(|n| n as usize).ok_or(DecodeError::Truncated);
        let (limit, shape, prerendered, old) = (number()?, number()?, number()?, number()?);
        let mut end = payload.len() - reader.rest().len();
        let mut range = |length: usize| {
            let start = end;
            end = start.saturating_add(length);
            (end <= payload.len()).then_some(start..end).ok_or(DecodeError::Truncated)
        };
        let (shape, prerendered, old) = (range(shape)?, range(prerendered)?, range(old)?);
        let new = old.end..payload.len();
        let image = |range, is_there: u8, has_nulls: u8| {
            (flags & is_there != 0).then_some((flags & has_nulls != 0, range))
        };
        Ok(Images {
            timestamp,
            limit,
            shape,
            prerendered,
            old: image(old, FLAG_OLD, FLAG_OLD_NULLS),
            new: image(new, FLAG_NEW, FLAG_NEW_NULLS),
            payload,
        })
    }

    /// How the rows are to be rendered.
    pub fn shape(&self) -> &[u8] {
        &self.payload[self.shape.clone()]
    }

    /// Values that are rendered already, of both rows.
    pub fn prerendered(&self) -> &[u8] {
        &self.payload[self.prerendered.clone()]
    }

    /// The row before the change.
    pub fn old_row(&self) -> Option<Image<'_>> {
        self.image(self.old.as_ref())
    }

    /// The row after it.
    pub fn new_row(&self) -> Option<Image<'_>> {
        self.image(self.new.as_ref())
    }

    /// Returns how many bytes the body is likely to take at most: each label comes twice, and most values are
    /// a little longer as text.
    pub fn likely_size(&self) -> usize {
        (2 * self.payload.len() + 256).min(self.limit)
    }

    fn image(&self, place: Option<&(bool, Range<usize>)>) -> Option<Image<'_>> {
        place.map(|(has_nulls, range)| Image {
            has_nulls: *has_nulls,
            bytes: &self.payload[range.clone()],
        })
    }
}
