//! Injects faults: each lasts a while, and is healed again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::deaths::Deaths;
use super::exchanges::{self, EXCHANGE, LETTERING, SKIPPING};
use super::failover::Rejoin;
use super::fault::Fault;
use super::servers::{PASSWORD, Servers, USER};
use super::tables::{self, HOT, SMALL};
use crate::broker::Queue;
use crate::dice::Dice;
use crate::end_signal::EndSignal;
use crate::postgres::Shutdown;
use crate::process::try_to_signal;
use crate::proxy::Direction;
use crate::wait::{DEADLINE, poll, wait_until};

/// How long the broker is frozen.
const FREEZE: Duration = Duration::from_secs(20);

/// A worker that ended, which starts again after 5 s, is there again after this time.
const WORKER_RESTART: Duration = Duration::from_secs(8);

/// Faults of the other lanes are healed in this time, so that the worker comes to say that it cannot read on.
const PASSING: Duration = Duration::from_secs(120);

/// The longest that an exchange is gone before something was refused there: the stream may stand still.
const REFUSAL: Duration = Duration::from_secs(6);

/// Between two looks whether it was.
const LOOK: Duration = Duration::from_millis(200);

/// Bytes of a page of the WAL.
const PAGE: u64 = 8192;

/// Attempts to get the lock that ALTER TABLE needs among all the clients.
const ALTER_ATTEMPTS: u32 = 5;

/// Injects faults on the servers of a run.
#[derive(Debug)]
pub(super) struct Injector<'a> {
    pub servers: &'a Servers,
    pub end_signal: &'a EndSignal,
    pub dice: Dice,
    /// Columns added so far: each has a name of its own.
    columns: u32,
    /// Tables with the columns that were added and not dropped again.
    added: Vec<(&'static str, String)>,
    /// Damaged records that are to be passed.
    passed: Vec<String>,
    /// What was not as it should be while a fault lasted.
    pub findings: Vec<String>,
    /// Primaries that were lost.
    pub deaths: Deaths,
}

