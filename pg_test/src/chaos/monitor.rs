//! Watches `amqp.status` while everything else is breaking.

use std::time::{Duration, Instant};

use ::postgres::Client;

use super::servers::Servers;
use crate::end_signal::EndSignal;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Observed {
    /// The longest time without a confirm while something waited for one.
    pub longest_standstill: Duration,
    /// The longest that a committed transaction waited for its last confirm.
    pub longest_lag: Duration,
    /// Messages that the broker returned.
    pub returned: i64,
}

/// One look at the status.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    lag: Duration,
    confirmed: i64,
    returned: i64,
}

/// Looks until the run ends.
pub(super) fn watch(servers: &Servers, end_signal: &EndSignal) -> Observed {
    let mut observed = Observed::default();
    let mut session = None;
    let mut last = Look::default();
    let mut moved_at = Instant::now();
    while !end_signal.comes_within(LOOK) {
        let Some(look) = look(servers, &mut session) else {
            session = None;
            continue;
        };
        // A restart of the server begins to count anew.
        if look.confirmed < last.confirmed {
            (last.confirmed, last.returned) = (0, 0);
        }
        if look.confirmed > last.confirmed || look.lag.is_zero() {
            moved_at = Instant::now();
        }
        observed.longest_standstill = observed.longest_standstill.max(moved_at.elapsed());
        observed.longest_lag = observed.longest_lag.max(look.lag);
        observed.returned += (look.returned - last.returned).max(0);
        last = look;
    }
    observed
}

fn look(servers: &Servers, session: &mut Option<Client>) -> Option<Look> {
    const QUERY: &str = "SELECT coalesce(lag_seconds, 0), events_confirmed, events_returned \
         FROM amqp.status";
    if session.is_none() {
        *session = servers.try_connect();
    }
    let row = session.as_mut()?.query_one(QUERY, &[]).ok()?;
    let lag = Duration::from_secs_f64(row.get(0));
    Some(Look { lag, confirmed: row.get(1), returned: row.get(2) })
}
