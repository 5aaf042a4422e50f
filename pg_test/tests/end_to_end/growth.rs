//! Values whose text is far longer than what is stored of them: who writes them pays for the text, not the
//! worker, which all share.

use std::hint::black_box;
use std::time::{Duration, Instant};

use pg_test::{Fixture, Testbed, insert_lsn, machine, wait_until_confirmed};
use postgres::Client;

use crate::helpers::{
    ask, ids, make_blog, published_so_far, run, wait_until_streaming, worker_pid,
};

/// A document of 6.3 kB.
const NUMBERS: usize = 390;

fn capture(client: &mut Client, table: &str) {
    run(
        client,
        &format!(
            "CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON {table}
             FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture()"
        ),
    );
}

/// The CPU time that the worker takes until all is confirmed that `work` writes.
fn worker_time(client: &mut Client, work: impl FnOnce(&mut Client)) -> Duration {
    let pid = worker_pid(client);
    let before = machine::cpu_time(pid);
    work(client);
    wait_until_confirmed(client);
    assert_eq!(worker_pid(client), pid);
    machine::cpu_time(pid) - before
}

/// The CPU time that the session takes for a statement.
fn writer_time(client: &mut Client, statement: &str) -> Duration {
    let pid = ask::<i32>(client, "SELECT pg_backend_pid()") as u32;
    let before = machine::cpu_time(pid);
    run(client, statement);
    machine::cpu_time(pid) - before
}

/// Before and after each document somebody else writes a row in another database.
#[test]
fn documents_of_enormous_numbers_cost_their_writer_little_and_the_others_nothing() {
    const DOCUMENTS: i64 = 100;
    let bed = Testbed::private(&["autovacuum = off"]);
    let (fixture, beside) = (bed.scene("enormous"), bed.scene("beside"));
    let (mut client, mut other) = (fixture.client(), beside.client());
    make_blog(&mut other);
    make_blog(&mut client);
    for (what, storage) in [("plain", "PLAIN"), ("packed", "EXTENDED")] {
        let document = |number: &str| {
            format!("(SELECT jsonb_agg('{number}'::numeric) FROM generate_series(1, {NUMBERS}))")
        };
        run(
            &mut client,
            &format!(
                "CREATE TABLE {what} (id int PRIMARY KEY, document jsonb);
                 ALTER TABLE {what} ALTER document SET STORAGE {storage};
                 CREATE TABLE {what}_source (LIKE {what} INCLUDING ALL);
                 CREATE TABLE {what}_ordinary (LIKE {what} INCLUDING ALL);
                 INSERT INTO {what}_source SELECT 0, {};
                 INSERT INTO {what}_ordinary SELECT 0, {}",
                document("1e131071"),
                document("1234567")
            ),
        );
    }
    // The first of each, without the trigger.
    let insert = |what: &str, source: &str, id: i64| {
        format!("INSERT INTO {what} SELECT {id}, document FROM {what}{source}")
    };
    let mut uncaptured = Duration::ZERO;
    for id in 1..=DOCUMENTS {
        uncaptured += writer_time(&mut client, &insert("plain", "_source", -id));
        uncaptured += writer_time(&mut client, &insert("packed", "_source", -id));
    }
    capture(&mut client, "plain");
    capture(&mut client, "packed");
    wait_until_streaming(&mut client);

    let mut captured = Duration::ZERO;
    let mut write_all = |client: &mut Client, source: &str, from: i64| {
        for id in from..from + DOCUMENTS {
            for what in ["plain", "packed"] {
                run(
                    &mut other,
                    &format!("INSERT INTO blog_articles VALUES ({id}) ON CONFLICT DO NOTHING"),
                );
                captured += writer_time(client, &insert(what, source, id));
            }
        }
    };
    let ordinary = worker_time(&mut client, |client| write_all(client, "_ordinary", 1001));
    let enormous = worker_time(&mut client, |client| write_all(client, "_source", 1));
    println!(
        "worker: {enormous:?}, ordinary {ordinary:?}; writer: {captured:?}, uncaptured {uncaptured:?}"
    );

    let events = published_so_far(&fixture, &mut client);
    assert_eq!(events.len() as i64, 4 * DOCUMENTS);
    let (ordinary_events, enormous_events) = events.split_at(2 * DOCUMENTS as usize);
    assert!(ordinary_events.iter().all(|event| !event.headers.contains_key("oversize")));
    for event in enormous_events {
        assert!(event.headers["oversize"].as_u64() > Some(16 * 1024 * 1024));
        assert_eq!(event.json()["current"].as_object().map(|row| row.len()), Some(1));
    }
    let published: Vec<i64> = ids(enormous_events);
    assert_eq!(published, (1..=DOCUMENTS).flat_map(|id| [id, id]).collect::<Vec<_>>());
    assert_eq!(ids(&published_so_far(&beside, &mut other)).len() as i64, 2 * DOCUMENTS);

    // Rendered up to the limit they took the worker 7 s or their writer 2.
    let allowance = Duration::from_millis(300);
    assert!(enormous < 2 * ordinary + allowance, "{enormous:?} for {ordinary:?}");
    assert!(captured < 20 * uncaptured + allowance, "{captured:?} for {uncaptured:?}");
    // Larger than what the worker would have to keep: the statement fails before anything is rendered.
    run(&mut client, "SET amqp.oversize = error");
    let error = client.batch_execute(&insert("plain", "_source", 2001)).unwrap_err();
    assert_eq!(error.code(), Some(&postgres::error::SqlState::PROGRAM_LIMIT_EXCEEDED));
}

