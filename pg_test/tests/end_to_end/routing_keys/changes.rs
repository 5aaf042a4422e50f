//! An update that changes its key: a delete to the old one, and an insert to the new one.

use pg_test::{DEADLINE, Queue, Shutdown, Testbed, wait_until, wait_until_confirmed};
use serde_json::{Value, json};

use super::{captured, first_of_each, header, keys, number_of_two};
use crate::helpers::{
    ask, blog, make_blog, published_so_far, replace_worker, run, wait_for_reason,
};

const BY_TENANT: &str = "'order', 'cdc', 'routing_key={new.tenant}.{resource}.{operation}'";

const COLUMNS: &str = "id int PRIMARY KEY, tenant text, v int, secret text";

/// `previous`, `current`, `targets`, `operation` of a body.
fn parts(message: &pg_test::Message) -> Value {
    let body = message.json();
    json!([body["previous"], body["current"], body["targets"], body["operation"]])
}

#[test]
fn an_update_that_changes_the_key_goes_as_a_delete_and_an_insert() {
    // Rendered by the worker, or by the writer.
    for exclude in ["", ", 'exclude=secret'"] {
        let (fixture, mut client) = blog("split");
        captured(&mut client, "orders", COLUMNS, &format!("{BY_TENANT}{exclude}"));
        run(
            &mut client,
            "INSERT INTO orders VALUES (1, 'acme', 1); COMMIT;
             BEGIN;
             UPDATE orders SET v = 2;
             UPDATE orders SET tenant = 'globex', v = 3;
             UPDATE orders SET tenant = 'globex';
             UPDATE orders SET tenant = NULL;
             DELETE FROM orders;
             COMMIT",
        );
        let events = published_so_far(&fixture, &mut client);
        assert_eq!(
            keys(&events),
            [
                "acme.order.insert",
                "acme.order.update",
                "acme.order.delete",
                "globex.order.insert",
                "globex.order.update",
                "globex.order.delete",
                ".order.insert",
                ".order.delete",
            ]
        );
        let row = |tenant: Value, v: i32| match exclude {
            "" => json!({"id": 1, "tenant": tenant, "v": v, "secret": null}),
            _ => json!({"id": 1, "tenant": tenant, "v": v}),
        };
        let all = match exclude {
            "" => json!(["id", "tenant", "v", "secret"]),
            _ => json!(["id", "tenant", "v"]),
        };
        let expected = [
            json!([null, row(json!("acme"), 1), all, "insert"]),
            json!([row(json!("acme"), 1), row(json!("acme"), 2), ["v"], "update"]),
            json!([row(json!("acme"), 2), null, all, "delete"]),
            json!([null, row(json!("globex"), 3), all, "insert"]),
            json!([row(json!("globex"), 3), row(json!("globex"), 3), [], "update"]),
            json!([row(json!("globex"), 3), null, all, "delete"]),
            json!([null, row(Value::Null, 3), all, "insert"]),
            json!([row(Value::Null, 3), null, all, "delete"]),
        ];
        assert_eq!(events.iter().map(parts).collect::<Vec<_>>(), expected);
        // No tenant sees another's row.
        for event in &events {
            let others = if event.routing_key.starts_with("acme.") { "globex" } else { "acme" };
            assert!(!event.text().contains(others), "{event:?}");
            assert_eq!(event.json()["routing_key"], event.routing_key.as_str());
            assert_eq!(event.kind.as_deref(), event.json()["operation"].as_str());
        }
        let numbers: Vec<_> = events
            .iter()
            .map(|event| (header(event, "tx_seq"), header(event, "tx_size")))
            .collect();
        let one = [(json!(1), json!(1))];
        let seven = (1..=7).map(|n| (json!(n), json!(7)));
        assert_eq!(numbers, one.into_iter().chain(seven).collect::<Vec<_>>());
        assert_eq!(events.iter().map(number_of_two).collect::<Vec<_>>(), [1, 1, 1, 2, 1, 1, 2, 1]);
        for pair in [&events[2..4], &events[5..7]] {
            let [delete, insert] = [0, 1].map(|n| pair[n].message_id.clone().unwrap());
            assert_eq!(format!("{delete}/2"), insert);
        }
    }
}

