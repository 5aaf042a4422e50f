//! The label of the backup that a server came from, and the mark that says which of them is settled.

use std::fs;
use std::io::Result;

use crate::note_file;

/// What PostgreSQL makes of a backup's label once it was read (xlog.c: `BACKUP_LABEL_OLD`). A server that initdb made
/// has none.
const LABEL_FILE: &str = "backup_label.old";

/// The mark's file, in the data directory. Backups copy it.
pub const FILE: &str = "amqp_cdc.restored";

const SETTLED: &str =
    "This server publishes, or takes over from one that does. The backup that it came from:\n";
const UNSETTLED: &str = "This server was restored, and has published nothing since.\n";

/// A backup's label; empty: there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label(pub String);

/// What is noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing, or what no version that is known wrote.
    Missing,
    /// The server that was made of the backup with this label may publish.
    Settled(Label),
    /// The server was restored, and nothing is settled.
    Unsettled,
}

impl Label {
    /// The label of the backup that this server came from. One that cannot be read is none.
    pub fn read() -> Label {
        Label(read(LABEL_FILE))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the backup is called, and when it began (xlogbackup.c: `build_backup_content`).
    pub fn name_and_time(&self) -> Option<(&str, &str)> {
        let value = |name| self.0.lines().find_map(|line| line.strip_prefix(name));
        Some((value("LABEL: ")?, value("START TIME: ")?))
    }
}

impl Mark {
    /// What is noted in the data directory.
    pub fn read() -> Mark {
        Mark::parse(&read(FILE))
    }

    fn parse(text: &str) -> Mark {
        match text.strip_prefix(SETTLED) {
            Some(label) => Mark::Settled(Label(label.to_owned())),
            None if text == UNSETTLED => Mark::Unsettled,
            None => Mark::Missing,
        }
    }

    fn text(&self) -> String {
        match self {
            Mark::Missing => String::new(),
            Mark::Settled(label) => format!("{SETTLED}{}", label.0),
            Mark::Unsettled => UNSETTLED.to_owned(),
        }
    }

    /// Notes it, durably, and whole or not at all.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self) -> Result<()> {
        note_file::replace(FILE, &self.text())
    }
}

fn read(file: &str) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_is_written() {
        let label = "START TIME: 2026-11-30 12:00:00 UTC\nLABEL: nightly\nSTART TIMELINE: 1\n";
        let marks = [
            Mark::Settled(Label(label.to_owned())),
            Mark::Settled(Label::default()),
            Mark::Unsettled,
        ];
        for mark in marks {
            assert_eq!(Mark::parse(&mark.text()), mark);
        }
        assert_eq!(Mark::parse("something else"), Mark::Missing);
    }

    #[test]
    fn a_label_tells_the_backup_s_name_and_time() {
        let label = |text: &str| Label(text.to_owned());
        let whole = label(
            "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nSTART TIME: 2026-11-30 12:00:00 UTC\nLABEL: a: b\n",
        );
        assert_eq!(whole.name_and_time(), Some(("a: b", "2026-11-30 12:00:00 UTC")));
        assert_eq!(label("LABEL: a\n").name_and_time(), None);
        assert!(label("").is_empty());
    }
}
