//! The protocol without a broker: against what one said, what one never would say, and what others parse.

mod channels;
mod generated;
mod handshake;
mod hostile;
mod peer;
mod properties;
mod recorded;
#[path = "../shared/scenario.rs"]
mod scenario;
mod time;
mod way;