#[test]
fn lean_and_oversize_halves_are_those_of_real_deletes_and_inserts() {
    for exclude in ["", ", 'exclude=secret'"] {
        let (fixture, mut client) = blog("split_lean");
        let arguments = format!("{BY_TENANT}, 'previous=off', 'current=changed'{exclude}");
        captured(&mut client, "orders", COLUMNS, &arguments);
        captured(&mut client, "bare", "tenant text, v text", BY_TENANT);
        run(
            &mut client,
            "SET amqp.max_message_size = '16kB';
             INSERT INTO orders VALUES (1, 'acme', 1);
             UPDATE orders SET tenant = 'globex';
             INSERT INTO bare VALUES ('acme', repeat('x', 20000)), ('acme', 'y');
             UPDATE bare SET tenant = 'globex', v = CASE v WHEN 'y' THEN repeat('y', 20000) END",
        );
        let events = published_so_far(&fixture, &mut client);
        assert_eq!(events.len(), 9);
        let rows = |n: usize| {
            let body = events[n].json();
            json!([body["previous"], body["current"]])
        };
        // Without `previous` a delete still says which row it was.
        assert_eq!(rows(1), json!([{"id": 1}, null]));
        assert_eq!(rows(2)[1]["v"], json!(1), "the insert is whole");
        assert_eq!(rows(2)[1]["tenant"], json!("globex"));
        // Each half is too large or not by itself. There is no key to fall back on.
        let size = |n: usize| events[n].headers.get("oversize").and_then(Value::as_i64);
        assert_eq!(rows(5), json!([{}, null]));
        assert_eq!(rows(6), json!([null, {"tenant": "globex", "v": null}]));
        assert_eq!(rows(7), json!([{"tenant": "acme", "v": "y"}, null]));
        assert_eq!(rows(8), json!([null, {}]));
        let is_large = [5, 6, 7, 8].map(|n| size(n) > Some(20_000));
        assert_eq!(is_large, [true, false, false, true]);
        let tail = ["acme.order.delete", "globex.order.insert"].repeat(2);
        assert_eq!(keys(&events)[5..], tail);

        run(&mut client, "SET amqp.oversize = 'error'");
        let error = client.batch_execute("UPDATE bare SET tenant = 'initech' WHERE v IS NOT NULL");
        assert!(error.unwrap_err().as_db_error().unwrap().message().contains("too large"));
    }
}

/// What an update did not touch stays where it is stored, and is not read to compare it.
#[test]
fn a_value_out_of_line_is_in_both_halves_and_may_itself_be_the_key() {
    let (fixture, mut client) = blog("split_toast");
    captured(&mut client, "docs", "id int PRIMARY KEY, tenant text, body text", BY_TENANT);
    captured(
        &mut client,
        "long",
        "id int PRIMARY KEY, tenant text, v int",
        "'long', 'cdc', 'routing_key={new.tenant}'",
    );
    let noise = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 3000) n)";
    run(
        &mut client,
        &format!(
            "INSERT INTO docs VALUES (1, 'acme', {noise});
             UPDATE docs SET tenant = 'globex';
             ALTER TABLE long ALTER tenant SET STORAGE EXTERNAL;
             INSERT INTO long VALUES (1, {noise}, 1);
             UPDATE long SET v = 2;
             UPDATE long SET tenant = tenant || '';
             UPDATE long SET tenant = tenant || '!'"
        ),
    );
    let events = published_so_far(&fixture, &mut client);
    let body: String = ask(&mut client, "SELECT body FROM docs");
    assert_eq!(
        keys(&events)[..3],
        ["acme.order.insert", "acme.order.delete", "globex.order.insert"]
    );
    assert_eq!(events[1].json()["previous"]["body"], json!(body));
    assert_eq!(events[2].json()["current"]["body"], json!(body));
    let kinds: Vec<_> = events[3..].iter().map(|event| event.kind.clone().unwrap()).collect();
    // The same value, stored anew, is the same.
    assert_eq!(kinds, ["insert", "update", "update", "delete", "insert"]);
    assert_ne!(events[6].routing_key, events[7].routing_key);
    assert_eq!(events[5].routing_key, events[6].routing_key);
}

