//! The one door to PostgreSQL's C: every `unsafe` block, every `pg_sys` item and every difference
//! between PostgreSQL versions lives below this module, behind functions that are safe to call
//! from a process's main thread. Nothing here knows what an event is or how it is published.
//!
//! Each file names the C function its facts come from. Read for PostgreSQL 15 to 18.

mod allocator;
#[path = "wake_after_answer.rs"]
mod answer;
#[path = "../row/array.rs"]
mod array;
#[path = "worker_types.rs"]
mod builtin;
pub mod catalog;
pub mod change_records;
#[path = "../row/columns.rs"]
pub mod columns;
pub mod entry_points;
#[path = "../row/escape.rs"]
mod escape;
pub mod event_trigger;
#[path = "../row/prerendered.rs"]
mod given;
#[path = "../row/growth.rs"]
pub mod growth;
pub mod guard;
pub mod invalidation;
#[path = "../row/json.rs"]
pub mod json;
#[path = "../row/jsonb.rs"]
mod jsonb;
#[path = "../row/kind.rs"]
mod kind;
#[path = "../row/layout.rs"]
pub mod layout;
#[path = "logical_message.rs"]
pub mod message;
#[path = "../row/moment.rs"]
mod moment;
#[path = "../row/numeric.rs"]
mod numeric;
#[path = "output_settings.rs"]
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
#[path = "visibility.rs"]
pub mod snapshot;
mod storage;
#[path = "stored_column.rs"]
pub mod stored;
mod sys;
pub mod text;
pub mod threads;
pub mod timeline;
mod timing;
pub mod transaction_records;
pub mod trigger;
pub mod tuple;
#[path = "../row/render.rs"]
mod value;
mod varlena;
pub mod wait;
mod wal_pages;
pub mod worker_process;
pub mod xact;
pub mod xlog_reader;
