//! A statement that sends a million messages takes little memory, in its session and in the worker.

use std::time::Duration;

use pg_test::{Testbed, machine, wait_until};

use crate::helpers::{ask, run, wait_until_streaming, worker_pid};

const MESSAGES: i64 = 1_000_000;

/// A million take their time on a small machine that runs other tests beside.
const PATIENCE: Duration = Duration::from_secs(600);

const MEGABYTE: u64 = 1024 * 1024;

/// With headers and properties, so that nothing of these stays behind either. No queue is bound: the broker confirms
/// so three times as fast.
#[test]
fn a_statement_that_sends_a_million_messages_takes_little_memory() {
    let bed = Testbed::private(&["logical_decoding_work_mem = '16MB'", "max_wal_size = '4GB'"]);
    let fixture = bed.scene("publish_million");
    fixture.broker().delete_queue(fixture.queue().name());
    let mut client = fixture.client();
    let send = |count: i64| {
        format!(
            "SELECT count(amqp.publish('key.' || g % 10, repeat('x', 100) || g, type => 'tick', correlation_id => g::text,
                headers => jsonb_build_object('n', g, 'list', jsonb_build_array(g, 'x')))) FROM generate_series(1, {count}) g"
        )
    };
    run(&mut client, &send(10_000));
    wait_until_streaming(&mut client);
    let session = ask::<i32>(&mut client, "SELECT pg_backend_pid()") as u32;
    let worker = worker_pid(&mut client);
    let mut watcher = fixture.client();
    let memory = |pid| machine::memory(pid, "RssAnon");
    let before = (memory(session), memory(worker));
    let mut most = before;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || run(&mut client, &send(MESSAGES)));
        wait_until("all of it is confirmed", PATIENCE, || {
            if !sending.is_finished() {
                most.0 = most.0.max(memory(session));
            }
            most.1 = most.1.max(memory(worker));
            let confirmed: i64 = ask(&mut watcher, "SELECT events_confirmed FROM amqp.status");
            (sending.is_finished() && confirmed >= MESSAGES + 10_000).then_some(())
        });
    });
    let (session, worker) = (most.0 - before.0, most.1 - before.1);
    println!("the session took {} MB more, the worker {} MB", session >> 20, worker >> 20);
    assert!(session < 32 * MEGABYTE, "the session took {session} bytes more");
    assert!(worker < 160 * MEGABYTE, "the worker took {worker} bytes more");
}
