//! What is captured of a table, and what its events promise.

/// What can be said of a table's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// They stand where the changes stand.
    Ordered,
    /// They come.
    Counted,
    /// Nothing is in the WAL to compare them with.
    Unseen,
}

/// What is captured of a table.
#[derive(Clone, Debug)]
pub(super) struct Captured {
    pub promise: Promise,
    /// The resources of its row triggers, in the order in which these fire.
    pub rows: Vec<String>,
    /// The same of its TRUNCATE triggers.
    pub truncates: Vec<String>,
}
