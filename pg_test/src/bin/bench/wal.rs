//! What reading WAL costs that is not ours: beside logical decoding by `test_decoding`, through a
//! walsender, and beside `pg_waldump --stats`, on the same WAL; and on a server that writes 50 MB
//! of it a second.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use pg_test::{Postgres, machine, wait_until};

use crate::foreign;
use crate::line::{Goal, Line};
use crate::plan::Plan;
use crate::server::Server;
use crate::worker::Worker;

const MB: f64 = 1e6;

/// CPU of `test_decoding` in that of the worker.
const OF_TEST_DECODING: f64 = 20.0;

/// CPU of `pg_waldump` in that of the worker.
const OF_WALDUMP: f64 = 0.5;

/// Bytes a second, and the part of a core that reading them may take.
const RATE: f64 = 50.0 * MB;
const OF_A_CORE: f64 = 0.1;

/// The slot of `test_decoding`.
const SLOT: &str = "decoding";

/// CPU time in milliseconds of each reader for a MB of the same WAL.
#[derive(Clone, Copy, Debug)]
struct Costs {
    worker: f64,
    test_decoding: f64,
    waldump: f64,
}

/// Whom the worker is compared with, what that cost, and what is wanted.
type Peer = (&'static str, fn(Costs) -> f64, f64);

/// WAL from one LSN to another.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: u64,
    to: u64,
}

pub fn run(plan: &Plan) -> Vec<Line> {
    let mut lines = compared(plan);
    lines.push(at_a_rate(plan));
    lines
}

/// Three readers on the same WAL, several times. The median ratio counts: who disturbs the machine
/// may disturb one reader and not the other.
fn compared(plan: &Plan) -> Vec<Line> {
    let (rounds, bytes) = if plan.quick { (2, 40_000_000) } else { (5, 200_000_000) };
    // Logical decoding wants the WAL to say more. The worker passes that over like the rest.
    let mut server = Server::start(&["wal_level = logical"]);
    // As large as that the WAL has some full pages of it, each once, and consists of changes.
    foreign::make(&mut server.client, bytes / 5_000);
    let worker = Worker::of(&mut server);
    let (mut all, mut contents) = (Vec::new(), String::new());
    for round in 1..=rounds {
        let costs;
        (costs, contents) = compare(&mut server, &worker, bytes);
        eprintln!("round {round}: ms per MB {costs:?}; {contents}");
        all.push(costs);
    }
    let line = |(peer, cost, wanted): Peer| {
        let ratio = |costs: &Costs| cost(*costs) / costs.worker;
        all.sort_by(|one, other| ratio(one).total_cmp(&ratio(other)));
        let median = all[all.len() / 2];
        Line {
            name: format!("WAL that is not ours: CPU of {peer} ÷ of the worker ({contents})"),
            figure: format!(
                "{:.2} ({:.2} ÷ {:.2} ms/MB)",
                ratio(&median),
                cost(median),
                median.worker
            ),
            goal: Some(Goal::AtLeast { wanted, reached: ratio(&median) }),
        }
    };
    let peers: [Peer; 2] = [
        ("`test_decoding`", |costs| costs.test_decoding, OF_TEST_DECODING),
        ("`pg_waldump --stats`", |costs| costs.waldump, OF_WALDUMP),
    ];
    peers.map(line).into()
}

/// Writes WAL while nobody reads it, then has one reader after the other read it. Also tells what is
/// in it.
fn compare(server: &mut Server, worker: &Worker, bytes: u64) -> (Costs, String) {
    foreign::tidy(&mut server.client);
    server.run(&format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'test_decoding')"));
    let from = server.end_of_wal();
    server.wake_worker();
    server.wait_until_read(from);
    let stopped = worker.stop();
    foreign::write(&mut server.client, bytes);
    let stretch = Stretch { from, to: server.end_of_wal() };
    let began = worker.cpu();
    drop(stopped);
    server.wait_until_read(stretch.to);
    let of_worker = worker.cpu() - began;
    let of_test_decoding = decode(server, stretch);
    let (of_waldump, statistics) = dump(server, stretch);
    let megabytes = (stretch.to - stretch.from) as f64 / MB;
    let per_mb = |cpu: Duration| cpu.as_secs_f64() * 1e3 / megabytes;
    let costs = Costs {
        worker: per_mb(of_worker),
        test_decoding: per_mb(of_test_decoding),
        waldump: per_mb(of_waldump),
    };
    (costs, contents(&statistics))
}

