//! A throwaway RabbitMQ node on free ports of 127.0.0.1, with an epmd of its own, so that it meets no
//! other node; with TLS, and then the plugin for EXTERNAL, or without any. It can be stopped, killed and
//! started again over the same data; everything of it is stopped and removed when dropped.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::broker::Broker;
use crate::folder::{Folder, Place, tail};
use crate::janitor::{self, StopSignal};
use crate::ordinary_user;
use crate::ports::{Port, free_port};
use crate::process::{Process, is_running};
use crate::tls_listener::TlsListener;
use crate::wait::poll;

/// Where Debian's package keeps the scripts. Those of the same names in PATH run only as root or
/// as the user `rabbitmq`.
const DEBIAN_SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// What the Erlang VM and the start scripts print; RabbitMQ's own log is the other file.
const OUTPUT: &str = "rabbitmq.out";
const LOG: &str = "rabbitmq.log";

/// A node starts in four seconds on an idle machine, and in minutes on one that is far from that.
const PATIENCE: Duration = Duration::from_secs(180);

/// A RabbitMQ server that belongs to the test.
#[derive(Debug)]
pub struct RabbitMq {
    // Dropped in this order: the processes are gone before their folder is removed.
    process: Mutex<Option<Process>>,
    /// Erlang's port mapper. A node starts one that outlives it unless it finds one.
    epmd: Option<Process>,
    folder: Folder,
    amqp: Port,
    /// What it begins with beside its AMQP listener.
    tls: Option<Secured>,
    /// Those of listeners that it was told of since.
    more_tls: Mutex<Vec<Port>>,
    distribution: Port,
    epmd_port: Port,
    /// Whether anything was done to it but by way of AMQP.
    is_altered: AtomicBool,
    /// Where its log begins for who has it now.
    log_begins: AtomicUsize,
}

/// A listener for TLS, and what belongs to it.
#[derive(Debug)]
struct Secured {
    port: Port,
    /// Lines of rabbitmq.conf, the listener's own among them.
    conf: String,
    plugins: String,
}

impl RabbitMq {
    /// Makes a node and starts it.
    #[track_caller]
    pub fn create() -> RabbitMq {
        let rabbitmq = RabbitMq::prepare();
        rabbitmq.start();
        rabbitmq
    }

    /// Makes a node that writes to no disk of this machine, as one on another machine does not, and
    /// starts it.
    #[track_caller]
    pub fn create_in_memory() -> RabbitMq {
        let rabbitmq = RabbitMq::prepare_in(Place::Memory, None);
        rabbitmq.start();
        rabbitmq
    }

    /// Makes a node that also listens for TLS, takes EXTERNAL beside PLAIN, with the common name of a client's
    /// certificate for the user's, and starts it.
    #[track_caller]
    pub fn create_with_tls(listener: &TlsListener) -> RabbitMq {
        let listener = listener.conf();
        let conf = |port: u16| {
            format!(
                "listeners.ssl.1 = 127.0.0.1:{port}\n\
                 {listener}\
                 auth_mechanisms.1 = PLAIN\n\
                 auth_mechanisms.2 = EXTERNAL\n\
                 ssl_cert_login_from = common_name\n"
            )
        };
        RabbitMq::create_with_conf(&["rabbitmq_auth_mechanism_ssl"], conf)
    }

    /// Makes a node with these plugins, and with lines of rabbitmq.conf that have it listen for TLS at the port that
    /// they are made for, and starts it.
    #[track_caller]
    pub fn create_with_conf(plugins: &[&str], conf: impl FnOnce(u16) -> String) -> RabbitMq {
        let port = free_port();
        let conf = conf(port.number());
        let plugins = format!("[{}].\n", plugins.join(", "));
        let rabbitmq = RabbitMq::prepare_in(Place::Disk, Some(Secured { port, conf, plugins }));
        rabbitmq.start();
        rabbitmq
    }

    /// Makes a node that does not run yet; its port is known already.
    #[track_caller]
    pub fn prepare() -> RabbitMq {
        RabbitMq::prepare_in(Place::Disk, None)
    }

    #[track_caller]
    fn prepare_in(place: Place, tls: Option<Secured>) -> RabbitMq {
        let mut rabbitmq = RabbitMq {
            process: Mutex::new(None),
            epmd: None,
            folder: Folder::new(place, StopSignal::Kill),
            amqp: free_port(),
            // Only what has no TLS is like a new one afterwards.
            is_altered: AtomicBool::new(tls.is_some()),
            tls,
            more_tls: Mutex::default(),
            distribution: free_port(),
            epmd_port: free_port(),
            log_begins: AtomicUsize::new(0),
        };
        rabbitmq.configure();
        rabbitmq.epmd = Some(rabbitmq.start_epmd());
        rabbitmq
    }

