//! Compiles `floor.c` with the machine's C compiler against the headers of the PostgreSQL that is
//! measured: a library that its server loads by absolute path.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pg_test::installation;

/// The library, made in `folder`; or why there is none.
pub fn compile(folder: &Path) -> Result<PathBuf, String> {
    let source = folder.join("floor.c");
    let library = folder.join("floor.so");
    fs::write(&source, include_str!("floor.c"))
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
