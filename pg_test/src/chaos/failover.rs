//! Failovers: the primary is gone, its standby is promoted, the clients go over, and the old primary comes back to
//! follow the new one.

use std::time::{Duration, Instant};

use super::injector::Injector;
use super::pair::{self, FOLLOWER, Replication};
use crate::postgres::{Postgres, Shutdown};
use crate::process::try_to_signal;
use crate::wait::poll;

/// Faults of the other lanes are healed in this time, so that the standby hears of a position.
const READY: Duration = Duration::from_secs(30);

/// The same, so that the stream catches up.
const PROMPT: Duration = Duration::from_secs(5);

/// Clients end within this time what they have prepared.
const FORGOTTEN: Duration = Duration::from_secs(15);

/// How an old primary comes back that may have written what nobody else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejoin {
    Rewound,
    CopiedAnew,
}

impl<'a> Injector<'a> {
    /// The primary dies in the middle of its work, and maybe of sending what it did.
    pub(super) fn lose_primary(&mut self, rejoin: Rejoin) -> bool {
        let Some(standby) = self.standby_that_can_take_over() else { return false };
        let primary = self.servers.primary();
        // Mostly it is to have published what its standby lacks.
        if self.dice.chance(70) {
            self.await_prompt_stream();
        }
        // Where both part is found from the last checkpoint before that on.
        _ = primary.connect("postgres").batch_execute("CHECKPOINT");
        if let Some(sender) = sender(primary) {
            try_to_signal(sender, "STOP");
        }
        self.let_last(0, 400);
        if self.dice.chance(50) {
            primary.kill();
        } else {
            primary.stop(Shutdown::Immediate);
        }
        if self.servers.replication == Replication::Asynchronous {
            self.deaths.0.push(Instant::now());
        }
        self.promote(standby);
        self.let_last(0, 2_000);
        if rejoin == Rejoin::CopiedAnew || !primary.rewind(standby) {
            primary.become_copy_of(standby);
        }
        follow(primary, standby);
        true
    }

    /// The standby has everything: the old primary can follow it as it is.
    pub(super) fn swap_roles(&mut self) -> bool {
        let Some(standby) = self.standby_that_can_take_over() else { return false };
        let primary = self.servers.primary();
        primary.stop(Shutdown::Fast);
        self.promote(standby);
        self.let_last(0, 2_000);
        follow(primary, standby);
        true
    }

    pub(super) fn crash_standby(&mut self) -> bool {
        let Some(standby) = self.servers.standby() else { return false };
        standby.stop(Shutdown::Immediate);
        self.let_last(0, 1_000);
        standby.start();
        true
    }

    pub(super) fn end_worker_of_standby(&self) -> bool {
        let worker = self.servers.standby().and_then(|standby| {
            let query = "SELECT worker_pid FROM amqp.status";
            let row = self.servers.try_connect_to(standby)?.query_one(query, &[]).ok()?;
            row.get::<_, Option<i32>>(0)
        });
        worker.is_some_and(|worker| try_to_signal(worker.unsigned_abs(), "TERM"))
    }

    /// What is prepared though its client was told of its end: that was on the primary before. It would keep its locks,
    /// and the WAL that a standby needs, for as long as the run lasts.
    pub(super) fn roll_forgotten_back(&self) {
        if self.servers.replication != Replication::Asynchronous {
            return;
        }
        let Some(mut session) = self.servers.try_connect() else { return };
        let query = format!(
            "SELECT gid FROM pg_prepared_xacts WHERE prepared < now() - interval '{} s'",
            FORGOTTEN.as_secs()
        );
        for row in session.query(&query, &[]).unwrap_or_default() {
            // Its client may yet come.
            _ = session.batch_execute(&format!("ROLLBACK PREPARED '{}'", row.get::<_, &str>(0)));
        }
    }

    /// Other faults may keep it from that.
    fn await_prompt_stream(&self) {
        let query =
            "SELECT coalesce(lag_seconds < 0.1, true) FROM amqp.status WHERE state = 'streaming'";
        poll(PROMPT, || {
            let row = self.servers.try_connect()?.query_opt(query, &[]).ok()??;
            row.get::<_, bool>(0).then_some(())
        });
    }

    fn promote(&self, standby: &Postgres) {
        standby.promote();
        if let Some(pair) = &self.servers.pair {
            pair.swap();
        }
        pair::make_room(standby);
    }

    /// The standby, if it is one that an operator would promote.
    fn standby_that_can_take_over(&self) -> Option<&'a Postgres> {
        let standby = self.servers.standby()?;
        let query = "SELECT state || ': ' || coalesce(reason, '') FROM amqp.status";
        let mut told = String::new();
        let can_take_over = poll(READY, || {
            let row = self.servers.try_connect_to(standby)?.query_one(query, &[]).ok()?;
            told = row.get(0);
            told.starts_with("standby: can take over: everything up to").then_some(())
        });
        if can_take_over.is_none() {
            eprintln!("the standby is {told}");
        }
        can_take_over?;
        Some(standby)
    }
}

/// Starts an old primary as the standby of the one that took over.
fn follow(old: &Postgres, new: &Postgres) {
    old.follow(new, FOLLOWER);
    pair::give_room_up(old);
}

/// The process of a primary that sends the WAL to its standby.
fn sender(primary: &Postgres) -> Option<u32> {
    let query = "SELECT pid FROM pg_stat_replication LIMIT 1";
    let row = primary.connect("postgres").query_opt(query, &[]).ok()??;
    Some(row.get::<_, i32>(0).unsigned_abs())
}
