//! The protocol against a real broker.

mod client;
mod consuming;
mod login;
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
