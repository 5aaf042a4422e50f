//! A network of machines on this one: network namespaces, each with one cable (veth) to the switch of the clients and
//! one to the switch of the cluster (bridges). It lies in namespaces of this process alone, which it enters by running
//! itself again: the machine's own network and its own /etc/hosts never change, and nothing is left when we are gone,
//! however we go. That needs root.
//!
//! We are on the clients' switch ourselves, with the servers that we start.

use std::net::Ipv4Addr;
use std::process::{Command, ExitStatus};

use crate::folder::{Folder, Place};
use crate::janitor::StopSignal;
use crate::process::Process;
use crate::wait::{DEADLINE, wait_until};

/// Tells a process that it is in namespaces of its own.
const APART: &str = "PG_TEST_APART";

/// The switches. Addresses are 10.77.1.n and 10.77.2.n.
const CLIENTS: &str = "clients";
const CLUSTER: &str = "cluster";

/// Our own number among the clients.
const OURS: u8 = 254;

/// Whether this process has a network and a mount namespace of its own.
pub fn is_apart() -> bool {
    std::env::var_os(APART).is_some()
}

/// Runs this program with these arguments in a network and a mount namespace of its own.
///
/// # Errors
/// If that cannot be made.
pub fn run_apart(arguments: &[String]) -> Result<ExitStatus, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--"]).arg(program).args(arguments).env(APART, "yes");
    let status = command.status().map_err(|error| format!("unshare: {error}"))?;
    // The word of unshare itself (util-linux: `errexec`, EXIT_FAILURE) is on stderr already.
    Ok(status)
}

/// The switches, and what names mean here.
#[derive(Debug)]
pub struct Network {
    /// Holds what stands in for /etc/hosts.
    folder: Folder,
}

/// A machine: a network namespace with a process that holds it.
#[derive(Debug)]
pub struct Machine {
    holder: Process,
    _folder: Folder,
    number: u8,
}

impl Network {
    /// Lays it.
    ///
    /// # Panics
    /// If this process is not apart, or something cannot be made.
    #[track_caller]
    pub fn lay() -> Network {
        assert!(is_apart(), "the machine's own network is not to be changed");
        ip("link set lo up");
        for switch in [CLIENTS, CLUSTER] {
            ip(&format!("link add {switch} type bridge"));
            ip(&format!("link set {switch} up"));
        }
        ip(&format!("address add 10.77.1.{OURS}/24 dev {CLIENTS}"));
        let network = Network { folder: Folder::new(Place::Disk, StopSignal::Kill) };
        let hosts = network.folder.join("hosts");
        network.name(&[]);
        run(Command::new("mount").arg("--bind").arg(hosts).arg("/etc/hosts"));
        network
    }

    /// From now on these are the only names of the network, beside localhost.
    pub fn name(&self, names: &[(&str, Ipv4Addr)]) {
        let lines = names.iter().map(|(name, address)| format!("{address} {name}\n"));
        // The file itself is mounted: it is written anew, and not replaced.
        self.folder
            .write("hosts", &("127.0.0.1 localhost\n".to_owned() + &lines.collect::<String>()));
    }

    /// A machine with this number, from 1, plugged in on both switches.
    #[track_caller]
    pub fn machine(&self, number: u8) -> Machine {
        let folder = Folder::new(Place::Disk, StopSignal::Kill);
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sleep", "infinity"]);
        let holder = Process::start("unshare", command, &folder, "holder.out");
        let ours = std::fs::read_link("/proc/self/ns/net").expect("we have a network");
        let its = format!("/proc/{}/ns/net", holder.id());
        wait_until("a machine has a network of its own", DEADLINE, || {
            std::fs::read_link(&its).ok().filter(|its| *its != ours)
        });
        let machine = Machine { holder, _folder: folder, number };
        for switch in [CLIENTS, CLUSTER] {
            let plug = machine.plug(switch);
            let pid = machine.holder.id();
            ip(&format!("link add {plug} type veth peer name {switch} netns {pid}"));
            ip(&format!("link set {plug} master {switch} up"));
            let address =
                if switch == CLIENTS { machine.address() } else { machine.cluster_address() };
            machine.ip(&format!("address add {address}/24 dev {switch}"));
            machine.ip(&format!("link set {switch} up"));
        }
        machine.ip("link set lo up");
        machine
    }
}

impl Machine {
    /// Where clients reach it.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 1, self.number)
    }

    /// Where other machines of the cluster reach it.
    pub fn cluster_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 2, self.number)
    }

    /// The same command, run on this machine. Its process id is the program's.
    pub fn on_it(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg("--");
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// Nothing goes between it and the other machines of the cluster any more, and nobody is told. Clients reach it.
    pub fn cut_off(&self) {
        ip(&format!("link set {} nomaster", self.plug(CLUSTER)));
    }

    /// Takes a [`Machine::cut_off`] back.
    pub fn connect(&self) {
        ip(&format!("link set {} master {CLUSTER}", self.plug(CLUSTER)));
    }

    /// Nothing comes from it to clients any more, and nobody is told: as if it were without power, but that its
    /// place in the network is known. The cluster reaches it.
    pub fn hide(&self) {
        self.ip(&format!("route add blackhole 10.77.1.{OURS}/32"));
    }

    /// Takes a [`Machine::hide`] back.
    pub fn show(&self) {
        self.ip(&format!("route del blackhole 10.77.1.{OURS}/32"));
    }

    /// What the machine's cable to a switch is called there.
    fn plug(&self, switch: &str) -> String {
        format!("{switch}{}", self.number)
    }

    #[track_caller]
    fn ip(&self, arguments: &str) {
        let mut command = Command::new("ip");
        command.args(arguments.split(' '));
        run(&mut self.on_it(&command));
    }
}

#[track_caller]
fn ip(arguments: &str) {
    run(Command::new("ip").args(arguments.split(' ')));
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
