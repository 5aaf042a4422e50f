//! Compiles a few lines of C with the machine's C compiler against the headers of the PostgreSQL that is
//! tested: a library that its server loads by absolute path.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::installation;

/// The library, made in `folder` under this name.
///
/// # Errors
/// Why there is none.
pub fn compile(folder: &Path, name: &str, code: &str) -> Result<PathBuf, String> {
    let source = folder.join(format!("{name}.c"));
    let library = folder.join(format!("{name}.so"));
    fs::write(&source, code)
        .map_err(|error| format!("could not write {}: {error}", source.display()))?;
    let output = Command::new("cc")
        .args(["-O2", "-fPIC", "-shared", "-I"])
        .arg(installation::directory("--includedir-server"))
        .arg("-o")
        .arg(&library)
        .arg(&source)
        .output()
        .map_err(|error| format!("there is no C compiler: {error}"))?;
    if !output.status.success() {
        return Err(format!("cc: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(library)
}
