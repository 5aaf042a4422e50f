//! Who writes by the clock: each transaction is due at a time that was fixed before, however long
//! those before it took. What waits for its turn because of them waits at the writer's cost.

use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Statement};

use crate::server::Server;
use pg_test::numbers::grouped;

/// Until the first transaction is due, everybody is there.
const HEAD_START: Duration = Duration::from_millis(20);

/// How much is written.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub clients: usize,
    /// Transactions of all clients.
    pub per_second: u32,
}

impl Load {
    /// As the table names it.
    pub fn name(self) -> String {
        let clients = if self.clients == 1 { "client" } else { "clients" };
        format!("{} {clients} at {}/s", self.clients, grouped(f64::from(self.per_second)))
    }
}

/// One transaction.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// The id of its one row.
    pub id: i64,
    /// Just before COMMIT was sent.
    pub committing: Instant,
    /// From BEGIN, or from when that was due and something before it was not done, until COMMIT
    /// returned.
    pub took: Duration,
}

/// Connected clients that write to one table.
pub struct Clients {
    load: Load,
    connections: Vec<(Client, Statement)>,
    next_id: i64,
}

impl Clients {
    /// `statement` inserts a row; its parameter is the row's id.
    pub fn connect(server: &Server, database: &str, load: Load, statement: &str) -> Clients {
        let connect = |_| {
            let mut client = server.connect_to(database);
            let statement = client.prepare(statement).expect("could not prepare the statement");
            (client, statement)
        };
        Clients { load, connections: (0..load.clients).map(connect).collect(), next_id: 1 }
    }

    /// Writes for this time.
    pub fn write(&mut self, time: Duration) -> Vec<Write> {
        let interval = Duration::from_secs(1) / self.load.per_second;
        let count = (time.as_secs_f64() / interval.as_secs_f64()) as u32;
        let begin = Instant::now() + HEAD_START;
        let (first_id, clients) = (self.next_id, self.load.clients);
        self.next_id += i64::from(count);
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for (number, (client, statement)) in self.connections.iter_mut().enumerate() {
                let turns = (0..count).skip(number).step_by(clients);
                let due = move |turn| (first_id + i64::from(turn), begin + interval * turn);
                threads.push(scope.spawn(move || write(client, statement, turns.map(due))));
            }
            let writes =
                threads.into_iter().map(|thread| thread.join().expect("a writer panicked"));
            writes.flatten().collect()
        })
    }
}

fn write(
    client: &mut Client,
    statement: &Statement,
    schedule: impl Iterator<Item = (i64, Instant)>,
) -> Vec<Write> {
    let write = |(id, due): (i64, Instant)| {
        let early = due.saturating_duration_since(Instant::now());
        // That the clock wakes us late is not the server's doing.
        let begin = if early.is_zero() {
            due
        } else {
            thread::sleep(early);
            Instant::now()
        };
        let mut transaction = client.transaction().expect("could not begin");
        transaction.execute(statement, &[&id]).expect("could not write");
        let committing = Instant::now();
        transaction.commit().expect("could not commit");
        Write { id, committing, took: begin.elapsed() }
    };
    schedule.map(write).collect()
}
