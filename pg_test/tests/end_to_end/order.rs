//! Commit order across transactions, row order within one.

use serde_json::json;

use crate::stage::{blog, published_so_far, run};

#[test]
fn transactions_come_in_the_order_in_which_they_committed() {
    let (scene, mut first) = blog("commit_order");
    let mut second = scene.client();
    run(&mut first, "BEGIN; INSERT INTO blog_articles VALUES (1)");
    run(&mut second, "BEGIN; INSERT INTO blog_articles VALUES (2)");
    run(&mut first, "INSERT INTO blog_articles VALUES (3)");
    run(&mut second, "COMMIT");
    run(&mut first, "COMMIT");
    let events = published_so_far(&scene, &mut first);
    let ids: Vec<_> = events.iter().map(|event| event.json()["current"]["id"].clone()).collect();
    assert_eq!(ids, [json!(2), json!(1), json!(3)]);
}

#[test]
fn rows_of_one_statement_come_in_their_order() {
    let (scene, mut client) = blog("row_order");
    run(&mut client, "INSERT INTO blog_articles SELECT g FROM generate_series(1, 5000) g");
    let events = published_so_far(&scene, &mut client);
    assert_eq!(events.len(), 5000);
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event.headers["tx_seq"], json!(n + 1));
        assert_eq!(event.json()["current"]["id"], json!(n + 1));
    }
}
