//! The options of a trigger: what leaves the database, where it goes, and how lean it is.

use pg_test::{Message, Queue};
use postgres::Client;
use postgres::error::SqlState;
use serde_json::{Value, json};

use crate::helpers::{blog, published_so_far, refusal, run};

/// Makes a captured table `people` with these options.
fn people(client: &mut Client, options: &str) {
    run(
        client,
        &format!(
            "CREATE TABLE people (id int PRIMARY KEY, name text, secret text, age int);
             CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON people
             FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture('person', 'cdc', {options})"
        ),
    );
}

/// `previous`, `current` and `targets` of a message.
fn parts(message: &Message) -> (Value, Value, Value) {
    let body = message.json();
    (body["previous"].clone(), body["current"].clone(), body["targets"].clone())
}

#[test]
fn excluded_columns_never_leave_the_database() {
    for options in ["'exclude=secret'", "'only= age ,id,name'"] {
        let (fixture, mut client) = blog("exclude");
        people(&mut client, options);
        run(
            &mut client,
            "INSERT INTO people VALUES (1, 'Ada', 'the-secret', 36);
             UPDATE people SET secret = 'the-secret of all';
             UPDATE people SET secret = 'the-secret', age = 37;
             UPDATE people SET age = 37;
             DELETE FROM people",
        );
        let events = published_so_far(&fixture, &mut client);
        assert!(events.iter().all(|event| !event.text().contains("secret")), "{events:?}");
        let ada = json!({"id": 1, "name": "Ada", "age": 36});
        let older = json!({"id": 1, "name": "Ada", "age": 37});
        let all = json!(["id", "name", "age"]);
        assert_eq!(
            events.iter().map(parts).collect::<Vec<_>>(),
            [
                (json!(null), ada.clone(), all.clone()),
                // The update of the secret alone is no event; one that changes nothing is.
                (ada, older.clone(), json!(["age"])),
                (older.clone(), older.clone(), json!([])),
                (older, json!(null), all),
            ]
        );
    }
}

#[test]
fn an_excluded_column_is_not_even_in_the_keys_of_an_event_that_is_too_large() {
    let (fixture, mut client) = blog("exclude_keys");
    run(
        &mut client,
        "SET amqp.max_message_size = '10kB';
         CREATE TABLE pairs (a int, b text, payload text, PRIMARY KEY (a, b));
         CREATE TRIGGER capture AFTER INSERT ON pairs FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture('pair', 'cdc', 'exclude=b');
         INSERT INTO pairs VALUES (1, 'hidden', repeat('x', 20000))",
    );
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(parts(&events[0]), (json!(null), json!({"a": 1}), json!(["a", "payload"])));
}

#[test]
fn lean_messages_hold_what_changed_and_always_say_which_row_it_was() {
    let (fixture, mut client) = blog("lean");
    people(&mut client, "'previous=off', 'current=changed'");
    run(
        &mut client,
        "INSERT INTO people VALUES (1, 'Ada', 's', 36);
         UPDATE people SET age = 37;
         UPDATE people SET id = 2, name = NULL;
         UPDATE people SET age = 37;
         DELETE FROM people",
    );
    let events = published_so_far(&fixture, &mut client);
    let none = json!(null);
    let all = json!(["id", "name", "secret", "age"]);
    let moved = json!({"id": 2, "name": null, "secret": "s", "age": 37});
    assert_eq!(
        events.iter().map(parts).collect::<Vec<_>>(),
        [
            (none.clone(), json!({"id": 1, "name": "Ada", "secret": "s", "age": 36}), all.clone()),
            (none.clone(), json!({"id": 1, "age": 37}), json!(["age"])),
            // To a consumer this is a row that it has not seen, and the last that it hears of row 1.
            (json!({"id": 1}), moved, json!(["id", "name"])),
            (none.clone(), json!({"id": 2}), json!([])),
            (json!({"id": 2}), none, all),
        ]
    );
}

