//! The chaos test, for a minute in plain text, for one over TLS and for one with a standby: what `make chaos` runs for
//! longer.

use std::time::Duration;

use pg_test::arguments::seed_of_now;
use pg_test::chaos::{Plan, Replication, Report, run};

#[test]
fn what_the_queues_deliver_is_what_committed_whatever_breaks() {
    run_for_a_minute(false, |_| Replication::None);
}

#[test]
fn what_the_queues_deliver_is_what_committed_whatever_breaks_over_tls() {
    run_for_a_minute(true, |_| Replication::None);
}

#[test]
fn what_the_queues_deliver_is_what_committed_whichever_server_is_the_primary() {
    let replication = |seed| match seed % 2 {
        0 => Replication::Synchronous,
        _ => Replication::Asynchronous,
    };
    let report = run_for_a_minute(false, replication);
    assert!(report.promotions() >= 1, "nothing was promoted");
}

fn run_for_a_minute(tls: bool, replication: impl Fn(u64) -> Replication) -> Report {
    // Another one each time; the first line that is printed tells it.
    let seed = seed_of_now();
    let (duration, replication) = (Duration::from_secs(60), replication(seed));
    let report = run(Plan { duration, seed, tls, replication });
    println!("{report}");
    // In the message, too: who sees only the end of a log is to see what was wrong.
    assert!(report.is_clean(), "seed {seed}{}", report.findings());
    assert!(report.kinds_of_faults() >= 10, "few faults with seed {seed}");
    assert!(report.committed() >= 100, "few transactions with seed {seed}");
    assert!(report.messages().iter().all(|&sent| sent >= 100), "few messages with seed {seed}");
    report
}
