//! What becomes of the worker's slot: Patroni drops each that it does not know and that nobody holds at the moment. A
//! worker that ends in an outage of the broker leaves its slot alone for five seconds.

use std::time::Duration;

use pg_test::history::Commit;
use pg_test::{RabbitMq, wait_until};
use postgres::Client;
use serde_json::{Value, json};

use super::ledger::{Ledger, Outcome, Transaction};
use super::settings::{self, DATABASE, KEPT};
use super::trial::{Trials, timeline_of, write};

const PATIENCE: Duration = Duration::from_secs(60);

/// So many transactions wait for the broker meanwhile.
const UNCONFIRMED: u64 = 20;

/// Segments are of one MB: more than PostgreSQL keeps for other reasons.
const MORE_THAN_KEPT: u64 = 2 * KEPT + 8;

/// Each way once.
pub fn run_all(trials: &mut Trials<'_>, rabbitmq: &RabbitMq) {
    let ways = [
        (
            "`ignore_slots` set: the worker ends in an outage of the broker",
            settings::ignored_slots(),
            0,
        ),
        (
            "`ignore_slots` not set: the same; the slot is dropped, its WAL is still there",
            Value::Null,
            0,
        ),
        (
            "`ignore_slots` not set: the same, and more WAL than `wal_keep_size` before the next worker",
            Value::Null,
            MORE_THAN_KEPT,
        ),
    ];
    for (what, ignored, segments) in ways {
        let is_ignored = !ignored.is_null();
        trials.cluster.configure(&json!({"ignore_slots": ignored}));
        // Patroni looks for slots that it does not know when a role changes, and then until it has dropped them.
        trials.cluster.switch_over();
        trials.cluster.wait_until_whole(false);
        let name = format!("t{}", trials.count());
        let mut client = trials.cluster.connect(DATABASE);
        write_confirmed(trials, &mut client, &format!("{name}-first"));
        // It takes nothing more. One that is stopped would still have what was sent to it.
        rabbitmq.ctl(&["set_vm_memory_high_watermark", "0.000001"]);
        let mut ledger = Ledger::default();
        ledger.enter(written(&mut client, format!("{name}-refused")));
        wait_until("the broker takes nothing more", PATIENCE, || {
            ask::<bool>(&mut client, "SELECT state = 'standing still' FROM amqp.status")
                .then_some(())
        });
        for number in 0..UNCONFIRMED {
            ledger.enter(written(&mut client, format!("{name}-{number}")));
        }
        let was_dropped = end_worker(&mut client, segments, is_ignored);
        rabbitmq.ctl(&["set_vm_memory_high_watermark", "0.9"]);
        trials.enter(ledger);
        let verdict = trials.close(what, &name, None);
        if was_dropped == is_ignored {
            trials.find(format!("{what}: the slot was dropped: {was_dropped}"));
        }
        let is_lost = !verdict.told_lost.is_empty();
        if is_lost != (segments > 0) {
            trials.find(format!("{what}: lost and told: {:?}", verdict.told_lost));
        }
    }
}

fn write_confirmed(trials: &Trials<'_>, client: &mut Client, tag: &str) {
    write(client, tag);
    let end = place(client);
    wait_until("its position is saved", PATIENCE, || {
        // Nothing else moves it.
        let query = "SELECT lag_bytes = 0 AND confirmed_lsn > '0/0' FROM amqp.status";
        ask::<Option<bool>>(client, query).unwrap_or(false).then_some(())
    });
    assert!(
        trials.collector.collected().books.has(tag),
        "{tag} is confirmed before {end:?}, and did not come"
    );
}

fn written(client: &mut Client, tag: String) -> Transaction {
    write(client, &tag);
    Transaction { tag, keys: Vec::new(), outcome: Outcome::Acknowledged(place(client)) }
}

/// Ends the worker, and returns when the next one runs; whether the slot was gone meanwhile. Then so many segments are
/// filled, and checkpoints remove what is not needed.
fn end_worker(client: &mut Client, segments: u64, is_ignored: bool) -> bool {
    const THERE: &str =
        "SELECT count(*) > 0 FROM pg_replication_slots WHERE slot_name = 'amqp_cdc'";
    const WORKER: &str = "SELECT worker_pid FROM amqp.status";
    let worker = ask::<Option<i32>>(client, WORKER);
    let worker = worker.expect("a worker runs");
    run(client, &format!("SELECT pg_terminate_backend({worker})"));
    let mut was_dropped = false;
    wait_until("the slot is dropped, or another worker runs", PATIENCE, || {
        was_dropped |= !ask::<bool>(client, THERE);
        let next = ask::<Option<i32>>(client, WORKER).is_some_and(|next| next != worker);
        (next || (was_dropped && !is_ignored)).then_some(())
    });
    for _ in 0..segments {
        run(client, "SELECT pg_logical_emit_message(false, 'fill', 'x'), pg_switch_wal()");
    }
    if segments > 0 {
        run(client, "CHECKPOINT");
        run(client, "CHECKPOINT");
    }
    wait_until("another worker runs", PATIENCE, || {
        ask::<Option<i32>>(client, WORKER).filter(|&next| next != worker)
    });
    was_dropped
}

fn place(client: &mut Client) -> Commit {
    let lsn: i64 = ask(client, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint");
    Commit { timeline: timeline_of(client), lsn: lsn as u64 }
}

fn run(client: &mut Client, statement: &str) {
    client.batch_execute(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
}

fn ask<T: for<'a> postgres::types::FromSql<'a>>(client: &mut Client, query: &str) -> T {
    client.query_one(query, &[]).unwrap_or_else(|error| panic!("{query}: {error:?}")).get(0)
}
