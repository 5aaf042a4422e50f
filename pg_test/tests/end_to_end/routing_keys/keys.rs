//! What a template makes of a row.

use pg_test::Message;
use serde_json::json;

use super::{captured, first_of_each, header, keys};
use crate::helpers::{ask, blog, published_so_far, run};

#[test]
fn tenants_with_the_same_table_in_schemas_of_their_own_are_told_apart() {
    let (fixture, mut client) = blog("tenants");
    for tenant in ["acme", "globex.eu"] {
        run(&mut client, &format!("CREATE SCHEMA \"{tenant}\""));
        let table = format!("\"{tenant}\".orders");
        let arguments = "'', '', 'routing_key={prefix}.{schema}.{resource}.{operation}'";
        captured(&mut client, &table, "id int PRIMARY KEY, v int", arguments);
        run(
            &mut client,
            &format!(
                "INSERT INTO {table} VALUES (1, 1); UPDATE {table} SET v = 2;
                 DELETE FROM {table}; TRUNCATE {table}"
            ),
        );
    }
    let events = published_so_far(&fixture, &mut client);
    let expected = ["acme", "globex%2Eeu"].map(|tenant| {
        ["insert", "update", "delete", "truncate"]
            .map(|operation| format!("cdc.{tenant}.orders.{operation}"))
    });
    assert_eq!(keys(&events), expected.concat());
    for event in &events {
        assert_eq!(event.json()["routing_key"], event.routing_key.as_str());
        assert_eq!(header(event, "tx_size"), json!(4));
    }
}

#[test]
fn all_placeholders_stand_for_what_they_say() {
    let (fixture, mut client) = blog("placeholders");
    let template = "routing_key={database}/{schema}/{table}/{resource}/{prefix}/{operation}/{new.v}/{old.v}/{{}}";
    captured(
        &mut client,
        "things",
        "id int PRIMARY KEY, v text",
        &format!("'Shop.Thing', 'My.Prefix', '{template}'"),
    );
    run(
        &mut client,
        "INSERT INTO things VALUES (1, 'A.b'); UPDATE things SET id = 2; DELETE FROM things;
         TRUNCATE things",
    );
    let start = format!("{}/public/things/Shop.Thing/My.Prefix", fixture.database);
    assert_eq!(
        keys(&published_so_far(&fixture, &mut client)),
        [
            format!("{start}/insert/A%2Eb//{{}}"),
            format!("{start}/update/A%2Eb/A%2Eb/{{}}"),
            // After a delete there is no row: the one before it counts.
            format!("{start}/delete/A%2Eb/A%2Eb/{{}}"),
            format!("{start}/truncate///{{}}"),
        ]
    );
}

#[test]
fn one_placeholder_alone_is_the_key_as_the_value_is() {
    let (fixture, mut client) = blog("alone");
    captured(
        &mut client,
        "messages",
        "id int, topic text",
        "'message', 'cdc', 'routing_key={new.topic}'",
    );
    run(
        &mut client,
        "INSERT INTO messages VALUES (1, 'orders.placed'), (2, 'a b#*%2E'), (3, NULL), (4, ''),
           (5, 'amqp_cdc.gap'), (6, 'amqp_cdc'), (7, 'amq.rabbitmq.reply-to.x'), (8, repeat('é', 128)),
           (9, repeat('x', 1100000));
         TRUNCATE messages",
    );
    let long = "é".repeat(128);
    let hash: String =
        ask(&mut client, &format!("SELECT left(encode(sha256('{long}'), 'hex'), 32)"));
    assert_eq!(
        keys(&published_so_far(&fixture, &mut client)),
        [
            "orders.placed",
            "a b#*%2E",
            "",
            "",
            "amqp_cdc%2Egap",
            "amqp_cd%63",
            "amq%2Erabbitmq.reply-to.x",
            &format!("{}%7E{hash}", "é".repeat(110)),
            // Above a megabyte it is as good as none.
            "",
            "",
        ]
    );
}

/// Nobody who binds `amqp_cdc.#` is told of a row, with a template or without.
#[test]
fn a_prefix_that_is_the_streams_own_is_made_another() {
    let (fixture, mut client) = blog("own_prefix");
    captured(&mut client, "gaps", "id int", "'gap', 'AMQP_CDC'");
    run(&mut client, "INSERT INTO gaps VALUES (1)");
    assert_eq!(keys(&published_so_far(&fixture, &mut client)), ["amqp_cdc%2Egap.insert"]);
}

