//! What the operator sees. The worker writes it to shared memory, and `amqp.status` reads it from there.
//! [`condition`] knows in what state the stream is, and [`standstill`] why nothing is published. [`log_limit`] keeps
//! the log from filling up with the same words.

pub mod condition;
mod log_limit;
mod model;
pub mod standstill;
mod state;
mod writer;

pub use model::{Status, lag};
pub use state::State;
pub use writer::{
    add_counts, add_skipped, set_catch_up, set_caught_up, set_gap, set_gaps_owed, set_last_error,
    set_progress, set_refusing, set_state,
};
