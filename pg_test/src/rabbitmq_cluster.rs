//! A RabbitMQ cluster, each of whose nodes is on a [`Machine`] of its own. Its nodes can be killed, stopped, frozen and
//! started again over the same data; everything of it is stopped and removed when dropped.

use std::net::TcpStream;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::broker::Broker;
use crate::folder::{Folder, Place, tail};
use crate::janitor::StopSignal;
use crate::network::{Machine, Network};
use crate::ordinary_user;
use crate::process::{Process, is_running, send_signal};
use crate::rabbitmq::{run_tool, script_path};
use crate::wait::poll;

/// On a machine of its own each node has the usual ports.
pub const PORT: u16 = 5672;

const OUTPUT: &str = "rabbitmq.out";
const LOG: &str = "rabbitmq.log";

/// A node may wait for others, and shares few cores with them.
const PATIENCE: Duration = Duration::from_secs(120);

/// So long nodes take at most to notice that another one says nothing, in seconds: a quarter more than this
/// (`net_ticktime`, 60 by default).
pub const NET_TICKTIME: u64 = 12;

/// The nodes of a cluster.
#[derive(Debug)]
pub struct RabbitMqCluster {
    /// In the order of their numbers.
    pub nodes: Vec<Node>,
}

/// A node, and the machine that it is on.
#[derive(Debug)]
pub struct Node {
    // Dropped in this order: the process is gone before its folder and its machine.
    process: Mutex<Option<Process>>,
    epmd: Mutex<Option<Process>>,
    folder: Folder,
    /// Where it is.
    pub machine: Machine,
    number: u8,
}

impl RabbitMqCluster {
    /// Makes one of so many nodes. Of a partition the minority pauses itself.
    #[track_caller]
    pub fn create(network: &Network, size: u8) -> RabbitMqCluster {
        let nodes: Vec<Node> = (1..=size).map(|number| Node::prepare(network, number)).collect();
        let cluster = RabbitMqCluster { nodes };
        cluster.name(network, &[]);
        // Who comes later joins who is there.
        let formation: String = (1..=size)
            .map(|number| {
                format!("cluster_formation.classic_config.nodes.{number} = rabbit@n{number}\n")
            })
            .collect();
        cluster.nodes.iter().for_each(|node| node.configure(&formation));
        cluster.nodes.iter().for_each(Node::start);
        cluster
    }

    /// From now on these are names of the network beside those of the cluster: `n1` for the others of the cluster,
    /// `rabbit1` for clients.
    pub fn name(&self, network: &Network, more: &[(&str, std::net::Ipv4Addr)]) {
        let own: Vec<_> = self.nodes.iter().flat_map(Node::names).collect();
        let own = own.iter().map(|(name, address)| (name.as_str(), *address));
        network.name(&own.chain(more.iter().copied()).collect::<Vec<_>>());
    }

    /// The value of amqp.host that names all nodes.
    pub fn hosts(&self) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(Node::host).collect();
        hosts.join(",")
    }
}

impl Node {
    fn prepare(network: &Network, number: u8) -> Node {
        let node = Node {
            process: Mutex::default(),
            epmd: Mutex::default(),
            folder: Folder::new(Place::Disk, StopSignal::Kill),
            machine: network.machine(number),
            number,
        };
        node.folder.write(".erlang.cookie", "pgtest");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(node.folder.join(".erlang.cookie"), mode)
            .expect("could not hide the cookie");
        node
    }

    /// Its name among clients.
    pub fn host(&self) -> String {
        format!("rabbit{}", self.number)
    }

    /// Its name in the cluster.
    pub fn name(&self) -> String {
        format!("rabbit@n{}", self.number)
    }

    fn names(&self) -> [(String, std::net::Ipv4Addr); 2] {
        [
            (self.host(), self.machine.address()),
            (format!("n{}", self.number), self.machine.cluster_address()),
        ]
    }

    /// Its virtual host.
    pub fn broker(&self) -> Broker {
        Broker::at(format!("amqp://guest:guest@{}:{PORT}/%2f?heartbeat=5", self.machine.address()))
    }

    /// Starts the node, and returns when it lets us in.
    ///
    /// # Panics
    /// If it runs already, or does not come up; with what it logged.
    #[track_caller]
    pub fn start(&self) {
        self.begin_to_start();
        self.wait_until_started();
    }

