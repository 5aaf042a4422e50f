//! What may go wrong. Faults of one lane never meet each other, as healing needs the server that
//! another breaks; those of different lanes do.

use std::time::Duration;

use super::servers::Servers;
use crate::dice::Dice;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    BrokerKilled,
    BrokerRestarted,
    BrokerFrozen,
    MemoryAlarm,
    QueueFull,
    ExchangeDeleted,
    SkippedExchangeDeleted,
    LetteredExchangeDeleted,
    BindingRemoved,
    CredentialsChanged,
    NetworkSilent,
    NetworkHalfOpen,
    NetworkSlow,
    NetworkCut,
    NetworkCutMidFrame,
    WorkerTerminated,
    WorkerKilled,
    PostgresCrashed,
    PostgresRestarted,
    WorkerUnplaced,
    Reloads,
    WalDamaged,
    ColumnAdded,
    ColumnDropped,
    ColumnRenamed,
    ColumnTypeChanged,
    PrimaryLost,
    PrimaryReplaced,
    RolesSwapped,
    StandbyCrashed,
    StandbyWorkerTerminated,
}

/// Faults of which one is there at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Broker,
    Network,
    Postgres,
}

/// Longer runs than this have time to rest between faults.
const LONG_RUN: Duration = Duration::from_secs(100);

impl Fault {
    /// As the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::BrokerKilled => "broker killed and started",
            Fault::BrokerRestarted => "broker restarted gracefully",
            Fault::BrokerFrozen => "broker frozen for 20 s",
            Fault::MemoryAlarm => "broker's memory alarm",
            Fault::QueueFull => "full queue rejects (nack)",
            Fault::ExchangeDeleted => "exchange deleted and made again",
            Fault::SkippedExchangeDeleted => "exchange of policy skip deleted and made again",
            Fault::LetteredExchangeDeleted => {
                "exchange of policy dead_letter deleted and made again"
            }
            Fault::BindingRemoved => "binding removed",
            Fault::CredentialsChanged => "password changed and changed back",
            Fault::NetworkSilent => "connection dead without FIN",
            Fault::NetworkHalfOpen => "connection half-open",
            Fault::NetworkSlow => "network slow",
            Fault::NetworkCut => "connection cut",
            Fault::NetworkCutMidFrame => "connection cut in mid-frame",
            Fault::WorkerTerminated => "worker terminated",
            Fault::WorkerKilled => "worker killed, crash restart",
            Fault::PostgresCrashed => "PostgreSQL stopped immediately and started",
            Fault::PostgresRestarted => "PostgreSQL restarted (fast)",
            Fault::WorkerUnplaced => {
                "PostgreSQL restarted without a place for the worker, and with one"
            }
            Fault::Reloads => "configuration reloaded in a loop",
            Fault::WalDamaged => "WAL damaged and passed",
            Fault::ColumnAdded => "column added",
            Fault::ColumnDropped => "column dropped",
            Fault::ColumnRenamed => "column renamed",
            Fault::ColumnTypeChanged => "column's type changed",
            Fault::PrimaryLost => {
                "primary lost, standby promoted, old primary rejoined by pg_rewind"
            }
            Fault::PrimaryReplaced => "primary lost, standby promoted, old primary copied anew",
            Fault::RolesSwapped => {
                "primary shut down, standby promoted, old primary rejoined as it was"
            }
            Fault::StandbyCrashed => "standby stopped immediately and started",
            Fault::StandbyWorkerTerminated => "standby's worker terminated",
        }
    }

    /// Whether the broker may have taken a message and not one before it: those that it has not
    /// confirmed it loses piecemeal when it is killed, and returns piecemeal while queues are
    /// bound again. What was passed over may come after all when the worker was killed meanwhile.
    pub fn lets_messages_overtake(self) -> bool {
        matches!(
            self,
            Fault::BrokerKilled
                | Fault::ExchangeDeleted
                | Fault::SkippedExchangeDeleted
                | Fault::LetteredExchangeDeleted
                | Fault::BindingRemoved
        )
    }
}

impl Lane {
    /// Its kinds of faults on these servers.
    pub fn faults(self, servers: &Servers) -> Vec<Fault> {
        let mut faults = match self {
            Lane::Broker => vec![
                Fault::BrokerKilled,
                Fault::BrokerRestarted,
                Fault::BrokerFrozen,
                Fault::MemoryAlarm,
                Fault::QueueFull,
                Fault::ExchangeDeleted,
                Fault::SkippedExchangeDeleted,
                Fault::LetteredExchangeDeleted,
                Fault::BindingRemoved,
                Fault::CredentialsChanged,
            ],
            Lane::Network => vec![
                Fault::NetworkSilent,
                Fault::NetworkHalfOpen,
                Fault::NetworkSlow,
                Fault::NetworkCut,
                Fault::NetworkCutMidFrame,
            ],
            Lane::Postgres => vec![
                Fault::WorkerTerminated,
                Fault::WorkerKilled,
                Fault::PostgresCrashed,
                Fault::PostgresRestarted,
                Fault::WorkerUnplaced,
                Fault::Reloads,
                Fault::WalDamaged,
                Fault::ColumnAdded,
                Fault::ColumnRenamed,
                Fault::ColumnTypeChanged,
                Fault::ColumnDropped,
            ],
        };
        if !servers.holds_unroutable {
            let unbinds = [Fault::ExchangeDeleted, Fault::BindingRemoved];
            faults.retain(|fault| !unbinds.contains(fault));
        }
        if self == Lane::Postgres && servers.pair.is_some() {
            // A standby could not replay what is damaged.
            faults.retain(|&fault| fault != Fault::WalDamaged);
            faults.extend([Fault::StandbyCrashed, Fault::StandbyWorkerTerminated]);
        }
        faults
    }

    /// Its faults in the order in which they come, each once: failovers evenly among the others, one of them first.
    pub fn deal(self, servers: &Servers, dice: &mut Dice) -> Vec<Fault> {
        let mut others = self.faults(servers);
        dice.shuffle(&mut others);
        if self != Lane::Postgres || servers.pair.is_none() {
            return others;
        }
        // A primary is lost first: nothing else has held the stream up yet, and some of what it has published its
        // standby lacks.
        let mut losses = [Fault::PrimaryLost, Fault::PrimaryReplaced];
        dice.shuffle(&mut losses);
        let failovers = [losses[0], Fault::RolesSwapped, losses[1]];
        let parts = others.chunks(others.len().div_ceil(failovers.len()));
        failovers
            .iter()
            .zip(parts)
            .flat_map(|(&failover, part)| std::iter::once(failover).chain(part.iter().copied()))
            .collect()
    }

    /// Longest rest between two faults, in milliseconds. A short run is to see each kind of fault;
    /// in a long one the stream must get its time, or it would only fall behind further.
    pub fn longest_rest(self, run: Duration) -> u64 {
        let is_long = run > LONG_RUN;
        match self {
            Lane::Broker if is_long => 12_000,
            Lane::Network if is_long => 15_000,
            Lane::Postgres if is_long => 12_000,
            Lane::Broker => 1_500,
            Lane::Network => 6_000,
            Lane::Postgres => 3_000,
        }
    }
}
