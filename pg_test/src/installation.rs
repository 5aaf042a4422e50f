//! The PostgreSQL that `PG_CONFIG` belongs to.

use std::path::PathBuf;
use std::process::Command;

/// What pg_config answers to a question such as `--version`.
///
/// # Panics
/// If pg_config does not run.
pub fn pg_config(question: &str) -> String {
    let pg_config = std::env::var("PG_CONFIG").unwrap_or_else(|_| "pg_config".to_owned());
    let output = Command::new(&pg_config).arg(question).output();
    let output = output.unwrap_or_else(|error| panic!("could not run {pg_config}: {error}"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A directory that pg_config tells, such as `--bindir`.
///
/// # Panics
/// If pg_config does not run.
pub fn directory(which: &str) -> PathBuf {
    PathBuf::from(pg_config(which))
}

/// Whether an extension can be created.
pub fn has_extension(name: &str) -> bool {
    directory("--sharedir").join(format!("extension/{name}.control")).exists()
}