/// The columns of [`every_type_stands_in_the_key_as_it_stands_in_the_body`], with a value of each. The last ones are
/// rendered by their database.
const TYPES: [(&str, &str); 26] = [
    ("bool", "true"),
    ("int2", "-7"),
    ("int4", "42"),
    ("int8", "9007199254740993"),
    ("float8", "1.5e-7"),
    ("float4", "'NaN'"),
    ("numeric", "12.50"),
    ("text", "E'q\"\\\\ \\n\\tü€😀'"),
    ("varchar(9)", "'a.b'"),
    ("char(5)", "'ab'"),
    ("name", "'n'"),
    ("bytea", "'\\x00ff'"),
    ("uuid", "'6f2c0e5c-6a53-4c5b-9d49-5d2b7a1ad1c5'"),
    ("date", "'2026-02-03'"),
    ("timestamp", "'2026-02-03 04:05:06.789'"),
    ("timestamptz", "'2026-02-03 04:05:06+02'"),
    ("time", "'04:05:06'"),
    ("interval", "'1 day 2 hours'"),
    ("inet", "'10.0.0.1/8'"),
    ("json", "' \"a\\u00e9\\nb\" '"),
    ("jsonb", "'{\"a\": [1, null, \"x.y\"]}'"),
    ("text[]", "ARRAY['a', NULL, 'c\"d']"),
    ("bit(3)", "'101'"),
    ("mood", "'very sad'"),
    ("pair", "ROW(1, 'x')"),
    ("positive", "5"),
];

#[test]
fn every_type_stands_in_the_key_as_it_stands_in_the_body() {
    // Rendered by the worker, or, since a column is excluded, by the writer; where the session's settings differ.
    for exclude in ["", ", 'exclude=hidden'"] {
        let (fixture, mut client) = blog("types");
        run(
            &mut client,
            "CREATE TYPE mood AS ENUM ('very sad', 'happy'); CREATE TYPE pair AS (a int, b text);
             CREATE DOMAIN positive AS int CHECK (VALUE > 0);
             SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo'; SET bytea_output = 'escape';
             SET extra_float_digits = -3; SET IntervalStyle = 'iso_8601'",
        );
        let mut names = Vec::new();
        for (number, (kind, value)) in TYPES.iter().enumerate() {
            let table = format!("t{number}");
            let columns = format!("id int PRIMARY KEY, v {kind}, hidden text");
            let arguments = format!("'t', 'cdc', 'routing_key={{table}}={{new.v}}'{exclude}");
            captured(&mut client, &table, &columns, &arguments);
            run(&mut client, &format!("INSERT INTO {table} VALUES (1, {value}), (2, NULL)"));
            let text: String = ask(
                &mut client,
                &format!("SELECT row_to_json({table})->>'v' FROM {table} WHERE id = 1"),
            );
            names.push((table, text));
        }
        let events = published_so_far(&fixture, &mut client);
        assert_eq!(events.len(), 2 * TYPES.len());
        for (events, (table, _)) in events.chunks(2).zip(&names) {
            let value = &events[0].json()["current"]["v"];
            let text = match value {
                serde_json::Value::String(text) => text.clone(),
                // As it is spelt in the body.
                _ => {
                    let body = events[0].text();
                    let start = body.find("\"v\":").unwrap() + 4;
                    let rest = &body[start..];
                    let end = rest.find(",\"hidden\"").or(rest.find("},\"targets\"")).unwrap();
                    rest[..end].to_owned()
                }
            };
            assert_eq!(events[0].routing_key, format!("{table}={}", escaped(&text)), "{value}");
            assert_eq!(events[1].routing_key, format!("{table}="));
        }
        // What the session's own settings do not change is what PostgreSQL says of it.
        for number in [0, 1, 2, 3, 6, 7, 8, 9, 10, 12, 18, 19, 20, 21, 22, 23, 24, 25] {
            let (table, text) = &names[number];
            assert_eq!(events[2 * number].routing_key, format!("{table}={}", escaped(text)));
        }
    }
}

/// The table of docs/trigger.md, as plainly as possible.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        let code = u32::from(character);
        if code <= 32 || code == 127 || ".*#%".contains(character) {
            out += &format!("%{code:02X}");
        } else {
            out.push(character);
        }
    }
    out
}

/// A value may be out of line, compressed, or longer than a body may be.
#[test]
fn a_long_value_is_cut_wherever_it_is_stored() {
    let (fixture, mut client) = blog("long_keys");
    captured(
        &mut client,
        "docs",
        "id int PRIMARY KEY, v text",
        "'doc', 'cdc', 'routing_key=doc.{new.v}'",
    );
    run(
        &mut client,
        "SET amqp.max_message_size = '64kB';
         INSERT INTO docs VALUES (1, repeat('x.', 200000)),
           (2, (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 4000) n));
         ALTER TABLE docs ALTER v SET STORAGE EXTERNAL;
         INSERT INTO docs VALUES (3, repeat('€', 100000));
         UPDATE docs SET id = 4 WHERE id = 3;
         DELETE FROM docs WHERE id < 3",
    );
    let wanted: Vec<String> = [
        "'doc.' || repeat('x%2E', 200000)",
        "'doc.' || (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 4000) n)",
        "'doc.' || repeat('€', 100000)",
    ]
    .iter()
    .map(|whole| {
        ask::<String>(
            &mut client,
            &format!(
                "SELECT prefix || '%7E' || left(encode(sha256(convert_to(whole, 'UTF8')), 'hex'), 32)
                 FROM (SELECT {whole} AS whole) w, LATERAL (
                   SELECT left(whole, n) AS prefix FROM generate_series(1, 255) n
                   WHERE octet_length(left(whole, n)) <= 220 ORDER BY n DESC LIMIT 1) p"
            ),
        )
    })
    .collect();
    let events = published_so_far(&fixture, &mut client);
    let seen = keys(&events);
    assert_eq!(seen, [0, 1, 2, 2, 0, 1].map(|n| wanted[n].as_str()));
    assert!(seen.iter().all(|key| key.len() <= 255));
    assert!(events.iter().all(|event| event.headers.contains_key("oversize")));
}

