//! What the worker does in a second whatever the broker does: a backlog into a peer that acknowledges and
//! drops, and the part of what one core gives at the worker's CPU an event.

use std::time::Instant;

use crate::captured;
use crate::line::{Goal, Line};
use crate::plan::Plan;
use crate::server::Server;
use crate::sink;
use crate::worker::Worker;

/// Bytes of a value in a row, and how many rows there are of it.
const ROWS: [(usize, u64); 3] = [(30, 600_000), (700, 300_000), (9_800, 100_000)];

/// Of what one core gives at that CPU an event.
const PART: f64 = 0.9;

pub fn run(plan: &Plan) -> Vec<Line> {
    let port = sink::open();
    let mut server = Server::start(&[&format!("amqp.port = {port}")]);
    captured::make(&mut server.client);
    let worker = Worker::of(&mut server);
    let part = if plan.quick { 10 } else { 1 };
    // What the process does once belongs to no line.
    measure(&mut server, &worker, 700, 20_000);
    ROWS.map(|(bytes, rows)| measure(&mut server, &worker, bytes, rows / part)).into()
}

fn measure(server: &mut Server, worker: &Worker, bytes: usize, rows: u64) -> Line {
    /// Rows of a transaction: a few, as programs write them.
    const SIZE: u64 = 10;
    server.settle();
    let (confirmed, cpu) = (server.confirmed(), worker.cpu());
    let stopped = worker.stop();
    captured::write(&mut server.client, rows / SIZE, SIZE, bytes);
    drop(stopped);
    let began = Instant::now();
    server.settle();
    let (took, cpu) = (began.elapsed().as_secs_f64(), (worker.cpu() - cpu).as_secs_f64());
    let events = (server.confirmed() - confirmed) as f64;
    let micros = cpu * 1e6 / events;
    let reached = cpu / took;
    Line {
        name: format!(
            "ceiling: rows of {bytes} bytes into a peer that drops them, ÷ what one core gives at that CPU an event"
        ),
        figure: format!(
            "**{reached:.2}** ({:.0} thousand events/s, {micros:.1} µs of the worker's CPU an event)",
            events / took / 1e3
        ),
        goal: Some(Goal::AtLeast { wanted: PART, reached }),
    }
}
