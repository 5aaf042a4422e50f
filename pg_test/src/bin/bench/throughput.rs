//! Events per second that are confirmed, and the CPU that each costs, beside a raw publisher of the
//! same messages: from a backlog, with nothing else to do, and live, while eight sessions write the
//! events as fast as they can. Beside the raw publisher they write as many rows to a table without
//! trigger, so that both have the same company on the same cores.
//!
//! From a backlog the upper quartile of the seconds counts, live the time until all rows are committed
//! and all messages confirmed, whichever comes last: no second is like another then.
//!
//! From a backlog CPU is that of the whole life of both processes: the worker begins to read ahead
//! before the first event is confirmed.

use std::time::Instant;

use crate::line::{Goal, Line};
use crate::plan::Plan;
use crate::plot::{Group, Panel, Plot};
use crate::progress::{Look, Pace};
use crate::raw;
use crate::server::Server;
use crate::writers::Writers;
use pg_test::numbers::{grouped, median};

/// Ours in the raw publisher's events per second.
const WANTED: f64 = 0.95;

/// Bytes of a message's body. A digit of the time may be missing.
const BODY: std::ops::RangeInclusive<usize> = 690..=700;

/// The filler makes it 700 bytes, the identity keeps its digits.
const TABLES: &str = "
    CREATE TABLE event (
        id bigint GENERATED ALWAYS AS IDENTITY (START 1000000) PRIMARY KEY,
        filler text NOT NULL);
    CREATE TABLE bare (LIKE event INCLUDING ALL);
    CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON event
        FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('event');";

/// Where messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Classic,
    Quorum,
    Stream,
    /// All are returned.
    Nothing,
}

/// Both, measured in turn.
#[derive(Clone, Copy, Debug)]
struct Pair {
    ours: Pace,
    raw: Pace,
}

/// The same while others write.
#[derive(Clone, Copy, Debug)]
struct Live {
    pair: Pair,
    /// Rows that the writers committed per second, beside each.
    committed: [f64; 2],
}

impl Target {
    const ALL: [Target; 4] = [Target::Classic, Target::Quorum, Target::Stream, Target::Nothing];

    /// The queue that most use, and the publisher with the least company.
    const QUICK: [Target; 2] = [Target::Classic, Target::Nothing];

    fn queue_type(self) -> Option<&'static str> {
        match self {
            Target::Classic => Some("classic"),
            Target::Quorum => Some("quorum"),
            Target::Stream => Some("stream"),
            Target::Nothing => None,
        }
    }

    fn name(self) -> String {
        match self.queue_type() {
            Some(queue_type) => format!("{queue_type} queue"),
            None => "no queue bound".to_owned(),
        }
    }

    /// Leaves nothing but an empty queue of this kind.
    fn bind(self, server: &Server) {
        match self.queue_type() {
            Some(queue_type) => drop(server.bind(queue_type)),
            None => server.unbind(),
        }
    }
}

pub fn run(plan: &Plan, plot: &mut Plot) -> Vec<Line> {
    let (targets, events, rounds) =
        if plan.quick { (&Target::QUICK[..], 15_000, 1) } else { (&Target::ALL[..], 200_000, 2) };
    let mut server = Server::start(&[]);
    server.run(TABLES);
    let bytes = raw::keep_sample(&mut server, |server| server.run(&insert("event")));
    assert!(BODY.contains(&bytes), "the body of a message has {bytes} bytes");

    let mut lines = Vec::new();
    let mut groups = Vec::new();
    for &target in targets {
        let pairs: Vec<_> =
            (0..rounds).map(|n| from_backlog(&mut server, target, events, n)).collect();
        groups.push(Group::new(&target.name(), [rate(&pairs, ours), rate(&pairs, raw)]));
        lines.push(backlog_line(target, &pairs));
        lines.push(cpu_line(&format!("backlog, {}", target.name()), &pairs));
    }
    for &target in targets {
        let lives: Vec<_> = (0..rounds).map(|n| live(&mut server, target, events, n)).collect();
        lines.push(live_line(target, &lives));
        let pairs: Vec<_> = lives.iter().map(|live| live.pair).collect();
        lines.push(cpu_line(&format!("live, {}", target.name()), &pairs));
    }
    plot.add(Panel {
        title: "events confirmed per second".to_owned(),
        hint: "from a backlog; more is better".to_owned(),
        series: ["amqp_cdc", "raw lapin publisher"],
        groups,
    });
    lines
}

/// Writes one row.
fn insert(table: &str) -> String {
    format!("INSERT INTO {table} (filler) VALUES (repeat('x', 480))")
}

