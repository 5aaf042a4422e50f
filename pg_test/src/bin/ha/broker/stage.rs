//! What a run has: the network, the cluster, PostgreSQL, and what is asked of them between two faults.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pg_test::network::Network;
use pg_test::rabbitmq_cluster::{Node, RabbitMqCluster};
use pg_test::{Broker, Postgres, Queue, poll, wait_until};

use super::load::{self, Load};
use super::monitor::Monitor;
use super::probe::Probe;
use super::tap::{Kind, Tap};

/// Where the tables are.
pub const DATABASE: &str = "ha";

/// Where events go.
pub const EXCHANGE: &str = "pg-messaging";

/// `amqp.heartbeat`, `amqp.connect_timeout` and `amqp.confirm_timeout`.
pub const HEARTBEAT: Duration = Duration::from_secs(4);
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
pub const CONFIRM_TIMEOUT: Duration = Duration::from_secs(12);

/// After a fault is healed, until the nodes are as before by themselves.
const SELF_HEALING: Duration = Duration::from_secs(30);

/// After a fault is healed, until everything is as before.
const HEALING: Duration = Duration::from_secs(120);

/// What a run has.
#[derive(Debug)]
pub struct Stage {
    // Dropped in this order: who is connected before whom.
    pub postgres: Postgres,
    pub cluster: RabbitMqCluster,
    pub network: Network,
    pub load: Load,
    pub monitor: Monitor,
    pub probe: Probe,
    pub taps: [Tap; 2],
    pub is_over: AtomicBool,
    /// What was last listed of the queues.
    queues: Mutex<String>,
}

impl Stage {
    /// Starts everything; nobody writes yet.
    pub fn set() -> Stage {
        let network = Network::lay();
        let cluster = RabbitMqCluster::create(&network, 3);
        let taps = [Tap::new("quorum", Kind::Queue), Tap::new("stream", Kind::Stream)];
        // Who declares decides who leads: another node than the worker's first.
        for (tap, node) in taps.iter().zip(&cluster.nodes[1..]) {
            let broker = node.broker();
            broker.declare_exchange(EXCHANGE, "topic");
            let queue = Queue::durable(tap.name).bound_to(EXCHANGE, "#");
            let queue = queue.with_text("x-queue-type", tap.name);
            broker.declare_queue(&match tap.kind {
                Kind::Queue => queue.with_single_active_consumer(),
                Kind::Stream => queue,
            });
        }
        let hosts = format!("amqp.host = '{}'", cluster.hosts());
        let heartbeat = format!("amqp.heartbeat = {}", HEARTBEAT.as_secs());
        let connect = format!("amqp.connect_timeout = {}", CONNECT_TIMEOUT.as_secs());
        let confirm = format!("amqp.confirm_timeout = {}", CONFIRM_TIMEOUT.as_secs());
        let postgres = Postgres::create(&[
            "shared_preload_libraries = 'amqp_cdc'",
            "log_line_prefix = '%m [%p] %b '",
            "log_min_messages = info",
            &hosts,
            &heartbeat,
            &connect,
            &confirm,
        ]);
        let run = |database: &str, statement: &str| {
            let done = postgres.connect(database).batch_execute(statement);
            done.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        };
        run("postgres", &format!("CREATE DATABASE {DATABASE}"));
        run(DATABASE, "CREATE EXTENSION amqp_cdc");
        load::make_tables(&mut postgres.connect(DATABASE));
        Stage {
            postgres,
            cluster,
            network,
            load: Load::new(),
            monitor: Monitor::default(),
            probe: Probe::default(),
            taps,
            is_over: AtomicBool::new(false),
            queues: Mutex::default(),
        }
    }

    /// Each node's virtual host.
    pub fn brokers(&self) -> Vec<Broker> {
        self.cluster.nodes.iter().map(Node::broker).collect()
    }

    /// The place of the node that the worker is connected to, among the cluster's.
    pub fn connected(&self) -> Option<usize> {
        let last = self.monitor.last()?;
        let host = last.broker.split(':').next()?.to_owned();
        self.cluster.nodes.iter().position(|node| node.host() == host)
    }

