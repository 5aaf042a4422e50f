//! Runs programs as an ordinary user. initdb and postgres refuse to run as root, and containers
//! and CI usually are root; so root runs them as the OS user that Debian's package made. Anybody
//! else runs them as himself.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// Who runs the servers when we are root.
const USER: &str = "postgres";

/// The servers' user and group id, or `None` if servers run as whoever we are.
static IDS: LazyLock<Option<(u32, u32)>> =
    LazyLock::new(|| is_root().then(|| (id("--user"), id("--group"))));

/// A command that runs `program` as an ordinary user. Its process id is the program's: nothing
/// forks in between, so it can be signalled and waited for like any child.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    if IDS.is_none() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args([format!("--reuid={USER}"), format!("--regid={USER}")])
        .args(["--init-groups", "--"])
        .arg(program);
    command
}

/// Makes the ordinary user the owner of `path` (not of what is in it).
pub(crate) fn give(path: &Path) {
    if let Some((user, group)) = *IDS {
        std::os::unix::fs::chown(path, Some(user), Some(group))
            .unwrap_or_else(|error| panic!("could not give {} away: {error}", path.display()));
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn id(which: &str) -> u32 {
    let output = Command::new("id").args([which, USER]).output();
    let output = output.expect("could not run id");
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("we are root, and there is no user {USER} to run servers as"))
}
