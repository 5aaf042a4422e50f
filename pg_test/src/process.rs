//! A server's main process: started in a folder, signalled, waited for. Its output goes to a file
//! in that folder.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::folder::Folder;
use crate::{janitor, wait};

/// A child process that is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: &'static str,
}

impl Process {
    /// Starts `command` (from [`crate::ordinary_user::command`], so that its id is the server's)
    /// with its output appended to the file `log` in `folder`.
    pub fn start(name: &'static str, mut command: Command, folder: &Folder, log: &str) -> Process {
        let log = open_log(folder, log);
        let (key, value) = janitor::mark(folder.path());
        let child = command
            .env(key, value)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("could not duplicate the log's descriptor"))
            .stderr(log)
            // Ctrl-C ends the test process; the janitor then stops the servers, in its own way.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("could not start {name}: {error}"));
        Process { child, name }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it did.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    /// If it has not at the deadline.
    #[track_caller]
    pub fn wait(mut self, deadline: Duration) -> ExitStatus {
        match wait::poll(deadline, || self.exit_status()) {
            Some(status) => status,
            None => panic!("{} did not end within {deadline:?}", self.name),
        }
    }

    /// Sends a signal and waits until the process is gone.
    ///
    /// # Panics
    /// If it is still there at the deadline.
    #[track_caller]
    pub fn stop(mut self, signal: &str, deadline: Duration) -> ExitStatus {
        send_signal(self.id(), signal);
        match wait::poll(deadline, || self.exit_status()) {
            Some(status) => status,
            None => panic!("{} did not stop within {deadline:?} of SIG{signal}", self.name),
        }
    }

    /// Like [`Process::stop`], for destructors: never panics, and kills what does not obey.
    pub fn stop_or_kill(mut self, signal: &str) {
        let obeyed = try_to_signal(self.id(), signal)
            && wait::poll(Duration::from_secs(10), || self.child.try_wait().ok().flatten())
                .is_some();
        if !obeyed {
            drop(self);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether there is a process that has not ended, by itself or killed by a test.
pub(crate) fn is_running(process: &mut Option<Process>) -> bool {
    process.as_mut().is_some_and(|process| process.exit_status().is_none())
}

/// The processes that this one started and that have not ended.
pub(crate) fn children_of(process_id: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{process_id}/task/{process_id}/children"));
    children.unwrap_or_default().split_whitespace().flat_map(str::parse).collect()
}

/// Whether a process is gone, or dead and only not collected yet.
pub(crate) fn has_ended(process_id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process_id}/stat"));
    stat.map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

/// Sends a signal (`"KILL"`, `"STOP"`, …) to any process.
///
/// # Panics
/// If there is no such process.
#[track_caller]
pub fn send_signal(process_id: u32, signal: &str) {
    assert!(try_to_signal(process_id, signal), "could not send SIG{signal} to {process_id}");
}

/// Sends a signal to any process, and returns whether there was one. By way of the shell, whose `kill` is built in: the standard library knows SIGKILL only, and
/// this crate has no unsafe code.
pub fn try_to_signal(process_id: u32, signal: &str) -> bool {
    Command::new("sh")
        .args(["-c", r#"kill -s "$1" "$2""#, "kill", signal, &process_id.to_string()])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn open_log(folder: &Folder, name: &str) -> File {
    let path = folder.join(name);
    File::options()
        .create(true)
        .append(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("could not open {}: {error}", path.display()))
}
