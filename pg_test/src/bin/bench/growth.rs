//! How the worker's cost of an event grows with the size of transactions and bodies, and with the
//! number of writers and databases. The events go into a durable classic queue that is bound, anew
//! for each point. Writers write beside the worker; all else is captured before the worker goes on,
//! so that what is measured is the draining.

use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;

use crate::captured;
use crate::line::Line;
use crate::plan::Plan;
use crate::server::Server;
use crate::worker::Worker;

/// Bytes of the filler, where it is not its size that grows.
const FILLER: usize = 450;

/// Bytes that all bodies of a point have together, at most.
const BYTES: u64 = 200_000_000;

/// One point.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Events of a transaction.
    Events(u64),
    /// Bytes of a value in the row.
    Value(usize),
    /// Sessions that write at the same time.
    Writers(u64),
    /// Databases in which is written, in turn.
    Databases(usize),
}

const SHAPES: [Shape; 14] = [
    Shape::Events(1),
    Shape::Events(10),
    Shape::Events(1_000),
    Shape::Events(100_000),
    Shape::Value(100),
    Shape::Value(1_000),
    Shape::Value(10_000),
    Shape::Value(100_000),
    Shape::Value(1_000_000),
    Shape::Writers(1),
    Shape::Writers(4),
    Shape::Writers(16),
    Shape::Databases(1),
    Shape::Databases(50),
];

const QUICK_SHAPES: [Shape; 4] =
    [Shape::Events(1_000), Shape::Value(100_000), Shape::Writers(4), Shape::Databases(10)];

/// What draining cost.
#[derive(Clone, Copy, Debug)]
struct Drained {
    events: u64,
    cpu: Duration,
    took: Duration,
}

pub fn run(plan: &Plan) -> Vec<Line> {
    let (shapes, events) =
        if plan.quick { (&QUICK_SHAPES[..], 5_000) } else { (&SHAPES[..], 50_000) };
    let mut server = Server::start(&[]);
    captured::make(&mut server.client);
    let envelope = captured::smallest_body(&mut server);
    let worker = Worker::of(&mut server);
    // What the process does once, such as asking for memory, belongs to no point.
    measure(&mut server, &worker, Shape::Events(1_000), events);
    let line = |&shape: &Shape| {
        let drained = measure(&mut server, &worker, shape, events);
        eprintln!("{shape:?}: {drained:?}");
        shape.line(drained, envelope)
    };
    shapes.iter().map(line).collect()
}

fn measure(server: &mut Server, worker: &Worker, shape: Shape, events: u64) -> Drained {
    let mut clients = shape.clients(server);
    server.bind("classic");
    server.settle();
    let before = server.confirmed();
    let cpu = worker.cpu();
    let began = if let Shape::Writers(writers) = shape {
        let began = Instant::now();
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(move || captured::write(client, events / writers, 1, FILLER));
            }
        });
        began
    } else {
        let _stopped = worker.stop();
        shape.write(&mut clients, events);
        Instant::now()
    };
    server.settle();
    let (took, cpu) = (began.elapsed(), worker.cpu() - cpu);
    let events = server.confirmed() - before;
    server.unbind();
    Drained { events, cpu, took }
}

impl Shape {
    /// The sessions that write.
    fn clients(self, server: &Server) -> Vec<Client> {
        match self {
            Shape::Writers(writers) => (0..writers).map(|_| server.connect()).collect(),
            Shape::Databases(1) | Shape::Events(_) | Shape::Value(_) => vec![server.connect()],
            Shape::Databases(databases) => {
                let make = |number| {
                    let mut client = server.make_database(&format!("further_{number}"));
                    captured::make(&mut client);
                    client
                };
                (0..databases).map(make).collect()
            }
        }
    }

    /// Commits about `events` events.
    fn write(self, clients: &mut [Client], events: u64) {
        match self {
            Shape::Events(size) => {
                captured::write(&mut clients[0], events.div_ceil(size), size, FILLER);
            }
            Shape::Value(size) => {
                let events = events.min(BYTES / size as u64);
                captured::write(&mut clients[0], events, 1, size);
            }
            Shape::Writers(_) | Shape::Databases(_) => {
                // In turn: one after the other they would be as good as one.
                const TURNS: u64 = 10;
                let transactions = events / TURNS / clients.len() as u64;
                for _ in 0..TURNS {
                    for client in clients.iter_mut() {
                        captured::write(client, transactions, 1, FILLER);
                    }
                }
            }
        }
    }

    fn line(self, drained: Drained, envelope: usize) -> Line {
        let Drained { events, cpu, took } = drained;
        let name = match self {
            Shape::Events(1) => "1 event a transaction".to_owned(),
            Shape::Events(size) => format!("{size} events a transaction"),
            Shape::Value(size) => format!("a value of {size} B (a body of {})", size + envelope),
            Shape::Writers(1) => "1 writer beside the worker".to_owned(),
            Shape::Writers(writers) => format!("{writers} writers beside the worker"),
            Shape::Databases(1) => "1 database".to_owned(),
            Shape::Databases(databases) => format!("{databases} databases in turn"),
        };
        let per_second = events as f64 / took.as_secs_f64();
        let bytes = match self {
            Shape::Value(size) => {
                format!(", {:.1} MB/s", per_second * (size + envelope) as f64 / 1e6)
            }
            _ => String::new(),
        };
        let micros = cpu.as_secs_f64() * 1e6 / events as f64;
        let figure =
            format!("{micros:.1} µs of the worker's CPU an event, {per_second:.0} events/s{bytes}");
        Line { name: format!("growth: {name}"), figure, goal: None }
    }
}
