//! What TLS to the broker costs: two servers, of which one speaks TLS, take turns beside one broker. Throughput is
//! that of a backlog, from the first confirm to the last; CPU is that of the worker's whole life, beside that of a
//! lapin publisher over TLS, which sends the same message; latency is from commit to a consumer in clear.
//!
//! The broker is on the same machine and encrypts, too. What that costs it shows where no queue is bound, so that it has
//! little else to do.

use std::sync::Arc;
use std::time::Duration;

use pg_test::numbers::{grouped, lower_quartile, median, percentile};
use pg_test::{Authority, CertificateFiles, RabbitMq, Subject as CertificateSubject, TlsListener};

use crate::captured;
use crate::clients::{Clients, Load, Subject};
use crate::line::{Goal, Line};
use crate::plan::Plan;
use crate::progress::{Look, Pace};
use crate::raw;
use crate::receiver::Receiver;
use crate::server::Server;
use crate::worker::Worker;

/// Of the events per second in clear.
const RATE: f64 = 0.9;

/// In the time in clear.
const LATENCY: f64 = 1.15;

/// Bytes of a body, and how many there are of it.
const BODIES: [(usize, u64); 2] = [(1_000, 60_000), (10_000, 20_000)];

const LOADS: [Load; 2] =
    [Load { clients: 1, per_second: 300 }, Load { clients: 8, per_second: 1_000 }];

/// In clear, over TLS.
type Both<T> = [T; 2];

/// Rows of a transaction: a few, as programs write them.
const ROWS: u64 = 10;

pub fn run(plan: &Plan) -> Vec<Line> {
    let files = CertificateFiles::new();
    let authority = Authority::new("bench");
    let root = files.put("root.pem", authority.certificate());
    let identity = authority.issue(CertificateSubject::server(&["127.0.0.1"]));
    let listener = TlsListener::new(&files, "broker", &identity);
    let rabbitmq = Arc::new(RabbitMq::create_with_tls(&listener));
    let port = rabbitmq.tls_port();
    let secured = [
        format!("amqp.port = {port}"),
        "amqp.sslmode = 'verify-full'".to_owned(),
        format!("amqp.sslrootcert = '{}'", root.display()),
    ];
    let secured = secured.each_ref().map(String::as_str);
    let mut both = [&[][..], &secured].map(|conf| Server::start_beside(&rabbitmq, conf));
    both.iter_mut().for_each(|server| captured::make(&mut server.client));

    let (rounds, part) = if plan.quick { (1, 10) } else { (3, 1) };
    let mut lines = Vec::new();
    let smallest = captured::smallest_body(&mut both[0]);
    for (bytes, events) in BODIES {
        let (filler, events) = (bytes - smallest, events / part);
        for is_bound in [true, false] {
            let paces =
                in_turn(&mut both, rounds, |server| from_backlog(server, filler, events, is_bound));
            lines.extend(backlog_lines(bytes, is_bound, &paces));
            if is_bound {
                let write = |server: &mut Server| captured::write(&mut server.client, 1, 1, filler);
                raw::keep_sample(&mut both[0], write);
                both[0].bind("classic");
                let url = format!("amqps://guest:guest@127.0.0.1:{port}/%2f");
                let raw = raw::publish_over_tls(&url, &root, events).cpu;
                let [_, ours] = paces.map(|paces| median(paces.iter().map(|pace| pace.cpu)));
                lines.push(Line {
                    name: format!(
                        "TLS, bodies of {bytes} bytes: CPU an event, worker ÷ lapin's publisher over TLS"
                    ),
                    figure: format!("{:.2} ({ours:.1} ÷ {raw:.1} µs)", ours / raw),
                    goal: None,
                });
            }
        }
    }
    let (rounds, time) = if plan.quick { (3, 0.4) } else { (40, 0.5) };
    for load in LOADS {
        lines.extend(latency_lines(&mut both, load, rounds, Duration::from_secs_f64(time)));
    }
    lines.push(memory_line(&mut both, if plan.quick { 1 } else { 5 }));
    lines
}

/// Of each server in turn, every second round the other way round.
fn in_turn<T>(
    both: &mut Both<Server>,
    rounds: usize,
    mut measure: impl FnMut(&mut Server) -> T,
) -> Both<Vec<T>> {
    let mut measured = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for turn in [0, 1] {
            let which = (turn + round) % 2;
            measured[which].push(measure(&mut both[which]));
        }
    }
    measured
}

