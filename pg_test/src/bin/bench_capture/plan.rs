//! What a run is to be.

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rows of the table that the contenders are compared on. What grows beside it has fewer.
    pub rows: u64,
    /// How often everything is measured; the lowest counts.
    pub rounds: usize,
    /// How long pgbench runs in each case, without and with the trigger.
    pub pgbench_seconds: u64,
}
