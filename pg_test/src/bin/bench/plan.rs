//! What a run is to be.

/// What every section is told.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything smaller and shorter, for daily use.
    pub quick: bool,
}
