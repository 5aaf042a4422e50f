//! The protocol without a broker: against what one said, what one never would say, and what others parse.

mod generated;
mod hostile;
mod peer;
mod recorded;
#[path = "../shared/scenario.rs"]
mod scenario;
mod time;
