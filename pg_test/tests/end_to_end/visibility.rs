//! What was published is already visible, and is published soon.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pg_test::{DEADLINE, Testbed, wait_until};
use postgres::Client;

use crate::helpers::{
    OnDrop, ask, blog, ids, make_blog, run, wait_for_reason, wait_until_read, wait_until_streaming,
};

#[test]
fn a_consumer_can_always_read_the_row_it_was_told_about() {
    const CLIENTS: u32 = 8;
    const ROWS_EACH: u32 = 1250;
    let (fixture, mut reader) = blog("read_back");
    let by_id = reader.prepare("SELECT count(*) FROM blog_articles WHERE id = $1").unwrap();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let mut session = fixture.client();
            scope.spawn(move || {
                let insert = session.prepare("INSERT INTO blog_articles VALUES ($1)").unwrap();
                for row in 0..ROWS_EACH {
                    session.execute(&insert, &[&((client * ROWS_EACH + row) as i32)]).unwrap();
                }
            });
        }
        for _ in 0..CLIENTS * ROWS_EACH {
            let event = &fixture.consumer.wait_for_events(1)[0];
            let id = event.json()["current"]["id"].as_i64().unwrap() as i32;
            let found: i64 = reader.query_one(&by_id, &[&id]).unwrap().get(0);
            assert_eq!(found, 1, "row {id} was announced before it could be seen");
        }
    });
}

/// Nothing else runs on this server, so nothing else can wake the worker.
#[test]
fn on_an_idle_server_nothing_waits_for_somebody_elses_commit() {
    let bed = Testbed::private(&["autovacuum = off", "fsync = on"]);
    let fixture = bed.scene("idle");
    let mut client = fixture.client();
    make_blog(&mut client);
    wait_until_streaming(&mut client);
    // From when it is on the disk, however slow that is, it takes milliseconds, or what wal_writer_delay
    // lets an asynchronous commit wait. A wake-up that is missed takes the worker's longest sleep of
    // five seconds, of which some are over already: what must not happen.
    let arrives_soon = |client: &mut Client, statements: &str| {
        run(client, statements);
        let committed: String = ask(client, "SELECT pg_current_wal_insert_lsn()::text");
        let is_flushed = format!("SELECT pg_current_wal_flush_lsn() >= '{committed}'");
        let begun = Instant::now();
        let event = loop {
            let was_flushed: bool = ask(client, &is_flushed);
            let event = fixture.consumer.next_within(Duration::from_secs(2));
            if event.is_some() || was_flushed || begun.elapsed() > DEADLINE {
                break event;
            }
        };
        assert!(event.is_some(), "{statements}");
    };
    for id in 1..=5 {
        arrives_soon(&mut client, &format!("INSERT INTO blog_articles VALUES ({id})"));
    }
    run(&mut client, "SET synchronous_commit = off");
    for id in 6..=60 {
        arrives_soon(&mut client, &format!("INSERT INTO blog_articles VALUES ({id})"));
    }
    run(&mut client, "SET synchronous_commit = on");
    let mut other = fixture.client();
    for id in 61..=63 {
        run(
            &mut client,
            &format!("BEGIN; INSERT INTO blog_articles VALUES ({id}); PREPARE TRANSACTION 'p{id}'"),
        );
        arrives_soon(&mut other, &format!("COMMIT PREPARED 'p{id}'"));
    }
}

/// The commit record is on disk long before others see the transaction if a synchronous standby is
/// awaited; here there is none, so the writer waits until it is told not to.
#[test]
fn nothing_is_announced_while_its_writer_still_waits_for_the_standby() {
    let bed = Testbed::private(&[]);
    let fixture = bed.scene("synchronous");
    let mut client = fixture.client();
    make_blog(&mut client);
    bed.postgres.set("synchronous_standby_names", "nobody");

    let (next_id, stop) = (AtomicI32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let mut writer = fixture.client();
        let pid: i32 = ask(&mut writer, "SELECT pg_backend_pid()");
        // Should the test fail meanwhile, the writer must not wait for ever.
        let _release = OnDrop(|| {
            stop.store(true, Ordering::Release);
            bed.postgres.reset("synchronous_standby_names");
        });
        scope.spawn(|| {
            let mut writer = writer;
            // The first ones may not wait: only once the checkpointer has read the setting.
            while !stop.load(Ordering::Acquire) {
                let id = next_id.fetch_add(1, Ordering::AcqRel) + 1;
                run(&mut writer, &format!("INSERT INTO blog_articles VALUES ({id})"));
            }
        });
        wait_until("the writer waits for a standby", DEADLINE, || {
            let query = format!(
                "SELECT count(*) = 1 FROM pg_stat_activity
                  WHERE pid = {pid} AND wait_event = 'SyncRep'"
            );
            ask::<bool>(&mut client, &query).then_some(())
        });
        stop.store(true, Ordering::Release);
        let waiting = i64::from(next_id.load(Ordering::Acquire));
        // Its commit record is on disk now, and the worker has read it.
        wait_until_read(&mut client, "the worker has read the commit");
        // Those that were sent before the worker, too, had read the setting.
        let mut sent = Vec::new();
        while let Some(event) = fixture.consumer.next_within(Duration::from_millis(300)) {
            sent.push(event);
        }
        assert!(!ids(&sent).contains(&waiting), "{sent:?}");
        wait_for_reason(&mut client, "a synchronous standby is awaited");
        bed.postgres.reset("synchronous_standby_names");
        sent.extend(fixture.consumer.wait_for_events(waiting as usize - sent.len()));
        assert_eq!(ids(&sent), (1..=waiting).collect::<Vec<_>>());
    });
}
