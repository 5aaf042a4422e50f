//! A trigger of a user's own that shapes messages, as docs/outbox.md has it.

use pg_test::{Fixture, Message};
use postgres::Client;
use serde_json::json;

use crate::helpers::{ask, blog, published_so_far, refusal, run};

const PAGE: &str = include_str!("../../../../docs/outbox.md");

/// The page's block of SQL that makes the trigger.
#[track_caller]
fn sql_of_the_page() -> &'static str {
    let mut blocks = PAGE.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find(|block| block.contains("announce_order()")).expect("the page has the trigger")
}

/// Customers, and orders with the page's trigger, which a role writes that may not send anything itself.
fn orders(name: &str) -> (Fixture<'static>, Client, String) {
    let (fixture, mut client) = blog(name);
    let role = format!("{}_app", fixture.database);
    run(
        &mut client,
        &format!(
            "CREATE TABLE customers (id int PRIMARY KEY, name text, email text, tenant text);
             INSERT INTO customers VALUES (7, 'Ada', 'ada@example.com', 'acme'), (8, 'Bob', NULL, 'other');
             CREATE TABLE orders (id int PRIMARY KEY, customer_id int REFERENCES customers, total numeric);
             {}
             CREATE ROLE {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO {role}",
            sql_of_the_page()
        ),
    );
    (fixture, client, role)
}

fn told(message: &Message) -> (&str, Option<&str>, serde_json::Value) {
    (message.routing_key.as_str(), message.kind.as_deref(), message.json())
}

#[test]
fn a_trigger_joins_masks_and_splits() {
    let (fixture, mut client, role) = orders("shaping");
    run(
        &mut client,
        &format!(
            "SET ROLE {role}; BEGIN; INSERT INTO orders VALUES (1, 7, 100), (2, 8, 5.50); COMMIT;
             BEGIN; INSERT INTO orders VALUES (3, 7, 1); ROLLBACK;
             UPDATE orders SET total = 6 WHERE id = 2; RESET ROLE"
        ),
    );
    let messages = published_so_far(&fixture, &mut client);
    let placed = |body| ("order.placed", Some("OrderPlaced"), body);
    let due = |body| ("invoice.due", Some("InvoiceDue"), body);
    let said: Vec<_> = messages.iter().map(told).collect();
    assert_eq!(
        said,
        [
            placed(json!({"id": 1, "total": 100, "customer": "Ada", "email": "a***@example.com"})),
            due(json!({"order": 1, "amount": 100})),
            placed(json!({"id": 2, "total": 5.50, "customer": "Bob", "email": null})),
            due(json!({"order": 2, "amount": 5.50})),
        ]
    );
    let counted: Vec<_> =
        messages.iter().map(|message| message.headers["tx_seq"].clone()).collect();
    assert_eq!(counted, [json!(1), json!(2), json!(3), json!(4)]);
    let tenants: Vec<_> =
        messages.iter().map(|message| message.headers["tenant"].clone()).collect();
    assert_eq!(tenants, ["acme", "acme", "other", "other"]);
    // The owner of the function sends.
    let owner: String = ask(&mut client, "SELECT current_user::text");
    assert!(messages.iter().all(|message| message.headers["user"] == json!(owner)));
}

#[test]
fn who_writes_needs_no_right_to_send_and_gets_none() {
    let (fixture, mut client, role) = orders("shaping_rights");
    run(&mut client, &format!("SET ROLE {role}"));
    refusal(&mut client, "SELECT amqp.publish('order.placed', '{}'::jsonb)");
    run(&mut client, "RESET ROLE");
    // A table of the caller's own does not stand in for the one that is meant.
    run(
        &mut client,
        &format!(
            "CREATE SCHEMA {role} AUTHORIZATION {role}; SET ROLE {role};
             CREATE TABLE {role}.customers (id int, name text, email text, tenant text);
             INSERT INTO {role}.customers VALUES (7, 'Eve', 'eve@example.com', 'evil');
             SET search_path = {role}, public; INSERT INTO orders VALUES (1, 7, 1);
             RESET search_path; RESET ROLE"
        ),
    );
    let messages = published_so_far(&fixture, &mut client);
    assert_eq!(messages[0].json()["customer"], json!("Ada"));
}
