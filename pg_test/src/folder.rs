//! A server's temporary folder: owned by the ordinary user, known to the janitor before anything
//! runs in it, removed when dropped.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::janitor::{self, StopSignal};
use crate::ordinary_user;

/// A folder of a server.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

/// Where a folder is.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// Under /tmp (not $TMPDIR: paths of Unix sockets must be short).
    Disk,
    /// In the shared memory's file system (shm_overview(7)): what is written there waits for no disk,
    /// and lets nobody wait for one.
    Memory,
}

impl Folder {
    /// Makes a folder for a server that `stop` stops at once.
    pub fn new(place: Place, stop: StopSignal) -> Folder {
        let path = make_unique(match place {
            Place::Disk => "/tmp",
            Place::Memory => "/dev/shm",
        });
        ordinary_user::give(&path);
        janitor::look_after(&path, stop);
        Folder { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file that belongs to the ordinary user.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, text)
            .unwrap_or_else(|error| panic!("could not write {}: {error}", path.display()));
        ordinary_user::give(&path);
        path
    }

    /// The text of a file, or nothing if it is not there (yet).
    pub fn read(&self, name: &str) -> String {
        fs::read(self.join(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now, the janitor removes later.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The end of a log, as much as is worth printing when a test fails.
pub(crate) fn tail(log: &str) -> String {
    const LINES: usize = 200;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn make_unique(parent: &str) -> PathBuf {
    static MADE: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("{parent}/pg_test.{}.{number}", process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return path,
            // Left by a dead process with our id whose janitor was killed, too.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            Err(error) => panic!("could not make {}: {error}", path.display()),
        }
    }
}