/// The writer compares values. What is another value, and the same text in the key, is a delete and an insert all the
/// same.
#[test]
fn values_that_make_the_same_key_are_two_messages_too() {
    let (fixture, mut client) = blog("split_alike");
    let columns = "id int PRIMARY KEY, a text, b json";
    let arguments = "'t', 'cdc', 'routing_key={new.a}{new.b}'";
    captured(&mut client, "t", columns, arguments);
    run(
        &mut client,
        "INSERT INTO t VALUES (1, 'x', '\"y\"');
         UPDATE t SET a = 'xy', b = 'null';
         UPDATE t SET b = ' null'",
    );
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(keys(&events), ["xy"; 5]);
    let kinds: Vec<_> = events.iter().map(|event| event.kind.clone().unwrap()).collect();
    assert_eq!(kinds, ["insert", "delete", "insert", "delete", "insert"]);
}

/// What a transaction keeps in memory, what it leaves in the WAL, and what is read again after a restart: always in
/// order, each counted.
#[test]
fn large_transactions_and_restarts_keep_both_halves_in_order() {
    let bed = Testbed::private(&["amqp.max_in_flight = 7"]);
    bed.postgres.set("logical_decoding_work_mem", "64kB");
    let fixture = bed.scene("split_spilled");
    let mut client = fixture.client();
    make_blog(&mut client);
    captured(&mut client, "orders", COLUMNS, BY_TENANT);
    const ROWS: usize = 2000;
    run(
        &mut client,
        &format!(
            "INSERT INTO orders SELECT n, 't' || n % 3, 0 FROM generate_series(1, {ROWS}) n;
             COMMIT; BEGIN; UPDATE orders SET v = 1 WHERE id % 2 = 0; SAVEPOINT s;
             UPDATE orders SET tenant = 'gone'; ROLLBACK TO s;
             UPDATE orders SET tenant = 'moved' || id; COMMIT"
        ),
    );
    for _ in 0..3 {
        replace_worker(&mut client);
    }
    bed.postgres.restart(Shutdown::Immediate);
    let mut client = fixture.client();
    let events = first_of_each(published_so_far(&fixture, &mut client));
    let (inserts, rest) = events.split_at(ROWS);
    assert!(inserts.iter().all(|event| event.kind.as_deref() == Some("insert")));
    let (updates, moves) = rest.split_at(ROWS / 2);
    assert!(updates.iter().all(|event| event.kind.as_deref() == Some("update")));
    assert_eq!(moves.len(), 2 * ROWS);
    for (number, pair) in moves.chunks(2).enumerate() {
        let [delete, insert] = pair else { panic!("half a pair") };
        let (old, new) = (delete.json(), insert.json());
        let id = &old["previous"]["id"];
        assert_eq!(id, &new["current"]["id"]);
        let [delete_key, insert_key] = [delete, insert].map(|event| event.routing_key.as_str());
        assert!(delete_key.starts_with('t') && delete_key.ends_with(".delete"), "{delete_key}");
        assert_eq!(insert_key, format!("moved{id}.order.insert"));
        assert_eq!((number_of_two(delete), number_of_two(insert)), (1, 2));
        let seq = (ROWS / 2 + 2 * number + 1) as i64;
        assert_eq!(
            (header(delete, "tx_seq"), header(insert, "tx_seq")),
            (json!(seq), json!(seq + 1))
        );
        assert_eq!(header(insert, "tx_size"), json!(ROWS / 2 + 2 * ROWS));
    }
}

