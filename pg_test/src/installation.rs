//! The PostgreSQL that `PG_CONFIG` belongs to.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
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

/// Makes an installation below `folder` that differs from ours by further files among the extensions', each a name and
/// its text, and returns the folder of its server. The program is a copy, the rest are links: the server finds its files from where its
/// program is (path.c: `make_relative_path`).
///
/// # Panics
/// If it cannot be made.
pub fn with_extension_files(folder: &Path, files: &[(&str, &str)]) -> PathBuf {
    let own = |which: &str| folder.join(which.trim_start_matches('/'));
    let done = |result: std::io::Result<()>, what: &Path| {
        result.unwrap_or_else(|error| panic!("could not make {}: {error}", what.display()));
    };
    let link_all = |from: &Path, to: &Path, but: &[&str]| {
        done(fs::create_dir_all(to), to);
        let entries =
            fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        let is_wanted = |entry: &fs::DirEntry| !but.iter().any(|name| entry.file_name() == *name);
        for entry in entries.filter_map(Result::ok).filter(is_wanted) {
            let link = to.join(entry.file_name());
            done(symlink(entry.path(), &link), &link);
        }
    };
    let [programs, libraries, share] = ["--bindir", "--pkglibdir", "--sharedir"].map(pg_config);
    let (own_programs, own_libraries) = (own(&programs), own(&libraries));
    done(fs::create_dir_all(&own_programs), &own_programs);
    let server = own_programs.join("postgres");
    done(fs::copy(Path::new(&programs).join("postgres"), &server).map(drop), &server);
    link_all(Path::new(&libraries), &own_libraries, &[]);
    link_all(Path::new(&share), &own(&share), &["extension"]);
    let extensions = own(&share).join("extension");
    let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
    link_all(&Path::new(&share).join("extension"), &extensions, &names);
    for (name, text) in files {
        done(fs::write(extensions.join(name), text), &extensions.join(name));
    }
    own_programs
}
