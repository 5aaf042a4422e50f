//! What a measurement must know of the machine: what it is and what is installed on it, and the CPU
//! time and the memory that processes use.

use std::fs;
use std::path::Path;
use std::process::{self, Command};
use std::time::Duration;

use crate::RabbitMq;
use crate::installation::pg_config;

/// What was measured, on what, and when, for the line above a table.
pub fn environment() -> String {
    let postgres = pg_config("--version");
    // Debian appends the version of its package.
    let postgres = postgres.split_once(" (").map_or(postgres.as_str(), |(version, _)| version);
    let rabbitmq = RabbitMq::version();
    let (version, cores, model) = (env!("CARGO_PKG_VERSION"), cores(), cpu_model());
    format!(
        "{postgres}, RabbitMQ {rabbitmq}, amqp_cdc {version}, {cores} cores of {model}, {}",
        today()
    )
}

/// The date, in UTC.
fn today() -> String {
    let output = Command::new("date").args(["--utc", "+%Y-%m-%d"]).output();
    let output = output.unwrap_or_else(|error| panic!("could not run date: {error}"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The processor as the kernel names it.
pub fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    let model = lines.find(|(name, _)| name.trim() == "model name");
    model.map_or(std::env::consts::ARCH, |(_, model)| model.trim()).to_owned()
}

/// How many processors there are to run on.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The processes that a process started and that still run.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let pids = lists.flat_map(|list| {
        list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
    });
    pids.collect()
}

/// While this lives, worker and broker have the last core for themselves, and everybody else has the
/// others. Where there is only one, all share it as before.
#[derive(Debug)]
pub struct Apart {
    postmaster: u32,
    publishing: [u32; 2],
    /// All there are, as the kernel lists them (`0-2,5`).
    cores: String,
}

impl Apart {
    /// Parts them, given the processes. What this process, the postmaster and the broker start from now
    /// on stays with them.
    ///
    /// # Panics
    /// If the kernel does not let it.
    #[track_caller]
    pub fn set(postmaster: u32, worker: u32, broker: u32) -> Apart {
        let cores = allowed_cores();
        let apart = Apart { postmaster, publishing: [worker, broker], cores };
        let mut others = expand(&apart.cores);
        if let Some(last) = others.pop()
            && !others.is_empty()
        {
            let placed = apart.place(&others.join(","), &last);
            placed.unwrap_or_else(|problem| panic!("{problem}"));
        }
        apart
    }

    fn place(&self, writers: &str, publishing: &str) -> Result<(), String> {
        for pid in children(self.postmaster).into_iter().chain([self.postmaster, process::id()]) {
            place(pid, writers)?;
        }
        self.publishing.iter().try_for_each(|&pid| place(pid, publishing))
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Err(problem) = self.place(&self.cores, &self.cores) {
            eprintln!("{problem}");
        }
    }
}

/// The processors that this process may run on.
fn allowed_cores() -> String {
    status(process::id(), "Cpus_allowed_list")
}

/// The single cores of a list.
fn expand(cores: &str) -> Vec<String> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse().unwrap_or(0), last.parse().unwrap_or(0));
        (first..=last).map(|core: usize| core.to_string())
    };
    cores.split(',').flat_map(range).collect()
}

/// Has a process with all its threads, and what it starts from now on, run on these cores alone. One
/// that ended meanwhile needs none.
fn place(pid: u32, cores: &str) -> Result<(), String> {
    let output = Command::new("taskset")
        .args(["--all-tasks", "--pid", "--cpu-list", cores, &pid.to_string()])
        .output();
    let problem = match output {
        Ok(output) if output.status.success() || !Path::new(&format!("/proc/{pid}")).exists() => {
            return Ok(());
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    Err(format!("process {pid} is not on cores {cores}: {problem}"))
}

/// The time that the living threads of a process were on a CPU, to the nanosecond: the first of the
/// three numbers that the kernel keeps for each.
///
/// # Panics
/// If there is no such process.
#[track_caller]
pub fn cpu_time(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap_or_else(|error| panic!("no process {pid}: {error}"));
    // A thread may end meanwhile.
    let times = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

/// What the kernel says of a process's memory, in bytes: `VmRSS`, what is resident now; `VmHWM`, the
/// most that ever was (proc(5): `/proc/pid/status`).
///
/// # Panics
/// If there is no such process, or no such line.
#[track_caller]
pub fn memory(pid: u32, which: &str) -> u64 {
    let value = status(pid, which);
    let kilobytes = value.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    kilobytes.unwrap_or_else(|| panic!("{which} of process {pid} is {value}")) * 1024
}

/// How often a process has gone to sleep (proc(5): `voluntary_ctxt_switches`).
///
/// # Panics
/// If there is no such process.
#[track_caller]
pub fn sleeps(pid: u32) -> u64 {
    let value = status(pid, "voluntary_ctxt_switches");
    value.parse().unwrap_or_else(|_| panic!("process {pid} slept {value} times"))
}

/// The bytes that a process has read from files and pipes, of the page cache or the disk; not from sockets
/// (proc(5): `rchar` of `/proc/pid/io`).
///
/// # Panics
/// If there is no such process.
#[track_caller]
pub fn bytes_read(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/io");
    let io = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let value = io.lines().find_map(|line| line.strip_prefix("rchar:")?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{path} has no rchar"))
}

/// What `/proc/pid/status` has under this name (proc(5)).
#[track_caller]
fn status(pid: u32, name: &str) -> String {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("{path} has no {name}")).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cores_is_taken_apart() {
        assert_eq!(expand("0"), ["0"]);
        assert_eq!(expand("0-2,5,7-8"), ["0", "1", "2", "5", "7", "8"]);
    }
}
