//! `amqp_cdc` publishes every committed row change of the tables you choose to RabbitMQ.
//!
//! # The way of an event
//!
//! 1. A row changes; PostgreSQL calls the trigger function ([`pg::trigger`]), and [`capture`] writes an [`event`]
//!    into the WAL, inside the writer's transaction: the rows as they are stored or, where only the row's database
//!    can render them, the finished body ([`row`]).
//! 2. The transaction commits; a callback ([`pg::xact`]) wakes the [`worker`], one background process per server, if
//!    that sleeps. That is all a writer ever does.
//! 3. The worker reads the WAL ([`wal`]) and assembles events by transaction, in the order of its changes.
//! 4. Committed transactions wait in the [`stream`] until others can see them and synchronous standbys have them. Then
//!    the worker makes a message of each event and gives it to the [`delivery`], which owns the broker connection.
//! 5. The broker confirms; the [`position`] moves in the replication slot, and PostgreSQL may remove the WAL.
//!
//! # Where to find what
//!
//! | place | owns |
//! |---|---|
//! | `crates/amqp` | AMQP as a protocol, without a socket or a clock: bytes in, events out; to publish and to consume |
//! | `crates/socket` | the socket that never blocks, in clear or over TLS: certificates, who is let be the broker |
//! | [`settings`] | every `amqp.*` setting: its definition, its type, its snapshot |
//! | [`event`] | what an event is, and its bytes in the WAL, of every version that was released |
//! | [`capture`] | the trigger: its arguments and `options`, the `plan` of a table; `message_row`, rows that are messages; `emission`, which writes any event |
//! | [`outbox`] | messages of a user's own (`amqp.publish`, and pg_amqp's functions): what a broker takes, what is not a user's to say, who may send where |
//! | [`routing_key`] | routing keys that are made of a template: what may be written, and what it makes of a row |
//! | [`row`] | a row as JSON: the message body, its shape, its columns, each data type: how it is rendered (`kind`, `render`), found in the catalogs (`type_lookup`) |
//! | [`ddl`] | what is refused at DDL |
//! | [`wal`] | from WAL records to committed transactions, in the order of their changes |
//! | [`stream`] | what is committed and not confirmed, in order; the event that says that others are missing (`gap`) |
//! | [`position`] | how far the stream is confirmed: in the slot, in position records, searched for where both are gone |
//! | [`standby`] | the worker of a standby: what it keeps to take the stream over |
//! | [`restore`] | whether this server was restored from a backup, and may publish |
//! | [`worker`] | the loop, how it sleeps; `composer`: an event's message, with its name, properties and headers |
//! | [`delivery`] | the connection: `transport` (the protocol over a socket), `session`, `window`, `policy`, `failure`, `backoff`, `rota` |
//! | [`status`] | what the operator sees: `model` (the columns of `amqp.status`), in what state the stream is, and why |
//! | [`removal`] | `amqp.uninstall`: what it refuses, and how it waits |
//! | [`sql`] | every function that SQL calls; its views and grants are in `sql/` |
//! | [`pg`] | the one door to PostgreSQL's C: all `unsafe`, all `pg_sys`, and what differs between its versions: `sys` declares, |
//! | | `sys/versions` lists what a new one changes, `change_records` and `transaction_records` read the WAL's records, |
//! | | `entry_points` is where PostgreSQL comes in |
//! | [`quoted_name`] | names in double quotes, as options and templates have them |
//! | [`note_file`] | small files in the data directory, which outlive a process |
//! | [`lsn`], [`place`], [`bytes`], [`memory`], [`running`] | leaves: they import each other alone, and `pg` imports nothing else |
//! | `pg_test/src` | the tests' servers and brokers; `chaos`: the chaos test (each `fault` in it, `injector`); `bin/bench`: the benches; `bin/ha`: what is highly available |
//! | `pg_test/tests` | end-to-end tests; `fuzz/`: what decodes bytes, against any bytes |
//!
//! Rooms to come: `snapshot/` (`amqp.snapshot`, the rows that were there before), `subscriber/` (a consumer for a replica), `ddl/`
//! (events of schema changes).
//!
//! `make check` holds the house: `unsafe` in `pg` alone, no import out of it but of leaves, no circle of files, no file
//! above 450 lines.
//!
//! # Words
//!
//! *event*: one row change, or one message of a user's own, as one AMQP message. *image*: a row as it is stored. *shape*: what the bodies of a trigger's
//! events have in common. *capture*: the trigger function, in the writing backend. *stream*: the committed events of the
//! whole cluster, in commit order. *worker*: the background process that reads the WAL. *delivery*: the part of the
//! worker that owns the broker connection. *confirm*: the broker's acknowledgement of one event. *position*: the pair
//! (C, R): everything committed up to C is confirmed, WAL from R on is still needed. *retained WAL*: what the slot keeps
//! because events in it are not confirmed yet. *spilled*: of an event, that only its place in the WAL is kept. *late*: of
//! an event, that one of a later command was written before it. *held*: of a message, that the stream stands still at it.
//! *gap*: where events are missing because their WAL is gone.

#![deny(unsafe_op_in_unsafe_fn)]

mod bytes;
mod capture;
mod ddl;
mod delivery;
mod event;
mod lsn;
mod memory;
mod note_file;
mod outbox;
mod pg;
mod place;
mod position;
mod quoted_name;
mod removal;
mod restore;
mod routing_key;
mod row;
mod running;
mod settings;
mod sql;
mod standby;
mod status;
mod stream;
mod wal;
mod worker;

use pgrx::prelude::*;

use pg::entry_points::{Destinations, lead_to};
use position::beginning::{self, Beginning};

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
        publish: outbox::publish,
        publish_to_broker: outbox::pg_amqp::publish,
        declare_exchange: outbox::pg_amqp::exchange_declare,
        work: worker::run,
        failed: worker::failed,
    });
    settings::init();
    if pg::server::is_preloading() {
        if matches!(beginning::read(), Ok(Beginning::Removed)) {
            pg::shared::was_removed();
        }
        pg::shared::init();
        restore::note_recovery();
        // pg_upgrade resets the WAL of the clusters it starts: nothing must be published from them.
        if !pg::server::is_binary_upgrade() {
            pg::worker_process::register();
        }
    }
}
