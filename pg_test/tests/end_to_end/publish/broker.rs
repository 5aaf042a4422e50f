//! What a broker does not take all the same holds the stream, goes elsewhere or is passed over, as an event does.

use std::sync::Arc;

use pg_test::{DEADLINE, Fixture, Queue, RabbitMq, Testbed, wait_until};
use postgres::Client;
use serde_json::json;

use crate::helpers::{
    ask, make_blog, published_so_far, replace_worker, run, wait_for_reason, wait_until_streaming,
};

/// The bodies of what was published so far, but for the word that something was passed over.
#[track_caller]
fn own_so_far(fixture: &Fixture<'_>, client: &mut Client) -> Vec<String> {
    let messages = published_so_far(fixture, client);
    let own = messages.iter().filter(|message| message.headers.contains_key("published"));
    own.map(|message| message.text().to_owned()).collect()
}

fn held(client: &mut Client) -> Option<String> {
    ask(client, "SELECT held_message FROM amqp.status")
}

/// Properties and headers that fit into no frame of this broker.
#[test]
fn headers_that_a_broker_with_small_frames_does_not_take_hold_the_stream_at_that_message() {
    let rabbitmq = Arc::new(RabbitMq::create_with_conf(&[], |_| "frame_max = 8192\n".to_owned()));
    let bed = Testbed::beside(&rabbitmq, &[]);
    let fixture = bed.scene("publish_frames");
    let mut client = fixture.client();
    make_blog(&mut client);
    wait_until_streaming(&mut client);
    run(&mut client, "BEGIN");
    let mut ids = Vec::new();
    for (body, size) in [("before", 6000), ("too large", 9000), ("behind", 6000)] {
        let send = format!(
            "SELECT amqp.publish('k', '{body}', headers => jsonb_build_object('h', repeat('x', {size})))"
        );
        ids.push(ask::<String>(&mut client, &send));
    }
    run(&mut client, "COMMIT");
    let reason = wait_for_reason(&mut client, &ids[1]);
    assert!(
        reason.contains("routing key \"k\"") && reason.contains("than a frame holds"),
        "{reason}"
    );
    assert_eq!(held(&mut client).as_ref(), Some(&ids[1]));
    // It is not tried again and again.
    let sent = "SELECT events_published FROM amqp.status";
    let before: i64 = ask(&mut client, sent);
    let marker = fixture.broker();
    marker.publish(&fixture.exchange, "x", b"marker");
    fixture.consumer.wait_for_marker("x");
    assert_eq!(ask::<i64>(&mut client, sent), before);
    run(&mut client, &format!("SELECT amqp.skip('{}')", ids[1]));
    assert_eq!(own_so_far(&fixture, &mut client), ["behind"]);
    assert_eq!(held(&mut client), None);
}

#[test]
fn a_message_that_no_queue_is_bound_for_is_held_where_that_is_wanted_and_skipped_by_its_id() {
    let bed = Testbed::private(&["amqp.unroutable = 'hold'"]);
    let fixture = bed.scene("publish_unroutable");
    let mut client = fixture.client();
    make_blog(&mut client);
    fixture.broker().declare_exchange("nobody", "topic");
    let send = "SELECT amqp.publish('k', 'lost', exchange => 'nobody')";
    let id: String = ask(&mut client, send);
    wait_for_reason(&mut client, "no queue is bound");
    assert_eq!(held(&mut client).as_ref(), Some(&id));
    run(&mut client, &format!("SELECT amqp.skip('{id}')"));
    // A queue comes, and it goes on by itself.
    let id: String = ask(&mut client, send);
    wait_until("it stands still there", DEADLINE, || {
        (held(&mut client).as_ref() == Some(&id)).then_some(())
    });
    fixture.broker().declare_queue(&fixture.queue().bound_to("nobody", "#"));
    assert_eq!(own_so_far(&fixture, &mut client), ["lost"]);
}

#[test]
fn a_message_that_a_broker_finds_too_large_goes_to_the_dead_letter_exchange_without_its_body() {
    let bed = Testbed::private(&[
        "amqp.exchange_policy = '*: dead_letter'",
        "amqp.dead_letter_exchange = 'dead'",
    ]);
    let fixture = bed.scene("publish_dead");
    fixture.broker().declare_exchange("dead", "fanout");
    let dead = fixture.broker().consume(&Queue::durable("dead").bound_to("dead", ""));
    bed.rabbitmq.ctl(&["eval", "application:set_env(rabbit, max_message_size, 1000)."]);
    let mut client = fixture.client();
    make_blog(&mut client);
    // A channel keeps the limit that it was opened with.
    replace_worker(&mut client);
    let id: String = ask(
        &mut client,
        "SELECT amqp.publish('k', repeat('x', 2000), correlation_id => 'c', headers => '{\"own\": 1}')",
    );
    run(&mut client, "SELECT amqp.publish('k', 'small')");
    assert_eq!(own_so_far(&fixture, &mut client), ["small"]);
    let letter = &dead.wait_for_events(1)[0];
    assert_eq!((letter.message_id.as_ref(), letter.text()), (Some(&id), ""));
    assert_eq!((letter.correlation_id.as_deref(), &letter.headers["own"]), (Some("c"), &json!(1)));
    assert_eq!(letter.headers["oversize"], json!(2000));
    let refused = letter.headers["refused"].as_str().unwrap_or_default();
    assert!(refused.contains(&fixture.exchange) && refused.contains("message size"), "{refused}");
}
