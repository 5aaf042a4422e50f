//! `amqp_cdc` publishes every committed row change of the tables you choose to RabbitMQ.
//!
//! # The way of an event
//!
//! 1. A row changes; PostgreSQL calls the trigger function ([`pg::trigger`]), which hands the call
//!    to [`capture`]. The [`event`], with the rows as they are stored and their [`row::layout`], is
//!    written into the WAL ([`pg::logical_message`]), inside the writer's transaction. Where only the row's
//!    database can render it, the [`row::body`] is in the event instead.
//! 2. The transaction commits; a callback ([`pg::xact`]) sees to it that the worker is woken, if that
//!    sleeps ([`pg::shared`]), once the client has its answer if that comes next (`pg/wake_after_answer.rs`).
//!    That is all a writer ever does.
//! 3. The [`worker`], one background process per server, reads the WAL ([`wal::reader`] on
//!    [`pg::xlog_reader`]) and assembles the events by transaction ([`wal::transactions`]), in the order of
//!    its changes ([`wal::order`]).
//! 4. Committed transactions wait in the [`stream`] until other sessions can see them
//!    ([`pg::visibility`]) and synchronous standbys have them; then their events, read again from the
//!    WAL if they were too many to be kept, are rendered ([`rendering`], [`row`]), get their
//!    name and headers ([`naming`]) and go to the [`delivery`], which owns the broker connection and never waits.
//! 5. The broker confirms; the [`position`] moves, in the replication slot ([`pg::slot`]), which
//!    lets PostgreSQL remove the WAL.
//!
//! # Where to find what
//!
//! | module | owns |
//! |---|---|
//! | [`settings`] | every `amqp.*` setting |
//! | [`event`] | what an event is, and its bytes in the WAL |
//! | [`place`] | where a change left its trace |
//! | [`capture`] | the trigger: arguments, options, checks, the plan of a table |
//! | [`ddl`] | what is refused at DDL: by event triggers, and at CREATE EXTENSION |
//! | [`sql_version`] | whether a database's SQL is the library's |
//! | [`row`] | a row as JSON: the body, its shape, its columns, each data type |
//! | [`rendering`] | the bodies of events whose rows came as they are stored |
//! | [`wal`] | from WAL records to committed transactions |
//! | [`wal_file`] | names of WAL files |
//! | [`running`] | which transactions others cannot see yet |
//! | [`stream`] | what is committed and not confirmed, in order |
//! | [`gap`] | the event that says that others are missing |
//! | [`handover`] | what one life of the worker leaves to the next |
//! | [`naming`] | message_id, properties and headers of an event's message |
//! | [`position`] | slot and position records: the only writer of progress |
//! | [`beginning`] | whether something was captured once, where no position tells |
//! | `crates/amqp` | AMQP as a protocol: bytes in, events out |
//! | [`delivery`] | what is sent, when again, over which socket, in steps that never wait; calls no PostgreSQL |
//! | [`worker`] | the background worker's loop, which ties the above together |
//! | [`sleep`] | how the worker sleeps when nothing is left to do |
//! | [`commit_rate`] | whether commits come so thick that not each is to wake the worker |
//! | [`condition`] | in what state the stream is, as status and log have it |
//! | [`standstill`] | why nothing is published for now |
//! | [`said`] | what the log says already |
//! | [`pace`] | how fast the lag falls |
//! | [`bytes`] | numbers as bytes, and back |
//! | [`memory`] | memory that there may not be |
//! | [`status`] | what the operator sees |
//! | [`status_0_1`] | the same for the SQL of 0.1.0 |
//! | [`pg`] | the one door to PostgreSQL's C; all `unsafe` code |
//!
//! # Words
//!
//! *event*: one row change, as one AMQP message. *image*: a row as it is stored. *shape*: what the
//! bodies of a trigger's events have in common. *capture*: the trigger function, in the writing
//! backend. *stream*: the committed events of the whole cluster, in commit order. *worker*: the
//! background process that reads the WAL. *delivery*: the part of the worker that owns the broker connection.
//! *confirm*: the broker's acknowledgement of one event. *position*: the pair (C, R): everything
//! committed up to C is confirmed, WAL from R on is still needed. *retained WAL*: what the slot
//! keeps because events in it are not confirmed yet. *spilled*: of an event, that only its place in
//! the WAL is kept. *late*: of an event, that one of a later command was written before it. *held*: of a
//! message, that the stream stands still at it. *gap*: where events are
//! missing because their WAL is gone.

#![deny(unsafe_op_in_unsafe_fn)]

mod beginning;
mod bytes;
mod capture;
mod commit_rate;
mod condition;
mod ddl;
mod delivery;
mod event;
mod gap;
mod handover;
mod lsn;
mod memory;
mod naming;
mod pace;
mod pg;
mod place;
mod position;
mod rendering;
mod row;
mod running;
mod said;
mod settings;
mod sleep;
mod sql_version;
mod standstill;
mod status;
mod status_0_1;
mod stream;
mod wal;
mod wal_file;
mod worker;

use pgrx::prelude::*;

use pg::entry_points::{Destinations, lead_to};

::pgrx::pg_module_magic!(name, version);

/// Runs when the library is loaded: by the postmaster (shared_preload_libraries), which is when the
/// worker and the shared memory can still be had, or late, in one session, which must succeed all
/// the same: pg_upgrade and pg_restore load libraries so.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    pg::report::keep_backtraces_out();
    pg::guard::init();
    lead_to(Destinations {
        capture: capture::capture,
        dropped: ddl::dropped,
        command_ended: ddl::command_ended,
        check_names: ddl::check_names,
        work: worker::run,
        failed: worker::failed,
    });
    settings::init();
    if pg::server::is_preloading() {
        pg::shared::init();
        // pg_upgrade resets the WAL of the clusters it starts: nothing must be published from them.
        if !pg::server::is_binary_upgrade() {
            pg::worker_process::register();
        }
    }
}
