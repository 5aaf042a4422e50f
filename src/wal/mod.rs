//! From WAL bytes to committed transactions: [`reader`] reads the records of this server's WAL,
//! [`transactions`] assembles their events by transaction, [`event_list`] is what it keeps of those
//! that are too large for memory. Nothing here publishes or remembers what was published.

pub mod event_list;
#[cfg(test)]
mod properties;
pub mod reader;
pub mod transactions;