fn from_backlog(server: &mut Server, target: Target, events: u64, round: usize) -> Pair {
    let ours = |server: &mut Server| {
        server.part();
        // Nobody waits for them.
        server.run("SET synchronous_commit = off");
        let insert = insert("event");
        server.run(&format!(
            "DO $$ BEGIN FOR n IN 1..{events} LOOP {insert}; COMMIT; END LOOP; END $$"
        ));
        target.bind(server);
        server.rejoin();
        Look::at_birth().watch(&mut server.client, events).undisturbed()
    };
    let raw = |server: &mut Server| {
        target.bind(server);
        raw::publish(server, events).undisturbed()
    };
    let pair = in_turn(server, round, ours, raw);
    tell(&format!("backlog, {}", target.name()), pair);
    pair
}

fn live(server: &mut Server, target: Target, events: u64, round: usize) -> Live {
    let mut committed = [0.0; 2];
    let [beside_ours, beside_raw] = &mut committed;
    let ours = |server: &mut Server| {
        target.bind(server);
        let before = Look::take(&mut server.client);
        let began = Instant::now();
        let writers = Writers::start(server, &insert("event"), events);
        let cpu = before.watch(&mut server.client, events).cpu;
        *beside_ours = writers.finish();
        Pace { rate: events as f64 / began.elapsed().as_secs_f64(), cpu }
    };
    let raw = |server: &mut Server| {
        target.bind(server);
        let began = Instant::now();
        let writers = Writers::start(server, &insert("bare"), events);
        let cpu = raw::publish(server, events).cpu;
        *beside_raw = writers.finish();
        Pace { rate: events as f64 / began.elapsed().as_secs_f64(), cpu }
    };
    let pair = in_turn(server, round, ours, raw);
    let [beside_ours, beside_raw] = committed;
    tell(&format!("live, {}", target.name()), pair);
    eprintln!("writers beside: {} ÷ {} rows/s", grouped(beside_ours), grouped(beside_raw));
    Live { pair, committed }
}

/// Every second round the other way round: what grows or slows down in time falls on both alike.
fn in_turn(
    server: &mut Server,
    round: usize,
    ours: impl FnOnce(&mut Server) -> Pace,
    raw: impl FnOnce(&mut Server) -> Pace,
) -> Pair {
    if round.is_multiple_of(2) {
        let ours = ours(server);
        Pair { ours, raw: raw(server) }
    } else {
        let raw = raw(server);
        Pair { ours: ours(server), raw }
    }
}

fn tell(what: &str, Pair { ours, raw }: Pair) {
    eprintln!(
        "{what}: {} ÷ {} events/s, {:.1} ÷ {:.1} µs",
        grouped(ours.rate),
        grouped(raw.rate),
        ours.cpu,
        raw.cpu
    );
}

fn ours(pair: &Pair) -> Pace {
    pair.ours
}

fn raw(pair: &Pair) -> Pace {
    pair.raw
}

fn rate(pairs: &[Pair], which: fn(&Pair) -> Pace) -> f64 {
    median(pairs.iter().map(|pair| which(pair).rate))
}

fn backlog_line(target: Target, pairs: &[Pair]) -> Line {
    let ratio = median(pairs.iter().map(|pair| pair.ours.rate / pair.raw.rate));
    Line {
        name: format!("throughput from a backlog, {}: ours ÷ raw publisher", target.name()),
        figure: format!(
            "**{ratio:.2}** ({} ÷ {} events/s)",
            grouped(rate(pairs, ours)),
            grouped(rate(pairs, raw))
        ),
        goal: Some(Goal::AtLeast { wanted: WANTED, reached: ratio }),
    }
}

fn live_line(target: Target, lives: &[Live]) -> Line {
    let ratio = median(lives.iter().map(|live| live.pair.ours.rate / live.pair.raw.rate));
    let pairs: Vec<_> = lives.iter().map(|live| live.pair).collect();
    let committed = |side: usize| grouped(median(lives.iter().map(|live| live.committed[side])));
    Line {
        name: format!("throughput live, {}: ours ÷ raw publisher", target.name()),
        figure: format!(
            "**{ratio:.2}** ({} ÷ {} events/s; the writers {} ÷ {} rows/s)",
            grouped(rate(&pairs, ours)),
            grouped(rate(&pairs, raw)),
            committed(0),
            committed(1)
        ),
        goal: Some(Goal::AtLeast { wanted: WANTED, reached: ratio }),
    }
}

fn cpu_line(what: &str, pairs: &[Pair]) -> Line {
    let cpu = |which: fn(&Pair) -> Pace| median(pairs.iter().map(|pair| which(pair).cpu));
    let (ours, raw) = (cpu(ours), cpu(raw));
    Line {
        name: format!("CPU per event, {what}: worker and publisher ÷ raw publisher"),
        figure: format!("{:.2} ({ours:.1} ÷ {raw:.1} µs)", ours / raw),
        goal: None,
    }
}