/// Whoever renders: the worker, which has the rows as they are stored, or, since a column is excluded, the
/// writer.
#[test]
fn without_previous_the_key_is_there_on_a_delete_and_on_a_change_of_it() {
    for exclude in ["", ", 'exclude=secret'"] {
        let (fixture, mut client) = blog("lean_key");
        run(
            &mut client,
            &format!(
                "CREATE TYPE mood AS ENUM ('sad', 'happy');
                 CREATE TABLE pairs (a int, b mood, v int, secret text, PRIMARY KEY (b, a));
                 CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON pairs FOR EACH ROW
                   EXECUTE FUNCTION amqp_change_data_capture('pair', 'cdc', 'previous=off'{exclude})"
            ),
        );
        run(
            &mut client,
            "INSERT INTO pairs VALUES (1, 'sad', 10);
             UPDATE pairs SET v = 11;
             UPDATE pairs SET b = 'happy';
             DELETE FROM pairs",
        );
        let events = published_so_far(&fixture, &mut client);
        let rows: Vec<_> = events.iter().map(|event| (parts(event).0, parts(event).1)).collect();
        let row = |b: &str, v: i32| match exclude {
            "" => json!({"a": 1, "b": b, "v": v, "secret": null}),
            _ => json!({"a": 1, "b": b, "v": v}),
        };
        assert_eq!(
            rows,
            [
                (json!(null), row("sad", 10)),
                (json!(null), row("sad", 11)),
                (json!({"a": 1, "b": "sad"}), row("happy", 11)),
                (json!({"a": 1, "b": "happy"}), json!(null)),
            ],
            "{exclude}"
        );
    }
}

#[test]
fn the_key_that_the_trigger_names_counts_in_place_of_the_primary_key() {
    let (fixture, mut client) = blog("lean_named_key");
    people(&mut client, "'previous=off', 'current=changed', 'key=name'");
    run(
        &mut client,
        "INSERT INTO people VALUES (1, 'Ada', 's', 36);
         UPDATE people SET id = 2;
         UPDATE people SET name = 'Eve';
         DELETE FROM people",
    );
    let events = published_so_far(&fixture, &mut client);
    let rows: Vec<_> = events.iter().map(|event| (parts(event).0, parts(event).1)).collect();
    assert_eq!(
        rows[1..],
        [
            (json!(null), json!({"id": 2, "name": "Ada"})),
            (json!({"name": "Ada"}), json!({"id": 2, "name": "Eve", "secret": "s", "age": 36})),
            (json!({"name": "Eve"}), json!(null)),
        ]
    );
}

#[test]
fn without_previous_and_without_a_key_the_whole_row_says_which_one_it_was() {
    let (fixture, mut client) = blog("lean_heap");
    run(
        &mut client,
        "CREATE TABLE notes (a int, b text, secret text);
         CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON notes FOR EACH ROW EXECUTE FUNCTION
           amqp_change_data_capture('note', 'cdc', 'previous=off', 'current=changed', 'exclude=secret');
         INSERT INTO notes VALUES (1, 'x', 's');
         UPDATE notes SET b = 'y';
         UPDATE notes SET b = 'y';
         DELETE FROM notes",
    );
    let events = published_so_far(&fixture, &mut client);
    let rows: Vec<_> = events.iter().map(|event| (parts(event).0, parts(event).1)).collect();
    assert_eq!(
        rows,
        [
            (json!(null), json!({"a": 1, "b": "x"})),
            (json!({"a": 1, "b": "x"}), json!({"b": "y"})),
            // Nothing changed, and so nothing is to be found.
            (json!(null), json!({})),
            (json!({"a": 1, "b": "y"}), json!(null)),
        ]
    );
}

