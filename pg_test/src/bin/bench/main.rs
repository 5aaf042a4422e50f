//! `make bench`: how fast events get from commit to queue, and what that costs, beside what a user
//! would otherwise run. Prints a table that the README can take as it is.
#![forbid(unsafe_code)]

mod line;

/// What a run is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything smaller and shorter, for daily use.
    pub quick: bool,
}

fn main() {}
