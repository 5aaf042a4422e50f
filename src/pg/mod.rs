//! The one door to PostgreSQL's C: every `unsafe` block, every `pg_sys` item and every difference
//! between PostgreSQL versions lives below this module, behind functions that are safe to call
//! from a process's main thread. Nothing here knows what an event is or how it is published: of the
//! library these files know the leaves alone, [`crate::lsn`], [`crate::place`], [`crate::memory`] and
//! [`crate::running`]. Where PostgreSQL calls the library, [`entry_points`] leads on to what `_PG_init` says.
//!
//! Each file names the C function its facts come from. Read for PostgreSQL 15 to 18: what another version
//! changes is to be told in `sys/versions.rs`, whose lists name the versions that they are right for.

mod allocator;
pub mod catalog;
pub mod change_records;
pub mod descriptor;
pub mod entry_points;
pub mod event_trigger;
pub mod function;
pub mod function_call;
pub mod guard;
pub mod invalidation;
pub mod logical_message;
pub mod output_settings;
mod pipe;
pub mod plan_memory;
pub mod report;
pub mod rights;
pub mod row_context;
pub mod row_image;
pub mod secret;
pub mod server;
pub mod shared;
pub mod slot;
pub mod storage;
pub mod stored_column;
mod sys;
pub mod text;
pub mod threads;
pub mod timeline;
mod timing;
pub mod transaction_records;
pub mod trigger;
pub mod tuple;
pub mod tuple_bytes;
mod type_id;
pub mod types;
pub mod value;
mod varlena;
pub mod visibility;
pub mod wait;
mod wake_after_answer;
mod wal_pages;
pub mod worker_process;
pub mod worker_types;
pub mod xact;
pub mod xlog_reader;
