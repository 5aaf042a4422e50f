//! The chaos test, for a minute in plain text and for one over TLS: what `make chaos` runs for longer.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pg_test::chaos::{Plan, run};

#[test]
fn what_the_queues_deliver_is_what_committed_whatever_breaks() {
    run_for_a_minute(false);
}

#[test]
fn what_the_queues_deliver_is_what_committed_whatever_breaks_over_tls() {
    run_for_a_minute(true);
}

/// One after the other: each takes the whole machine, and has servers wait no longer than a few seconds.
fn run_for_a_minute(tls: bool) {
    static MACHINE: Mutex<()> = Mutex::new(());
    let _machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    // Another one each time; the first line that is printed tells it.
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let report = run(Plan { duration: Duration::from_secs(60), seed, tls });
    println!("{report}");
    // In the message, too: who sees only the end of a log is to see what was wrong.
    assert!(report.is_clean(), "seed {seed}{}", report.findings());
    assert!(report.kinds_of_faults() >= 10, "few faults with seed {seed}");
    assert!(report.committed() >= 100, "few transactions with seed {seed}");
}
