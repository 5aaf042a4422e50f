//! What befalls a node, and for how long the stream may stand still for it.

use std::time::Duration;

use pg_test::rabbitmq_cluster::{NET_TICKTIME, Node};

use super::stage::{CONFIRM_TIMEOUT, CONNECT_TIMEOUT, HEARTBEAT};

/// What explains a stand-still, in words and in time.
pub type Bound = (&'static str, Duration);

/// The connection ends, and another node is there.
pub const ENDS: Bound =
    ("connect_timeout + confirm_timeout", CONNECT_TIMEOUT.saturating_add(CONFIRM_TIMEOUT));

/// Nothing comes on the connection any more.
pub const SILENT: Bound = (
    "2 heartbeat + connect_timeout + confirm_timeout",
    HEARTBEAT.saturating_mul(2).saturating_add(ENDS.1),
);

/// Of several attempts none has worked for a while.
pub const ATTEMPTS: Bound = (
    "5 s (longest pause) + connect_timeout + confirm_timeout",
    Duration::from_secs(5).saturating_add(ENDS.1),
);

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

    /// What explains the longest stand-still beside the cluster's own, in words and in time. Whoever gets to a node
    /// before the queue has another leader may wait there for confirms in vain.
    pub fn bound(self) -> Bound {
        match self {
            // The operating system or the node says so at once; the next node is there.
            Fault::Killed | Fault::Stopped | Fault::Drained => ENDS,
            // Nobody says anything.
            Fault::Frozen | Fault::CutOff | Fault::Hidden => SILENT,
        }
    }

    /// How many nodes one after the other.
    pub fn befalls(self) -> usize {
        match self {
            Fault::Killed | Fault::Stopped | Fault::Frozen | Fault::CutOff => 3,
            // Others than the worker's would be nothing to it, or are in maintenance mode at a rolling restart.
            Fault::Drained | Fault::Hidden => 1,
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
