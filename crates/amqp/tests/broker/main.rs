//! The protocol against a real broker, and against clients of others: what one side publishes the other consumes.

mod client;
mod consuming;
mod everything;
mod lapin;
mod login;
mod pika;
mod publishing;
mod record;
#[path = "../shared/scenario.rs"]
mod scenario;
mod shared;
mod tls;
