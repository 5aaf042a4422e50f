//! From WAL bytes to committed transactions: [`reader`] reads the records of this server's WAL,
//! [`transactions`] assembles their events by transaction, [`order`] tells in which order the changes of one
//! were made, [`order_queue`] keeps those for which that is to be looked up, which [`change_reader`] does;
//! [`committed`] is what comes out. [`spilled_events`], [`event_list`]
//! and [`numbers`] are what is kept of transactions that are too large for memory. [`xid_counter`] tells old
//! transactions from young ones. Nothing here publishes or remembers what was published.

pub mod batch;
mod change_reader;
pub mod committed;
pub mod event_list;
mod family;
pub mod file_name;
pub mod min_queue;
pub mod numbers;
pub mod order;
mod order_queue;
pub mod reader;
mod spilled_events;
pub mod transactions;
mod xid_counter;
