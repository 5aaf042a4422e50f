//! The PostgreSQL that `PG_CONFIG` belongs to, by its directories.

use std::path::PathBuf;
use std::process::Command;

/// A directory that pg_config tells, such as `--bindir`.
///
/// # Panics
/// If pg_config does not run.
pub fn directory(which: &str) -> PathBuf {
    let pg_config = std::env::var("PG_CONFIG").unwrap_or_else(|_| "pg_config".to_owned());
    let output = Command::new(&pg_config).arg(which).output();
    let output = output.unwrap_or_else(|error| panic!("could not run {pg_config}: {error}"));
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// Whether an extension can be created.
pub fn has_extension(name: &str) -> bool {
    directory("--sharedir").join(format!("extension/{name}.control")).exists()
}
