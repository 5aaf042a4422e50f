//! A member of the cluster: one Patroni with its PostgreSQL, as on a machine of its own. It can be killed and frozen,
//! the whole of it or a part.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pg_test::ports::{Port, free_port};
use pg_test::{
    DEADLINE, Folder, Place, Process, StopSignal, installation, machine, ordinary_user,
    send_signal, try_to_signal, wait_until,
};
use postgres::{Client, NoTls};

use super::rest::{self, Answer};
use super::settings;

/// For an answer that needs nothing but the member itself.
const SOON: Duration = Duration::from_secs(2);

/// One of them.
#[derive(Debug)]
pub struct Member {
    pub name: &'static str,
    process: Mutex<Option<Process>>,
    folder: Folder,
    postgres: Port,
    rest: Port,
}

impl Member {
    /// Starts the Patroni of a member whose cluster is in the etcd at this port.
    pub fn start(name: &'static str, etcd: u16, broker: u16) -> Member {
        let member = Member {
            name,
            process: Mutex::new(None),
            folder: Folder::new(Place::Disk, StopSignal::Quit),
            postgres: free_port(),
            rest: free_port(),
        };
        let local = settings::Local {
            name,
            etcd,
            rest: member.rest.number(),
            postgres: member.postgres(),
            folder: member.folder.path(),
            programs: &installation::directory("--bindir"),
        };
        member.folder.write("patroni.json", &settings::of_member(&local, broker).to_string());
        member.start_again();
        member
    }

    /// Starts Patroni again after it was killed.
    pub fn start_again(&self) {
        let mut command = ordinary_user::command("patroni");
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("PG") || name.starts_with("PATRONI") {
                command.env_remove(&*name);
            }
        }
        command.arg(self.folder.join("patroni.json")).env("HOME", self.folder.path());
        let process = Process::start("patroni", command, &self.folder, "patroni.log");
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
    }

    /// The port of its PostgreSQL.
    pub fn postgres(&self) -> u16 {
        self.postgres.number()
    }

    /// A session as superuser, if it can be had.
    pub fn try_connect(&self, database: &str) -> Option<Client> {
        Client::connect(&connection_string(&[self.postgres()], database), NoTls).ok()
    }

    /// The same, once it can be had.
    #[track_caller]
    pub fn connect(&self, database: &str) -> Client {
        wait_until("PostgreSQL takes connections", DEADLINE, || self.try_connect(database))
    }

    /// What its Patroni answers at once.
    pub fn ask(&self, path: &str) -> Option<Answer> {
        rest::ask(self.rest.number(), "GET", path, "", SOON)
    }

    /// What its Patroni answers to an order.
    pub fn order(&self, method: &str, path: &str, body: &str) -> Option<Answer> {
        rest::ask(self.rest.number(), method, path, body, Duration::from_secs(60))
    }

    /// Whether it holds the lock of the leader, and takes writes.
    pub fn leads(&self) -> bool {
        // Patroni says so a little longer of a server that it starts again as a standby first.
        let takes_writes = || {
            let row = self.try_connect("postgres")?.query_one("SELECT pg_is_in_recovery()", &[]);
            Some(!row.ok()?.get::<_, bool>(0))
        };
        self.ask("/primary").is_some_and(|answer| answer.status == 200)
            && takes_writes().unwrap_or(false)
    }

    /// What its Patroni logged, and its PostgreSQL.
    pub fn log(&self) -> String {
        self.folder.read("patroni.log")
    }

    /// The process of Patroni.
    pub fn patroni(&self) -> Option<u32> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Process::id)
    }

    /// The postmaster, if one runs.
    pub fn postmaster(&self) -> Option<u32> {
        let file = self.folder.read("data/postmaster.pid");
        let pid = file.lines().next()?.parse().ok()?;
        // The file outlives a postmaster that was killed.
        let works_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        (works_in == self.folder.join("data")).then_some(pid)
    }

    /// Stops everything in its place.
    pub fn freeze(&self) {
        let mains = self.patroni().into_iter().chain(self.postmaster());
        for pid in mains.collect::<Vec<_>>() {
            send_signal(pid, "STOP");
        }
        // Those that have just ended were not to be stopped.
        self.of_postgres().into_iter().for_each(|pid| _ = try_to_signal(pid, "STOP"));
    }

    /// Has it go on where it was stopped.
    pub fn thaw(&self) {
        let all = self.of_postgres().into_iter().chain(self.patroni());
        all.for_each(|pid| _ = try_to_signal(pid, "CONT"));
    }

    /// Ends everything at once, as when the machine loses its power.
    pub fn kill(&self) {
        self.freeze();
        let doomed = self.of_postgres();
        drop(self.process.lock().unwrap_or_else(PoisonError::into_inner).take());
        for pid in doomed {
            _ = try_to_signal(pid, "KILL");
        }
        wait_until("the postmaster is gone", DEADLINE, || {
            self.postmaster().is_none().then_some(())
        });
    }

    /// The postmaster and its children.
    fn of_postgres(&self) -> Vec<u32> {
        let postmaster = self.postmaster();
        let children = postmaster.map(machine::children).unwrap_or_default();
        postmaster.into_iter().chain(children).collect()
    }
}

/// The servers at these ports, the first that takes writes.
pub fn connection_string(ports: &[u16], database: &str) -> String {
    let hosts = vec!["127.0.0.1"; ports.len()].join(",");
    let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let which = if hosts.contains(',') { " target_session_attrs=read-write" } else { "" };
    format!("host={hosts} port={ports} user=postgres dbname={database} connect_timeout=5{which}")
}

impl Drop for Member {
    fn drop(&mut self) {
        self.thaw();
        // Before its PostgreSQL, which it would start again.
        drop(self.process.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(postmaster) = self.postmaster() {
            _ = try_to_signal(postmaster, "QUIT");
            wait_until("the postmaster is gone", DEADLINE, || {
                self.postmaster().is_none().then_some(())
            });
        }
    }
}
