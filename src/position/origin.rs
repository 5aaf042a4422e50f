//! How the worker found its position at the start. Pure.

use crate::stream::gap::Gap;

/// How the worker found its position at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In its slot.
    Slot,
    /// There was no slot, and nothing was ever captured: a first start.
    FirstStart,
    /// There was no slot, and none of an earlier life's events was confirmed, but all WAL since the first is
    /// there.
    Beginning,
    /// The slot could not be used, but the last position record and all WAL it needs are there.
    Record,
    /// WAL that the last position needs is gone: events may be missing.
    Lost(Gap),
}
