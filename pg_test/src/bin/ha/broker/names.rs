//! What `amqp.host` may lead to: hosts that are dead, a name with several addresses, a name whose address changes, a
//! load balancer that closes what is idle.

use std::time::{Duration, Instant};

use pg_test::rabbitmq_cluster::{Node, PORT};
use pg_test::{HaProxy, wait_until};

use super::fault::{ATTEMPTS, ENDS, SILENT};
use super::rounds::{Rounds, let_last};
use super::stage::{CONFIRM_TIMEOUT, CONNECT_TIMEOUT, HEARTBEAT, Stage};

/// Whoever waited for a dead node to come back would stand still for longer than may be.
const LONG_ENOUGH: Duration = SILENT.1.saturating_add(CONFIRM_TIMEOUT);

/// What looks a name up again and again does so at the latest after this.
const MOVE: Duration = Duration::from_secs(5);

/// What the load balancer calls idle, in seconds.
const IDLE: u64 = 5;

/// All of them.
pub fn run(rounds: &mut Rounds<'_>) {
    dead_first_host(rounds);
    reloads_while_two_hosts_are_dead(rounds);
    several_addresses(rounds);
    moved_name(rounds);
    load_balancer(rounds);
}

/// The first host of the list gives no answer. Whoever tried it first after each loss of the connection would stand
/// still for the connect timeout each time.
fn dead_first_host(rounds: &mut Rounds<'_>) {
    const LONG: Duration = Duration::from_secs(20);
    let stage = rounds.stage;
    let (dead, alive) = (&stage.cluster.nodes[0], &stage.cluster.nodes[1]);
    stage.wait_until_healed();
    dead.machine.hide();
    stage.postgres.set("amqp.connect_timeout", &LONG.as_secs().to_string());
    stage.set_and_reconnect("amqp.host", &format!("{},{}", dead.host(), alive.host()));
    let bound =
        ("half a connect_timeout, which is 20 s here: the dead host is not tried", LONG / 2);
    let whom = "the second host; the first is dead".to_owned();
    rounds.run("connection closed five times", whom, bound, |_| {
        for _ in 0..5 {
            close_connections(alive);
            stage.wait_until_streaming();
        }
        None
    });
    dead.machine.show();
    stage.postgres.set("amqp.connect_timeout", &CONNECT_TIMEOUT.as_secs().to_string());
}

/// Two of three hosts give no answer, and each reload makes a new attempt, sooner than the one before has ended.
fn reloads_while_two_hosts_are_dead(rounds: &mut Rounds<'_>) {
    let stage = rounds.stage;
    let [alive, first, second] = &stage.cluster.nodes[..] else { panic!("there are three nodes") };
    stage.wait_until_healed();
    let list = [first, second, alive].map(Node::host).join(",");
    stage.set_and_reconnect("amqp.host", &list);
    let whom = "the first two hosts of the list".to_owned();
    rounds.run("die, and a reload each half second", whom, SILENT, |_| {
        [first, second].iter().for_each(|node| node.machine.hide());
        let begin = Instant::now();
        while begin.elapsed() < LONG_ENOUGH {
            stage.postgres.reload();
            let_last(Duration::from_millis(500));
        }
        [first, second].iter().for_each(|node| node.machine.show());
        None
    });
}

/// One name for all nodes. The resolver gives the addresses in the same order each time.
fn several_addresses(rounds: &mut Rounds<'_>) {
    let stage = rounds.stage;
    let all: Vec<_> =
        stage.cluster.nodes.iter().map(|node| ("rabbits", node.machine.address())).collect();
    stage.wait_until_healed();
    stage.cluster.name(&stage.network, &all);
    stage.set_and_reconnect("amqp.host", "rabbits");
    let whom = "the worker's node, one address of a name with three";
    rounds.run("frozen", whom.to_owned(), SILENT, |stage| {
        let node = node_of_the_connection(stage);
        let frozen = Instant::now();
        node.freeze();
        let_last(LONG_ENOUGH);
        node.thaw();
        Some(frozen)
    });
    stage.wait_until_healed();
    rounds.run("cut off from PostgreSQL", whom.to_owned(), SILENT, |stage| {
        let machine = &node_of_the_connection(stage).machine;
        let cut_off = Instant::now();
        machine.hide();
        let_last(LONG_ENOUGH);
        machine.show();
        Some(cut_off)
    });
}