/// Also where there is room for the keys alone.
#[test]
fn an_event_that_is_too_large_says_no_more_of_the_row_before_than_a_small_one() {
    let (fixture, mut client) = blog("lean_large");
    run(
        &mut client,
        "SET amqp.max_message_size = '10kB';
         CREATE TABLE notes (id int PRIMARY KEY, payload text);
         CREATE TRIGGER capture AFTER UPDATE OR DELETE ON notes FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture('note', 'cdc', 'previous=off');
         INSERT INTO notes VALUES (1, 'small');
         UPDATE notes SET payload = repeat('x', 20000);
         UPDATE notes SET id = 2;
         DELETE FROM notes",
    );
    let events = published_so_far(&fixture, &mut client);
    let rows: Vec<_> = events.iter().map(|event| (parts(event).0, parts(event).1)).collect();
    let (one, two, none) = (json!({"id": 1}), json!({"id": 2}), json!(null));
    assert_eq!(rows, [(none.clone(), one.clone()), (one, two.clone()), (two, none)]);
    let is_oversize = |n: usize| events[n].headers.contains_key("oversize");
    // The deleted row's key was never too large.
    assert_eq!([0, 1, 2].map(is_oversize), [true, true, false]);
}

#[test]
fn without_a_choice_of_columns_an_unchanged_value_is_there_in_both_rows() {
    let (fixture, mut client) = blog("changed_with_previous");
    people(&mut client, "'current=changed'");
    run(&mut client, "INSERT INTO people VALUES (1, 'Ada', 's', 36); UPDATE people SET age = 37");
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(
        parts(&events[1]),
        (
            json!({"id": 1, "name": "Ada", "secret": "s", "age": 36}),
            json!({"id": 1, "age": 37}),
            json!(["age"])
        )
    );
}

#[test]
fn a_key_can_be_named_where_there_is_no_primary_key() {
    let (fixture, mut client) = blog("key");
    run(
        &mut client,
        r#"SET amqp.max_message_size = '10kB';
         CREATE TABLE log ("the, key" int, number int, payload text);
         CREATE TRIGGER capture AFTER INSERT OR UPDATE ON log FOR EACH ROW EXECUTE FUNCTION
           amqp_change_data_capture('log', 'cdc', 'key="the, key", number', 'current=changed');
         INSERT INTO log VALUES (1, 2, repeat('x', 20000));
         UPDATE log SET payload = 'small';
         UPDATE log SET payload = 'smaller'"#,
    );
    let events = published_so_far(&fixture, &mut client);
    let key = json!({"the, key": 1, "number": 2});
    assert_eq!(
        parts(&events[0]),
        (json!(null), key.clone(), json!(["the, key", "number", "payload"]))
    );
    assert!(events[0].headers["oversize"].as_i64() > Some(20_000), "{:?}", events[0].headers);
    assert_eq!(parts(&events[1]), (key.clone(), key, json!(["payload"])));
    assert_eq!(parts(&events[2]).1, json!({"the, key": 1, "number": 2, "payload": "smaller"}));
}

#[test]
fn keys_that_are_too_large_themselves_are_left_out() {
    let (fixture, mut client) = blog("large_key");
    run(
        &mut client,
        "SET amqp.max_message_size = '10kB';
         CREATE TABLE log (payload text);
         CREATE TRIGGER capture AFTER INSERT ON log FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture('log', 'cdc', 'key=payload');
         INSERT INTO log VALUES (repeat('x', 20000))",
    );
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(parts(&events[0]), (json!(null), json!({}), json!(["payload"])));
}

#[test]
fn a_trigger_may_have_an_exchange_of_its_own() {
    let (fixture, mut client) = blog("exchange");
    let other = format!("{}-other", fixture.exchange);
    fixture.broker().declare_exchange(&other, "topic");
    let consumer = fixture
        .broker()
        .consume(&Queue::durable(&format!("{}-other", fixture.database)).bound_to(&other, "#"));
    people(&mut client, &format!("'exchange={other}'"));
    run(&mut client, "INSERT INTO people VALUES (1); INSERT INTO blog_articles VALUES (2)");
    assert_eq!(consumer.wait_for_events(1)[0].exchange, other);
    assert_eq!(fixture.consumer.wait_for_events(1)[0].json()["current"]["id"], 2);
}

