//! Patroni: a cluster of two PostgreSQL servers whose leader changes, dies and freezes while sessions write. Who keeps
//! books by the messages has in the end what the leader has; what an asynchronous failover takes is just what the
//! `timeline` message says.
//!
//! | module | owns |
//! |---|---|
//! | `etcd`, `member`, `cluster`, `settings`, `rest` | the servers, what they are told, how they are asked |
//! | `writers`, `ledger` | who changes the tables, and what they know |
//! | `collector`, `books` | what a consumer gets, keeps, and what must be true of it |
//! | `trial`, `slots` | what goes wrong, one after the other; what becomes of the slot |

mod books;
mod cluster;
mod collector;
mod etcd;
mod ledger;
mod member;
mod rest;
mod settings;
mod slots;
mod trial;
mod writers;

use pg_test::{Queue, RabbitMq};

use crate::report::Report;
use cluster::Cluster;
use collector::Collector;
use settings::DATABASE;
use trial::Trials;

/// Runs all trials.
pub fn run(seed: u64) -> Report {
    let rabbitmq = RabbitMq::create();
    let broker = rabbitmq.broker();
    broker.declare_exchange(settings::EXCHANGE, "topic");
    let queue = Queue::durable("ha-patroni").bound_to(settings::EXCHANGE, "#");
    let collector = Collector::start(broker.consume(&queue));
    let cluster = Cluster::start(rabbitmq.port());
    make_tables(&cluster);
    let mut trials = Trials::new(&cluster, &collector, seed);
    trial::WAYS.iter().for_each(|way| trials.run_all(way));
    slots::run_all(&mut trials, &rabbitmq);
    trials.report()
}

fn make_tables(cluster: &Cluster) {
    let run = |database: &str, statements: &str| {
        let done = cluster.connect(database).batch_execute(statements);
        done.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    };
    run("postgres", &format!("CREATE DATABASE {DATABASE}"));
    run(DATABASE, "CREATE EXTENSION amqp_cdc");
    run(DATABASE, writers::TABLES);
}
