//! Stops servers whatever happens to the test process: a panic, an exit (which drops no statics),
//! a SIGKILL. The janitor is a child process that reads a pipe whose other end only we have; when
//! it reads the end of it, we are gone, and it stops every server that carries one of our folders
//! in its environment, and removes the folders.

use std::io::{PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

/// What every process of a server carries in its environment, so that the janitor finds it: its
/// folder. No list of process ids could be complete, and ids are used again.
const MARK: &str = "PG_TEST_FOLDER";

const SCRIPT: &str = include_str!("janitor.sh");

/// The signal that stops a server at once.
#[derive(Clone, Copy, Debug)]
pub enum StopSignal {
    /// PostgreSQL's immediate shutdown: the postmaster takes its children along.
    Quit,
    /// For what shuts down gracefully, or not at all, on anything else.
    Kill,
}

/// Our end of the pipe. The standard library makes it close on exec: no server inherits it, which
/// would keep the janitor waiting for the server it is to stop.
static PIPE: LazyLock<Mutex<PipeWriter>> = LazyLock::new(|| Mutex::new(start()));

/// Has the server in `folder` stopped, and the folder removed, when this process is gone.
pub(crate) fn look_after(folder: &Path, stop: StopSignal) {
    let signal = match stop {
        StopSignal::Quit => "QUIT",
        StopSignal::Kill => "KILL",
    };
    let line = format!("{signal} {}\n", folder.display());
    let mut pipe = PIPE.lock().unwrap_or_else(PoisonError::into_inner);
    pipe.write_all(line.as_bytes()).expect("the janitor is gone");
}

/// The mark of a process that belongs to the server in `folder`.
pub(crate) fn mark(folder: &Path) -> (&'static str, String) {
    // The slash ends it: folder 1 must not be found in the mark of folder 12.
    (MARK, format!("{}/", folder.display()))
}

#[expect(clippy::zombie_processes, reason = "it outlives us: that is what it is for")]
fn start() -> PipeWriter {
    let (reader, writer) = std::io::pipe().expect("could not make a pipe");
    Command::new("sh")
        .args(["-c", SCRIPT, "pg_test_janitor"])
        .current_dir("/")
        .stdin(reader)
        // Not ours: who reads our output to its end must not wait for the janitor.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C signals the terminal's process group; the janitor has to outlive us.
        .process_group(0)
        .spawn()
        .expect("could not start the janitor");
    writer
}
