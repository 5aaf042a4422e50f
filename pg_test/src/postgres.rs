//! A throwaway PostgreSQL cluster on a free port: made by initdb, run as an ordinary user, stopped
//! and removed when dropped. It can be shut down, crashed and started again over the same data, and
//! copied ([`backup`]).

mod backup;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ::postgres::{Client, NoTls};

use crate::folder::{Folder, Place, tail};
use crate::installation::directory;
use crate::janitor::StopSignal;
use crate::ports::{Port, free_port};
use crate::process::{Process, children_of, has_ended, is_running, try_to_signal};
use crate::wait::{DEADLINE, poll, wait_until};
use crate::{ordinary_user, send_signal};

const LOG: &str = "postgres.log";

/// The data directory, in a cluster's folder.
const DATA: &str = "data";

/// Crash recovery and shutdown of a cluster that has been written to take their time.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to shut a server down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Sessions are ended, a shutdown checkpoint is written.
    Fast,
    /// Everything ends at once, as in a crash: the next start recovers from the WAL.
    Immediate,
}

/// A PostgreSQL server that belongs to the test.
#[derive(Debug)]
pub struct Postgres {
    // Dropped in this order: the process is gone before its folder is removed.
    process: Mutex<Option<Process>>,
    folder: Folder,
    port: Port,
}

impl Postgres {
    /// Makes a cluster and starts it. `conf` holds lines of postgresql.conf; they override the
    /// harness's own (which switch fsync off: only a crash of the machine would need it).
    #[track_caller]
    pub fn create(conf: &[&str]) -> Postgres {
        Postgres::create_with(&[], conf)
    }

    /// Like [`Postgres::create`], with further arguments to initdb, such as `--encoding=LATIN1`
    /// (without one: UTF8 and the C locale).
    #[track_caller]
    pub fn create_with(initdb: &[&str], conf: &[&str]) -> Postgres {
        let postgres = Postgres::empty();
        postgres.initdb(initdb);
        postgres.configure(conf);
        postgres.start();
        postgres
    }

    /// Starts the server, and returns when it accepts connections.
    ///
    /// # Panics
    /// If it runs already, or does not come up; with the end of its log.
    #[track_caller]
    pub fn start(&self) {
        self.start_with(&[]);
    }

    /// Like [`Postgres::start`], with these variables in the environment of the server.
    #[track_caller]
    pub fn start_with(&self, environment: &[(&str, &OsStr)]) {
        let mut command = command_of("postgres");
        command.envs(environment.iter().copied());
        self.start_command(command);
    }

    /// Like [`Postgres::start`], with the server of another installation of the same version, whose programs are
    /// in this folder.
    #[track_caller]
    pub fn start_from(&self, programs: &Path) {
        self.start_command(command_in(programs, "postgres"));
    }

    #[track_caller]
    fn start_command(&self, mut command: Command) {
        command.arg("-D").arg(self.data_dir());
        let id = {
            let mut running = self.process();
            assert!(!is_running(&mut running), "this PostgreSQL runs already");
            let process = Process::start("postgres", command, &self.folder, LOG);
            running.insert(process).id()
        };
        let started = poll(PATIENCE, || {
            let ended = self.process().as_mut().and_then(Process::exit_status);
            match ended {
                Some(status) => Some(Err(status)),
                None => self.is_ready(id).then_some(Ok(())),
            }
        });
        match started {
            Some(Ok(())) => {}
            Some(Err(status)) => {
                panic!("PostgreSQL ended ({status}) instead of starting:\n{}", tail(&self.log()))
            }
            None => panic!("PostgreSQL did not start within {PATIENCE:?}:\n{}", tail(&self.log())),
        }
    }

    /// Stops the server, and returns when it is gone.
    ///
    /// # Panics
    /// If it does not run or does not stop.
    #[track_caller]
    pub fn stop(&self, how: Shutdown) {
        let process = self.process().take().expect("this PostgreSQL does not run");
        let signal = match how {
            Shutdown::Fast => "INT",
            Shutdown::Immediate => "QUIT",
        };
        process.stop(signal, PATIENCE);
    }