/// Either half can be held, named, skipped; the other goes on.
#[test]
fn each_half_can_be_held_and_skipped() {
    let bed = Testbed::private(&["amqp.unroutable = 'hold'"]);
    let fixture = bed.scene("split_held");
    let mut client = fixture.client();
    make_blog(&mut client);
    captured(&mut client, "orders", COLUMNS, BY_TENANT);
    run(&mut client, "INSERT INTO orders VALUES (1, 'acme', 1), (2, 'acme', 1)");
    fixture.consumer.wait_for_events(2);
    wait_until_confirmed(&mut client);
    let bind = |pattern: &str| {
        let queue = Queue::durable(fixture.queue().name()).bound_to(&fixture.exchange, pattern);
        fixture.broker().declare_queue(&queue);
    };
    bind("cdc.#");
    fixture.broker().unbind(fixture.queue().name(), &fixture.exchange, "#");
    for (half, bound) in [(1, "globex.#"), (2, "acme.#")] {
        bind(bound);
        run(&mut client, &format!("UPDATE orders SET tenant = 'globex' WHERE id = {half}"));
        wait_for_reason(&mut client, "no queue is bound");
        let held = wait_until("the stream stands still at a message", DEADLINE, || {
            ask::<Option<String>>(&mut client, "SELECT held_message FROM amqp.status")
        });
        assert_eq!(held.ends_with("/2"), half == 2, "{held}");
        // A new life of the worker stands still at the same one.
        replace_worker(&mut client);
        wait_for_reason(&mut client, &held);
        let other = match held.strip_suffix("/2") {
            Some(first) => first.to_owned(),
            None => format!("{held}/2"),
        };
        let skip = |client: &mut postgres::Client, id: &str| {
            client.execute("SELECT amqp.skip($1)", &[&id]).map(|_| ())
        };
        assert!(skip(&mut client, &other).is_err());
        skip(&mut client, &held).unwrap();
        let events = first_of_each(published_so_far(&fixture, &mut client));
        let expected = if half == 1 { "globex.order.insert" } else { "acme.order.delete" };
        let moved: Vec<_> =
            events.iter().filter(|event| event.kind.as_deref() != Some("gap")).collect();
        assert_eq!(moved.len(), 1, "{events:?}");
        assert_eq!(moved[0].routing_key, expected);
        assert_eq!(header(moved[0], "tx_size"), json!(2));
        fixture.broker().unbind(fixture.queue().name(), &fixture.exchange, bound);
        wait_until_confirmed(&mut client);
    }
    assert_eq!(ask::<i64>(&mut client, "SELECT events_skipped FROM amqp.status"), 2);
}

/// A refusal of one half's size passes over that half alone.
#[test]
fn a_half_that_its_exchange_refuses_goes_to_the_dead_letters_alone() {
    let bed = Testbed::private(&[]);
    let set = "application:set_env(rabbit, max_message_size, 100000).";
    bed.rabbitmq.ctl(&["eval", set]);
    bed.rabbitmq.ctl(&["close_all_connections", "test"]);
    let fixture = bed.scene("split_refused");
    let letters = format!("{}-dead", fixture.exchange);
    fixture.broker().declare_exchange(&letters, "topic");
    let dead = fixture.broker().consume(&Queue::durable("dead").bound_to(&letters, "#"));
    bed.postgres.set("amqp.dead_letter_exchange", &letters);
    bed.postgres.set("amqp.exchange_policy", &format!("{}: dead_letter", fixture.exchange));
    let mut client = fixture.client();
    make_blog(&mut client);
    captured(&mut client, "docs", "id int PRIMARY KEY, tenant text, body text", BY_TENANT);
    run(
        &mut client,
        "INSERT INTO docs VALUES (1, 'acme', 'small');
         UPDATE docs SET tenant = 'globex',
           body = (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 6000) n);
         UPDATE docs SET tenant = 'initech', body = 'small'",
    );
    let letters = first_of_each(dead.wait_for_events(2));
    assert_eq!(keys(&letters), ["globex.order.insert", "globex.order.delete"]);
    assert_eq!(letters[0].json()["current"], json!({"id": 1}));
    assert_eq!(letters[1].json()["previous"], json!({"id": 1}));
    assert_eq!(letters.iter().map(number_of_two).collect::<Vec<_>>(), [2, 1]);
    let events = first_of_each(published_so_far(&fixture, &mut client));
    let own: Vec<_> = keys(&events).into_iter().filter(|key| key.contains(".order.")).collect();
    assert_eq!(own, ["acme.order.insert", "acme.order.delete", "initech.order.insert"]);
}

