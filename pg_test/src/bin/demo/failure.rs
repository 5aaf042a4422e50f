//! Why the demo cannot go on.

/// A failure in words for the reader.
#[derive(Debug)]
pub struct Failure {
    pub what: String,
    /// What the reader can do about it.
    pub mend: String,
}

impl Failure {
    pub fn new(what: impl Into<String>, mend: impl Into<String>) -> Failure {
        Failure { what: what.into(), mend: mend.into() }
    }
}
