//! Who writes by the clock: each transaction is due at a time that was fixed before, however long
//! those before it took. What waits for its turn because of them waits at the writer's cost.

use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Statement};

use crate::server::Server;
use pg_test::numbers::grouped;

/// Until the first transaction is due, everybody is there.
const HEAD_START: Duration = Duration::from_millis(20);

/// How long one subject is written to until it is another one's turn: so short that the machine's speed
/// does not change meanwhile, so long that each mostly follows itself.
const TURN: Duration = Duration::from_millis(100);

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
    /// The number of what was written to.
    pub subject: usize,
    /// The id of its one row.
    pub id: i64,
    /// Just before COMMIT was sent.
    pub committing: Instant,
    /// From BEGIN, or from when that was due and something before it was not done, until COMMIT
    /// returned.
    pub took: Duration,
}

/// What is written to.
#[derive(Clone, Debug)]
pub struct Subject {
    pub database: &'static str,
    /// Inserts a row; its parameter is the row's id.
    pub insert: String,
}

/// A client: a session for each subject.
type Sessions = Vec<(Client, Statement)>;

/// Connected clients that all write to one subject after the other, in turn.
pub struct Clients {
    load: Load,
    clients: Vec<Sessions>,
    next_id: i64,
}

impl Clients {
    /// None has written yet.
    pub fn connect(server: &Server, load: Load, subjects: &[Subject]) -> Clients {
        let connect = |subject: &Subject| {
            let mut client = server.connect_to(subject.database);
            let insert = client.prepare(&subject.insert).expect("could not prepare the statement");
            (client, insert)
        };
        let clients = (0..load.clients).map(|_| subjects.iter().map(connect).collect()).collect();
        Clients { load, clients, next_id: 1 }
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
            for (number, sessions) in self.clients.iter_mut().enumerate() {
                let turns = (0..count).skip(number).step_by(clients);
                let subjects = sessions.len() as u32;
                let due = move |turn| Due {
                    id: first_id + i64::from(turn),
                    at: begin + interval * turn,
                    subject: ((interval * turn).div_duration_f64(TURN) as u32 % subjects) as usize,
                };
                threads.push(scope.spawn(move || write(sessions, turns.map(due))));
            }
            let writes =
                threads.into_iter().map(|thread| thread.join().expect("a writer panicked"));
            writes.flatten().collect()
        })
    }
}

/// A transaction to be.
struct Due {
    id: i64,
    at: Instant,
    subject: usize,
}

fn write(sessions: &mut Sessions, schedule: impl Iterator<Item = Due>) -> Vec<Write> {
    let write = |Due { id, at, subject }: Due| {
        let (client, insert) = &mut sessions[subject];
        let early = at.saturating_duration_since(Instant::now());
        // That the clock wakes us late is not the server's doing.
        let begin = if early.is_zero() {
            at
        } else {
            thread::sleep(early);
            Instant::now()
        };
        let mut transaction = client.transaction().expect("could not begin");
        transaction.execute(&*insert, &[&id]).expect("could not write");
        let committing = Instant::now();
        transaction.commit().expect("could not commit");
        Write { subject, id, committing, took: begin.elapsed() }
    };
    schedule.map(write).collect()
}
