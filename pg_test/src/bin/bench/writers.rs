//! Eight sessions that insert rows as fast as they can, each row a transaction of its own.

use std::thread::{self, JoinHandle};
use std::time::Instant;

use postgres::Client;

use crate::server::Server;

const WRITERS: u64 = 8;

/// They write.
pub struct Writers {
    rows: u64,
    began: Instant,
    threads: Vec<JoinHandle<Instant>>,
}

impl Writers {
    /// All together execute this statement, which writes one row, so many times.
    pub fn start(server: &Server, statement: &str, rows: u64) -> Writers {
        let clients: Vec<_> = (0..WRITERS).map(|_| server.connect()).collect();
        let start = |client| {
            let statement = statement.to_owned();
            thread::spawn(move || write(client, &statement, rows / WRITERS))
        };
        let began = Instant::now();
        Writers { rows, began, threads: clients.into_iter().map(start).collect() }
    }

    /// Returns when everything is written, with the rows committed per second.
    pub fn finish(self) -> f64 {
        let ends = self.threads.into_iter().map(|thread| thread.join().expect("a writer panicked"));
        let end = ends.max().expect("there are writers");
        self.rows as f64 / (end - self.began).as_secs_f64()
    }
}

/// Tells when it was done.
fn write(mut client: Client, statement: &str, rows: u64) -> Instant {
    let statement = client.prepare(statement).expect("could not prepare the statement");
    for _ in 0..rows {
        client.execute(&statement, &[]).expect("could not write");
    }
    Instant::now()
}
