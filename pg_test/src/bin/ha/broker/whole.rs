//! What befalls the cluster as a whole: a rolling restart, and a minute without a quorum.

use std::time::{Duration, Instant};

use pg_test::rabbitmq_cluster::Node;
use pg_test::wait_until;

use super::fault::{ATTEMPTS, Fault};
use super::rounds::{Rounds, let_last};

/// How long there is no quorum.
const OUTAGE: Duration = Duration::from_secs(60);

/// Until a node of those that come back lets us in.
const COMING_BACK: Duration = Duration::from_secs(120);

/// Node after node as RabbitMQ's documentation has it: into maintenance mode, stopped, started.
pub fn rolling_restart(rounds: &mut Rounds<'_>) {
    rounds.stage.wait_until_healed();
    rounds.run(
        "rolling restart",
        "each node in turn".to_owned(),
        Fault::Drained.bound(),
        |stage| {
            for node in &stage.cluster.nodes {
                Fault::Drained.inject(node);
                node.stop();
                node.start();
                stage.wait_until_healed();
            }
            None
        },
    );
}

/// Two of three nodes are killed; the third one pauses itself.
pub fn without_quorum(rounds: &mut Rounds<'_>) {
    rounds.stage.wait_until_healed();
    rounds.run(
        "no quorum for a minute",
        "two nodes killed; the time after they came back".to_owned(),
        ATTEMPTS,
        |stage| {
            let killed = &stage.cluster.nodes[..2];
            killed.iter().for_each(Node::kill);
            let_last(OUTAGE);
            killed.iter().for_each(Node::begin_to_start);
            let is_back = wait_until("a node lets us in again", COMING_BACK, || {
                stage.cluster.nodes.iter().any(Node::is_up).then(Instant::now)
            });
            killed.iter().for_each(Node::wait_until_started);
            Some(is_back)
        },
    );
}
