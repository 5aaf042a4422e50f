//! What a run has: the network, the cluster, PostgreSQL, and what is asked of them between two faults.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

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
        wait_until("all nodes are up", HEALING, || {
            self.cluster.nodes.iter().all(Node::is_up).then_some(())
        });
        let mut listed = Ok(String::new());
        let whole = poll(HEALING, || {
            let arguments = "list_queues --no-table-headers name online".split(' ');
            listed = self.cluster.nodes[0].tool("rabbitmqctl", &arguments.collect::<Vec<_>>());
            let lines: Vec<_> = listed.iter().flat_map(|text| text.lines()).collect();
            let is_whole =
                |line: &&str| line.matches("rabbit@").count() == self.cluster.nodes.len();
            (lines.len() == self.taps.len() && lines.iter().all(is_whole)).then_some(())
        });
        assert!(whole.is_some(), "not all queues are whole: {listed:?}");
        self.wait_until_streaming();
    }

    /// Waits until something is confirmed that was committed after this call.
    pub fn wait_until_streaming(&self) {
        let lsn = pg_test::insert_lsn(&mut self.postgres.connect(DATABASE));
        let query = format!(
            "SELECT state = 'streaming' AND confirmed_lsn >= '0/0'::pg_lsn + {lsn} FROM amqp.status"
        );
        let mut client = self.postgres.connect(DATABASE);
        wait_until("the stream goes on", HEALING, || {
            let row = client.query_one(&query, &[]).expect("could not ask for the status");
            row.get::<_, Option<bool>>(0)?.then_some(())
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

    /// Which node leads the quorum queue, and which the stream.
    pub fn leaders(&self) -> String {
        let asked = "list_queues --no-table-headers name leader";
        let arguments: Vec<&str> = asked.split(' ').collect();
        let up = self.cluster.nodes.iter().find(|node| node.is_running());
        let listed = up.map(|node| node.tool("rabbitmqctl", &arguments));
        let listed = listed.and_then(Result::ok).unwrap_or_default();
        listed.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}