/// Types that the worker renders, with the longest text that a value stored in so many bytes has; those of
/// variable length with some that become long. With how many bytes of text one of content may be at most.
const WORST: &[(&str, usize, &[&str])] = &[
    ("bool", 1, &["false"]),
    ("int2", 1, &["'-32768'"]),
    ("int4", 1, &["'-2147483648'"]),
    ("int8", 1, &["'-9223372036854775808'"]),
    ("float4", 1, &["'-1.1754944e-38'", "'-Infinity'", "0"]),
    ("float8", 1, &["'-2.2250738585072014e-308'", "'-Infinity'", "0"]),
    (
        "numeric",
        1,
        &[
            "1e131071",
            "'-1e131071'",
            "'0e-16383'",
            "'-1e-16383'",
            "'1e70'",
            "'NaN'",
            "'-Infinity'",
            "12.50",
            "repeat('9', 5000)",
            "'1' || repeat('0', 60000) || '.' || repeat('0', 16000) || '1'",
        ],
    ),
    (
        "text",
        6,
        &[r"repeat(E'\x01', 1500)", r"repeat(E'\x01', 7900)", r"repeat(E'\x01', 200000)", "''"],
    ),
    ("varchar", 6, &[r"repeat(E'\x1f', 7900)", r"repeat(E'\x1f', 200000)"]),
    ("bpchar", 6, &[r"repeat(E'\x1f', 7900)", r"repeat(E'\x1f', 200000)"]),
    ("json", 1, &["'[' || repeat(' ', 7900) || ']'", "'[' || repeat(' ', 200000) || ']'"]),
    (
        "jsonb",
        6,
        &[
            "(SELECT jsonb_agg('1e131071'::numeric) FROM generate_series(1, 490))",
            "(SELECT jsonb_agg('0e-16383'::numeric) FROM generate_series(1, 9000))",
            "(SELECT jsonb_object_agg(g, ('1e' || g)::numeric) FROM generate_series(1, 300) g)",
            "('{\"a\": [{\"b\": ' || '1e131071' || '}]}')",
            "(repeat('[', 300) || '1e131071' || repeat(']', 300))",
            "(repeat('[', 150) || '1e131071' || repeat(']', 150))",
            "(SELECT jsonb_agg(repeat(chr(1), 3900)) FROM generate_series(1, 2))",
            "(SELECT jsonb_agg(false) FROM generate_series(1, 1900))",
            "(SELECT jsonb_agg(false) FROM generate_series(1, 100000))",
            "(SELECT jsonb_agg('{}'::jsonb) FROM generate_series(1, 900))",
            "('{\"' || repeat('\\u0001', 7000) || '\": \"\"}')",
            "1e131071",
        ],
    ),
    (
        "bytea",
        2,
        &["decode(repeat('ff', 7900), 'hex')", "decode(repeat('ff', 200000), 'hex')", "''"],
    ),
    ("name", 6, &[r"repeat(E'\x01', 63)"]),
    ("uuid", 1, &["'ffffffff-ffff-ffff-ffff-ffffffffffff'"]),
    ("date", 1, &["'5874897-12-31'", "'4713-01-01 BC'", "'-infinity'"]),
    ("timestamp", 1, &["'294276-12-31 23:59:59.999999'", "'4713-01-01 23:59:59.999999 BC'"]),
    (
        "timestamptz",
        1,
        &["'294276-12-31 23:59:59.999999+00'", "'4713-01-01 23:59:59.999999+00 BC'"],
    ),
    ("time", 1, &["'23:59:59.999999'"]),
    ("timetz", 1, &["'23:59:59.999999-15:59:59'"]),
    (
        "interval",
        1,
        &["'-178956970 years -8 mons -2147483648 days -2562047788:00:54.775807'", "'0'"],
    ),
    ("inet", 1, &["'255.255.255.255/31'", "'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/127'"]),
    ("cidr", 1, &["'255.255.255.254/31'", "'ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127'"]),
    ("macaddr", 1, &["'ff:ff:ff:ff:ff:ff'"]),
    ("macaddr8", 1, &["'ff:ff:ff:ff:ff:ff:ff:ff'"]),
    ("bit varying", 8, &["repeat('1', 60000)", "repeat('1', 1000000)", "''"]),
    ("bit(60000)", 8, &["repeat('1', 60000)"]),
    ("oid", 1, &["4294967295"]),
    ("point", 1, &["'(-2.2250738585072014e-308,-2.2250738585072014e-308)'"]),
];

