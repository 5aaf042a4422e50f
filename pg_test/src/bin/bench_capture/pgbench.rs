//! Throughput of pgbench's simple-update transactions without and with the trigger on
//! `pgbench_accounts`, in turn. What the trigger costs the writers shows when worker and broker have a
//! core of their own, that the writers do not use without the trigger either; what the whole costs
//! a machine that has nothing to spare shows when all share all cores.

use pg_test::Postgres;
use pg_test::numbers::median;

use crate::Plan;
use crate::stage::Stage;

const CLIENTS: &str = "8";

/// So many pairs of one run without and one with. Many short ones tell more than few long ones.
const PAIRS: usize = 10;

const ATTACH: &str = "CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON pgbench_accounts \
     FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('account')";
const DETACH: &str = "DROP TRIGGER capture ON pgbench_accounts";

/// Transactions per second, the medians.
#[derive(Clone, Copy, Debug)]
pub struct Throughput {
    pub without: f64,
    pub with: f64,
    /// The median of what two runs in succession make: a machine that is slow for a minute is so for
    /// both of them.
    pub ratio: f64,
}

/// All measurements.
#[derive(Clone, Copy, Debug)]
pub struct Pgbench {
    /// Worker and broker have a core of their own.
    pub apart: Throughput,
    /// The same, but the trigger does nothing: what PostgreSQL needs to call one.
    pub floor: Throughput,
    /// Worker and broker take their part of the machine.
    pub together: Throughput,
    /// Nobody publishes.
    pub broker_down: Throughput,
}

impl Pgbench {
    /// Runs it. Leaves the broker down.
    pub fn run(stage: &mut Stage, plan: Plan) -> Pgbench {
        pgbench(stage, &["--initialize", "--scale=10", "--quiet"]);
        stage.run("CHECKPOINT");
        eprintln!("pgbench, worker and broker on a core of their own");
        let parted = stage.part();
        // What one run left to be published is not to slow down the next.
        let apart = in_turn(stage, plan.pgbench_seconds, "on", Stage::settle);
        eprintln!("the same with amqp.capture = off");
        let floor = in_turn(stage, plan.pgbench_seconds, "off", |_| {});
        drop(parted);
        eprintln!("pgbench, everything on all cores");
        let together = in_turn(stage, plan.pgbench_seconds, "on", Stage::settle);
        stage.bed.rabbitmq.stop();
        eprintln!("pgbench, without the broker");
        let broker_down = in_turn(stage, plan.pgbench_seconds, "on", |_| {});
        Pgbench { apart, floor, together, broker_down }
    }
}

/// Without, with, with, without: what grows or slows down in time falls on both alike. `capture` is
/// that of the sessions (amqp.capture).
fn in_turn(
    stage: &mut Stage,
    seconds: u64,
    capture: &str,
    after: impl Fn(&mut Stage),
) -> Throughput {
    let database = stage.database();
    stage.run(&format!("ALTER DATABASE \"{database}\" SET amqp.capture = {capture}"));
    let mut run = |is_captured: bool| {
        if is_captured {
            stage.run(ATTACH);
        }
        let tps = simple_update(stage, seconds);
        if is_captured {
            stage.run(DETACH);
        }
        after(stage);
        eprintln!("{} trigger: {tps:.0} tps", if is_captured { "with" } else { "without" });
        tps
    };
    let pairs: Vec<(f64, f64)> = (0..PAIRS)
        .map(|pair| {
            let (first, second) = (run(pair % 2 == 1), run(pair % 2 == 0));
            if pair % 2 == 1 { (second, first) } else { (first, second) }
        })
        .collect();
    Throughput {
        without: median(pairs.iter().map(|pair| pair.0)),
        with: median(pairs.iter().map(|pair| pair.1)),
        ratio: median(pairs.iter().map(|(without, with)| with / without)),
    }
}

fn simple_update(stage: &Stage, seconds: u64) -> f64 {
    let time = format!("--time={seconds}");
    let clients = format!("--client={CLIENTS}");
    let output = pgbench(stage, &["--skip-some-updates", "--jobs=2", &clients, &time]);
    let tps = output.lines().find_map(|line| line.strip_prefix("tps = "));
    let number = tps.and_then(|rest| rest.split(' ').next()).and_then(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("pgbench did not tell its throughput:\n{output}"))
}

/// Runs pgbench and returns what it printed.
fn pgbench(stage: &Stage, arguments: &[&str]) -> String {
    let output = Postgres::program("pgbench")
        .args(["--host=127.0.0.1", "--username=postgres"])
        .arg(format!("--port={}", stage.bed.postgres.port()))
        .args(arguments)
        .arg(stage.database())
        .output()
        .expect("could not run pgbench");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "pgbench failed:\n{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
