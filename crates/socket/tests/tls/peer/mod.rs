//! What the other side needs: certificates of every kind, and a TLS server that does what a test wants.

pub mod certificates;
pub mod server;
