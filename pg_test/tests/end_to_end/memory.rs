//! The worker's memory is bounded, whatever is captured.

use std::time::Duration;

use pg_test::{DEADLINE, Fixture, Testbed, machine, wait_until};
use postgres::Client;

use crate::helpers::{ask, make_blog, run, wait_until_streaming, worker_pid};

/// Gigabytes take their time on a small machine that runs other tests beside.
const PATIENCE: Duration = Duration::from_secs(900);

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> u64 {
    machine::memory(pid, "VmRSS")
}

/// Takes the fixture's queue away, and with it its consumer: the broker, which takes longest, confirms what no
/// queue is bound for three times as fast.
fn leave_no_queue(fixture: &Fixture<'_>) {
    fixture.broker().delete_queue(fixture.queue().name());
}

fn confirmed(client: &mut Client) -> i64 {
    ask(client, "SELECT events_confirmed FROM amqp.status")
}

/// Rows of the largest transactions.
const ROWS: i64 = 2_000_000;

/// How far the worker's memory may grow for one of them.
const MOST: u64 = 160 * 1024 * 1024;

/// Has a fresh server capture the transaction that `write` makes of that many rows, beside what `prepare`
/// sets up, and looks at the worker's memory until all of its events are confirmed.
fn capture_two_million(name: &str, prepare: &str, write: &str, events: i64) {
    let grown = growth_of_capture(name, "64MB", prepare, write, events);
    assert!(grown < MOST, "it grew by {grown} bytes");
}

/// By how much the memory of a fresh server's worker grows while it captures what `write` does: so many events,
/// with this logical_decoding_work_mem.
fn growth_of_capture(name: &str, limit: &str, prepare: &str, write: &str, events: i64) -> u64 {
    let limit = format!("logical_decoding_work_mem = '{limit}'");
    let bed = Testbed::private(&[&limit, "max_wal_size = '4GB'"]);
    let fixture = bed.scene(name);
    let mut client = fixture.client();
    make_blog(&mut client);
    run(&mut client, prepare);
    leave_no_queue(&fixture);
    wait_until_streaming(&mut client);
    let pid = worker_pid(&mut client);
    let before = resident(pid);
    let mut most = before;
    std::thread::scope(|scope| {
        let mut writer = fixture.client();
        let writing = scope.spawn(move || run(&mut writer, write));
        wait_until("all of it is confirmed", PATIENCE, || {
            most = most.max(resident(pid));
            (writing.is_finished() && confirmed(&mut client) >= events).then_some(())
        });
    });
    assert_eq!(confirmed(&mut client), events);
    assert_eq!(worker_pid(&mut client), pid);
    println!("resident memory grew by {} MB at most", (most - before) >> 20);
    most - before
}

#[test]
fn a_transaction_of_two_million_rows_takes_little_memory() {
    let write = format!("INSERT INTO blog_articles SELECT g FROM generate_series(1, {ROWS}) g");
    capture_two_million("two_million", "", &write, ROWS);
}

/// A BEFORE trigger writes a row first, now and then, so that the order of all that are inserted has to be
/// looked up.
#[test]
fn a_transaction_of_two_million_late_events_takes_little_memory() {
    let prepare = "
        CREATE TABLE shelves (id int);
        CREATE TRIGGER capture AFTER INSERT ON shelves
        FOR EACH ROW EXECUTE FUNCTION amqp_change_data_capture();
        CREATE FUNCTION put_up() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN INSERT INTO shelves VALUES (NEW.id); RETURN NEW; END';
        CREATE TRIGGER before BEFORE INSERT ON blog_articles
        FOR EACH ROW WHEN (NEW.id % 1000 = 1) EXECUTE FUNCTION put_up();";
    let write = format!("INSERT INTO blog_articles SELECT g FROM generate_series(1, {ROWS}) g");
    capture_two_million("two_million_late", prepare, &write, ROWS + ROWS / 1000);
}

/// As PL/pgSQL makes them of a block with an EXCEPTION clause in a loop: each is a subtransaction.
#[test]
fn a_million_subtransactions_take_little_memory() {
    const MEGABYTE: u64 = 1024 * 1024;
    // Little more than what is measured; and as it is if nobody sets it, where much is kept of each.
    for (limit, megabytes) in [("4MB", 4), ("64MB", 64)] {
        for (count, most) in [(300_000, 20), (1_000_000, 40)] {
            let write = format!(
                "DO 'BEGIN
                    FOR id IN 1..{count} LOOP
                        BEGIN
                            INSERT INTO blog_articles VALUES (id);
                        EXCEPTION WHEN division_by_zero THEN
                        END;
                    END LOOP;
                END'"
            );
            let grown = growth_of_capture("subtransactions", limit, "", &write, count);
            let most = (megabytes + most) * MEGABYTE;
            assert!(grown < most, "{count} at {limit}: it grew by {grown} bytes");
        }
    }
}

#[test]
fn rows_of_200_megabytes_pass_one_at_a_time() {
    const ROWS: i64 = 3;
    const SIZE: usize = 200 * 1024 * 1024;
    let bed = Testbed::private(&["amqp.max_message_size = '256MB'", "max_wal_size = '4GB'"]);
    bed.rabbitmq.ctl(&["eval", "application:set_env(rabbit, max_message_size, 536870912)."]);
    // The broker reads its limit when a channel is opened.
    bed.rabbitmq.ctl(&["close_all_connections", "test"]);
    let fixture = bed.scene("200_megabytes");
    let mut client = fixture.client();
    make_blog(&mut client);
    let pid = worker_pid(&mut client);
    for id in 1..=ROWS {
        run(&mut client, &format!("INSERT INTO blog_articles VALUES ({id}, repeat('x', {SIZE}))"));
    }
    for id in 1..=ROWS {
        let event = wait_until("it comes", PATIENCE, || {
            fixture.consumer.next_within(Duration::from_secs(1))
        });
        assert!(event.body.len() > SIZE);
        assert!(event.text().contains(&format!("\"current\":{{\"id\":{id},\"title\":\"xxx")));
    }
    assert_eq!(worker_pid(&mut client), pid);
    // What they took is given back.
    wait_until("the memory is given back", DEADLINE, || {
        (resident(pid) < SIZE as u64).then_some(())
    });
}

/// Every session of the server has the library in it, whether it captures or not.
#[test]
fn a_session_pays_little_for_the_library() {
    const MEGABYTE: i64 = 1024 * 1024;
    let session = |bed: &Testbed| {
        let mut client = bed.postgres.connect("postgres");
        let pid = ask::<i32>(&mut client, "SELECT pg_backend_pid()") as u32;
        ["VmData", "VmRSS"].map(|which| machine::memory(pid, which) as i64)
    };
    let (with, without) = (Testbed::private(&[]), Testbed::without_extension(&[]));
    let [with, without] = [&with, &without].map(session);
    let [data, resident] = [0, 1].map(|number| with[number] - without[number]);
    println!("VmData {data} and VmRSS {resident} bytes more");
    assert!(data <= 4 * MEGABYTE, "VmData grew by {data}");
    assert!(resident <= MEGABYTE, "VmRSS grew by {resident}");
}
