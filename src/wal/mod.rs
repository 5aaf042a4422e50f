//! From WAL bytes to committed transactions. Nothing here publishes, or remembers what was published.
//!
//! | file | owns |
//! |---|---|
//! | [`reader`] | reading the records of this server's WAL |
//! | [`transactions`] | collecting events by transaction, until it ends |
//! | [`order`] | in which order the changes of a transaction were made |
//! | [`order_queue`], [`change_reader`] | transactions whose order must be looked up; looking it up in the WAL |
//! | [`committed`] | what comes out |
//! | [`spilled_events`], [`event_list`], [`numbers`] | what is kept of transactions that are too large for memory |
//! | [`xid_counter`] | telling old transactions from young ones |

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
