//! What befalls a node, and for how long the stream may stand still for it.

use std::time::Duration;

use pg_test::rabbitmq_cluster::{NET_TICKTIME, Node};

use super::stage::{CONFIRM_TIMEOUT, CONNECT_TIMEOUT, HEARTBEAT};

/// What the cluster needs itself, whatever the worker does: to elect the leader of a queue.
pub const ELECTION: Duration = Duration::from_secs(12);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Killed,
    Stopped,
    Drained,
    Frozen,
    CutOff,
    Hidden,
}

/// All, in the order in which they come.
pub const ALL: [Fault; 6] =
    [Fault::Killed, Fault::Stopped, Fault::Drained, Fault::Frozen, Fault::CutOff, Fault::Hidden];

impl Fault {
    /// As the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Killed => "killed",
            Fault::Stopped => "stopped gracefully",
            Fault::Drained => "in maintenance mode (`rabbitmq-upgrade drain`)",
            Fault::Frozen => "frozen",
            Fault::CutOff => "cut off from the other nodes",
            Fault::Hidden => "cut off from PostgreSQL",
        }
    }

    /// What explains the longest stand-still, in words and in time.
    pub fn bound(self) -> (&'static str, Duration) {
        match self {
            // The operating system or the node says so at once; the next node is there.
            Fault::Killed | Fault::Stopped | Fault::Drained => {
                ("connect_timeout + E", CONNECT_TIMEOUT + ELECTION)
            }
            // Nobody says anything. Then the worker may get to a node before the queue has another leader, and nothing
            // is confirmed there.
            Fault::Frozen | Fault::CutOff => (
                "2 heartbeat + confirm_timeout + connect_timeout + E",
                2 * HEARTBEAT + CONFIRM_TIMEOUT + CONNECT_TIMEOUT + ELECTION,
            ),
            Fault::Hidden => {
                ("2 heartbeat + connect_timeout + E", 2 * HEARTBEAT + CONNECT_TIMEOUT + ELECTION)
            }
        }
    }

    /// How long it lasts: long enough that everybody notices.
    pub fn lasts(self) -> Duration {
        match self {
            Fault::Killed | Fault::Stopped | Fault::Drained => Duration::from_secs(2),
            Fault::Frozen | Fault::Hidden => 2 * HEARTBEAT + CONNECT_TIMEOUT,
            Fault::CutOff => Duration::from_secs(NET_TICKTIME * 5 / 4) + CONNECT_TIMEOUT,
        }
    }

    /// Injects it.
    pub fn inject(self, node: &Node) {
        match self {
            Fault::Killed => node.kill(),
            Fault::Stopped => node.stop(),
            Fault::Drained => drop(tool(node, "drain")),
            Fault::Frozen => node.freeze(),
            Fault::CutOff => node.machine.cut_off(),
            Fault::Hidden => node.machine.hide(),
        }
    }

    /// Heals it.
    pub fn heal(self, node: &Node) {
        match self {
            Fault::Killed | Fault::Stopped => node.start(),
            Fault::Drained => drop(tool(node, "revive")),
            Fault::Frozen => node.thaw(),
            Fault::CutOff => node.machine.connect(),
            Fault::Hidden => node.machine.show(),
        }
    }
}

fn tool(node: &Node, word: &str) -> String {
    node.tool("rabbitmq-upgrade", &[word]).unwrap_or_else(|error| panic!("{word}: {error}"))
}
