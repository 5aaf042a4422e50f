//! What a message costs its writer with pg_amqp, which sends it to the broker from there. Both extensions want the schema
//! `amqp`, so this one has a database and a session of its own, and takes turns with the same statement without it.

use pg_test::installation;

use crate::messages::{SIZES, Way};
use crate::meter::{Cost, Meter};
use crate::servers::Servers;
use crate::workload::{Costs, SLICES};

const DATABASE: &str = "bench_pg_amqp";

/// Per message, over what making its body up takes; the lowest of so many rounds.
///
/// # Errors
/// Why it cannot be measured here.
pub fn costs(servers: &mut Servers, messages: u64, rounds: usize) -> Result<Costs, String> {
    if !installation::has_extension("amqp") {
        return Err("not installed".to_owned());
    }
    servers.run(&format!("CREATE DATABASE {DATABASE}"));
    let mut client = servers.postgres().connect(DATABASE);
    let mut run = |statement: &str| {
        let done = client.batch_execute(statement);
        done.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    };
    run("CREATE EXTENSION amqp");
    let port = servers.bed.rabbitmq.port();
    run(&format!("INSERT INTO amqp.broker (host, port) VALUES ('127.0.0.1', {port})"));
    let meter = Meter::of(&mut client);
    let in_a_slice = messages / SLICES as u64;
    let mut lowest = [[[Cost::INFINITE; 2]; SLICES]; SIZES.len()];
    // The first time connects, and does not count.
    for round in 0..=rounds {
        for (size, slices) in SIZES.into_iter().zip(&mut lowest) {
            for (slice, lowest) in (0..).zip(slices) {
                let (first, last) = (slice * in_a_slice + 1, (slice + 1) * in_a_slice);
                for (way, lowest) in [Way::None, Way::PgAmqp].into_iter().zip(lowest) {
                    let statement = way.statement(size, &first.to_string(), &last.to_string());
                    let cost = meter.measure(&mut client, &statement);
                    if round > 0 {
                        *lowest = lowest.lowest(cost);
                    }
                }
            }
        }
    }
    Ok(lowest.map(|slices| {
        let [none, sent] = slices
            .into_iter()
            .fold([Cost::ZERO; 2], |[none, sent], slice| [none.and(slice[0]), sent.and(slice[1])]);
        sent.over(none).per(in_a_slice * SLICES as u64)
    }))
}
