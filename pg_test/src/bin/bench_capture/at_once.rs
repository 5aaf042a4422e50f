//! One statement that sends very many messages, and one that writes as many captured rows, in turn.

use crate::messages::{SIZES, Way};
use crate::meter::{Cost, Meter};
use crate::servers::Servers;

/// So many times more than there are rows in other workloads.
const TIMES: u64 = 10;

/// Each of both is measured so often; the lowest counts.
const ROUNDS: usize = 3;

/// What both cost.
#[derive(Clone, Copy, Debug)]
pub struct AtOnce {
    pub messages: u64,
    pub captured: Cost,
    pub published: Cost,
}

impl AtOnce {
    /// Measures it, where the tables of [`Way`] are.
    pub fn run(servers: &mut Servers, rows: u64) -> AtOnce {
        let messages = rows * TIMES;
        let meter = Meter::of(&mut servers.client);
        let mut lowest = [Cost::INFINITE; 2];
        for round in 1..=ROUNDS {
            eprintln!("round {round} of {ROUNDS}: one statement of {messages}");
            for (way, lowest) in [Way::Captured, Way::Publish].into_iter().zip(&mut lowest) {
                servers.run("TRUNCATE captured_bodies");
                servers.run("CHECKPOINT");
                let statement = way.statement(SIZES[0], "1", &messages.to_string());
                *lowest = lowest.lowest(meter.measure(&mut servers.client, &statement));
                servers.settle();
            }
        }
        let [captured, published] = lowest;
        AtOnce { messages, captured, published }
    }
}
