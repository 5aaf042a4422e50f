//! Throughput of pgbench's simple-update transactions without and with the trigger on
//! `pgbench_accounts`, as PostgreSQL is set up (`fsync`), and with no disk to wait for. Two pgbenches,
//! of which only one has the trigger, run in turn for half a second each, and are stopped meanwhile: a
//! machine that is slow for a second is so for both of them. What the trigger costs the writers shows
//! when worker and broker have a core of their own, that the writers do not use without the trigger
//! either; what the whole costs a machine that has nothing to spare shows when all share all cores.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pg_test::{DEADLINE, Postgres, send_signal, wait_until};

use crate::plan::Plan;
use crate::servers::Servers;

const CLIENTS: &str = "8";

/// How long one runs until it is the other's turn.
const SLICE: Duration = Duration::from_millis(500);

/// Where the tables without the trigger are, and those with it.
const SCHEMAS: [&str; 2] = ["bare", "captured"];

const ATTACH: &str = "CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE
    ON captured.pgbench_accounts FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('account')";

/// Transactions per second.
#[derive(Clone, Copy, Debug)]
pub struct Throughput {
    pub without: f64,
    pub with: f64,
}

impl Throughput {
    /// With the trigger in that without.
    pub fn ratio(self) -> f64 {
        self.with / self.without
    }
}

/// All measurements.
#[derive(Clone, Copy, Debug)]
pub struct Pgbench {
    /// Worker and broker have a core of their own.
    pub apart: Throughput,
    /// The same, but nobody waits for the disk.
    pub without_disk: Throughput,
    /// As that, but the trigger does nothing: what PostgreSQL needs to call one.
    pub floor: Throughput,
    /// Worker and broker take their part of the machine.
    pub together: Throughput,
    /// Nobody publishes.
    pub broker_down: Throughput,
}

impl Pgbench {
    /// Runs it. Leaves the broker down.
    pub fn run(servers: &mut Servers, plan: Plan) -> Pgbench {
        for schema in SCHEMAS {
            servers.run(&format!("CREATE SCHEMA {schema}"));
            let made =
                pgbench(servers, schema, &["--initialize", "--scale=10", "--quiet"]).status();
            assert!(made.expect("could not run pgbench").success(), "pgbench failed");
        }
        servers.run(ATTACH);
        servers.run("CHECKPOINT");
        let parted = servers.part();
        eprintln!("pgbench, worker and broker on a core of their own");
        servers.postgres().set("fsync", "on");
        // What one left to be published is not to slow down the other.
        let apart = in_turn(servers, plan.pgbench_seconds, "on", Servers::settle);
        eprintln!("the same with fsync = off");
        servers.postgres().set("fsync", "off");
        let without_disk = in_turn(servers, plan.pgbench_seconds, "on", Servers::settle);
        eprintln!("the same with amqp.capture = off");
        let floor = in_turn(servers, plan.pgbench_seconds, "off", |_| {});
        drop(parted);
        servers.postgres().set("fsync", "on");
        eprintln!("pgbench, everything on all cores");
        let together = in_turn(servers, plan.pgbench_seconds, "on", Servers::settle);
        servers.bed.rabbitmq.stop();
        eprintln!("pgbench, without the broker");
        let broker_down = in_turn(servers, plan.pgbench_seconds, "on", |_| {});
        Pgbench { apart, without_disk, floor, together, broker_down }
    }
}

/// So many seconds for each. `capture` is that of the sessions (amqp.capture), and `after` is done
/// when they have stopped.
fn in_turn(
    servers: &mut Servers,
    seconds: u64,
    capture: &str,
    after: impl Fn(&mut Servers),
) -> Throughput {
    let database = servers.database();
    servers.run(&format!("ALTER DATABASE \"{database}\" SET amqp.capture = {capture}"));
    let mut contestants = SCHEMAS.map(|schema| Contestant::enter(servers, schema));
    let slices = u128::from(seconds) * 1000 / SLICE.as_millis();
    for slice in 0..slices {
        // Without, with, with, without: what grows in time falls on both alike.
        for turn in 0..2 {
            contestants[usize::from((slice + turn) % 2 == 1)].run();
            after(servers);
        }
    }
    let [without, with] = contestants.map(|contestant| contestant.leave(servers));
    eprintln!("without trigger: {without:.0} tps, with trigger: {with:.0} tps");
    Throughput { without, with }
}

/// A pgbench whose turn it is or is not.
struct Contestant {
    schema: &'static str,
    process: Child,
    /// Transactions that do not count.
    before: i64,
    /// How long it was its turn.
    time: Duration,
}

impl Contestant {
    /// Its sessions have begun when this returns, and wait.
    fn enter(servers: &mut Servers, schema: &'static str) -> Contestant {
        let clients = format!("--client={CLIENTS}");
        let endless =
            ["--skip-some-updates", "--no-vacuum", "--jobs=2", "--time=1000000", &clients];
        let before = transactions(servers, schema);
        let process = pgbench(servers, schema, &endless).spawn().expect("could not run pgbench");
        let mut contestant = Contestant { schema, process, before, time: Duration::ZERO };
        wait_until("pgbench has begun", DEADLINE, || {
            (transactions(servers, schema) > before + 1000).then_some(())
        });
        send_signal(contestant.process.id(), "STOP");
        contestant.before = transactions(servers, schema);
        contestant
    }

    fn run(&mut self) {
        send_signal(self.process.id(), "CONT");
        let begun = Instant::now();
        thread::sleep(SLICE);
        send_signal(self.process.id(), "STOP");
        self.time += begun.elapsed();
    }

    /// Transactions per second of its time.
    fn leave(self, servers: &mut Servers) -> f64 {
        let done = transactions(servers, self.schema) - self.before;
        done as f64 / self.time.as_secs_f64()
    }
}

/// Stopped ones do not notice that their server is gone.
impl Drop for Contestant {
    fn drop(&mut self) {
        // It is gone, or cannot be ended by anybody.
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

/// Each leaves a row.
fn transactions(servers: &mut Servers, schema: &str) -> i64 {
    let count = format!("SELECT count(*) FROM {schema}.pgbench_history");
    servers.client.query_one(&count, &[]).expect("could not count").get(0)
}

/// A pgbench on the tables of this schema.
fn pgbench(servers: &Servers, schema: &str, arguments: &[&str]) -> Command {
    let mut command = Postgres::program("pgbench");
    command
        .env("PGOPTIONS", format!("--search_path={schema}"))
        .args(["--host=127.0.0.1", "--username=postgres"])
        .arg(format!("--port={}", servers.bed.postgres.port()))
        .args(arguments)
        .arg(servers.database())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}
