//! From commit to consumer, beside a relay of NOTIFY, once without confirms and once with them; and
//! what the writer itself notices of each, beside a table without a trigger. All take turns, in short
//! slices of time: the machine's speed changes within seconds. Percentiles are those of the slices, of
//! which the lower quartile counts: what others do on the machine falls on some slices only, and only
//! ever adds.
//!
//! PostgreSQL waits for its disk, as it is set up (`fsync`), and the broker writes to another one, as it
//! would on a machine of its own: here to memory. All processes share the cores nevertheless. What the
//! writer itself pays shows when worker and broker have a core of their own; then tables with and without
//! a trigger take turns of a tenth of a second, so that whatever happens on the machine happens to all of
//! them. Beside that, how it is with no disk to wait for, which hides nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::clients::{Clients, Load, Subject, Write};
use crate::line::{Goal, Line};
use crate::plan::Plan;
use crate::plot::{Group, Panel, Plot};
use crate::receiver::Receiver;
use crate::relay::{self, Relay};
use crate::server::{self, Server};
use crate::worker::Worker;
use pg_test::RabbitMq;
use pg_test::numbers::{grouped, lower_quartile, percentile};

/// What is wanted at most.
#[derive(Clone, Copy, Debug)]
struct Goals {
    /// From commit to consumer, in the relay's.
    way: f64,
    /// The writer's time in that without a trigger.
    writer: f64,
}

const GOALS: Goals = Goals { way: 1.0, writer: 1.05 };

/// What writers do in turn while worker and broker are apart.
const APART: [Way; 3] = [Way::Nobody, Way::Ours, Way::IdleTrigger];

/// For how long they do it at a time: ten turns of each.
const APART_ROUND: Duration = Duration::from_secs(3);

const LOADS: [Load; 2] =
    [Load { clients: 1, per_second: 300 }, Load { clients: 8, per_second: 1_000 }];

/// Who tells others of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nobody,
    Ours,
    Relay,
    ConfirmedRelay,
    /// Nobody, but with a trigger that is called: what PostgreSQL takes for that.
    IdleTrigger,
}

impl Way {
    /// Those that all take turns.
    const ALL: [Way; 4] = [Way::Nobody, Way::Ours, Way::Relay, Way::ConfirmedRelay];

    /// Each relay has a database of its own, and so have sessions with settings of their own.
    fn database(self, server: &Server) -> &'static str {
        match self {
            Way::Nobody | Way::Ours => server.database(),
            Way::Relay => "relayed",
            Way::ConfirmedRelay => "relayed_with_confirms",
            Way::IdleTrigger => "idle",
        }
    }

    fn table(self) -> &'static str {
        match self {
            Way::Nobody => "bare",
            Way::Ours | Way::IdleTrigger => "captured",
            Way::Relay | Way::ConfirmedRelay => "notified",
        }
    }
}

/// What is told of many times, and which part of them does not exceed it.
const PARTS: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];

/// Of one slice of time, the [`PARTS`] in microseconds.
#[derive(Clone, Copy, Debug)]
struct Slice {
    /// Of the writers' transactions.
    writer: [f64; 2],
    /// From commit to consumer.
    way: Option<[f64; 2]>,
}

const TABLES: &str = "
    CREATE TABLE bare (id bigint PRIMARY KEY, filler text NOT NULL);
    CREATE TABLE captured (LIKE bare INCLUDING ALL);
    CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON captured
        FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture();";

/// Makes the database of a relay, and the relay.
fn relay(server: &Server, way: Way, with_confirms: bool) -> Relay {
    let mut client = server.make_database(way.database(server));
    let tables = format!(
        "CREATE TABLE notified (id bigint PRIMARY KEY, filler text NOT NULL);
         CREATE FUNCTION notify() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN PERFORM pg_notify('{}', row_to_json(NEW)::text); RETURN NULL; END $$;
         CREATE TRIGGER notify AFTER INSERT ON notified
             FOR EACH ROW EXECUTE FUNCTION notify();",
        relay::CHANNEL
    );
    server::run(&mut client, &tables);
    Relay::start(server, way.database(server), with_confirms)
}

/// Makes the database where the trigger does nothing.
fn make_idle_trigger(server: &Server) {
    let database = Way::IdleTrigger.database(server);
    let mut client = server.make_database(database);
    let capture = format!("ALTER DATABASE {database} SET amqp.capture = off");
    server::run(&mut client, &format!("{TABLES} {capture}"));
}

