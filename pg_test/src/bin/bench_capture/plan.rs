//! What a run is to be.

/// A part of a run, each with a table of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Capture triggers.
    Capture,
    /// Messages of a user's own.
    Messages,
}

impl Part {
    pub const ALL: [Part; 2] = [Part::Capture, Part::Messages];

    /// As arguments and the marks in docs/benchmarks.md name it.
    pub fn name(self) -> &'static str {
        match self {
            Part::Capture => "capture",
            Part::Messages => "messages",
        }
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rows of the table that the contenders are compared on. What grows beside it has fewer.
    pub rows: u64,
    /// How often everything is measured; the lowest counts.
    pub rounds: usize,
    /// How long pgbench runs in each case, without and with the trigger.
    pub pgbench_seconds: u64,
    pub only: Option<Part>,
}
