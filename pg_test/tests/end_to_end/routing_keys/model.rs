//! Random templates and rows, against keys that a function in PL/pgSQL makes in a trigger of its own.

use pg_test::dice::Dice;
use postgres::Client;

use super::{captured, first_of_each};
use crate::helpers::{ask, blog, published_so_far, run};

const COLUMNS: [&str; 6] = ["id", "tenant", "n", "j", "at", "list"];

/// A trigger that notes which messages there must be: operation and routing key, in order.
const ORACLE: &str = r#"
CREATE TABLE expected (number serial, operation text, key text);

CREATE FUNCTION escaped(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE key text := ''; c text;
BEGIN
  FOREACH c IN ARRAY coalesce(regexp_split_to_array(nullif(value, ''), ''), '{}') LOOP
    key := key || CASE WHEN c IN ('.', '*', '#', '%') OR ascii(c) <= 32 OR ascii(c) = 127
      THEN '%' || upper(lpad(to_hex(ascii(c)), 2, '0')) ELSE c END;
  END LOOP;
  RETURN key;
END $$;

-- Parts: {"text": …}, {"new": column}, {"old": column} or {"name": …}.
CREATE FUNCTION key_of(parts jsonb, operation text, old json, new json) RETURNS text LANGUAGE plpgsql AS $$
DECLARE part jsonb; value text; key text := ''; cut text;
BEGIN
  FOR part IN SELECT * FROM jsonb_array_elements(parts) LOOP
    value := CASE
      WHEN part ? 'new' THEN coalesce(new, old)->>(part->>'new')
      WHEN part ? 'old' THEN old->>(part->>'old')
      WHEN part->>'name' = 'operation' THEN operation
      WHEN part->>'name' = 'schema' THEN TG_TABLE_SCHEMA
    END;
    IF part ? 'text' THEN key := key || (part->>'text');
    ELSIF jsonb_array_length(parts) = 1 THEN key := coalesce(value, '');
    ELSE key := key || escaped(coalesce(value, ''));
    END IF;
  END LOOP;
  RETURN key;
END $$;

CREATE FUNCTION fit(key text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE cut text;
BEGIN
  IF key = 'amqp_cdc' THEN key := 'amqp_cd%63'; END IF;
  IF starts_with(key, 'amqp_cdc.') THEN key := 'amqp_cdc%2E' || substr(key, 10); END IF;
  IF octet_length(key) <= 255 THEN RETURN key; END IF;
  cut := key;
  WHILE octet_length(cut) > 220 LOOP cut := left(cut, length(cut) - 1); END LOOP;
  cut := regexp_replace(cut, '%.?$', '');
  RETURN cut || '%7E' || left(encode(sha256(convert_to(key, 'UTF8')), 'hex'), 32);
END $$;
"#;

/// `key_of` reads TG_TABLE_SCHEMA, which only a trigger function has; it is made for the schema instead.
fn make_oracle(client: &mut Client) {
    run(client, &ORACLE.replace("TG_TABLE_SCHEMA", "'public'"));
    run(
        client,
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql
           SET TimeZone = 'UTC' SET DateStyle = 'ISO' AS $$
         DECLARE
           parts jsonb := TG_ARGV[0]; named text[] := TG_ARGV[1]; c text; moved boolean := false;
           o json; n json;
         BEGIN
           IF TG_OP <> 'INSERT' THEN o := row_to_json(OLD); END IF;
           IF TG_OP <> 'DELETE' THEN n := row_to_json(NEW); END IF;
           IF TG_OP = 'UPDATE' THEN
             FOREACH c IN ARRAY named LOOP moved := moved OR (o->c)::text IS DISTINCT FROM (n->c)::text; END LOOP;
           END IF;
           IF moved THEN
             INSERT INTO expected (operation, key) VALUES
               ('delete', fit(key_of(parts, 'delete', o, NULL))),
               ('insert', fit(key_of(parts, 'insert', NULL, n)));
           ELSE
             INSERT INTO expected (operation, key)
             VALUES (lower(TG_OP), fit(key_of(parts, lower(TG_OP), o, n)));
           END IF;
           RETURN NULL;
         END $$",
    );
}

/// A template, its parts as JSON, and the columns that it names.
fn template(dice: &mut Dice) -> (String, String, Vec<&'static str>) {
    let (mut template, mut parts, mut named) = (String::new(), Vec::new(), Vec::new());
    for _ in 0..dice.between(1, 5) {
        match dice.between(0, 5) {
            0 => {
                template += "{operation}";
                parts.push(r#"{"name": "operation"}"#.to_owned());
            }
            1 => {
                template += "{schema}";
                parts.push(r#"{"name": "schema"}"#.to_owned());
            }
            2 => {
                let (written, text) = dice.pick(&[(".", "."), ("a.%{{", "a.%{"), ("}}ü", "}ü")]);
                template += written;
                parts.push(format!(r#"{{"text": "{text}"}}"#));
            }
            _ => {
                let column = dice.pick(&COLUMNS);
                let side = dice.pick(&["new", "old", "new"]);
                template += &format!("{{{side}.{column}}}");
                parts.push(format!(r#"{{"{side}": "{column}"}}"#));
                named.push(column);
            }
        }
    }
    (template, format!("[{}]", parts.join(",")), named)
}

fn value(dice: &mut Dice, column: &str) -> String {
    if dice.chance(15) && column != "id" {
        return "NULL".to_owned();
    }
    match column {
        "n" => dice.pick(&["1", "1.50", "-0.001", "'NaN'", "12345678901234567890"]).to_owned(),
        "j" => dice.pick(&["'\"t.x\"'", "'{\"a\":[1,\"b c\"]}'", "'[]'", "'7'"]).to_owned(),
        "at" => dice.pick(&["'2026-02-03 04:05:06.7+02'", "'1999-12-31'", "'infinity'"]).to_owned(),
        "list" => dice.pick(&["ARRAY[1,NULL,3]", "'{}'", "ARRAY[7]"]).to_owned(),
        "tenant" => dice
            .pick(&[
                "'acme'",
                "'a.b*c#d%e f'",
                "E'tab\\tnew\\nline'",
                "'amqp_cdc'",
                "'amqp_cdc.gap'",
                "'Ünïcödé😀'",
                "repeat('€x.', 60)",
                "repeat('.', 90)",
                "'\"quoted\\'",
                "''",
            ])
            .to_owned(),
        _ => dice.between(1, 4).to_string(),
    }
}

#[test]
fn random_templates_make_the_keys_that_a_function_in_plpgsql_makes() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(25);
    let (fixture, mut client) = blog("key_model");
    make_oracle(&mut client);
    for round in 0..25 {
        let mut dice = Dice::new(seed, round);
        let table = format!("m{round}");
        let (template, parts, named) = template(&mut dice);
        // Every other table has its bodies rendered by the writer.
        let exclude = dice.pick(&["", ", 'exclude=hidden'"]);
        let arguments = format!("'m', 'cdc', 'routing_key={template}'{exclude}");
        let columns =
            "id int, tenant text, n numeric, j json, at timestamptz, list int[], hidden int";
        captured(&mut client, &table, columns, &arguments);
        run(
            &mut client,
            &format!(
                "CREATE TRIGGER a_note AFTER INSERT OR UPDATE OR DELETE ON {table}
                 FOR EACH ROW EXECUTE FUNCTION note('{parts}', '{{{}}}')",
                named.join(",")
            ),
        );
        for _ in 0..dice.between(20, 40) {
            let all: Vec<_> = COLUMNS.iter().map(|column| value(&mut dice, column)).collect();
            let column = dice.pick(&COLUMNS[1..]);
            let one = value(&mut dice, column);
            let id = dice.between(1, 4);
            let statement = match dice.between(0, 3) {
                0 => format!("INSERT INTO {table} VALUES ({})", all.join(", ")),
                1 => format!("DELETE FROM {table} WHERE id = {id}"),
                _ => format!("UPDATE {table} SET {column} = {one} WHERE id = {id}"),
            };
            run(&mut client, &statement);
        }
    }
    let expected: Vec<String> = client
        .query("SELECT operation || ' ' || key FROM expected ORDER BY number", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(expected.len() > 100, "{}", expected.len());
    assert!(ask::<bool>(&mut client, "SELECT bool_or(octet_length(key) > 250) FROM expected"));
    let events = first_of_each(published_so_far(&fixture, &mut client));
    let seen: Vec<_> = events
        .iter()
        .map(|event| format!("{} {}", event.kind.as_deref().unwrap_or("?"), event.routing_key))
        .collect();
    for (number, (seen, expected)) in seen.iter().zip(&expected).enumerate() {
        assert_eq!(seen, expected, "message {number}, seed {seed}");
    }
    assert_eq!(seen.len(), expected.len());
}
