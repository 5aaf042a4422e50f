//! `amqp.uninstall`: what it refuses, and how it waits for the worker, which ends the stream.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pgrx::PgSqlErrorCode;

use crate::capture::require_preload;
use crate::memory;
use crate::pg::report::Report;
use crate::pg::shared::{self, RemovalOrder};
use crate::pg::slot::{self, Found};
use crate::pg::{catalog, server, wait};
use crate::position::beginning;

/// How long it may take until all is confirmed, and until the worker has done it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// Tables that are named in an error.
const MOST_NAMES: usize = 20;

/// Has the worker end the stream, and returns when it has.
///
/// # Errors
///
/// If something is captured in this database, if the server is a standby, if no worker runs, or if events are not
/// confirmed in time and are not to be discarded.
pub fn remove(discards: bool) {
    require_preload();
    if server::in_recovery() {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the server is a standby: amqp_cdc is removed on the primary",
        )
        .hint("Call it there. Standbys hear of it, and retain nothing any more.")
        .raise();
    }
    refuse_captures();
    warn_of_other_databases();
    if is_done() {
        return;
    }
    if shared::numbers().worker_pid.load(Ordering::Relaxed) == 0 {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "no amqp_cdc worker runs that could end the stream",
        )
        .hint("See the server log.")
        .raise();
    }
    let order = Order::give(discards);
    let deadline = Instant::now() + PATIENCE;
    while !is_done() {
        wait::nap(LOOK);
        if Instant::now() >= deadline {
            drop(order);
            if shared::is_removed() {
                say_that_it_goes_on();
            }
            say_what_is_unconfirmed();
        }
    }
}

fn is_done() -> bool {
    shared::is_removed() && slot::find() == Found::Nothing
}

/// It counts until this function ends, however it does.
struct Order;

impl Order {
    fn give(discards: bool) -> Order {
        let until = server::flushed_lsn().max(shared::last_commit());
        shared::order_removal(RemovalOrder { until, discards });
        Order
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        shared::withdraw_removal();
    }
}

fn say_that_it_goes_on() -> ! {
    Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "amqp_cdc is being removed, and its slot is not dropped yet",
    )
    .detail("The worker goes on with it. Nothing is published any more.")
    .hint("See the server log.")
    .raise()
}

fn say_what_is_unconfirmed() -> ! {
    Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
        "amqp_cdc is not removed: events are not confirmed by the broker, or a transaction with events is open",
    )
    .detail("Nothing was changed.")
    .hint("See amqp.status and pg_prepared_xacts. SELECT amqp.uninstall(discard_unconfirmed => true) does not wait for them: they are lost.")
    .raise()
}

/// Raises an error if something is captured in this database.
fn refuse_captures() {
    let triggers = catalog::all_capture_triggers();
    let tables = triggers.iter().filter(|trigger| !trigger.is_clone);
    let tables = tables.filter_map(|trigger| catalog::relation(trigger.table));
    let mut names: Vec<String> = Vec::new();
    tables.for_each(|table| memory::push(&mut names, table.quoted_name()));
    names.sort();
    names.dedup();
    if names.is_empty() {
        return;
    }
    let count = names.len();
    names.truncate(MOST_NAMES);
    let more = if count > MOST_NAMES { ", …" } else { "" };
    Report::new(
        PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
        format!("amqp_cdc is not removed: it captures changes of {count} tables in this database"),
    )
    .detail(format!("Captured: {}{more}.", names.join(", ")))
    .hint("Drop these triggers first.")
    .raise()
}

/// Of other databases no more can be seen than their files.
fn warn_of_other_databases() {
    let keep_going = || {
        wait::serve_interrupts();
        true
    };
    let found = beginning::is_installed(Some(server::database_oid()), keep_going);
    if !matches!(found, Ok(Some(false))) {
        Report::new(
            PgSqlErrorCode::ERRCODE_WARNING,
            "amqp_cdc is, or was until a while ago, installed in another database, too",
        )
        .detail("What is captured there is published no more: its writers get an error.")
        .hint("DROP EXTENSION amqp_cdc CASCADE in each database that has it.")
        .warn();
    }
}
