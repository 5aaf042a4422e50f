//! Events that wait in the WAL while the library is exchanged: those of 0.1.0 are published as they would
//! have been then, those of a version to come are held and named.

use pg_test::{DEADLINE, Fixture, Testbed, wait_until, wait_until_confirmed};
use postgres::Client;
use serde_json::json;

use crate::helpers::{
    ask, ids, make_blog, make_c_function, published_so_far, replace_worker, run, wait_for_reason,
    wait_until_streaming,
};

/// A fixture on servers of its own, with a function that writes the bytes of an event.
pub fn fixture(bed: &Testbed) -> (Fixture<'_>, Client) {
    let fixture = bed.scene("other_versions");
    let mut client = fixture.client();
    make_blog(&mut client);
    let code = include_str!("other_versions.c");
    make_c_function(&mut client, &bed.postgres, "write_event(bytea)", code);
    (fixture, client)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SQL that writes it.
pub fn write(event: &[u8]) -> String {
    format!("SELECT write_event('\\x{}')", hex(event))
}

/// An event as 0.1.0 wrote it, whose body is this number.
pub fn event_of_0_1_0(fixture: &Fixture<'_>, command_id: u8, number: u32) -> Vec<u8> {
    let mut bytes = vec![1, 0, 1, 0, command_id, 0, 0, 0];
    bytes.extend_from_slice(&[0; 8]);
    for name in [fixture.exchange.as_str(), "old.key", "base", "public", "t"] {
        bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
    }
    bytes.extend_from_slice(number.to_string().as_bytes());
    bytes
}

/// An event of the layout that is written now, with a field more.
fn event_with_field(fixture: &Fixture<'_>, tag: u8) -> Vec<u8> {
    let mut bytes = vec![2, 1];
    bytes.extend_from_slice(&[0; 12]);
    for (tag, value) in [(tag, "news"), (2, fixture.exchange.as_str()), (3, "new.key"), (6, "t")] {
        bytes.extend_from_slice(&[tag, value.len() as u8]);
        bytes.extend_from_slice(value.as_bytes());
    }
    bytes.push(0x40);
    bytes.extend_from_slice(b"{}");
    bytes
}

#[test]
fn what_0_1_0_wrote_comes_in_the_order_that_it_had() {
    let bed = Testbed::private(&[]);
    let (fixture, mut client) = fixture(&bed);
    let written = [(2, 10), (1, 11), (2, 12), (0, 13), (1, 14)];
    let statements: Vec<_> = written
        .into_iter()
        .map(|(command_id, number)| write(&event_of_0_1_0(&fixture, command_id, number)))
        .collect();
    run(&mut client, &format!("BEGIN; {}; COMMIT", statements.join("; ")));
    let events = published_so_far(&fixture, &mut client);
    let bodies: Vec<_> = events.iter().map(|event| event.text().to_owned()).collect();
    assert_eq!(bodies, ["13", "11", "14", "10", "12"]);
    assert!(events.iter().all(|event| event.routing_key == "old.key"));
    assert!(events.iter().enumerate().all(|(n, e)| e.headers["tx_seq"] == json!(n + 1)));
}

#[test]
fn an_event_of_a_later_version_is_held_by_name_and_can_be_passed_over() {
    let bed = Testbed::private(&[]);
    let (fixture, mut client) = fixture(&bed);
    // What may be ignored is; what may not be holds the stream, behind all that came before it.
    run(
        &mut client,
        &format!(
            "BEGIN; INSERT INTO blog_articles VALUES (1); {}; {}; INSERT INTO blog_articles VALUES (2); COMMIT;
             INSERT INTO blog_articles VALUES (3)",
            write(&event_with_field(&fixture, 0xBF)),
            write(&event_with_field(&fixture, 0x3F)),
        ),
    );
    let events = fixture.consumer.wait_for_events(2);
    assert_eq!((ids(&events), events[1].routing_key.as_str()), (vec![1], "new.key"));
    let reason = wait_for_reason(&mut client, "field 63 is unknown");
    let held: String = ask(&mut client, "SELECT held_message FROM amqp.status");
    assert!(reason.contains(&held), "{reason}");
    // It is held again by the next worker, under the same name.
    replace_worker(&mut client);
    wait_for_reason(&mut client, "field 63 is unknown");
    assert_eq!(ask::<String>(&mut client, "SELECT held_message FROM amqp.status"), held);
    let state: String = ask(&mut client, "SELECT state FROM amqp.status");
    assert_eq!(state, "standing still");

    client.execute("SELECT amqp.skip($1)", &[&held]).unwrap();
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(ids(&events).iter().rev().take(2).rev().copied().collect::<Vec<_>>(), [2, 3]);
    let second = events.iter().find(|event| event.text().contains("\"id\":2")).unwrap();
    assert_eq!(second.headers["tx_seq"], json!(4));
    wait_until_confirmed(&mut client);
    wait_until_streaming(&mut client);
    assert_eq!(ask::<i64>(&mut client, "SELECT events_skipped FROM amqp.status"), 1);
    assert!(bed.postgres.log().contains(&format!("message {held} (")));
    assert!(bed.postgres.log().contains("is skipped by order of an operator"));
    // It is passed over for good.
    wait_until("the position is saved", DEADLINE, || {
        ask::<bool>(
            &mut client,
            "SELECT lag_bytes = 0 AND confirmed_lsn IS NOT NULL FROM amqp.status",
        )
        .then_some(())
    });
    replace_worker(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (4)");
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(ids(&events).last(), Some(&4));
    assert_eq!(ask::<i64>(&mut client, "SELECT events_skipped FROM amqp.status"), 1);
}