#[test]
fn options_that_make_no_sense_are_refused_by_create_trigger_and_when_the_trigger_fires() {
    let (fixture, mut client) = blog("bad_options");
    run(&mut client, "CREATE TABLE t (id int, \"Name\" text, gone int)");
    run(&mut client, "ALTER TABLE t DROP COLUMN gone");
    for (option, message, hint) in [
        (
            "colour=red",
            "unknown capture option \"colour\"",
            "exclude, only, exchange, previous, current, key, routing_key, body, headers, type.",
        ),
        ("exclude", "a capture option must have the form key=value", "Valid options"),
        (
            "exclude=name",
            "column \"name\" of capture option \"exclude\" does not exist",
            "Columns of the table: id, Name.",
        ),
        ("only=gone", "column \"gone\" of capture option \"only\" does not exist", "id, Name."),
        ("key=id,x", "column \"x\" of capture option \"key\" does not exist", "id, Name."),
        ("previous=no", "capture option \"previous\" cannot be \"no\"", "on, off"),
        ("current=", "capture option \"current\" cannot be \"\"", "row, changed"),
        ("exclude=id', 'exclude=id", "capture option \"exclude\" is given twice", "once"),
        (
            "exclude=id', 'only=id",
            "capture options \"exclude\" and \"only\" contradict each other",
            "one of the two",
        ),
        ("exclude=id', 'key=id", "column \"id\" is a key but is not published", "excluded"),
    ] {
        let create = format!(
            "CREATE OR REPLACE TRIGGER capture AFTER INSERT ON t FOR EACH ROW
               EXECUTE FUNCTION amqp_change_data_capture('a', 'b', '{option}')"
        );
        let at_creation = refusal(&mut client, &create);
        run(&mut client, "SET session_replication_role = replica");
        run(&mut client, &format!("{create}; RESET session_replication_role"));
        let mut at_write = || refusal(&mut client, "INSERT INTO t VALUES (1)");
        for error in [at_creation, at_write(), at_write()] {
            assert_eq!((error.code().code(), error.message()), ("22023", message));
            let detail = error.detail().unwrap_or_default();
            let last = option.rsplit('\'').next().unwrap_or_default();
            assert!(
                detail.contains("Trigger \"capture\" has argument \"") && detail.contains(last)
            );
            assert!(error.hint().unwrap_or_default().contains(hint), "{error:?}");
        }
    }
    run(
        &mut client,
        "CREATE OR REPLACE TRIGGER capture AFTER INSERT ON t FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture('a', 'b', 'exclude=Name');
         INSERT INTO t VALUES (1)",
    );
    assert_eq!(published_so_far(&fixture, &mut client)[0].json()["current"], json!({"id": 1}));
}

/// To make a trigger on the table of another takes the privilege TRIGGER alone.
#[test]
fn who_makes_a_trigger_may_send_to_no_exchange_that_he_could_not_set() {
    let (fixture, mut client) = blog("exchange_of_others");
    let role = format!("{}_role", fixture.database);
    run(
        &mut client,
        &format!(
            "CREATE ROLE {role}; CREATE TABLE notes (id int, body text);
             GRANT TRIGGER, INSERT ON notes TO {role};
             GRANT EXECUTE ON FUNCTION amqp_change_data_capture() TO {role}; SET ROLE {role}"
        ),
    );
    let make = |options: &str| {
        format!(
            "CREATE TRIGGER mine AFTER INSERT ON notes FOR EACH ROW
             EXECUTE FUNCTION amqp_change_data_capture('note', 'cdc'{options})"
        )
    };
    let error = refusal(&mut client, &make(", 'body=body', 'exchange=payments'"));
    assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(
        error.message(),
        format!("role \"{role}\" may not have events sent to exchange \"payments\"")
    );
    run(&mut client, &make(""));
    run(&mut client, &format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}"));
}