/// A name that has another address later.
fn moved_name(rounds: &mut Rounds<'_>) {
    let stage = rounds.stage;
    let [old, new, _] = &stage.cluster.nodes[..] else { panic!("there are three nodes") };
    stage.wait_until_healed();
    stage.cluster.name(&stage.network, &[("moving", old.machine.address())]);
    stage.set_and_reconnect("amqp.host", "moving");
    rounds.run(
        "killed, and its name moved to another after 5 s",
        "the only host".to_owned(),
        ATTEMPTS,
        |_| {
            old.kill();
            let_last(MOVE);
            stage.cluster.name(&stage.network, &[("moving", new.machine.address())]);
            let moved = Instant::now();
            stage.wait_until_streaming();
            old.start();
            Some(moved)
        },
    );
}

/// With a heartbeat that is longer than what the load balancer calls idle, and with a shorter one.
fn load_balancer(rounds: &mut Rounds<'_>) {
    let stage = rounds.stage;
    stage.wait_until_healed();
    let server = |node: &Node| format!("{}:{PORT}", node.machine.address());
    let servers: Vec<_> = stage.cluster.nodes.iter().map(server).collect();
    let balancer = HaProxy::start(&servers, IDLE);
    stage.set_and_reconnect("amqp.host", &format!("127.0.0.1:{}", balancer.port()));

    let whom = "the node behind haproxy".to_owned();
    rounds.run("killed", whom, ENDS, kill_under_the_balancer);
    stage.wait_until_healed();

    stage.set_and_reconnect("amqp.heartbeat", &(4 * IDLE).to_string());
    let idle = format!("haproxy closes what is idle for {IDLE} s; amqp.heartbeat = {}", 4 * IDLE);
    let mut lost = Vec::new();
    rounds.run("no event for 12 s, then events", idle, ENDS, |stage| {
        lost = rest(stage);
        Some(Instant::now())
    });
    let is_said = lost.iter().any(|reason| reason.contains("connection to the broker was lost"));
    if !is_said {
        rounds
            .findings
            .push(format!("haproxy closed the connection, and the status said {lost:?}"));
    }

    stage.set_and_reconnect("amqp.heartbeat", &HEARTBEAT.as_secs().to_string());
    let idle = format!("haproxy; amqp.heartbeat = {}", HEARTBEAT.as_secs());
    let mut lost = Vec::new();
    rounds.run("no event for 12 s, then events", idle, ENDS, |stage| {
        lost = rest(stage);
        Some(Instant::now())
    });
    if !lost.is_empty() {
        rounds.findings.push(format!("haproxy closed a connection with heartbeats: {lost:?}"));
    }
    stage.set_and_reconnect("amqp.host", &stage.cluster.hosts());
}

/// Nobody writes for a while. Why the stream stood still meanwhile.
fn rest(stage: &Stage) -> Vec<String> {
    stage.load.pause(true);
    stage.wait_until_confirmed();
    let begin = Instant::now();
    let_last(Duration::from_secs(2 * IDLE + 2));
    let looks = stage.monitor.since(begin);
    let reasons = looks.into_iter().filter(|look| look.state != "streaming");
    let reasons = reasons.map(|look| look.reason).collect();
    stage.load.pause(false);
    reasons
}

/// The node that the worker's connection ends at, which only the nodes know where the host names several.
fn node_of_the_connection(stage: &Stage) -> &Node {
    let nodes = &stage.cluster.nodes;
    wait_until("a node has the worker's connection", Duration::from_secs(30), || {
        let listed =
            nodes[0].tool("rabbitmqctl", &["list_connections", "pid", "client_properties"]);
        let listed = listed.ok()?;
        let ours = listed.lines().find(|line| line.contains("amqp_cdc"))?.to_owned();
        nodes.iter().find(|node| ours.contains(&format!("<{}.", node.name())))
    })
}

/// Kills the node that the worker's connection ends at.
fn kill_under_the_balancer(stage: &Stage) -> Option<Instant> {
    let node = node_of_the_connection(stage);
    let killed = Instant::now();
    node.kill();
    let_last(Duration::from_secs(2));
    node.start();
    Some(killed)
}

fn close_connections(node: &Node) {
    let closed = node.tool("rabbitmqctl", &["close_all_connections", "--vhost", "/", "for a test"]);
    closed.unwrap_or_else(|error| panic!("{error}"));
}
