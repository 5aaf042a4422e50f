//! Small files in the data directory that a later life of a process reads: written durably, whole or not at all.

use std::fs::{self, File};
use std::io::{Result, Write};

/// Writes this text in place of what the file held. Where that fails the text before is still there.
///
/// # Errors
///
/// If the file cannot be written.
pub fn replace(file: &str, text: &str) -> Result<()> {
    let unfinished = format!("{file}.tmp");
    write(File::create(&unfinished)?, text)?;
    fs::rename(&unfinished, file)?;
    sync_directory()
}

/// Writes this text into a file that was just made.
///
/// # Errors
///
/// If it cannot be written.
pub fn fill(file: File, text: &str) -> Result<()> {
    write(file, text)?;
    sync_directory()
}

fn write(mut file: File, text: &str) -> Result<()> {
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The server's processes run in the data directory.
fn sync_directory() -> Result<()> {
    File::open(".")?.sync_all()
}