/// Writes rows while there is no broker, and lets them go.
fn from_backlog(server: &mut Server, filler: usize, events: u64, is_bound: bool) -> Pace {
    server.part();
    captured::write(&mut server.client, events / ROWS, ROWS, filler);
    if is_bound {
        server.bind("classic");
    } else {
        server.unbind();
    }
    server.rejoin();
    let pace = Look::at_birth().watch(&mut server.client, events).overall();
    eprintln!("{} events/s, {:.1} µs", grouped(pace.rate), pace.cpu);
    pace
}

fn backlog_lines(bytes: usize, is_bound: bool, paces: &Both<Vec<Pace>>) -> [Line; 2] {
    let of =
        |which: fn(&Pace) -> f64| paces.each_ref().map(|paces| median(paces.iter().map(which)));
    let [plain, tls] = of(|pace| pace.rate);
    let [plain_cpu, tls_cpu] = of(|pace| pace.cpu);
    let queue = if is_bound { "classic queue" } else { "no queue bound" };
    let name = |what: &str| format!("TLS, bodies of {bytes} bytes, {queue}: {what}");
    let ratio = tls / plain;
    let goal = is_bound.then_some(Goal::AtLeast { wanted: RATE, reached: ratio });
    let emphasis = if goal.is_some() { "**" } else { "" };
    [
        Line {
            name: name("events/s from a backlog, over TLS ÷ in clear"),
            figure: format!(
                "{emphasis}{ratio:.2}{emphasis} ({} ÷ {} events/s)",
                grouped(tls),
                grouped(plain)
            ),
            goal,
        },
        Line {
            name: name("CPU of the worker an event, over TLS ÷ in clear"),
            figure: format!("{:.2} ({tls_cpu:.1} ÷ {plain_cpu:.1} µs)", tls_cpu / plain_cpu),
            goal: None,
        },
    ]
}

/// From commit to consumer.
fn latency_lines(both: &mut Both<Server>, load: Load, rounds: usize, time: Duration) -> [Line; 2] {
    const PARTS: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];
    both[0].bind("classic");
    let receiver = Receiver::start(both[0].broker().url(), both[0].queue());
    let mut clients = both.each_mut().map(|server| {
        server.run("TRUNCATE article");
        server.settle();
        let insert = "INSERT INTO article VALUES ($1, repeat('x', 480))".to_owned();
        Clients::connect(server, load, &[Subject { database: server.database(), insert }])
    });
    // The first round is for what is done once.
    let mut slices = [Vec::new(), Vec::new()];
    for round in 0..=rounds {
        for which in [round % 2, (round + 1) % 2] {
            let writes = clients[which].write(time);
            let received = receiver.take(writes.len());
            let times = writes.iter().map(|write| match received.get(&write.id) {
                Some(&at) => at - write.committing,
                None => panic!("row {} came not, another one twice", write.id),
            });
            let mut times: Vec<Duration> = times.collect();
            if round > 0 {
                slices[which].push(PARTS.map(|(_, part)| percentile(&mut times, part)));
            }
        }
    }
    [0, 1].map(|number| {
        let of = |slices: &Vec<[f64; 2]>| lower_quartile(slices.iter().map(|slice| slice[number]));
        let [plain, tls] = slices.each_ref().map(of);
        let (ratio, (part, _)) = (tls / plain, PARTS[number]);
        let goal = (part == "p50").then_some(Goal::AtMost { wanted: LATENCY, reached: ratio });
        let emphasis = if goal.is_some() { "**" } else { "" };
        Line {
            name: format!(
                "TLS, {}: latency from commit to consumer, {part}, over TLS ÷ in clear",
                load.name()
            ),
            figure: format!(
                "{emphasis}{ratio:.2}{emphasis} ({} ÷ {} µs)",
                grouped(tls),
                grouped(plain)
            ),
            goal,
        }
    })
}

/// Of workers that were just born, and are connected.
fn memory_line(both: &mut Both<Server>, rounds: usize) -> Line {
    let residents = in_turn(both, rounds, |server| {
        server.rejoin();
        Worker::of(server).resident() as f64 / 1e3
    });
    let [plain, tls] = residents.map(median);
    Line {
        name: "TLS: resident memory of a worker that is connected, over TLS − in clear, kB"
            .to_owned(),
        figure: format!("{:.0} ({} − {})", tls - plain, grouped(tls), grouped(plain)),
        goal: None,
    }
}