    /// Starts the node, and does not wait for it.
    #[track_caller]
    pub fn begin_to_start(&self) {
        let mut epmd = lock(&self.epmd);
        if !is_running(&mut epmd) {
            *epmd = Some(Process::start("epmd", self.command_of("epmd"), &self.folder, "epmd.out"));
        }
        let mut running = lock(&self.process);
        assert!(!is_running(&mut running), "{} runs already", self.name());
        let command = self.command_of(script_path("rabbitmq-server").as_os_str());
        *running = Some(Process::start("rabbitmq-server", command, &self.folder, OUTPUT));
    }

    /// Returns when it lets us in.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn wait_until_started(&self) {
        let started = poll(PATIENCE, || {
            if let Some(status) = lock(&self.process).as_mut().and_then(Process::exit_status) {
                return Some(Err(status));
            }
            self.is_up().then_some(Ok(()))
        });
        match started {
            Some(Ok(())) => {}
            other => panic!("{} did not start, {other:?}:\n{}", self.name(), tail(&self.log())),
        }
    }

    /// Whether it lets us in.
    pub fn is_up(&self) -> bool {
        let address = (self.machine.address(), PORT).into();
        TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
            && self.broker().try_connection().is_ok()
    }

    /// Whether its process is there.
    pub fn is_running(&self) -> bool {
        is_running(&mut lock(&self.process))
    }

    /// Shuts the node down gracefully, and returns when it is gone.
    #[track_caller]
    pub fn stop(&self) {
        self.end("TERM");
    }

    /// Kills the node, as a crash of its process would.
    #[track_caller]
    pub fn kill(&self) {
        self.end("KILL");
    }

    /// Nothing in the node goes on any more, and nobody is told.
    #[track_caller]
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Takes a [`Node::freeze`] back.
    #[track_caller]
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Runs one of RabbitMQ's tools against the node (`rabbitmqctl`, `rabbitmq-upgrade`, …), and returns what it printed.
    ///
    /// # Errors
    /// What it said if it failed.
    pub fn tool(&self, tool: &str, arguments: &[&str]) -> Result<String, String> {
        let command = self.command_of(script_path(tool).as_os_str());
        let ended = run_tool(command, arguments, &self.folder);
        ended.map_err(|said| format!("{tool}: {said}"))
    }

    /// What the node logged so far, over all its starts.
    pub fn log(&self) -> String {
        self.folder.read(OUTPUT) + &self.folder.read(LOG)
    }

    #[track_caller]
    fn end(&self, signal: &str) {
        let process = lock(&self.process).take().expect("this node does not run");
        process.stop(signal, PATIENCE);
    }

    #[track_caller]
    fn signal(&self, signal: &str) {
        let process = lock(&self.process);
        send_signal(process.as_ref().expect("this node does not run").id(), signal);
    }

    fn configure(&self, formation: &str) {
        let conf = format!(
            "listeners.tcp.1 = 0.0.0.0:{PORT}\n\
             loopback_users = none\n\
             vm_memory_high_watermark.relative = 0.9\n\
             disk_free_limit.absolute = 1MB\n\
             log.console = false\n\
             cluster_partition_handling = pause_minority\n\
             cluster_formation.peer_discovery_backend = classic_config\n\
             {formation}"
        );
        self.folder.write("rabbitmq.conf", &conf);
        self.folder.write("enabled_plugins", "[].\n");
        self.folder.write("rabbitmq-env.conf", "");
    }

    /// A command that runs a program for this node on its machine.
    fn command_of(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = ordinary_user::command(program);
        command
            .env("HOME", self.folder.path())
            .env("RABBITMQ_NODENAME", self.name())
            .env("RABBITMQ_CONF_ENV_FILE", self.folder.join("rabbitmq-env.conf"))
            .env("RABBITMQ_CONFIG_FILE", self.folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", self.folder.join("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.folder.join("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", self.folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", self.folder.path())
            .env("RABBITMQ_LOGS", self.folder.join(LOG))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                format!("+S 2:2 +sbwt none -kernel net_ticktime {NET_TICKTIME}"),
            )
            .env("RABBITMQ_CTL_ERL_ARGS", "+S 1:1")
            .env("RUNNING_UNDER_SYSTEMD", "true");
        self.machine.on_it(&command)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for process in [&self.process, &self.epmd] {
            if let Some(process) = lock(process).take() {
                process.stop_or_kill("KILL");
            }
        }
    }
}

fn lock(process: &Mutex<Option<Process>>) -> MutexGuard<'_, Option<Process>> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}
