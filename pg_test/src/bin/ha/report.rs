//! What a subject has to tell in the end: a table for the document, and what was not as promised.

use std::fmt::{self, Display, Formatter};

/// Of one subject.
#[derive(Debug, Default)]
pub struct Report {
    /// In Markdown.
    pub table: String,
    /// What was not as promised, a line for each.
    pub findings: Vec<String>,
}

impl Report {
    /// Whether everything was as promised.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.table.trim_end())?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "not as promised: {finding}"))
    }
}
