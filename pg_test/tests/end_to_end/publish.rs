//! Messages of a user's own, in the same transaction: `amqp.publish`, and `amqp.autonomous_publish`.

mod autonomous;
mod broker;
mod many;
mod messages;
mod order;
mod refusals;
mod rights;
mod shaping;
mod transactions;

use pg_test::Message;

/// The body of each message, as text.
fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(Message::text).collect()
}
