//! What a measurement has to say: one line of the table.

use std::fmt::{self, Display, Formatter};

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Line {
    /// What was measured.
    pub name: String,
    /// What came out, the ratio first where there is one, then what it is made of:
    /// `0.97 (11,900 ÷ 12,300 events/s)`.
    pub figure: String,
    /// What was wanted, and whether it was reached.
    pub goal: Option<Goal>,
}

/// What was wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    AtLeast { wanted: f64, reached: f64 },
    AtMost { wanted: f64, reached: f64 },
}

impl Goal {
    pub fn is_met(self) -> bool {
        match self {
            Goal::AtLeast { wanted, reached } => reached >= wanted,
            Goal::AtMost { wanted, reached } => reached <= wanted,
        }
    }
}

impl Display for Goal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (sign, wanted) = match self {
            Goal::AtLeast { wanted, .. } => ('≥', wanted),
            Goal::AtMost { wanted, .. } => ('≤', wanted),
        };
        let verdict = if self.is_met() { "met" } else { "missed" };
        write!(f, "{sign} {wanted}: {verdict}")
    }
}