/// The CPU time of a walsender that decodes a stretch and sends it to somebody who throws it away.
fn decode(server: &mut Server, stretch: Stretch) -> Duration {
    let mut receiver = Postgres::program("pg_recvlogical")
        .args([
            "--host=127.0.0.1",
            "--username=postgres",
            "--no-loop",
            "--start",
            "--file=/dev/null",
        ])
        .arg(format!("--port={}", server.bed.postgres.port()))
        .arg(format!("--dbname={}", server.database()))
        .arg(format!("--slot={SLOT}"))
        .spawn()
        .expect("could not run pg_recvlogical");
    let query = format!(
        "SELECT max(pid) FROM pg_stat_replication WHERE sent_lsn >= '0/0'::pg_lsn + {}::numeric \
         AND application_name = 'pg_recvlogical'",
        stretch.to
    );
    let pid = wait_until("everything is decoded", server.patience(), || {
        server.ask::<Option<i32>>(&query)
    });
    let cpu = machine::cpu_time(pid as u32);
    receiver.kill().expect("could not end pg_recvlogical");
    receiver.wait().expect("could not wait for pg_recvlogical");
    let is_free =
        format!("SELECT active_pid IS NULL FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
    wait_until("the walsender has ended", server.patience(), || {
        server.ask::<bool>(&is_free).then_some(())
    });
    server.run(&format!("SELECT pg_drop_replication_slot('{SLOT}')"));
    cpu
}

/// The CPU time of pg_waldump over a stretch, and what it printed.
fn dump(server: &Server, stretch: Stretch) -> (Duration, String) {
    let lsn = |lsn: u64| format!("{:X}/{:X}", lsn >> 32, lsn as u32);
    let mut command = Postgres::program("pg_waldump");
    command.arg("--stats").arg("--path").arg(server.bed.postgres.data_dir().join("pg_wal")).args([
        "--start",
        &lsn(stretch.from),
        "--end",
        &lsn(stretch.to),
    ]);
    run_measured(command)
}

/// Runs a program that prints little; its CPU time, and what it printed.
fn run_measured(mut command: Command) -> (Duration, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("could not run pg_waldump");
    wait_until("pg_waldump has ended", Duration::from_secs(600), || {
        has_ended(&child).then_some(())
    });
    // The kernel keeps the account of a process that has ended until somebody waits for it.
    let cpu = machine::cpu_time(child.id());
    let mut printed = String::new();
    let output = child.stdout.as_mut().expect("it is piped");
    output.read_to_string(&mut printed).expect("could not read what pg_waldump printed");
    let status = child.wait().expect("could not wait for pg_waldump");
    assert!(status.success(), "pg_waldump failed: {printed}");
    (cpu, printed)
}

fn has_ended(child: &Child) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    // pid (name) state …
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// Of what the WAL consists, from the total of pg_waldump's statistics.
fn contents(statistics: &str) -> String {
    // Total  records  record size [%]  FPI size [%]  combined size [100%]
    let total = statistics.lines().find(|line| line.starts_with("Total"));
    let numbers: Vec<f64> = total
        .unwrap_or_else(|| panic!("pg_waldump printed no total:\n{statistics}"))
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [records, _, pages, all] = numbers[..] else {
        panic!("pg_waldump's total is not as expected:\n{statistics}")
    };
    format!("{:.0} bytes a record, {:.0} % full pages", all / records, pages / all * 100.0)
}

/// A server that writes other tables' WAL, and nothing else, all the time: two sessions do, since one
/// may not be able to.
fn at_a_rate(plan: &Plan) -> Line {
    let time = Duration::from_secs(if plan.quick { 6 } else { 60 });
    let mut server = Server::start(&[]);
    foreign::make(&mut server.client, 0);
    let worker = Worker::of(&mut server);
    let began = worker.cpu();
    let (written, took) = thread::scope(|scope| {
        let [one, other] = [server.connect(), server.connect()].map(|mut writer| {
            scope.spawn(move || foreign::write_paced(&mut writer, RATE, time, || {}))
        });
        other.join().expect("a writer failed");
        one.join().expect("a writer failed")
    });
    // The worker looks every five seconds: what it has not seen yet belongs to these, too.
    let end = server.end_of_wal();
    server.wait_until_read(end);
    let cpu = worker.cpu() - began;
    // Of as much time as the WAL takes at that rate: a machine that others use may be slower.
    let part = cpu.as_secs_f64() / (written as f64 / RATE);
    Line {
        name: format!(
            "WAL that is not ours: part of a core that the worker uses at {} MB/s",
            RATE / MB
        ),
        figure: format!(
            "{part:.3} ({:.2} s for {:.0} MB, written in {:.0} s)",
            cpu.as_secs_f64(),
            written as f64 / MB,
            took.as_secs_f64()
        ),
        goal: Some(Goal::AtMost { wanted: OF_A_CORE, reached: part }),
    }
}