    /// Has the server die as it does with its machine: none of its processes does anything any more.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn kill(&self) {
        let process = self.process().take().expect("this PostgreSQL does not run");
        // It starts no further ones.
        send_signal(process.id(), "STOP");
        let children = children_of(process.id());
        process.stop("KILL", PATIENCE);
        for &child in &children {
            try_to_signal(child, "KILL");
        }
        wait_until("all processes of PostgreSQL are gone", PATIENCE, || {
            children.iter().copied().all(has_ended).then_some(())
        });
    }

    /// Stops the server and starts it again.
    #[track_caller]
    pub fn restart(&self, how: Shutdown) {
        self.stop(how);
        self.start();
    }

    /// Has the server read its configuration again, and returns when its postmaster has (every new
    /// session sees the new values; running processes do when they look).
    #[track_caller]
    pub fn reload(&self) {
        let before = self.configured_at();
        send_signal(self.pid(), "HUP");
        wait_until("PostgreSQL has reloaded its configuration", DEADLINE, || {
            (self.configured_at() > before).then_some(())
        });
    }

    /// Sets a parameter for the whole server (`ALTER SYSTEM`) and reloads.
    #[track_caller]
    pub fn set(&self, name: &str, value: &str) {
        let value = value.replace('\'', "''");
        self.alter_system(&format!("SET {name} = '{value}'"));
    }

    /// Takes a [`Postgres::set`] back and reloads.
    #[track_caller]
    pub fn reset(&self, name: &str) {
        self.alter_system(&format!("RESET {name}"));
    }

    /// A new session as the superuser `postgres`.
    #[track_caller]
    pub fn connect(&self, database: &str) -> Client {
        match Client::connect(&self.connection_string(database), NoTls) {
            Ok(client) => client,
            Err(error) => panic!("could not connect to {database}: {error:?}"),
        }
    }

    /// What [`Client::connect`] takes, for connections that are to be unlike
    /// [`Postgres::connect`]'s.
    pub fn connection_string(&self, database: &str) -> String {
        let port = self.port();
        format!("host=127.0.0.1 port={port} user=postgres dbname={database} connect_timeout=10")
    }

    /// The command with which a person looks into a database of this server.
    pub fn psql_line(&self, database: &str) -> String {
        format!("psql -h 127.0.0.1 -p {} -U postgres -d {database}", self.port())
    }

    /// A command that runs one of PostgreSQL's programs, such as `pg_waldump`, as the servers are
    /// run. Its process id is the program's.
    pub fn program(name: &str) -> Command {
        command_of(name)
    }

    /// The TCP port on 127.0.0.1; the same for the life of the cluster.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join(DATA)
    }

    /// The cluster's temporary folder; it also holds the Unix socket.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The postmaster's process id.
    ///
    /// # Panics
    /// If the server does not run.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        match self.process().as_ref() {
            Some(process) => process.id(),
            None => panic!("this PostgreSQL does not run"),
        }
    }

    /// Everything the server logged so far, over all its starts.
    pub fn log(&self) -> String {
        self.folder.read(LOG)
    }

    /// A cluster without a data directory.
    fn empty() -> Postgres {
        Postgres {
            process: Mutex::new(None),
            folder: Folder::new(Place::Disk, StopSignal::Quit),
            port: free_port(),
        }
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each kind of cluster is made once, and then copied. They have the same system identifier.
    fn initdb(&self, arguments: &[&str]) {
        static MADE: Mutex<BTreeMap<String, Folder>> = Mutex::new(BTreeMap::new());
        let made = {
            let mut kinds = MADE.lock().unwrap_or_else(PoisonError::into_inner);
            let make = || {
                let folder = Folder::new(Place::Disk, StopSignal::Quit);
                Postgres::run_initdb(&folder, arguments);
                folder
            };
            kinds.entry(arguments.join(" ")).or_insert_with(make).join(DATA)
        };
        self.copy_files(&made);
    }

    /// Takes this data directory for its own.
    #[track_caller]
    fn copy_files(&self, data: &Path) {
        let mut command = ordinary_user::command("cp");
        command.arg("--archive").arg(data).arg(self.data_dir());
        let process = Process::start("cp", command, &self.folder, "cp.log");
        let status = process.wait(PATIENCE);
        assert!(status.success(), "could not copy:\n{}", self.folder.read("cp.log"));
    }

    fn run_initdb(folder: &Folder, arguments: &[&str]) {
        let mut command = command_of("initdb");
        command
            .args(["--username=postgres", "--auth=trust", "--no-sync", "--no-instructions"])
            .args(["--encoding=UTF8", "--no-locale"])
            .args(arguments)
            .arg("--pgdata")
            .arg(folder.join(DATA));
        let process = Process::start("initdb", command, folder, "initdb.log");
        let status = process.wait(PATIENCE);
        assert!(status.success(), "initdb failed:\n{}", folder.read("initdb.log"));
    }

    fn configure(&self, lines: &[&str]) {
        let mut text = String::from("\n# of the test harness\n");
        let own = [
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("port = {}", self.port()),
            format!("unix_socket_directories = '{}'", self.folder().display()),
            "fsync = off".to_owned(),
        ];
        for line in own.iter().map(String::as_str).chain(lines.iter().copied()) {
            writeln!(text, "{line}").expect("a String takes any text");
        }
        let mut conf = self.folder.read("data/postgresql.conf");
        conf.push_str(&text);
        self.folder.write("data/postgresql.conf", &conf);
    }

    /// Whether the postmaster with this process id says so in its pid file: its eighth line, the
    /// one that pg_ctl reads.
    fn is_ready(&self, id: u32) -> bool {
        let file = self.folder.read("data/postmaster.pid");
        let mut lines = file.lines();
        lines.next() == Some(&id.to_string())
            && matches!(lines.nth(6).map(str::trim), Some("ready" | "standby"))
    }

    #[track_caller]
    fn alter_system(&self, action: &str) {
        let statement = format!("ALTER SYSTEM {action}");
        if let Err(error) = self.connect("postgres").batch_execute(&statement) {
            panic!("{statement}: {error:?}");
        }
        self.reload();
    }

    /// When the postmaster read its configuration: a new session inherits its answer.
    #[track_caller]
    fn configured_at(&self) -> SystemTime {
        self.connect("postgres")
            .query_one("SELECT pg_conf_load_time()", &[])
            .expect("could not ask for pg_conf_load_time()")
            .get(0)
    }
}

/// The end of the WAL of the server of this session, on disk or not yet, in bytes.
#[track_caller]
pub fn insert_lsn(client: &mut Client) -> u64 {
    const LSN: &str = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
    let row = client.query_one(LSN, &[]);
    let lsn: i64 =
        row.unwrap_or_else(|error| panic!("could not ask for the WAL: {error:?}")).get(0);
    lsn as u64
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(process) = self.process().take() {
            process.stop_or_kill("QUIT");
        }
    }
}

/// A command that runs one of PostgreSQL's programs, free of the PG* variables that would direct
/// it to another cluster.
fn command_of(program: &str) -> Command {
    static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| directory("--bindir"));
    command_in(&PROGRAMS, program)
}

/// The same, of a program in this folder.
fn command_in(programs: &Path, program: &str) -> Command {
    let mut command = ordinary_user::command(programs.join(program));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
}
