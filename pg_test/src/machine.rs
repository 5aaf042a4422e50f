//! What a measurement must know of the machine: what it is and what is installed on it, and the CPU
//! time and the memory that processes use.

use std::fs;
use std::process::{self, Command};
use std::time::Duration;

use crate::RabbitMq;
use crate::installation::pg_config;

/// What was measured, on what, and when, for the line above a table.
pub fn scenery() -> String {
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
/// others. A machine with one core is shared by all as before.
#[derive(Debug)]
pub struct Apart {
    postmaster: u32,
    publishing: [u32; 2],
    /// All there are.
    cores: String,
}

impl Apart {
    /// Parts them, given the processes. What this process, the postmaster and the broker start from now
    /// on stays with them.
    ///
    /// # Panics
    /// If a process is not there.
    #[track_caller]
    pub fn set(postmaster: u32, worker: u32, broker: u32) -> Apart {
        let last = cores() - 1;
        let apart = Apart { postmaster, publishing: [worker, broker], cores: format!("0-{last}") };
        apart.place(&format!("0-{}", last.saturating_sub(1)), &last.to_string());
        apart
    }

    #[track_caller]
    fn place(&self, writers: &str, publishing: &str) {
        for pid in children(self.postmaster).into_iter().chain([self.postmaster, process::id()]) {
            place(pid, writers);
        }
        for pid in self.publishing {
            place(pid, publishing);
        }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.place(&self.cores, &self.cores);
    }
}

/// Has a process with all its threads, and what it starts from now on, run on these cores alone
/// (`0-2,5`).
///
/// # Panics
/// If the cores or the process are not there.
#[track_caller]
fn place(pid: u32, cores: &str) {
    let output = Command::new("taskset")
        .args(["--all-tasks", "--pid", "--cpu-list", cores, &pid.to_string()])
        .output()
        .expect("could not run taskset");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "process {pid} on cores {cores}: {errors}");
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
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = status.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_else(|| panic!("{path} has no {which}")) * 1024
}