/// Every message is lost on its way or its confirm is: what comes again bears the same name, and says so.
#[test]
fn what_comes_again_is_the_same_half() {
    let (fixture, mut client) = blog("split_resent");
    captured(&mut client, "orders", COLUMNS, BY_TENANT);
    run(&mut client, "INSERT INTO orders SELECT n, 'acme', 1 FROM generate_series(1, 300) n");
    for round in 0..3 {
        run(&mut client, &format!("UPDATE orders SET tenant = 'tenant{round}'"));
        replace_worker(&mut client);
    }
    let events = published_so_far(&fixture, &mut client);
    let mut known = std::collections::BTreeMap::new();
    for event in &events {
        let what = (event.routing_key.clone(), event.body.clone(), header(event, "tx_seq"));
        let before = known.entry(event.message_id.clone()).or_insert_with(|| what.clone());
        assert_eq!(before, &what);
    }
    let events = first_of_each(events);
    assert_eq!(events.len(), 300 + 3 * 600);
    for pair in events[300..].chunks(2) {
        assert_eq!([number_of_two(&pair[0]), number_of_two(&pair[1])], [1, 2]);
        assert_eq!(pair[0].json()["previous"]["id"], pair[1].json()["current"]["id"]);
    }
}

/// One row's update moves another row within it, in a transaction that is prepared and committed elsewhere.
#[test]
fn late_halves_stay_together_and_in_the_order_of_the_changes() {
    let (fixture, mut client) = blog("split_late");
    captured(&mut client, "orders", COLUMNS, BY_TENANT);
    run(
        &mut client,
        "CREATE FUNCTION move_first(to_tenant text) RETURNS text LANGUAGE sql VOLATILE AS
           $$ UPDATE orders SET tenant = to_tenant WHERE id = 1 RETURNING tenant $$;
         INSERT INTO orders VALUES (1, 'acme', 1), (2, 'acme', 2);
         COMMIT;
         BEGIN;
         UPDATE orders SET tenant = move_first('globex') WHERE id = 2;
         UPDATE orders SET v = 3 WHERE id = 2;
         PREPARE TRANSACTION 'split_late'",
    );
    run(&mut fixture.client(), "COMMIT PREPARED 'split_late'");
    let events = published_so_far(&fixture, &mut client);
    let told = |event: &pg_test::Message| {
        let body = event.json();
        let row = if body["current"].is_null() { &body["previous"] } else { &body["current"] };
        (
            event.routing_key.clone(),
            row["id"].clone(),
            header(event, "tx_seq"),
            header(event, "tx_size"),
        )
    };
    let expected = [
        ("acme.order.delete", 1, 1),
        ("globex.order.insert", 1, 2),
        ("acme.order.delete", 2, 3),
        ("globex.order.insert", 2, 4),
        ("globex.order.update", 2, 5),
    ];
    let expected = expected.map(|(key, id, seq)| (key.to_owned(), json!(id), json!(seq), json!(5)));
    assert_eq!(events[2..].iter().map(told).collect::<Vec<_>>(), expected);
}
