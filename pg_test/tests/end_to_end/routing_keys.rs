//! Option `routing_key=`: keys that are made of a template, and updates that change the key.

mod changes;
mod keys;
mod model;
mod refusals;

use std::collections::BTreeSet;

use pg_test::Message;
use postgres::Client;
use serde_json::Value;

use crate::helpers::run;

/// Makes a captured table with these columns, and these further arguments of the trigger.
#[track_caller]
fn captured(client: &mut Client, table: &str, columns: &str, arguments: &str) {
    run(
        client,
        &format!(
            "CREATE TABLE {table} ({columns});
             CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON {table}
             FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture({arguments});
             CREATE TRIGGER truncated AFTER TRUNCATE ON {table}
             FOR EACH STATEMENT EXECUTE FUNCTION amqp_change_data_capture({arguments})"
        ),
    );
}

fn keys(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.routing_key.as_str()).collect()
}

/// The end of the message's name that tells it from the other one of its event.
fn number_of_two(message: &Message) -> u8 {
    let id = message.message_id.as_deref().unwrap_or_default();
    if id.ends_with("/2") { 2 } else { 1 }
}

/// The first delivery of each message, in order.
fn first_of_each(messages: Vec<Message>) -> Vec<Message> {
    let mut seen = BTreeSet::new();
    messages.into_iter().filter(|message| seen.insert(message.message_id.clone())).collect()
}

/// What a header says.
fn header(message: &Message, name: &str) -> Value {
    message.headers.get(name).cloned().unwrap_or_default()
}