    /// Starts the node, and returns when it accepts AMQP connections.
    ///
    /// # Panics
    /// If it runs already, or does not come up; with what it logged.
    #[track_caller]
    pub fn start(&self) {
        let command = self.command("rabbitmq-server");
        {
            let mut running = self.process();
            assert!(!is_running(&mut running), "this RabbitMQ runs already");
            let process = Process::start("rabbitmq-server", command, &self.folder, OUTPUT);
            *running = Some(process);
        }
        let broker = self.broker();
        let mut refusal = String::from("it does not listen");
        let started = poll(PATIENCE, || {
            let ended = self.process().as_mut().and_then(Process::exit_status);
            if let Some(status) = ended {
                return Some(Err(status));
            }
            // The cheap question first. The other one shows that it also lets us in.
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())).ok()?;
            let admitted = broker.try_connection();
            admitted.map(Ok).map_err(|error| refusal = error).ok()
        });
        match started {
            Some(Ok(())) => {}
            Some(Err(status)) => {
                panic!("RabbitMQ ended ({status}) instead of starting:\n{}", tail(&self.log()))
            }
            None => panic!(
                "RabbitMQ did not start within {PATIENCE:?}, {refusal}:\n{}",
                tail(&self.log())
            ),
        }
    }

    /// Forgets every exchange and queue, for somebody else. False if it may not be like a new one then.
    pub(crate) fn begin_anew(&self) -> bool {
        const FORGET: &str = "{_, _, ok} = {
            rabbit_vhost:delete(<<\"/\">>, <<\"test\">>), rabbit_vhost:add(<<\"/\">>, <<\"test\">>),
            rabbit_auth_backend_internal:set_permissions(
                <<\"guest\">>, <<\"/\">>, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"test\">>)}.";
        let is_forgotten = !self.is_altered.load(Ordering::Relaxed)
            && self.run_ctl(&["eval", FORGET]).is_ok()
            && self.broker().try_connection().is_ok();
        self.log_begins.store(self.whole_log().len(), Ordering::Relaxed);
        is_forgotten
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

    /// The version of the RabbitMQ that is installed.
    #[track_caller]
    pub fn version() -> String {
        RabbitMq::prepare().ctl(&["version"]).trim().to_owned()
    }

    /// Runs `rabbitmqctl` against the node and returns what it printed. Each call starts an
    /// Erlang VM, half a second of CPU: what AMQP can tell, ask the [`Broker`].
    ///
    /// # Panics
    /// If rabbitmqctl fails.
    #[track_caller]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        self.is_altered.store(true, Ordering::Relaxed);
        match self.run_ctl(arguments) {
            Ok(text) => text,
            Err(said) => panic!("rabbitmqctl {arguments:?}: {said}"),
        }
    }

    /// What it printed, or what it said if it failed.
    fn run_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        run_tool(self.command("rabbitmqctl"), arguments, &self.folder)
    }

    /// Has each quorum queue elect a leader, unless it has one. The only member of a queue should
    /// elect itself when its node starts, but sometimes waits for ever for a leader that nobody else
    /// can be, and lets everybody wait who publishes to the queue or consumes from it
    /// (<https://github.com/rabbitmq/ra/issues/179>).
    #[track_caller]
    pub fn elect_leaders(&self) {
        self.ctl(&[
            "eval",
            "[ok = ra:trigger_election(amqqueue:get_pid(Queue), 60000) || \
             Queue <- rabbit_amqqueue:list(), amqqueue:get_type(Queue) =:= rabbit_quorum_queue].",
        ]);
    }

    /// The AMQP port on 127.0.0.1; the same for the life of the node.
    pub fn port(&self) -> u16 {
        self.amqp.number()
    }

    /// The port on 127.0.0.1 of the TLS listener that it was made with.
    ///
    /// # Panics
    /// If it was made with none.
    #[track_caller]
    pub fn tls_port(&self) -> u16 {
        self.tls.as_ref().expect("this RabbitMQ has no TLS").port.number()
    }

    /// Has a node with TLS listen for more of it, on ports of 127.0.0.1 that are returned, until it stops.
    /// rabbitmq.conf would have all listeners show the same certificate.
    #[track_caller]
    pub fn listen_for_tls<const N: usize>(&self, listeners: [&TlsListener; N]) -> [u16; N] {
        let ports = [(); N].map(|()| free_port());
        let numbers = ports.each_ref().map(Port::number);
        let each = numbers.iter().zip(listeners).map(|(port, listener)| {
            let options = listener.erlang();
            format!(
                "ok = rabbit_networking:start_ssl_listener({{\"127.0.0.1\", {port}}}, {options}, 1)"
            )
        });
        self.ctl(&["eval", &format!("{}.", each.collect::<Vec<_>>().join(", "))]);
        self.more_tls.lock().unwrap_or_else(PoisonError::into_inner).extend(ports);
        numbers
    }

    /// Has the node read the files of its certificates anew, from the next handshake on, instead of within two
    /// minutes.
    #[track_caller]
    pub fn read_certificates_again(&self) {
        self.ctl(&["eval", "ssl:clear_pem_cache()."]);
    }

    /// The URL of a virtual host (the default one is `/`), as the user `guest`.
    pub fn url(&self, vhost: &str) -> String {
        let vhost = vhost.replace('%', "%25").replace('/', "%2f");
        format!("amqp://guest:guest@127.0.0.1:{}/{vhost}", self.port())
    }

    /// The default virtual host, to declare, publish and consume in.
    pub fn broker(&self) -> Broker {
        Broker::at(self.url("/"))
    }

    /// The process id of the Erlang VM.
    ///
    /// # Panics
    /// If the node does not run.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        // Who asks sends signals.
        self.is_altered.store(true, Ordering::Relaxed);
        match self.process().as_ref() {
            Some(process) => process.id(),
            None => panic!("this RabbitMQ does not run"),
        }
    }

    /// The node's temporary folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the node logged so far, over all its starts, for whoever has it now.
    pub fn log(&self) -> String {
        let begin = self.log_begins.load(Ordering::Relaxed);
        self.folder.read(OUTPUT) + self.whole_log().get(begin..).unwrap_or_default()
    }

    fn whole_log(&self) -> String {
        self.folder.read(LOG)
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[track_caller]
    fn end(&self, signal: &str) {
        self.is_altered.store(true, Ordering::Relaxed);
        let process = self.process().take().expect("this RabbitMQ does not run");
        process.stop(signal, PATIENCE);
    }

    fn configure(&self) {
        // A disk or a memory that is nearly full must not block publishers in the middle of a test.
        let mut conf = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\n\
             vm_memory_high_watermark.relative = 0.9\n\
             disk_free_limit.absolute = 1MB\n\
             log.console = false\n",
            self.port()
        );
        let mut plugins = "[].\n";
        if let Some(secured) = &self.tls {
            conf += &secured.conf;
            plugins = &secured.plugins;
        }
        self.folder.write("rabbitmq.conf", &conf);
        self.folder.write("enabled_plugins", plugins);
        // In place of the machine's /etc/rabbitmq/rabbitmq-env.conf.
        self.folder.write("rabbitmq-env.conf", "");
    }

    fn start_epmd(&self) -> Process {
        let mut command = ordinary_user::command("epmd");
        command.env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command.args(["-port", &self.epmd_port.number().to_string()]);
        Process::start("epmd", command, &self.folder, "epmd.out")
    }

    /// A command that runs one of RabbitMQ's scripts for this node.
    fn command(&self, script: &str) -> Command {
        let mut command = ordinary_user::command(script_path(script));
        command
            // Where the Erlang cookie is.
            .env("HOME", self.folder.path())
            .env("RABBITMQ_NODENAME", format!("pg_test_{}@localhost", self.port()))
            .env("RABBITMQ_CONF_ENV_FILE", self.folder.join("rabbitmq-env.conf"))
            .env("RABBITMQ_CONFIG_FILE", self.folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", self.folder.join("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.folder.join("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", self.folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", self.folder.path())
            .env("RABBITMQ_LOGS", self.folder.join(LOG))
            .env("RABBITMQ_DIST_PORT", self.distribution.number().to_string())
            .env("ERL_EPMD_PORT", self.epmd_port.number().to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // Two schedulers that do not spin: tests share few cores with several servers.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
            )
            // rabbitmqctl only connects; listening ports of its own could be taken.
            .env("RABBITMQ_CTL_ERL_ARGS", "+S 1:1 -dist_listen false")
            // The script then becomes the Erlang VM, instead of waiting for it: one process id.
            .env("RUNNING_UNDER_SYSTEMD", "true");
        command
    }
}

/// Runs one of RabbitMQ's tools in the folder of a node, and returns what it printed.
///
/// # Errors
/// What it said if it failed.
pub(crate) fn run_tool(
    mut command: Command,
    arguments: &[&str],
    folder: &Folder,
) -> Result<String, String> {
    let (key, value) = janitor::mark(folder.path());
    command.arg("--quiet").args(arguments).env(key, value).current_dir(folder.path());
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { Err(format!("{text}{errors}")) }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        if let Some(process) = self.process().take() {
            process.stop_or_kill("KILL");
        }
        if let Some(epmd) = self.epmd.take() {
            epmd.stop_or_kill("KILL");
        }
    }
}

pub(crate) fn script_path(script: &str) -> PathBuf {
    let debian = Path::new(DEBIAN_SCRIPTS).join(script);
    if debian.exists() { debian } else { PathBuf::from(script) }
}
