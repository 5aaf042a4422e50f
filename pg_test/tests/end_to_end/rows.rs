//! A row in a message equals, byte for byte, what `row_to_json` makes of it under the fixed output
//! settings. PostgreSQL itself is the oracle, in a session of its own; tables, rows and the settings
//! of the writing session are drawn at random, from a seed that a failure prints.

mod types;

use std::collections::BTreeMap;

use pg_test::{Fixture, testbed};
use postgres::Client;

use crate::helpers::{ask, run};
use types::{BASE, DEFINITIONS, DERIVED, OF_EXTENSIONS};

/// What DESIGN's messages look like, whatever the writing session has set.
const FIXED: &str = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres';
    SET extra_float_digits = 1; SET bytea_output = 'hex'; SET search_path = pg_catalog;
    SET quote_all_identifiers = off; SET lc_monetary = 'C'";

/// Settings that change how values look, each with values of which a session has one.
const SETTINGS: &[(&str, &[&str])] = &[
    ("TimeZone", &["'UTC'", "'Asia/Kolkata'", "'America/St_Johns'", "'Europe/Berlin'", "'+3'"]),
    ("DateStyle", &["'ISO, DMY'", "'SQL, MDY'", "'German'", "'Postgres, YMD'"]),
    ("IntervalStyle", &["'postgres'", "'postgres_verbose'", "'sql_standard'", "'iso_8601'"]),
    ("extra_float_digits", &["-15", "-3", "0", "1", "3"]),
    ("bytea_output", &["'hex'", "'escape'"]),
    ("lc_monetary", &["'C'", "'POSIX'"]),
    ("search_path", &["public", "odd, public", "pg_catalog", "''", "public, pg_catalog, odd"]),
    ("quote_all_identifiers", &["on", "off"]),
    ("xmloption", &["'document'", "'content'"]),
    // Not how values look, but who renders them: the worker, or the writer.
    ("amqp.oversize", &["keys", "error"]),
];

/// Names that need care; each becomes unique by a number.
const NAMES: &[&str] =
    &["plain", "Mixed Case", "quo\"te", "a,b", "back\\slash", "tab\t", "é", "null"];

/// A type, and values as SQL expressions that are cast to it.
type Type = (String, Vec<String>);

/// A column of a table.
struct Column {
    name: String,
    of: Type,
}

impl Column {
    fn value(&self, number: usize) -> String {
        let values = &self.of.1;
        match values.get(number % (values.len() + 1)) {
            Some(value) => format!("CAST({value} AS {})", self.of.0),
            None => "NULL".to_owned(),
        }
    }
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }
}

/// Rows as JSON, by their column `k`.
type Rows = BTreeMap<i32, String>;

/// A session that writes, and one that knows how it should look.
struct Play<'a> {
    fixture: &'a Fixture<'a>,
    database: String,
    writer: Client,
    oracle: Client,
    types: Vec<Type>,
}

