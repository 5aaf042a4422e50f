//! Copies of a running server, made by pg_basebackup: a backup that is started as it is, one that
//! recovers from a WAL archive, a streaming standby. Each is a [`Postgres`] of its own, on its own
//! port, with the configuration of the original but for what the caller adds.

use std::fs;

use crate::process::Process;
use crate::send_signal;
use crate::wait::{DEADLINE, wait_until};

use super::{PATIENCE, Postgres, command_of};

impl Postgres {
    /// A copy of this running server, not started yet. `conf` holds further lines of
    /// postgresql.conf. What was set with [`Postgres::set`] is copied, too, and overrides them.
    #[track_caller]
    pub fn backup(&self, conf: &[&str]) -> Postgres {
        let copy = Postgres::empty();
        let process = copy.start_copying(self, &[]);
        copy.finish_copying(process, conf);
        copy
    }

    /// A copy of this server, which is not running, as of the moment in which it ended: what a snapshot of its file
    /// system holds. It is not started yet.
    #[track_caller]
    pub fn snapshot(&self, conf: &[&str]) -> Postgres {
        let copy = Postgres::empty();
        copy.copy_files(&self.data_dir());
        copy.configure(conf);
        copy
    }

    /// Like [`Postgres::backup`], with `meanwhile` run between the backup's begin and its end: what
    /// it commits is in the copy, in the WAL that comes with it.
    #[track_caller]
    pub fn backup_while(&self, conf: &[&str], meanwhile: impl FnOnce()) -> Postgres {
        let copy = Postgres::empty();
        // Slow enough to be stopped on its way; the WAL comes last.
        let process = copy.start_copying(self, &["--max-rate=8M"]);
        wait_until("the backup has begun", DEADLINE, || self.is_copied_from().then_some(()));
        send_signal(process.id(), "STOP");
        meanwhile();
        assert!(self.is_copied_from(), "the backup had ended before it was stopped");
        send_signal(process.id(), "CONT");
        copy.finish_copying(process, conf);
        copy
    }

    /// A standby of this running server, which streams. The primary knows it by `name`
    /// (`application_name`).
    #[track_caller]
    pub fn standby(&self, name: &str, conf: &[&str]) -> Postgres {
        let standby = self.backup(conf);
        standby.follow(self, name);
        standby
    }

    /// Starts a server that is not running as a standby of `primary`, of which it is a copy or the
    /// original, and returns when it streams: a primary that is shut down before leaves it behind.
    #[track_caller]
    pub fn follow(&self, primary: &Postgres, name: &str) {
        let port = primary.port();
        self.configure(&[&format!(
            "primary_conninfo = 'host=127.0.0.1 port={port} user=postgres application_name={name}'"
        )]);
        self.folder.write("data/standby.signal", "");
        self.start();
        let mut client = primary.connect("postgres");
        wait_until("the standby streams", DEADLINE, || {
            const STREAMING: &str = "SELECT count(*) > 0 FROM pg_stat_replication \
                 WHERE application_name = $1 AND state = 'streaming'";
            let row = client.query_one(STREAMING, &[&name]);
            row.expect("could not ask for the standby").get::<_, bool>(0).then_some(())
        });
    }

    /// Takes back what this server, which is not running and was the primary, wrote after `primary` was promoted in
    /// its place: then it can follow that one (pg_rewind). False if it cannot be told where both parted, as the WAL of
    /// the checkpoint before that is gone.
    #[track_caller]
    pub fn rewind(&self, primary: &Postgres) -> bool {
        // Only then its control file tells of the new timeline.
        let done = primary.connect("postgres").batch_execute("CHECKPOINT");
        done.expect("could not write a checkpoint");
        let mut command = command_of("pg_rewind");
        let source = primary.connection_string("postgres");
        command.arg("--no-sync").arg(format!("--source-server={source}"));
        command.arg("--target-pgdata").arg(self.data_dir());
        let process = Process::start("pg_rewind", command, &self.folder, "pg_rewind.log");
        let status = process.wait(PATIENCE);
        let told = self.folder.read("pg_rewind.log");
        let is_without_wal = told.contains("could not find previous WAL record");
        assert!(status.success() || is_without_wal, "pg_rewind failed:\n{told}");
        if status.success() {
            // The other one's configuration came along.
            self.configure(&[]);
        }
        status.success()
    }

    /// Replaces this server, which is not running, by a copy of that one.
    #[track_caller]
    pub fn become_copy_of(&self, original: &Postgres) {
        let removed = fs::remove_dir_all(self.data_dir());
        removed.unwrap_or_else(|error| panic!("{}: {error}", self.data_dir().display()));
        let process = self.start_copying(original, &[]);
        self.finish_copying(process, &[]);
    }

    /// Starts a backup that recovers from a WAL archive (its configuration has a
    /// `restore_command`), and returns when it has become a primary, on a new timeline.
    #[track_caller]
    pub fn start_from_archive(&self) {
        self.folder.write("data/recovery.signal", "");
        self.start();
        wait_until("the recovery from the archive has ended", PATIENCE, || {
            let row = self.connect("postgres").query_one("SELECT NOT pg_is_in_recovery()", &[]);
            row.expect("could not ask for the recovery").get::<_, bool>(0).then_some(())
        });
    }

    /// Makes a standby the primary, on a new timeline, and returns when it is.
    #[track_caller]
    pub fn promote(&self) {
        let row = self.connect("postgres").query_one("SELECT pg_promote(true, 60)", &[]);
        assert!(row.expect("could not promote").get::<_, bool>(0), "the promotion took too long");
    }

    fn start_copying(&self, original: &Postgres, arguments: &[&str]) -> Process {
        let mut command = command_of("pg_basebackup");
        command
            .args(["--host=127.0.0.1", "--username=postgres", "--no-password"])
            .args(["--checkpoint=fast", "--wal-method=fetch", "--no-sync"])
            .args(arguments)
            .arg(format!("--port={}", original.port()))
            .arg("--pgdata")
            .arg(self.data_dir());
        Process::start("pg_basebackup", command, &self.folder, "pg_basebackup.log")
    }

    #[track_caller]
    fn finish_copying(&self, process: Process, conf: &[&str]) {
        let status = process.wait(PATIENCE);
        let told = self.folder.read("pg_basebackup.log");
        assert!(status.success(), "pg_basebackup failed:\n{told}");
        self.configure(conf);
    }

    /// Whether the data directory is being sent to a pg_basebackup right now.
    #[track_caller]
    fn is_copied_from(&self) -> bool {
        const SENDING: &str = "SELECT count(*) = 1 FROM pg_stat_progress_basebackup \
             WHERE phase = 'streaming database files'";
        let row = self.connect("postgres").query_one(SENDING, &[]);
        row.expect("could not ask for the backup").get(0)
    }
}