pub fn run(plan: &Plan, plot: &mut Plot) -> Vec<Line> {
    let (rounds, time) =
        if plan.quick { (6, Duration::from_millis(400)) } else { (80, Duration::from_millis(500)) };
    let rabbitmq = Arc::new(RabbitMq::create_in_memory());
    let mut server = Server::start_beside(&rabbitmq, &[]);
    server.bed.postgres.set("fsync", "on");
    server.run(TABLES);
    server.bind("classic");
    let receiver = Receiver::start(server.broker().url(), server.queue());
    let relays = [(Way::Relay, false), (Way::ConfirmedRelay, true)]
        .map(|(way, with_confirms)| relay(&server, way, with_confirms));

    let mut lines = Vec::new();
    let mut groups = Vec::new();
    for load in LOADS {
        let slices = measure(&mut server, &receiver, load, rounds, time);
        lines.extend(lines_of(&load.name(), &slices, Some(GOALS)));
        let [_, ours, relay, _] = &slices;
        for (number, (name, _)) in PARTS.into_iter().enumerate() {
            let millis = |slices: &[Slice]| of_way(slices, number) / 1_000.0;
            groups.push(Group::new(
                &format!("{}: {name}", load.name()),
                [millis(ours), millis(relay)],
            ));
        }
    }
    if !plan.quick {
        server.bed.postgres.set("fsync", "off");
        for load in LOADS {
            let slices = measure(&mut server, &receiver, load, rounds / 2, time);
            lines.extend(lines_of(&format!("{}, `fsync = off`", load.name()), &slices, None));
        }
        server.bed.postgres.set("fsync", "on");
    }
    drop(relays);
    if !plan.quick {
        drop(receiver);
        make_idle_trigger(&server);
        for load in LOADS {
            lines.extend(writer_apart(&mut server, load, rounds / 4));
        }
    }
    plot.add(Panel {
        title: "milliseconds from commit to consumer".to_owned(),
        hint: "less is better".to_owned(),
        series: ["amqp_cdc", "LISTEN/NOTIFY relay"],
        groups,
    });
    lines
}

/// The slices of each way.
fn measure(
    server: &mut Server,
    receiver: &Receiver,
    load: Load,
    rounds: usize,
    time: Duration,
) -> [Vec<Slice>; Way::ALL.len()] {
    let mut clients = Way::ALL.map(|way| connect(server, load, &[way]));
    take_turns(rounds, |number| {
        let way = Way::ALL[number];
        let slice = slice(&mut clients[number], way, receiver, time);
        let Slice { writer, way: there } = slice;
        eprintln!("{}, {way:?}: writer {writer:.0?} µs, consumer {there:.0?} µs", load.name());
        slice
    })
}

/// The slices of each, by its number. The first round does not count: caches are cold, plans not made.
/// Each round begins with another one: what a predecessor leaves is not always the same.
fn take_turns<const N: usize>(
    rounds: usize,
    mut slice: impl FnMut(usize) -> Slice,
) -> [Vec<Slice>; N] {
    let mut slices = [const { Vec::new() }; N];
    for round in 0..=rounds {
        for number in (0..N).map(|turn| (turn + round) % N) {
            let slice = slice(number);
            if round > 0 {
                slices[number].push(slice);
            }
        }
    }
    slices
}

/// Clients that write to empty tables.
fn connect(server: &mut Server, load: Load, ways: &[Way]) -> Clients {
    let mut subjects = Vec::new();
    for way in ways {
        let (database, table) = (way.database(server), way.table());
        server::run(&mut server.connect_to(database), &format!("TRUNCATE {table}"));
        let insert = format!("INSERT INTO {table} VALUES ($1, repeat('x', 480))");
        subjects.push(Subject { database, insert });
    }
    server.settle();
    Clients::connect(server, load, &subjects)
}