impl<'a> Play<'a> {
    fn begin(fixture: &'a Fixture<'a>, database: &str) -> Play<'a> {
        let connect = || fixture.testbed.postgres.connect(database);
        let (mut writer, mut oracle) = (connect(), connect());
        run(&mut writer, DEFINITIONS);
        run(&mut writer, &format!("SET amqp.exchange = '{}'", fixture.exchange));
        run(&mut oracle, FIXED);
        let own = |&(name, values): &(&str, &[&str])| {
            (name.to_owned(), values.iter().map(|&value| value.to_owned()).collect())
        };
        let mut types: Vec<Type> = BASE.iter().chain(DERIVED).map(own).collect();
        for &(extension, name, values) in OF_EXTENSIONS {
            let query =
                format!("SELECT count(*) FROM pg_available_extensions WHERE name = '{extension}'");
            if ask::<i64>(&mut writer, &query) == 1 {
                run(&mut writer, &format!("CREATE EXTENSION {extension} SCHEMA public"));
                types.push(own(&(&format!("public.{name}"), values)));
            }
        }
        // A server that was built without libxml makes no values of this type.
        if writer.batch_execute("SELECT '<a/>'::xml").is_err() {
            types.iter_mut().filter(|(name, _)| name == "xml").for_each(|xml| xml.1.clear());
        }
        Play { fixture, database: database.to_owned(), writer, oracle, types }
    }

    fn capture(&mut self, table: &str) {
        run(
            &mut self.writer,
            &format!(
                "CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON public.{table}
                 FOR EACH ROW EXECUTE FUNCTION public.amqp_change_data_capture()"
            ),
        );
    }

    fn change_settings(&mut self, dice: &mut Dice) {
        for (name, values) in SETTINGS {
            run(&mut self.writer, &format!("SET {name} = {}", values[dice.roll(values.len())]));
        }
    }

    fn rows(&mut self, table: &str) -> Rows {
        let query = format!("SELECT k, row_to_json(t)::text FROM public.{table} t");
        let rows = self.oracle.query(&query, &[]).unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    fn names(&mut self, table: &str) -> Vec<String> {
        let query = format!(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = 'public.{table}'::regclass
               AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        );
        let rows = self.oracle.query(&query, &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Runs a statement that changes rows, and checks the messages that come of it.
    #[track_caller]
    fn change(&mut self, table: &str, statement: &str) {
        let before = self.rows(table);
        run(&mut self.oracle, &format!("CREATE TABLE public.before AS TABLE public.{table}"));
        run(&mut self.writer, statement);
        let after = self.rows(table);
        let all = format!(
            "[{}]",
            self.names(table).iter().map(|name| json_string(name)).collect::<Vec<_>>().join(",")
        );
        let changed = self.changed_columns(table);
        run(&mut self.oracle, "DROP TABLE public.before");
        let is_update = statement.trim_start().starts_with("UPDATE");
        let mut expected = Vec::new();
        for key in before.keys().chain(after.keys().filter(|key| !before.contains_key(key))) {
            let (old, new) = (before.get(key), after.get(key));
            let targets = match (old, new) {
                (Some(_), Some(_)) if !is_update => continue,
                (Some(_), Some(_)) => &changed[key],
                _ => &all,
            };
            let row = |row: Option<&String>| row.cloned().unwrap_or_else(|| "null".to_owned());
            expected.push(format!(
                r#"{{"previous":{},"current":{},"targets":{targets},"timestamp":""#,
                row(old),
                row(new)
            ));
        }
        let messages = self.fixture.consumer.wait_for_events(expected.len());
        for message in &messages {
            let text = message.text();
            match expected.iter().position(|expected| text.starts_with(expected)) {
                Some(at) => drop(expected.swap_remove(at)),
                None => panic!("{}: {}", self.database, difference(text, &expected)),
            }
        }
    }

    /// The member `targets` of an update, by comparing the stored images of rows that PostgreSQL has
    /// copied.
    fn changed_columns(&mut self, table: &str) -> Rows {
        let cases: Vec<String> = self
            .names(table)
            .iter()
            .map(|name| {
                let (column, json) = (identifier(name), json_string(name).replace('\'', "''"));
                format!("CASE WHEN ROW(o.{column})::record *<> ROW(n.{column})::record THEN '{json}' END")
            })
            .collect();
        let query = format!(
            "SELECT n.k, '[' || concat_ws(',', {}) || ']'
               FROM public.{table} n JOIN public.before o USING (k)",
            // A function has at most 100 arguments.
            cases
                .chunks(90)
                .map(|some| format!("nullif(concat_ws(',', {}), '')", some.join(",")))
                .collect::<Vec<_>>()
                .join(",")
        );
        let rows = self.oracle.query(&query, &[]).unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

/// Where a message leaves the expected text that it is most like.
fn difference(text: &str, expected: &[String]) -> String {
    let common = |other: &String| {
        text.bytes().zip(other.bytes()).take_while(|(ours, theirs)| ours == theirs).count()
    };
    let Some(nearest) = expected.iter().max_by_key(|other| common(other)) else {
        return format!("unexpected: {text}");
    };
    let at = common(nearest);
    let around = |text: &str| {
        let bytes = &text.as_bytes()[at.saturating_sub(150)..text.len().min(at + 150)];
        String::from_utf8_lossy(bytes).into_owned()
    };
    format!("after {at} bytes\nexpected: {}\nreceived: {}", around(nearest), around(text))
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[test]
fn every_type_that_a_column_can_have_is_in_these_tests() {
    let fixture = testbed().scene("types");
    let list: Vec<String> =
        BASE.iter().map(|(name, _)| format!("'{}'::regtype", name.replace('\'', "''"))).collect();
    let missing: Option<String> = ask(
        &mut fixture.client(),
        &format!(
            "SELECT string_agg(typname, ' ') FROM pg_type
              WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm', 'e')
                AND (typcategory <> 'A' OR typname ~ '^[^_].*vector') AND oid <> ALL (ARRAY[{}]::oid[])",
            list.join(",")
        ),
    );
    assert_eq!(missing, None);
}

/// Columns of one table. Few, since a row that is too large for its page is stored in another way.
const TOGETHER: usize = 8;

#[test]
fn a_value_of_every_type_looks_as_row_to_json_makes_it() {
    let fixture = testbed().scene("every_type");
    let mut play = Play::begin(&fixture, &fixture.database);
    let types = play.types.clone();
    for (n, types) in types.chunks(TOGETHER).enumerate() {
        // Rendered by the worker, and by the writer.
        for oversize in ["keys", "error"] {
            let column = |(n, of): (usize, &Type)| Column { name: format!("c{n}"), of: of.clone() };
            let columns: Vec<_> = types.iter().enumerate().map(column).collect();
            every_value(&mut play, &format!("every_{n}_{oversize}"), &columns, oversize);
        }
    }
}

/// A table in which each value of these columns comes, changes and goes.
fn every_value(play: &mut Play<'_>, table: &str, columns: &[Column], oversize: &str) {
    let definitions: Vec<String> =
        columns.iter().map(|column| format!("{} {}", column.name, column.of.0)).collect();
    run(
        &mut play.writer,
        &format!("CREATE TABLE public.{table} (k int, {})", definitions.join(", ")),
    );
    play.capture(table);
    let most = columns.iter().map(|column| column.of.1.len() + 1).max().unwrap_or(0);
    let row = |number: usize| {
        let values: Vec<_> = columns.iter().map(|column| column.value(number)).collect();
        format!("({number}, {})", values.join(", "))
    };
    let rows: Vec<_> = (0..most).map(row).collect();
    let mut dice = Dice(1);
    let mut change = |statement: String, dice: &mut Dice| {
        play.change_settings(dice);
        run(&mut play.writer, &format!("SET amqp.oversize = {oversize}"));
        play.change(table, &statement);
    };
    change(format!("INSERT INTO public.{table} VALUES {}", rows.join(", ")), &mut dice);
    // Of each column, some values change and some do not.
    let mut sets = vec!["k = k".to_owned()];
    let chosen = columns.iter().filter(|_| dice.roll(2) == 0);
    sets.extend(chosen.map(|column| format!("{} = {}", column.name, column.value(0))));
    change(format!("UPDATE public.{table} SET {}", sets.join(", ")), &mut dice);
    change(format!("DELETE FROM public.{table}"), &mut dice);
}

/// A table with random columns goes through random changes.
fn random_table(play: &mut Play<'_>, dice: &mut Dice, table: &str) {
    let mut taken = 0;
    let mut column = |play: &Play<'_>, dice: &mut Dice| {
        taken += 1;
        let name = format!("{} {taken}", NAMES[dice.roll(NAMES.len())]);
        let of = play.types[dice.roll(play.types.len())].clone();
        let width = if dice.roll(8) == 0 { 60 } else { 0 };
        Column { name: format!("{name:_<width$}"), of }
    };
    let mut columns: Vec<_> = (0..4 + dice.roll(12)).map(|_| column(play, dice)).collect();
    let mut definitions: Vec<_> = columns
        .iter()
        .map(|column| format!("{} {}", identifier(&column.name), column.of.0))
        .collect();
    definitions.insert(dice.roll(definitions.len()), "k int".to_owned());
    if dice.roll(2) == 0 {
        definitions.push("twice int GENERATED ALWAYS AS (k * 2) STORED".to_owned());
        definitions.insert(0, "i bigint GENERATED BY DEFAULT AS IDENTITY".to_owned());
    }
    run(
        &mut play.writer,
        &format!("SET search_path = public; CREATE TABLE {table} ({})", definitions.join(", ")),
    );
    let insert = |columns: &[Column], keys: std::ops::Range<usize>, dice: &mut Dice| {
        let names: Vec<_> = columns.iter().map(|column| identifier(&column.name)).collect();
        let rows: Vec<_> = keys
            .map(|key| {
                let values: Vec<_> =
                    columns.iter().map(|column| column.value(dice.roll(100))).collect();
                format!("({key}, {})", values.join(", "))
            })
            .collect();
        format!("INSERT INTO public.{table} (k, {}) VALUES {}", names.join(", "), rows.join(", "))
    };
    // Rows from before some columns were added, and others dropped.
    run(&mut play.writer, &insert(&columns, 0..6, dice));
    let dropped = columns.swap_remove(dice.roll(columns.len()));
    let added = column(play, dice);
    run(
        &mut play.writer,
        &format!(
            "ALTER TABLE public.{table} DROP COLUMN {}, ADD COLUMN {} {} DEFAULT {}",
            identifier(&dropped.name),
            identifier(&added.name),
            added.of.0,
            added.value(dice.roll(100)),
        ),
    );
    columns.push(added);
    for column in &columns {
        if column.of.0 == "text" && dice.roll(2) == 0 {
            let name = identifier(&column.name);
            let alter = format!("ALTER TABLE public.{table} ALTER {name} SET STORAGE EXTERNAL");
            run(&mut play.writer, &alter);
        }
    }
    play.capture(table);
    play.change_settings(dice);
    play.change(table, &insert(&columns, 6..12, dice));
    for _ in 0..3 {
        let column = &columns[dice.roll(columns.len())];
        let name = identifier(&column.name);
        let value = match dice.roll(4) {
            0 => name.clone(),
            _ => column.value(dice.roll(100)),
        };
        play.change_settings(dice);
        play.change(table, &format!("UPDATE public.{table} SET {name} = {value}"));
    }
    play.change(table, &format!("DELETE FROM public.{table} WHERE k % 2 = 0"));
}

/// The seed: one of the day, or that of a failure that is to be seen again.
fn seed() -> u64 {
    let given = std::env::var("AMQP_CDC_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| now.as_secs() / 86_400)
    });
    eprintln!("AMQP_CDC_TEST_SEED={seed}");
    seed
}

#[test]
fn rows_of_random_tables_look_as_row_to_json_makes_them() {
    let fixture = testbed().scene("random_rows");
    let mut play = Play::begin(&fixture, &fixture.database);
    let mut dice = Dice(seed());
    for n in 0..25 {
        random_table(&mut play, &mut dice, &format!("t{n}"));
    }
}

#[test]
fn rows_of_a_database_in_another_encoding_look_the_same() {
    let fixture = testbed().scene("random_latin1");
    let database = format!("{}_latin1", fixture.database);
    run(
        &mut fixture.testbed.postgres.connect("postgres"),
        &format!("CREATE DATABASE {database} ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'"),
    );
    run(&mut fixture.testbed.postgres.connect(&database), "CREATE EXTENSION amqp_cdc");
    let mut play = Play::begin(&fixture, &database);
    let mut dice = Dice(seed());
    for n in 0..8 {
        random_table(&mut play, &mut dice, &format!("t{n}"));
    }
}

#[test]
fn a_table_without_columns_has_empty_rows() {
    let fixture = testbed().scene("no_columns");
    let mut client = fixture.client();
    run(
        &mut client,
        "CREATE TABLE nothing ();
         CREATE TRIGGER capture AFTER INSERT OR DELETE ON nothing
         FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture();
         INSERT INTO nothing DEFAULT VALUES; DELETE FROM nothing",
    );
    let events = fixture.consumer.wait_for_events(2);
    assert!(events[0].text().starts_with(r#"{"previous":null,"current":{},"targets":[],"#));
    assert!(events[1].text().starts_with(r#"{"previous":{},"current":null,"targets":[],"#));
}

#[test]
fn names_may_be_anything_that_postgresql_allows() {
    let fixture = testbed().scene("names");
    let mut play = Play::begin(&fixture, &fixture.database);
    let long = "🦀".repeat(15) + "abc";
    let columns: Vec<String> =
        ["🦀", "\u{1}\u{7f}", "\"", "\\n", &long].iter().map(|name| identifier(name)).collect();
    run(&mut play.writer, &format!("CREATE TABLE names (k int, {} text)", columns.join(" text, ")));
    play.capture("names");
    play.change("names", "INSERT INTO names VALUES (1, 'a', 'b', 'c', 'd', '🦀')");
    play.change("names", &format!("UPDATE names SET {} = 'x', {} = NULL", columns[0], columns[4]));
}
