//! When a trigger fires.

/// When the trigger was defined to fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    Before,
    After,
    InsteadOf,
}
