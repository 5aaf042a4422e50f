//! What the operator sees.

use pg_test::{DEADLINE, wait_until, wait_until_confirmed};

use crate::helpers::{ask, blog, run};

#[test]
fn the_status_counts_what_was_published_confirmed_and_returned() {
    let (fixture, mut client) = blog("status");
    let counts = |client: &mut postgres::Client| -> (i64, i64, i64) {
        let row = client
            .query_one(
                "SELECT events_published, events_confirmed, events_returned FROM amqp.status",
                &[],
            )
            .unwrap();
        (row.get(0), row.get(1), row.get(2))
    };
    let before = counts(&mut client);
    run(&mut client, "INSERT INTO blog_articles VALUES (1), (2)");
    fixture.consumer.wait_for_events(2);
    run(
        &mut client,
        &format!(
            "SET amqp.exchange = '{}-nobody'; INSERT INTO blog_articles VALUES (3)",
            fixture.exchange
        ),
    );
    // Other tests publish at the same time, hence at least.
    wait_until("all are counted", DEADLINE, || {
        let now = counts(&mut client);
        (now.0 >= before.0 + 3 && now.1 >= before.1 + 3 && now.2 > before.2).then_some(())
    });
}

#[test]
fn the_status_names_worker_broker_and_position() {
    let (fixture, mut client) = blog("status_names");
    run(&mut client, "INSERT INTO blog_articles VALUES (1)");
    let event = &fixture.consumer.wait_for_events(1)[0];
    let broker = format!("127.0.0.1:{}", fixture.testbed.rabbitmq.port());
    wait_until("the status is as expected", DEADLINE, || {
        let whole = format!(
            "SELECT worker_pid = (SELECT pid FROM pg_stat_activity
                                   WHERE backend_type = 'amqp_cdc worker')
                AND state = 'streaming' AND reason IS NULL AND broker = '{broker}'
                AND confirmed_lsn >= '{}' AND restart_lsn <= read_lsn
                AND read_lsn <= current_lsn FROM amqp.status",
            event.headers["commit_lsn"].as_str().unwrap_or_default()
        );
        ask::<bool>(&mut client, &whole).then_some(())
    });
    let same: bool = ask(
        &mut client,
        "SELECT slot.confirmed_flush_lsn >= status.confirmed_lsn
           FROM pg_replication_slots slot, amqp.status WHERE slot_name = 'amqp_cdc'",
    );
    assert!(same);
}

#[test]
fn lag_is_what_is_not_confirmed_and_nothing_once_all_is() {
    let bed = pg_test::Testbed::private(&[]);
    let mut fixture = bed.scene("lag");
    let mut client = fixture.client();
    crate::helpers::make_blog(&mut client);
    let lag = |client: &mut postgres::Client| -> (i64, Option<f64>) {
        let row = client.query_one("SELECT lag_bytes, lag_seconds FROM amqp.status", &[]).unwrap();
        (row.get(0), row.get(1))
    };
    bed.rabbitmq.stop();
    run(&mut client, "INSERT INTO blog_articles SELECT g FROM generate_series(1, 2000) g");
    let (bytes, _) = wait_until("the lag grows", DEADLINE, || {
        let lag = lag(&mut client);
        lag.1.is_some_and(|seconds| seconds > 0.0).then_some(lag)
    });
    // One transaction, of which no event is confirmed: each takes more than 200 bytes of WAL.
    assert!(bytes > 2000 * 200, "{bytes}");
    bed.rabbitmq.start();
    fixture.consume_again();
    wait_until_confirmed(&mut client);
    assert_eq!(lag(&mut client), (0, None));
    let confirmed: i64 = ask(&mut client, "SELECT events_confirmed FROM amqp.status");
    assert_eq!(confirmed, 2000);
    // Counted as confirmed, they are in the queue.
    fixture.consumer.wait_for_events(2000);
}

#[test]
fn while_the_lag_falls_the_status_says_when_it_will_be_gone() {
    // One at a time, so that it takes longer than the two looks at the lag that an estimate needs.
    let bed = pg_test::Testbed::private(&["amqp.max_in_flight = 1"]);
    let mut fixture = bed.scene("catch_up");
    let mut client = fixture.client();
    crate::helpers::make_blog(&mut client);
    const OUTLOOK: &str = "SELECT catch_up_seconds FROM amqp.status";
    bed.rabbitmq.stop();
    run(
        &mut client,
        "DO $$ BEGIN FOR g IN 1..10000 LOOP INSERT INTO blog_articles VALUES (g); COMMIT; END LOOP; END $$",
    );
    assert_eq!(ask::<Option<f64>>(&mut client, OUTLOOK), None);
    bed.rabbitmq.start();
    fixture.consume_again();
    let seconds = wait_until("the lag falls", DEADLINE, || ask(&mut client, OUTLOOK));
    assert!((0.0..600.0).contains(&seconds), "{seconds}");
    bed.postgres.set("amqp.max_in_flight", "2000");
    wait_until_confirmed(&mut client);
    assert_eq!(ask::<Option<f64>>(&mut client, OUTLOOK), None);
}
