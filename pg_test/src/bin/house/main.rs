//! Checks that the source is built as `src/lib.rs` says, and prints what is not, and where:
//!
//! 1. `unsafe`, `pg_sys` and what depends on PostgreSQL's version are in `src/pg/` alone.
//! 2. Nothing is imported out of `src/pg/` but leaf modules, which import nothing but each other.
//! 3. No files import each other in a circle.
//! 4. No file has more than 450 lines.
//!
//! It reads the source as words and signs, without macros expanded, and takes each path in it for an import.
//! Test modules do not count.

mod graph;
mod rules;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = BTreeMap::new();
    for folder in ["src", "pg_test/src"] {
        if let Err(error) = read(&root, folder, &mut files) {
            eprintln!("{folder} cannot be read: {error}");
            return ExitCode::FAILURE;
        }
    }
    let problems = rules::problems(&files);
    for problem in &problems {
        println!("{problem}");
    }
    println!("{} files, {} problems", files.len(), problems.len());
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Adds the source files below a folder, by their path below the root.
fn read(root: &Path, folder: &str, files: &mut BTreeMap<String, String>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            read(root, &path, files)?;
        } else if path.ends_with(".rs") {
            files.insert(path, fs::read_to_string(entry.path())?);
        }
    }
    Ok(())
}
