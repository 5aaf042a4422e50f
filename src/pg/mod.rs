//! The one door to PostgreSQL's C: every `unsafe` block, every `pg_sys` item and every difference
//! between PostgreSQL versions lives below this module, behind functions that are safe to call
//! from a process's main thread. Nothing here knows what an event is or how it is published.
//!
//! Each file names the C function its facts come from. Read for PostgreSQL 15 to 18.

mod allocator;
mod answer;
mod array;
mod builtin;
pub mod catalog;
pub mod change_records;
pub mod columns;
pub mod entry_points;
mod escape;
pub mod event_trigger;
mod given;
pub mod growth;
pub mod guard;
pub mod invalidation;
pub mod json;
mod jsonb;
mod kind;
pub mod layout;
pub mod message;
mod moment;
mod numeric;
pub mod output;
mod pipe;
mod plan_memory;
pub mod report;
pub mod rights;
pub mod row_context;
pub mod secret;
pub mod server;
pub mod shared;
pub mod slot;
pub mod snapshot;
mod storage;
pub mod stored;
mod sys;
pub mod text;
pub mod threads;
pub mod timeline;
mod timing;
pub mod transaction_records;
pub mod trigger;
pub mod tuple;
mod value;
mod varlena;
pub mod wait;
mod wal_pages;
pub mod worker_process;
pub mod xact;
pub mod xlog_reader;