/// What the writer notices with worker and broker on a core of their own, and nobody to receive.
fn writer_apart(server: &mut Server, load: Load, rounds: usize) -> Vec<Line> {
    server.unbind();
    let mut clients = connect(server, load, &APART);
    let worker = Worker::of(server);
    let _apart = worker.part(server);
    let woken = writers_in_turn(rounds, || clients.write(APART_ROUND));
    let not_woken = writers_in_turn(rounds, || {
        let stopped = worker.stop();
        let writes = clients.write(APART_ROUND);
        drop(stopped);
        server.settle();
        writes
    });
    let lines = |(number, (part, _)): (usize, (&str, f64))| {
        let name = format!(
            "writer's transaction, worker and broker on a core of their own, {}, {part}",
            load.name()
        );
        let of = |slices: &[Vec<Slice>; 3], which: usize| {
            [which, 0].map(|which| of_writer(&slices[which], number))
        };
        let captured = format!("{name}: captured ÷ no trigger");
        let not_woken_for = format!("{name}: captured, but the worker not woken ÷ no trigger");
        let idle = format!("{name}: amqp.capture = off ÷ no trigger");
        [
            line(captured, of(&woken, 1), Some(GOALS.writer)),
            line(not_woken_for, of(&not_woken, 1), None),
            line(idle, of(&woken, 2), None),
        ]
    };
    PARTS.into_iter().enumerate().flat_map(lines).collect()
}

/// The slices of each of [`APART`]. The first round does not count.
fn writers_in_turn(rounds: usize, mut write: impl FnMut() -> Vec<Write>) -> [Vec<Slice>; 3] {
    let mut slices = [const { Vec::new() }; 3];
    for round in 0..=rounds {
        let writes = write();
        for (number, way) in APART.into_iter().enumerate() {
            let of_way = writes.iter().filter(|write| write.subject == number);
            let writer = percentiles(of_way.map(|write| write.took).collect());
            eprintln!("{way:?}, apart: writer {writer:.0?} µs");
            if round > 0 {
                slices[number].push(Slice { writer, way: None });
            }
        }
    }
    slices
}

fn slice(clients: &mut Clients, way: Way, receiver: &Receiver, time: Duration) -> Slice {
    let writes = clients.write(time);
    let writer = of_writers(&writes);
    if way == Way::Nobody {
        return Slice { writer, way: None };
    }
    let received = receiver.take(writes.len());
    let times = writes.iter().map(|write| match received.get(&write.id) {
        Some(&at) => at - write.committing,
        None => panic!("row {} came not, another one twice", write.id),
    });
    Slice { writer, way: Some(percentiles(times.collect())) }
}

fn of_writers(writes: &[Write]) -> [f64; 2] {
    percentiles(writes.iter().map(|write| write.took).collect())
}

fn percentiles(mut times: Vec<Duration>) -> [f64; 2] {
    PARTS.map(|(_, part)| percentile(&mut times, part))
}

/// Of the writer's transactions.
fn of_writer(slices: &[Slice], number: usize) -> f64 {
    lower_quartile(slices.iter().map(|slice| slice.writer[number]))
}

/// From commit to consumer.
fn of_way(slices: &[Slice], number: usize) -> f64 {
    lower_quartile(slices.iter().filter_map(|slice| slice.way).map(|way| way[number]))
}

fn lines_of(load: &str, slices: &[Vec<Slice>; Way::ALL.len()], goals: Option<Goals>) -> Vec<Line> {
    let [bare, ours, relay, confirmed] = slices;
    let mut lines = Vec::new();
    for (number, (part, _)) in PARTS.into_iter().enumerate() {
        let latency =
            format!("latency from commit to consumer, {load}, {part}: ours ÷ NOTIFY relay");
        let there = of_way(ours, number);
        lines.push(line(
            latency.clone(),
            [there, of_way(relay, number)],
            goals.map(|goals| goals.way),
        ));
        lines.push(line(
            format!("{latency} with confirms"),
            [there, of_way(confirmed, number)],
            None,
        ));
        let [bare, ours, relay] = [bare, ours, relay].map(|slices| of_writer(slices, number));
        let writer = format!("writer's transaction, {load}, {part}");
        lines.push(line(
            format!("{writer}: captured ÷ no trigger"),
            [ours, bare],
            goals.map(|goals| goals.writer),
        ));
        lines.push(line(format!("{writer}: NOTIFY trigger ÷ no trigger"), [relay, bare], None));
    }
    lines
}

fn line(name: String, [one, other]: [f64; 2], wanted: Option<f64>) -> Line {
    let ratio = one / other;
    let emphasis = if wanted.is_some() { "**" } else { "" };
    Line {
        name,
        figure: format!(
            "{emphasis}{ratio:.2}{emphasis} ({} ÷ {} µs)",
            grouped(one),
            grouped(other)
        ),
        goal: wanted.map(|wanted| Goal::AtMost { wanted, reached: ratio }),
    }
}