impl<'a> Injector<'a> {
    /// One for a lane.
    pub fn new(servers: &'a Servers, end_signal: &'a EndSignal, dice: Dice) -> Injector<'a> {
        let (added, passed, findings) = (Vec::new(), Vec::new(), Vec::new());
        let deaths = Deaths::default();
        Injector { servers, end_signal, dice, columns: 0, added, passed, findings, deaths }
    }

    /// Injects a fault, lets it last, and heals it. Whether it took place.
    pub fn inject(&mut self, fault: Fault) -> bool {
        self.roll_forgotten_back();
        let (rabbitmq, proxy) = (&self.servers.bed.rabbitmq, &self.servers.proxy);
        let postgres = self.servers.primary();
        match fault {
            Fault::BrokerKilled => {
                rabbitmq.kill();
                self.let_last(0, 2_000);
                self.start_broker();
                // It may have forgotten what it was told in its last moments.
                exchanges::ALL.iter().for_each(|exchange| self.servers.bind(exchange));
            }
            Fault::BrokerRestarted => {
                rabbitmq.stop();
                self.let_last(0, 1_000);
                self.start_broker();
            }
            Fault::BrokerFrozen => self.freeze_broker(),
            Fault::MemoryAlarm => {
                rabbitmq.ctl(&["set_vm_memory_high_watermark", "0.000001"]);
                self.let_last(1_000, 4_000);
                rabbitmq.ctl(&["set_vm_memory_high_watermark", "0.9"]);
            }
            Fault::QueueFull => self.fill_queue(),
            Fault::ExchangeDeleted => self.delete_exchange(EXCHANGE),
            Fault::SkippedExchangeDeleted => self.refuse_events(SKIPPING),
            Fault::LetteredExchangeDeleted => self.refuse_events(LETTERING),
            Fault::BindingRemoved => {
                self.servers.unbind(EXCHANGE);
                self.let_last(0, 3_000);
                self.servers.bind(EXCHANGE);
            }
            Fault::CredentialsChanged => {
                rabbitmq.ctl(&["change_password", USER, "wrong"]);
                proxy.cut();
                self.let_last(1_000, 3_000);
                rabbitmq.ctl(&["change_password", USER, PASSWORD]);
            }
            Fault::NetworkSilent => proxy.silence(),
            Fault::NetworkHalfOpen => {
                proxy.half_open(self.dice.pick(&[Direction::ToClient, Direction::ToServer]));
            }
            Fault::NetworkSlow => {
                proxy.set_slow(true);
                self.let_last(1_000, 5_000);
                proxy.set_slow(false);
            }
            Fault::NetworkCut => proxy.cut(),
            Fault::NetworkCutMidFrame => proxy.cut_mid_frame(),
            Fault::WorkerTerminated => return self.signal_worker("TERM").is_some(),
            Fault::WorkerKilled => return self.kill_worker().is_some(),
            Fault::PostgresCrashed => {
                postgres.stop(Shutdown::Immediate);
                self.let_last(0, 1_000);
                postgres.start();
            }
            Fault::PostgresRestarted => postgres.restart(Shutdown::Fast),
            Fault::WorkerUnplaced => self.leave_no_place_for_the_worker(),
            Fault::Reloads => self.reload_in_a_loop(),
            Fault::WalDamaged => return self.damage_wal(),
            Fault::ColumnAdded => return self.add_column(),
            Fault::ColumnDropped => return self.drop_column(),
            Fault::ColumnRenamed => return self.rename_column(),
            Fault::ColumnTypeChanged => return self.change_type(),
            Fault::PrimaryLost => return self.lose_primary(Rejoin::Rewound),
            Fault::PrimaryReplaced => return self.lose_primary(Rejoin::CopiedAnew),
            Fault::RolesSwapped => return self.swap_roles(),
            Fault::StandbyCrashed => return self.crash_standby(),
            Fault::StandbyWorkerTerminated => return self.end_worker_of_standby(),
        }
        true
    }

    pub(super) fn let_last(&mut self, low: u64, high: u64) {
        let time = self.dice.time(low, high);
        self.end_signal.comes_within(time);
    }

    fn start_broker(&self) {
        self.servers.bed.rabbitmq.start();
        self.servers.bed.rabbitmq.elect_leaders();
    }

    /// For all of the time, even if the run ends meanwhile.
    fn freeze_broker(&self) {
        let broker = self.servers.bed.rabbitmq.pid();
        try_to_signal(broker, "STOP");
        EndSignal::default().comes_within(FREEZE);
        try_to_signal(broker, "CONT");
    }

    fn delete_exchange(&mut self, exchange: &str) {
        self.servers.broker().delete_exchange(exchange);
        self.let_last(0, 2_000);
        self.servers.bind(exchange);
    }

    /// Of an exchange with another policy than to hold. It mostly lasts until something was refused there.
    fn refuse_events(&mut self, exchange: &str) {
        self.servers.broker().delete_exchange(exchange);
        let query = "SELECT coalesce(refusing_exchanges, '') FROM amqp.status";
        let is_refusing = || {
            let row = self.servers.try_connect()?.query_one(query, &[]).ok()?;
            row.get::<_, &str>(0).contains(exchange).then_some(())
        };
        let mut looks = 0..REFUSAL.as_millis() / LOOK.as_millis();
        while looks.next().is_some() && is_refusing().is_none() {
            self.end_signal.comes_within(LOOK);
        }
        self.let_last(0, 2_000);
        self.servers.bind(exchange);
    }

    /// A further queue, of which the other ones know nothing: they get each message again.
    fn fill_queue(&mut self) {
        let queue = Queue::durable("full")
            .bound_to(EXCHANGE, "#")
            .with_number("x-max-length", 1)
            .with_text("x-overflow", "reject-publish");
        self.servers.broker().declare_queue(&queue);
        self.let_last(500, 3_000);
        self.servers.broker().delete_queue(queue.name());
    }

    /// None if no worker came again in time.
    fn signal_worker(&self, signal: &str) -> Option<()> {
        try_to_signal(self.worker()?, signal).then_some(())
    }

    fn worker(&self) -> Option<u32> {
        poll(WORKER_RESTART, || {
            let found = self.servers.connect().query_one("SELECT worker_pid FROM amqp.status", &[]);
            found.ok()?.get::<_, Option<i32>>(0).map(i32::unsigned_abs)
        })
    }

    /// A record of which nobody is to hear, ahead of the worker and behind the last checkpoint: no event may be
    /// lost with it, and a crash does not need it. It is passed in any case, or the run would not end.
    fn damage_wal(&mut self) -> bool {
        let Some(worker) = self.worker() else { return false };
        try_to_signal(worker, "STOP");
        let is_damaged = self.spoil_a_record();
        try_to_signal(worker, "CONT");
        if !is_damaged {
            return false;
        }
        let record = wait_until("the damage is shown", PASSING, || {
            // Other faults may be shown first.
            let found =
                self.servers.try_connect()?.query_one("SELECT reason FROM amqp.status", &[]);
            let reason = found.ok()?.get::<_, Option<String>>(0)?;
            let (_, record) = reason.split_once("amqp.skip_wal = '")?;
            Some(record.trim_end_matches('\'').to_owned())
        });
        self.passed.push(record);
        self.servers.primary().set("amqp.skip_wal", &self.passed.join(", "));
        true
    }

    fn spoil_a_record(&self) -> bool {
        let mut session = self.servers.connect();
        let mut write = |bytes: usize| {
            let statement = format!(
                "SELECT (pg_logical_emit_message(false, 'nobody', repeat('x', {bytes})) - '0/0')::bigint"
            );
            let written = session.query_one(&statement, &[]);
            written.map(|row| row.get::<_, i64>(0) as u64).ok()
        };
        // In the middle of what was written, off the heads of pages.
        let Some(end) = write(3000) else { return false };
        let middle = end - 1500;
        let place =
            if (100..PAGE - 100).contains(&(middle % PAGE)) { middle } else { middle - 300 };
        // The pages are whole and written.
        let (Some(_), Ok(())) = (write(20_000), session.batch_execute("CHECKPOINT")) else {
            return false;
        };
        let query = format!(
            "SELECT pg_walfile_name('0/0'::pg_lsn + {place}), setting::bigint FROM pg_settings \
             WHERE name = 'wal_segment_size'"
        );
        let Ok(row) = session.query_one(&query, &[]) else { return false };
        let (name, size): (String, i64) = (row.get(0), row.get(1));
        let path = self.servers.primary().data_dir().join("pg_wal").join(name);
        let file = File::options().write(true).open(path);
        file.and_then(|file| file.write_all_at(&[0; 8], place % size as u64)).is_ok()
    }

    /// Kills the worker, which the postmaster answers by ending every session and starting anew.
    fn kill_worker(&self) -> Option<()> {
        let mut witness = self.servers.connect();
        self.signal_worker("KILL")?;
        poll(DEADLINE, || witness.simple_query("").err())?;
        drop(self.servers.connect());
        Some(())
    }

    /// PostgreSQL's own worker, which starts replication, takes the only place.
    fn leave_no_place_for_the_worker(&mut self) {
        let postgres = self.servers.primary();
        postgres.set("max_worker_processes", "1");
        postgres.restart(Shutdown::Fast);
        self.let_last(500, 2_000);
        // Whoever emptied the small table and is still prepared keeps others away from it.
        let tables = tables::all().filter(|&table| table != SMALL);
        let found: Vec<_> = tables.filter_map(|table| self.refuses_writes(table).err()).collect();
        self.findings.extend(found);
        postgres.reset("max_worker_processes");
        postgres.restart(Shutdown::Fast);
    }

    /// A write to this table fails as it has to where nobody will publish it.
    fn refuses_writes(&self, table: &str) -> Result<(), String> {
        let written = self.servers.connect().batch_execute(&format!(
            "SET chaos.stamp = 'nobody'; BEGIN;
             INSERT INTO {table} (key, stamp) VALUES (-7, 'nobody'); ROLLBACK"
        ));
        let Err(error) = written else {
            return Err(format!("{table} could be written while there was no worker"));
        };
        let told = error.as_db_error().map(|error| (error.code().code(), error.message()));
        match told {
            Some(("55000", "change data capture has no background worker")) => Ok(()),
            _ => Err(format!("{table} could not be written without a worker: {error:?}")),
        }
    }

    fn reload_in_a_loop(&mut self) {
        let postgres = self.servers.primary();
        for _ in 0..self.dice.between(10, 30) {
            // Some change a setting that asks for a new connection, most change nothing.
            if self.dice.chance(10) {
                postgres.set("amqp.heartbeat", &self.dice.between(3, 6).to_string());
            } else {
                postgres.reload();
            }
            self.let_last(0, 100);
        }
    }

    fn add_column(&mut self) -> bool {
        self.columns += 1;
        let (table, column) = (self.dice.pick(&HOT), format!("added_{}", self.columns));
        let default = self.dice.pick(&["", "DEFAULT 7", "DEFAULT (random() * 100)::int"]);
        let done = self.alter(table, &format!("ADD COLUMN {column} int {default}"));
        if done {
            self.added.push((table, column));
        }
        done
    }

    fn drop_column(&mut self) -> bool {
        let Some((table, column)) = self.take_added() else { return false };
        let done = self.alter(table, &format!("DROP COLUMN IF EXISTS {column}"));
        if !done {
            self.added.push((table, column));
        }
        done
    }

    fn rename_column(&mut self) -> bool {
        let Some((table, column)) = self.take_added() else { return false };
        self.columns += 1;
        let new = format!("renamed_{}", self.columns);
        let done = self.alter(table, &format!("RENAME COLUMN {column} TO {new}"));
        self.added.push((table, if done { new } else { column }));
        done
    }

    /// A column that every update reads and writes, too.
    fn change_type(&mut self) -> bool {
        let (table, kind) = (self.dice.pick(&HOT), self.dice.pick(&["int", "bigint", "numeric"]));
        self.alter(table, &format!("ALTER COLUMN amount TYPE {kind}"))
    }

    /// A column that was added and is still there; one is added if there is none.
    fn take_added(&mut self) -> Option<(&'static str, String)> {
        if self.added.is_empty() {
            self.add_column();
        }
        self.added.pop()
    }

    fn alter(&self, table: &str, action: &str) -> bool {
        let statements = format!("SET lock_timeout = '2s'; ALTER TABLE {table} {action}");
        // What is still prepared when the clients have left keeps its locks.
        (0..ALTER_ATTEMPTS)
            .take_while(|_| !self.end_signal.is_given())
            .any(|_| self.servers.connect().batch_execute(&statements).is_ok())
    }
}