    /// Waits until all nodes are up and hold all queues, and the worker confirms what is committed.
    pub fn wait_until_healed(&self) {
        let nodes = &self.cluster.nodes;
        let is_healed = || nodes.iter().all(Node::is_up) && self.is_whole();
        let is_down = |node: &Node| !node.is_up();
        let is_apart = |node: &Node| !self.is_whole_at(node);
        // Who was away for longer than net_ticktime may need what an operator would do.
        for needs_it in [&is_down as &dyn Fn(&Node) -> bool, &is_apart] {
            if poll(SELF_HEALING, || is_healed().then_some(())).is_some() {
                break;
            }
            for node in nodes.iter().filter(|node| needs_it(node)) {
                eprintln!("          {} is restarted", node.name());
                if node.is_running() {
                    node.kill();
                }
                node.start();
            }
        }
        wait_until("all queues are whole", HEALING, || is_healed().then_some(()));
        self.wait_until_streaming();
    }

    /// Waits until something is confirmed that was committed after this call. Somebody has to write.
    pub fn wait_until_streaming(&self) {
        // The position, which would tell it outright, is saved now and then only.
        let query = "SELECT state = 'streaming', events_confirmed, coalesce(lag_seconds, 0) FROM amqp.status";
        let mut client = self.postgres.connect(DATABASE);
        let (begin, mut before) = (Instant::now(), None);
        wait_until("the stream goes on", HEALING, || {
            let row = client.query_one(query, &[]).expect("could not ask for the status");
            let (confirmed, lag): (i64, f64) = (row.get(1), row.get(2));
            let is_new = confirmed > *before.get_or_insert(confirmed);
            let is_recent = lag < begin.elapsed().as_secs_f64();
            (row.get(0) && is_new && is_recent).then_some(())
        });
    }

    /// Waits until everything committed is confirmed.
    pub fn wait_until_confirmed(&self) {
        let query = "SELECT lag_bytes = 0 FROM amqp.status";
        let mut client = self.postgres.connect(DATABASE);
        wait_until("everything committed is confirmed", HEALING, || {
            let row = client.query_one(query, &[]).expect("could not ask for the status");
            row.get::<_, Option<bool>>(0)?.then_some(())
        });
    }

    /// Sets a parameter to another value, and waits until the worker is connected anew.
    pub fn set_and_reconnect(&self, name: &str, value: &str) {
        let connections = || {
            let log = self.postgres.log();
            log.matches("connected to broker").count() + log.matches("stream goes on").count()
        };
        let before = connections();
        self.postgres.set(name, value);
        wait_until("the worker connects anew", HEALING, || (connections() > before).then_some(()));
        self.wait_until_streaming();
    }

    /// Which node leads the quorum queue, and which the stream, and which hold them, when all was whole last.
    pub fn leaders(&self) -> String {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Prints how everybody is, for who has to find out why a run ended early.
    pub fn tell(&self) {
        const LINES: usize = 30;
        let end = |log: &str| {
            let lines: Vec<_> = log.lines().collect();
            lines[lines.len().saturating_sub(LINES)..].join("\n")
        };
        eprintln!("the status: {:?}", self.monitor.last());
        eprintln!("nobody could publish for {:?} now", self.probe.silent());
        eprintln!("--- PostgreSQL's log ---\n{}", end(&self.postgres.log()));
        for node in &self.cluster.nodes {
            eprintln!("--- {}'s log ---\n{}", node.name(), end(&node.log()));
        }
    }

    fn is_whole(&self) -> bool {
        self.is_whole_at(&self.cluster.nodes[0])
    }

    /// Whether each queue has a leader and all its members are there, as this node sees it.
    fn is_whole_at(&self, node: &Node) -> bool {
        let arguments = ["list_queues", "--no-table-headers", "name", "leader", "online"];
        let listed = node.tool("rabbitmqctl", &arguments).unwrap_or_default();
        let lines: Vec<_> = listed.lines().collect();
        let is_whole =
            |line: &&str| line.matches("rabbit@").count() == self.cluster.nodes.len() + 1;
        let are_whole = lines.len() == self.taps.len() && lines.iter().all(is_whole);
        if are_whole {
            let leaders: Vec<_> = lines.iter().map(|line| line.replace('\t', " ")).collect();
            let leaders = leaders.iter().filter_map(|line| line.split_once(" [")).map(|(l, _)| l);
            *self.queues.lock().unwrap_or_else(PoisonError::into_inner) =
                leaders.collect::<Vec<_>>().join(", ");
        }
        are_whole
    }
}
