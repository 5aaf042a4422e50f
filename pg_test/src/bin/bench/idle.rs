//! What the worker does while there is nothing to do: no WAL, no CPU time; and that it holds none
//! of the WAL back that others write.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use pg_test::{insert_lsn, wait_until};

use crate::captured;
use crate::foreign;
use crate::line::{Goal, Line};
use crate::plan::Plan;
use crate::server::Server;
use crate::worker::Worker;

/// CPU time that counts as none, in milliseconds.
const NO_CPU: f64 = 5.0;

/// The worker itself writes no later than this after the last event: where in the WAL it is.
const SETTLED: Duration = Duration::from_secs(3);

/// PostgreSQL itself writes no later than this after a change, once: the background writer's list of
/// running transactions comes every 15 seconds, if it is awake.
const QUIET: Duration = Duration::from_secs(17);

/// It sleeps fifty times as long when there is nothing to do.
const CONF: &[&str] = &["bgwriter_delay = '10ms'"];

/// Where the slot may be behind: within a segment, or by so much time.
const SEGMENT: u64 = 16 << 20;
const LATE: f64 = 10.0;

/// Bytes a second that others write while it is looked at how far the slot is behind.
const RATE: f64 = 10e6;

pub fn run(plan: &Plan) -> Vec<Line> {
    let mut server = Server::start(CONF);
    captured::make(&mut server.client);
    foreign::make(&mut server.client, 0);
    captured::write(&mut server.client, 100, 10, 500);
    let worker = Worker::of(&mut server);
    let mut lines = at_rest(plan, &mut server, &worker);
    lines.push(retained(plan, &mut server));
    lines
}

/// Nobody changes anything.
fn at_rest(plan: &Plan, server: &mut Server, worker: &Worker) -> Vec<Line> {
    let time = Duration::from_secs(if plan.quick { 5 } else { 60 });
    wait_until_unchanged(server, SETTLED);
    let end = wait_until_changed(server, QUIET);
    let cpu = worker.cpu();
    thread::sleep(time);
    let cpu = (worker.cpu() - cpu).as_secs_f64() * 1e3;
    let wal = (insert_lsn(&mut server.client) - end) as f64;
    let seconds = time.as_secs();
    vec![
        Line {
            name: format!("idle for {seconds} s: bytes of WAL written"),
            figure: format!("{wal}"),
            goal: Some(Goal::AtMost { wanted: 0.0, reached: wal }),
        },
        Line {
            name: format!("idle for {seconds} s: CPU time of the worker, ms"),
            figure: format!("{cpu:.2}"),
            goal: Some(Goal::AtMost { wanted: NO_CPU, reached: cpu }),
        },
    ]
}

/// Returns when the WAL has not grown for so long.
fn wait_until_unchanged(server: &mut Server, time: Duration) {
    let (mut end, mut since) = (insert_lsn(&mut server.client), Instant::now());
    wait_until("nobody writes WAL", server.patience(), || {
        let now = insert_lsn(&mut server.client);
        if now != end {
            (end, since) = (now, Instant::now());
        }
        (since.elapsed() > time).then_some(())
    });
}

/// Returns the end of the WAL when it has grown, or after so much time.
fn wait_until_changed(server: &mut Server, time: Duration) -> u64 {
    let (before, began) = (insert_lsn(&mut server.client), Instant::now());
    wait_until("the WAL has grown", server.patience(), || {
        let now = insert_lsn(&mut server.client);
        (now != before || began.elapsed() > time).then_some(now)
    })
}

/// Others write, and the slot follows: for how long at most WAL is retained, beyond one segment.
fn retained(plan: &Plan, server: &mut Server) -> Line {
    let time = Duration::from_secs(if plan.quick { 12 } else { 60 });
    let mut writer = server.connect();
    // What was written when, as far as the slot is not there yet but for a segment.
    let mut behind = VecDeque::from([(Instant::now(), insert_lsn(&mut server.client))]);
    let (mut most_bytes, mut longest) = (0, 0.0_f64);
    foreign::write_paced(&mut writer, RATE, time, || {
        let end = insert_lsn(&mut server.client);
        let restart = server.restart_lsn();
        behind.push_back((Instant::now(), end));
        behind.retain(|&(_, lsn)| lsn > restart + SEGMENT);
        most_bytes = most_bytes.max(end - restart);
        if let Some((since, _)) = behind.front() {
            longest = longest.max(since.elapsed().as_secs_f64());
        }
    });
    Line {
        name: "WAL of others: seconds until the slot follows, but for one segment".to_owned(),
        figure: format!(
            "{longest:.1} (at {:.0} MB/s; {:.0} MB retained at most)",
            RATE / 1e6,
            most_bytes as f64 / 1e6
        ),
        goal: Some(Goal::AtMost { wanted: LATE, reached: longest }),
    }
}
