//! The outbox table you have: rows that are messages of a user's own, option `body=` of a capture trigger.

mod keys;
mod messages;
mod place;
mod refusals;
mod schema;

use pg_test::{Fixture, Message};
use postgres::Client;

use crate::helpers::{blog, run};

/// The outbox table of Debezium's documentation, and the trigger that makes its rows messages.
pub const OUTBOX: &str = "CREATE TABLE outbox (
       id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype varchar(255) NOT NULL,
       aggregateid varchar(255) NOT NULL, type varchar(255) NOT NULL, payload jsonb);
     CREATE TRIGGER send AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION
       amqp_change_data_capture('order', 'cdc', 'body=payload', 'type=type')";

/// A fixture with the captured table `blog_articles`, and a table `letters` whose rows are messages.
fn letters(name: &str) -> (Fixture<'static>, Client) {
    let (fixture, mut client) = blog(name);
    run(
        &mut client,
        "CREATE TABLE letters (id int PRIMARY KEY, body text, headers jsonb, type text);
         CREATE TRIGGER send AFTER INSERT ON letters FOR EACH ROW EXECUTE FUNCTION
           amqp_change_data_capture('letter', 'cdc', 'body=body', 'headers=headers', 'type=type')",
    );
    (fixture, client)
}

/// The body of each message, as text.
fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(Message::text).collect()
}
