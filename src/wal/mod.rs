//! From WAL bytes to committed transactions: [`reader`] reads the records of this server's WAL,
//! [`transactions`] assembles their events by transaction. Nothing here publishes or remembers
//! what was published.

pub mod reader;
pub mod transactions;
