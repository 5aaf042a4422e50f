//! What was captured while the broker was away: how fast it leaves when the broker is back, at the
//! end as at the start, and in how much memory. A broker whose queue has grown to a million messages is
//! slower than with an empty one: how much, a raw publisher shows, which fills another queue.

use std::time::Instant;

use pg_test::wait_until;

use crate::captured;
use crate::line::{Goal, Line};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::raw;
use crate::server::Server;
use crate::worker::Worker;

/// Bytes of a body.
const BODY: usize = 700;

/// Events per second of the last fifth in those of the first, in what that is for a raw publisher.
const OF_RAW: f64 = 0.9;

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
    let sample = |server: &mut Server| captured::write(&mut server.client, 1, 1, filler);
    let bytes = raw::keep_sample(&mut server, sample);
    assert_eq!(bytes, BODY);
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

    server.bind("classic");
    let raw = raw::publish(&server, events);
    let marks = samples.iter().map(|sample| (sample.at - samples[0].at, sample.confirmed));
    let ours = Progress { marks: marks.collect(), cpu: cpu.as_secs_f64() * 1e6 / events as f64 };
    let fifths = [&ours, &raw].map(|progress| {
        // The last of the raw publisher's is confirmed after its last mark.
        let all = progress.marks.last().map_or(0, |(_, confirmed)| *confirmed);
        [progress.between(0, events / 5), progress.between(events * 4 / 5, all)]
    });
    let [of_ours, of_raw] = fifths.map(|[first, last]| last / first);
    let rise = samples.windows(2).map(|pair| pair[1].lag_bytes.saturating_sub(pair[0].lag_bytes));
    let rise = rise.max().unwrap_or_default();
    let line = |what: &str, figure: String, goal: Option<Goal>| Line {
        name: format!("backlog of {events} events: {what}"),
        figure,
        goal,
    };
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
                "{:.0} ({:.1} µs of the worker's CPU an event); the raw publisher {:.0}",
                ours.overall().rate,
                ours.cpu,
                raw.overall().rate
            ),
            None,
        ),
        line(
            "events/s of the last fifth ÷ of the first, in that of the raw publisher",
            {
                let [[first, last], [raw_first, raw_last]] = fifths;
                format!(
                    "{:.2} ({of_ours:.2}: {last:.0} ÷ {first:.0} events/s; the raw publisher {of_raw:.2}: \
                     {raw_last:.0} ÷ {raw_first:.0})",
                    of_ours / of_raw
                )
            },
            Some(Goal::AtLeast { wanted: OF_RAW, reached: of_ours / of_raw }),
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