/// Each of them alone, in arrays of up to two megabytes, and arrays of nulls of its type.
fn worst_values(of: &str, values: &[&str]) -> [(String, Vec<String>); 2] {
    let alone: Vec<String> = values.iter().map(|value| format!("CAST({value} AS {of})")).collect();
    let nulls = ["1000", "60000", "2000000", "50000,1,1,1,1,1"];
    let nulls = nulls.iter().map(|lengths| format!("array_fill(NULL::{of}, ARRAY[{lengths}])"));
    let filled = alone.iter().flat_map(|value| {
        ["1", "1800", "40000", "300,1,1,1,1,1"].map(|lengths| {
            let (first, rest) = lengths.split_at(lengths.find(',').unwrap_or(lengths.len()));
            let first = format!("least({first}, 2000000 / pg_column_size({value}))");
            format!("array_fill({value}, ARRAY[{first}{rest}])")
        })
    });
    let arrays = nulls.chain(filled).collect();
    [(of.to_owned(), alone), (format!("{of}[]"), arrays)]
}

/// How values can be stored in their row, and compressed where the server can.
const STORAGES: [(&str, &str); 3] = [("PLAIN", "pglz"), ("MAIN", "lz4"), ("EXTENDED", "pglz")];

/// The messages that the worker makes of rows are no more than ten times as long as these, and it takes no more
/// than 5 ms and 10 ns a byte for one.
#[test]
fn no_value_of_any_type_takes_the_worker_long() {
    let bed = Testbed::private(&[
        "autovacuum = off",
        "full_page_writes = off",
        "max_wal_size = '4GB'",
        "amqp.max_message_size = '1MB'",
    ]);
    let fixture = bed.scene("worst");
    let mut client = fixture.client();
    make_blog(&mut client);
    wait_until_streaming(&mut client);
    let (mut table, mut by_worker, mut all, mut slowest) = (0, 0, 0, (0.0, String::new()));
    for &(of, escape, values) in WORST {
        for (of, values) in worst_values(of, values) {
            for (storage, compression) in STORAGES {
                table += 1;
                run(&mut client, &format!("CREATE TABLE worst_{table} (v {of})"));
                let set = format!("ALTER TABLE worst_{table} ALTER v SET STORAGE {storage}");
                if client.batch_execute(&set).is_err() && storage != "PLAIN" {
                    continue;
                }
                let set =
                    format!("ALTER TABLE worst_{table} ALTER v SET COMPRESSION {compression}");
                // A server that was built without it, or a type that is not compressed.
                let _ = client.batch_execute(&set);
                capture(&mut client, &format!("worst_{table}"));
                let insert = |value: &String| format!("INSERT INTO worst_{table} SELECT {value}");
                let inserts: Vec<_> = values.iter().map(insert).collect();
                for (insert, Cost { wal, body, ratio }) in costs(&fixture, &mut client, &inserts) {
                    let what = format!("{storage} {insert}");
                    // Its writer has put it into the WAL as it is, or else twice what is stored: in the table's
                    // record, and in the event. Escapes are not looked at before.
                    assert!(
                        body <= wal / 2 * 10 * escape,
                        "{body} bytes of {wal} in the WAL: {what}"
                    );
                    assert!(ratio < 1.0, "{ratio} of the time that it may take: {what}");
                    (all, by_worker) = (all + 1, by_worker + usize::from(body > wal));
                    if ratio > slowest.0 {
                        slowest = (ratio, what);
                    }
                }
            }
        }
    }
    println!(
        "{all} values, {by_worker} rendered by the worker and longer than their WAL; {slowest:?}"
    );
}

