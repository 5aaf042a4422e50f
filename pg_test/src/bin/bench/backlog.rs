//! What was captured while the broker was away: how fast it leaves when the broker is back, at the
//! end as at the start, and in how much memory.

use std::time::{Duration, Instant};

use pg_test::wait_until;

use crate::Plan;
use crate::captured;
use crate::line::{Goal, Line};
use crate::server::Server;
use crate::worker::Worker;

/// Bytes of a body.
const BODY: usize = 700;

/// Events per second of the last fifth in those of the first.
const OF_FIRST_FIFTH: f64 = 0.9;

/// What `amqp.status` shows at one time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    confirmed: u64,
    lag_bytes: u64,
    catch_up_seconds: Option<f64>,
}

pub fn run(plan: &Plan) -> Vec<Line> {
    let events: u64 = if plan.quick { 30_000 } else { 1_000_000 };
    let mut server = Server::start(&[]);
    captured::make(&mut server.client);
    let worker = Worker::of(&mut server);
    let filler = BODY - captured::smallest_body(&mut server);
    server.bind("classic");
    server.settle();
    let (resident, before) = (worker.resident(), server.confirmed());

    server.bed.rabbitmq.stop();
    captured::write(&mut server.client, events, 1, filler);
    eprintln!("{events} events are captured");
    server.bed.rabbitmq.start();
    let cpu = worker.cpu();
    let samples = drain(&mut server, before, events);
    let cpu = worker.cpu() - cpu;
    let growth = worker.peak().saturating_sub(resident) as f64 / 1e6;

    let (first, last) = (rate(&samples, 0, events / 5), rate(&samples, events * 4 / 5, events));
    let whole = rate(&samples, 0, events);
    let rise = samples.windows(2).map(|pair| pair[1].lag_bytes.saturating_sub(pair[0].lag_bytes));
    let rise = rise.max().unwrap_or_default();
    let line = |what: &str, figure: String, goal: Option<Goal>| Line {
        name: format!("backlog of {events} events: {what}"),
        figure,
        goal,
    };
    let ratio = last / first;
    let half = when(&samples, events / 2);
    let took = samples[samples.len() - 1].at - half.at;
    vec![
        line(
            "time left as `amqp.status` estimates it half way ÷ as it was, s",
            match half.catch_up_seconds {
                Some(estimate) => {
                    let took = took.as_secs_f64();
                    format!("{:.2} ({estimate:.1} ÷ {took:.1})", estimate / took)
                }
                None => "no estimate".to_owned(),
            },
            None,
        ),
        line(
            "drained, events/s",
            format!(
                "{whole:.0} ({:.1} µs of the worker's CPU an event)",
                cpu.as_secs_f64() * 1e6 / events as f64
            ),
            None,
        ),
        line(
            "events/s of the last fifth ÷ of the first",
            format!("{ratio:.2} ({last:.0} ÷ {first:.0} events/s)"),
            Some(Goal::AtLeast { wanted: OF_FIRST_FIFTH, reached: ratio }),
        ),
        line("growth of the worker's memory at most, MB", format!("{growth:.0}"), None),
        line(
            "`lag_bytes` in `amqp.status`",
            format!(
                "falls from {:.0} to {:.0} MB; of {} samples none is above the one before by more \
                 than {:.1} kB",
                samples[0].lag_bytes as f64 / 1e6,
                samples[samples.len() - 1].lag_bytes as f64 / 1e6,
                samples.len(),
                rise as f64 / 1e3
            ),
            None,
        ),
    ]
}

/// What the status shows from the first confirm to the last.
fn drain(server: &mut Server, before: u64, events: u64) -> Vec<Sample> {
    const STATUS: &str = "SELECT events_confirmed, lag_bytes, catch_up_seconds FROM amqp.status";
    let mut samples = Vec::new();
    wait_until("the backlog is drained", server.patience(), || {
        let row = server.client.query_one(STATUS, &[]).expect("could not read amqp.status");
        let (confirmed, lag): (i64, i64) = (row.get(0), row.get(1));
        let confirmed = confirmed as u64 - before;
        if confirmed > 0 {
            samples.push(Sample {
                at: Instant::now(),
                confirmed,
                lag_bytes: lag as u64,
                catch_up_seconds: row.get(2),
            });
        }
        (confirmed >= events).then_some(())
    });
    samples
}

/// The first sample with so many events confirmed.
fn when(samples: &[Sample], count: u64) -> Sample {
    *samples.iter().find(|sample| sample.confirmed >= count).expect("all were confirmed")
}

/// Events per second between two counts of confirmed events.
fn rate(samples: &[Sample], from: u64, to: u64) -> f64 {
    let (from, to) = (when(samples, from), when(samples, to));
    let time: Duration = to.at - from.at;
    (to.confirmed - from.confirmed) as f64 / time.as_secs_f64()
}
