//! One transaction of very many rows: when its first event is out, and how much memory the worker
//! takes for all of them.

use std::time::{Duration, Instant};

use pg_test::DEADLINE;

use crate::captured;
use crate::line::{Goal, Line};
use crate::plan::Plan;
use crate::server::Server;
use crate::worker::Worker;

/// Bytes of a body.
const BODY: usize = 700;

/// Seconds from the commit to the first event.
const FIRST: f64 = 1.0;

pub fn run(plan: &Plan) -> Vec<Line> {
    let rows: u64 = if plan.quick { 30_000 } else { 1_000_000 };
    let mut server = Server::start(&[]);
    captured::make(&mut server.client);
    let worker = Worker::of(&mut server);
    let filler = BODY - captured::smallest_body(&mut server);
    let queue = server.bind("classic");
    let consumer = server.bed.rabbitmq.broker().consume(&queue);
    server.settle();
    let (resident, cpu) = (worker.resident(), worker.cpu());

    server.run("BEGIN");
    server.run(&format!(
        "INSERT INTO article (filler) SELECT repeat('x', {filler}) FROM generate_series(1, {rows})"
    ));
    server.run("COMMIT");
    let committed = Instant::now();
    let first =
        consumer.next_within(DEADLINE + Duration::from_secs(60)).map(|_| committed.elapsed());
    let first = first.expect("the first event did not come").as_secs_f64();
    // The others wait in the queue: a consumer here would take from the broker and the worker.
    drop(consumer);
    server.settle();
    let all = committed.elapsed().as_secs_f64();
    let cpu = worker.cpu() - cpu;
    let growth = worker.peak().saturating_sub(resident) as f64 / 1e6;

    let line = |what: &str, figure: String, goal: Option<Goal>| Line {
        name: format!("one transaction of {rows} rows: {what}"),
        figure,
        goal,
    };
    vec![
        line(
            "seconds from the commit to the first event",
            format!("{first:.2} (of {all:.1} until the last is confirmed)"),
            Some(Goal::AtMost { wanted: FIRST, reached: first }),
        ),
        line("growth of the worker's memory at most, MB", format!("{growth:.0}"), None),
        line(
            "drained, events/s",
            format!(
                "{:.0} ({:.1} µs of the worker's CPU an event)",
                rows as f64 / (all - first),
                cpu.as_secs_f64() * 1e6 / rows as f64
            ),
            None,
        ),
    ]
}