/// Statements whose worker's time is measured together.
const TOGETHER: usize = 8;

/// The costs of statements that write one row each. Those that together take the worker less than one of them
/// may are not measured one by one.
fn costs<'a>(
    fixture: &Fixture<'_>,
    client: &mut Client,
    inserts: &'a [String],
) -> Vec<(&'a String, Cost)> {
    let mut costs = Vec::new();
    for inserts in inserts.chunks(TOGETHER) {
        let mut written = Vec::new();
        let time = worker_time(client, |client| {
            for insert in inserts {
                let start = insert_lsn(client);
                // Not every row fits into a page.
                if client.batch_execute(insert).is_ok() {
                    written.push((insert, (insert_lsn(client) - start) as usize));
                }
            }
        });
        let events = fixture.consumer.wait_for_events(written.len());
        let bodies: Vec<usize> = events.iter().map(|event| event.body.len()).collect();
        let ratio = bodies.iter().min().map_or(0.0, |&body| part_of_allowed(time, body));
        if ratio < 1.0 {
            let cost = |((insert, wal), body)| (insert, Cost { wal, body, ratio });
            costs.extend(written.into_iter().zip(bodies).map(cost));
        } else {
            let alone = |(insert, _): (&'a String, usize)| {
                Some((insert, cheapest(fixture, client, insert)?))
            };
            costs.extend(written.into_iter().filter_map(alone));
        }
    }
    costs
}

/// A time of the worker, in that which it may take for a message of this size.
fn part_of_allowed(time: Duration, body: usize) -> f64 {
    let most = Duration::from_millis(5) + Duration::from_nanos(10) * body as u32;
    time.as_secs_f64() / most.as_secs_f64()
}

/// What the event of a row takes.
struct Cost {
    /// Bytes of WAL for the row and its event.
    wal: usize,
    /// Of its message.
    body: usize,
    /// The CPU time of the worker, in that which it may take.
    ratio: f64,
}

/// The cost of a statement that writes one row, but for what else keeps the machine busy. None if the row does
/// not fit into a page.
fn cheapest(fixture: &Fixture<'_>, client: &mut Client, insert: &str) -> Option<Cost> {
    for attempt in 0.. {
        let start = insert_lsn(client);
        let mut wal = 0;
        let mut is_written = true;
        let time = worker_time(client, |client| {
            is_written = client.batch_execute(insert).is_ok();
            wal = (insert_lsn(client) - start) as usize;
        });
        if !is_written {
            break;
        }
        let body = fixture.consumer.wait_for_events(1)[0].body.len();
        let ratio = part_of_allowed(time, body);
        if ratio < 1.0 || attempt == 4 {
            return Some(Cost { wal, body, ratio });
        }
        if ratio / slowness() < 1.0 {
            return Some(Cost { wal, body, ratio: ratio / slowness() });
        }
    }
    None
}

/// How much slower this machine is now than one that takes two nanoseconds for a step of this loop; one if it
/// is not.
fn slowness() -> f64 {
    const BYTES: u32 = 4_000_000;
    let began = Instant::now();
    let hash =
        (0..BYTES).fold(0u32, |hash, byte| (hash ^ black_box(byte)).wrapping_mul(16_777_619));
    black_box(hash);
    let nominal = Duration::from_nanos(2) * BYTES;
    (began.elapsed().as_secs_f64() / nominal.as_secs_f64()).max(1.0)
}
