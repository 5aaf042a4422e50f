//! Changes in the middle of statements: what it costs the worker to tell the order of each transaction's
//! changes, where all are late, beside the same rows written one statement after the other.
//!
//! Each transaction writes a row and its parent. Where it is late, a BEFORE trigger writes the parent, so
//! that the row's record in the WAL has to be looked for; else a statement of its own does.

use std::thread;
use std::time::Duration;

use postgres::Client;

use crate::line::{Goal, Line};
use crate::plan::Plan;
use crate::server::{Server, run as run_statements};
use crate::worker::Worker;

/// Sessions whose transactions lie in each other's midst.
const CLIENTS: u64 = 40;

/// WAL that is read again, of the WAL that is written.
const READ_AGAIN: f64 = 1.2;

const SETUP: &str = "
    CREATE TABLE parent (id bigserial PRIMARY KEY, filler text);
    CREATE TABLE late (id bigserial, parent bigint, filler text);
    CREATE TABLE plain (LIKE late INCLUDING ALL);
    CREATE FUNCTION write_parent(filler text) RETURNS bigint LANGUAGE sql
        AS 'INSERT INTO parent (filler) VALUES (filler) RETURNING id';
    CREATE FUNCTION with_parent() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN NEW.parent := write_parent(NEW.filler); RETURN NEW; END';
    CREATE TRIGGER parent BEFORE INSERT ON late FOR EACH ROW EXECUTE FUNCTION with_parent();
    CREATE TRIGGER capture AFTER INSERT ON parent
        FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture();
    CREATE TRIGGER capture AFTER INSERT ON late
        FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('row');
    CREATE TRIGGER capture AFTER INSERT ON plain
        FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('row');
    CREATE PROCEDURE write(transactions int, is_late bool) LANGUAGE plpgsql AS $$
    DECLARE
        value text := repeat('x', 400);
        parent bigint;
    BEGIN
        FOR n IN 1..transactions LOOP
            IF is_late THEN
                INSERT INTO late (filler) VALUES (value);
            ELSE
                parent := write_parent(value);
                INSERT INTO plain (parent, filler) VALUES (parent, value);
            END IF;
            COMMIT;
        END LOOP;
    END $$";

/// What the worker took.
#[derive(Clone, Copy, Debug)]
struct Taken {
    events: u64,
    /// Bytes of WAL that were written.
    written: u64,
    /// Bytes that the worker read.
    read: u64,
    cpu: Duration,
}

impl Taken {
    fn micros(self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.events as f64
    }
}

pub fn run(plan: &Plan) -> Vec<Line> {
    let transactions: u64 = if plan.quick { 4_000 } else { 40_000 };
    let mut server = Server::start(&[]);
    server.run(SETUP);
    let worker = Worker::of(&mut server);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.connect()).collect();
    server.bind("classic");
    // What the process does once belongs to nobody.
    measure(&mut server, &worker, &mut clients, transactions / 4, true, false);
    let mut lines = Vec::new();
    for (name, is_backlog) in [("from a backlog", true), ("live", false)] {
        let mut take =
            |late| measure(&mut server, &worker, &mut clients, transactions, late, is_backlog);
        let (plain, late) = (take(false), take(true));
        eprintln!("{name}: {plain:?}, {late:?}");
        lines.extend(told(name, plain, late));
    }
    lines
}

fn measure(
    server: &mut Server,
    worker: &Worker,
    clients: &mut [Client],
    transactions: u64,
    is_late: bool,
    is_backlog: bool,
) -> Taken {
    server.settle();
    let before = (server.confirmed(), server.end_of_wal(), worker.bytes_read(), worker.cpu());
    {
        let _stopped = is_backlog.then(|| worker.stop());
        let statement = format!("CALL write({}, {is_late})", transactions / CLIENTS);
        thread::scope(|scope| {
            for client in clients {
                scope.spawn(|| run_statements(client, &statement));
            }
        });
    }
    server.settle();
    Taken {
        events: server.confirmed() - before.0,
        written: server.end_of_wal() - before.1,
        read: worker.bytes_read() - before.2,
        cpu: worker.cpu() - before.3,
    }
}

fn told(name: &str, plain: Taken, late: Taken) -> [Line; 2] {
    let name = format!("changes in the middle of statements, {CLIENTS} clients, {name}");
    let again = |taken: Taken| taken.read as f64 / taken.written as f64 - 1.0;
    let read_again = again(late) - again(plain).max(0.0);
    [
        Line {
            name: format!("{name}: WAL read again ÷ written"),
            figure: format!(
                "{read_again:.2} ({:.0} MB written, {:.0} MB read in all)",
                late.written as f64 / 1e6,
                late.read as f64 / 1e6
            ),
            goal: Some(Goal::AtMost { wanted: READ_AGAIN, reached: read_again }),
        },
        Line {
            name: format!(
                "{name}: worker's CPU an event where every transaction is late ÷ where none is"
            ),
            figure: format!(
                "{:.2} ({:.1} ÷ {:.1} µs)",
                late.micros() / plain.micros(),
                late.micros(),
                plain.micros()
            ),
            goal: None,
        },
    ]
}
