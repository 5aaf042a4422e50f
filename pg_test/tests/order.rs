//! The order of changes inside transactions, for a minute: what `make order` runs for longer.

use std::time::Duration;

use pg_test::arguments::seed_of_now;
use pg_test::order::{Plan, run};

#[test]
fn changes_come_in_the_order_in_which_postgresql_wrote_them() {
    // Another one each time; the first line that is printed tells it.
    let seed = seed_of_now();
    let report = run(Plan { duration: Duration::from_secs(60), seed, world: None });
    println!("{report}");
    // In the message, too: who sees only the end of a log is to see what was wrong.
    assert!(report.is_clean(), "seed {seed}{}", report.findings());
    assert!(report.transactions() >= 500, "few transactions with seed {seed}");
    assert!(report.messages() >= 500, "few messages with seed {seed}");
    assert!(report.out_of_firing_order() >= 500, "hardly anything to put right with seed {seed}");
}
