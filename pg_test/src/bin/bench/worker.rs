//! The worker's process: its CPU time, its memory, and making it stand still while something is
//! prepared for it.

use std::time::Duration;

use pg_test::machine::Apart;
use pg_test::{DEADLINE, machine, send_signal, wait_until};

use crate::server::Server;

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    pid: u32,
}

/// A worker that is stopped, as by SIGSTOP, until this is dropped.
#[derive(Debug)]
pub struct Stopped<'a>(&'a Worker);

impl Worker {
    /// The worker of a server, once it is connected to its broker and has read the WAL.
    pub fn of(server: &mut Server) -> Worker {
        const PID: &str = "SELECT max(worker_pid) FROM amqp.status WHERE state = 'streaming'";
        let pid =
            wait_until("the worker is streaming", DEADLINE, || server.ask::<Option<i32>>(PID));
        server.settle();
        Worker { pid: pid as u32 }
    }

    /// The CPU time of all its threads so far.
    pub fn cpu(&self) -> Duration {
        machine::cpu_time(self.pid)
    }

    /// The bytes that it has read so far, of the WAL all but a few.
    pub fn bytes_read(&self) -> u64 {
        machine::bytes_read(self.pid)
    }

    /// Its resident memory now, in bytes.
    pub fn resident(&self) -> u64 {
        machine::memory(self.pid, "VmRSS")
    }

    /// The most that its resident memory ever was, in bytes: the kernel's own mark, which no sample
    /// misses.
    pub fn peak(&self) -> u64 {
        machine::memory(self.pid, "VmHWM")
    }

    /// Gives it and the broker a core of their own.
    pub fn part(&self, server: &Server) -> Apart {
        Apart::set(server.bed.postgres.pid(), self.pid, server.bed.rabbitmq.pid())
    }

    /// Stops it. Short of a heartbeat's time the broker does not mind.
    pub fn stop(&self) -> Stopped<'_> {
        send_signal(self.pid, "STOP");
        Stopped(self)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        send_signal(self.0.pid, "CONT");
    }
}
