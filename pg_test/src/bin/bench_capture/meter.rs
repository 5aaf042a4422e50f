//! What statements of one session cost: the CPU time of its backend, as the kernel accounts it in
//! nanoseconds, and the bytes that the server's WAL grew by. Worker and broker beside it run in
//! other processes and do not count; whoever else uses the machine does through the caches, which
//! is why the lowest of several measurements counts.

use pg_test::insert_lsn;
use pg_test::machine::cpu_time;
use postgres::Client;

/// The backend of a session.
#[derive(Debug)]
pub struct Meter {
    pid: u32,
}

/// Of one statement, or (a difference of two, divided) of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// CPU time in microseconds.
    pub micros: f64,
    /// WAL in bytes.
    pub wal: f64,
}

impl Meter {
    pub fn of(client: &mut Client) -> Meter {
        let row = client.query_one("SELECT pg_backend_pid()", &[]);
        let pid: i32 = row.expect("could not ask for pg_backend_pid()").get(0);
        Meter { pid: pid as u32 }
    }

    /// Runs `statement` and tells what it cost.
    pub fn measure(&self, client: &mut Client, statement: &str) -> Cost {
        let wal = insert_lsn(client);
        let began = cpu_time(self.pid);
        let done = client.batch_execute(statement);
        let spent = cpu_time(self.pid) - began;
        done.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        Cost { micros: spent.as_secs_f64() * 1e6, wal: (insert_lsn(client) - wal) as f64 }
    }
}

impl Cost {
    pub const ZERO: Cost = Cost { micros: 0.0, wal: 0.0 };

    /// What is above everything.
    pub const INFINITE: Cost = Cost { micros: f64::INFINITY, wal: f64::INFINITY };

    /// The lower CPU time and the lower WAL, of whichever measurement.
    pub fn lowest(self, other: Cost) -> Cost {
        Cost { micros: self.micros.min(other.micros), wal: self.wal.min(other.wal) }
    }

    /// Both together.
    pub fn and(self, other: Cost) -> Cost {
        Cost { micros: self.micros + other.micros, wal: self.wal + other.wal }
    }

    /// What this costs more than `other`.
    pub fn over(self, other: Cost) -> Cost {
        Cost { micros: self.micros - other.micros, wal: self.wal - other.wal }
    }

    pub fn per(self, rows: u64) -> Cost {
        Cost { micros: self.micros / rows as f64, wal: self.wal / rows as f64 }
    }
}
