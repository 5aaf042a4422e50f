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

use std::sync::LazyLock;

use pg_test::RabbitMq;

/// The broker that the tests share. Whoever breaks one makes another.
fn broker() -> &'static RabbitMq {
    static SHARED: LazyLock<RabbitMq> = LazyLock::new(RabbitMq::create);
    &SHARED
}