#[test]
fn without_the_option_keys_are_what_they_always_were() {
    let (fixture, mut client) = blog("default_keys");
    captured(&mut client, "\"a.B c\"", "id int PRIMARY KEY", "'', 'Shop.EU'");
    run(&mut client, "INSERT INTO \"a.B c\" VALUES (1); UPDATE \"a.B c\" SET id = 2");
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(keys(&events), ["shop.eu.a.b c.insert", "shop.eu.a.b c.update"]);
    // The same words as a template are not folded.
    captured(
        &mut client,
        "\"d.E f\"",
        "id int PRIMARY KEY",
        "'', 'Shop.EU', 'routing_key={prefix}.{resource}.{operation}'",
    );
    run(&mut client, "INSERT INTO \"d.E f\" VALUES (1); UPDATE \"d.E f\" SET id = 2");
    let events = published_so_far(&fixture, &mut client);
    assert_eq!(keys(&events), ["Shop.EU.d%2EE%20f.insert", "Shop.EU.d%2EE%20f.update"]);
}

#[test]
fn partitions_and_columns_in_another_order_have_the_values_of_their_own_rows() {
    let (fixture, mut client) = blog("partition_keys");
    run(
        &mut client,
        "CREATE TABLE sales (gone int, region text, n int, tenant text) PARTITION BY LIST (region);
         ALTER TABLE sales DROP COLUMN gone;
         CREATE TABLE sales_eu (tenant text, n int, region text);
         ALTER TABLE sales ATTACH PARTITION sales_eu FOR VALUES IN ('eu');
         CREATE TABLE sales_us PARTITION OF sales FOR VALUES IN ('us');
         CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON sales FOR EACH ROW
           EXECUTE FUNCTION amqp_change_data_capture('', '',
             'routing_key={new.tenant}.{resource}.{table}.{operation}.{new.region}');
         INSERT INTO sales (region, n, tenant) VALUES ('eu', 1, 'acme'), ('us', 2, 'globex');
         UPDATE sales SET region = 'us' WHERE n = 1",
    );
    assert_eq!(
        keys(&published_so_far(&fixture, &mut client)),
        [
            "acme.sales.sales_eu.insert.eu",
            "globex.sales.sales_us.insert.us",
            // The row moves, which always was a delete and an insert.
            "acme.sales.sales_eu.delete.eu",
            "acme.sales.sales_us.insert.us",
        ]
    );
}

/// Bytes without a meaning in UTF-8, or in another encoding than that.
#[test]
fn keys_are_utf_8_whatever_the_database_is() {
    let (fixture, mut client) = blog("key_encodings");
    for (encoding, value, key, lossy) in [
        ("LATIN1", "chr(252) || '.' || chr(233)", "t.ü%2Eé", false),
        ("SQL_ASCII", "convert_from('\\xff41', 'SQL_ASCII')", "t.\u{FFFD}A", true),
    ] {
        let database = format!("{}_{}", fixture.database, encoding.to_lowercase());
        run(
            &mut client,
            &format!(
                "CREATE DATABASE {database} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
            ),
        );
        run(
            &mut client,
            &format!("ALTER DATABASE {database} SET amqp.exchange = '{}'", fixture.exchange),
        );
        let mut other = fixture.testbed.postgres.connect(&database);
        run(&mut other, "CREATE EXTENSION amqp_cdc");
        captured(&mut other, "t", "id int, v text", "'t', 'cdc', 'routing_key=t.{new.v}'");
        run(&mut other, &format!("INSERT INTO t SELECT 1, {value}"));
        let event = fixture.consumer.wait_for_events(1).remove(0);
        assert_eq!(event.routing_key, key, "{encoding}");
        assert_eq!(header(&event, "encoding") == json!("lossy"), lossy, "{encoding}");
        drop(other);
        run(&mut client, &format!("DROP DATABASE {database} WITH (FORCE)"));
    }
}

/// A text of JSON can say what no other text can.
#[test]
fn a_character_that_is_none_in_postgresql_is_sent_all_the_same() {
    let (fixture, mut client) = blog("nul_keys");
    for (table, template) in [("a", "{new.v}"), ("b", "b.{new.v}")] {
        let arguments = format!("'t', 'cdc', 'routing_key={template}'");
        captured(&mut client, table, "v json", &arguments);
        run(
            &mut client,
            &format!(r#"INSERT INTO {table} VALUES ('"x\u0000y"'), ('"\ud83dz"'), ('null')"#),
        );
    }
    let events: Vec<Message> = first_of_each(published_so_far(&fixture, &mut client));
    assert_eq!(keys(&events), ["x\0y", "\\ud83dz", "", "b.x%00y", "b.\\ud83dz", "b."]);
}
