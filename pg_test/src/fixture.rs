//! What one test works with on a testbed: a database with the extension, an exchange that this
//! database publishes to, and a consumer that gets everything sent there. Tests with different
//! fixtures do not see each other's events.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use ::postgres::Client;

use crate::broker::{Broker, Queue};
use crate::consumer::Consumer;
use crate::testbed::Testbed;
use crate::wait::{DEADLINE, wait_until};

/// A database, an exchange and a consumer for one test.
#[derive(Debug)]
pub struct Fixture<'bed> {
    /// The servers behind it.
    pub testbed: &'bed Testbed,
    /// The name of the database.
    pub database: String,
    /// The name of the exchange, durable and of type topic.
    pub exchange: String,
    /// Gets everything that is published to the exchange.
    pub consumer: Consumer,
}

impl Testbed {
    /// Makes a fixture for one test: a database, an exchange and a consumer of its own. `name` should
    /// name the test; a number makes it unique.
    #[track_caller]
    pub fn scene(&self, name: &str) -> Fixture<'_> {
        Fixture::make(self, name)
    }
}

impl Fixture<'_> {
    #[track_caller]
    fn make<'bed>(testbed: &'bed Testbed, name: &str) -> Fixture<'bed> {
        static MADE: AtomicU32 = AtomicU32::new(1);
        let database = unique(name, MADE.fetch_add(1, Ordering::Relaxed));
        let exchange = format!("{database}-exchange");

        let broker = testbed.rabbitmq.broker();
        broker.declare_exchange(&exchange, "topic");
        let consumer = broker.consume(&Fixture::queue_of(&database, &exchange));
        // After the extension, so that the setting is the extension's and not a placeholder.
        let set = format!("ALTER DATABASE \"{database}\" SET amqp.exchange = '{exchange}'");
        let done = testbed.make_database(&database).batch_execute(&set);
        done.unwrap_or_else(|error| panic!("{set}: {error:?}"));
        Fixture { testbed, database, exchange, consumer }
    }

    /// A new session in the fixture's database.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.testbed.postgres.connect(&self.database)
    }

    /// The broker, to declare, publish and count.
    pub fn broker(&self) -> Broker {
        self.testbed.rabbitmq.broker()
    }

    /// The durable queue that the fixture's consumer consumes.
    pub fn queue(&self) -> Queue {
        Fixture::queue_of(&self.database, &self.exchange)
    }

    /// Consumes the fixture's queue anew: the consumer does not survive a restart of the broker, the
    /// queue does.
    #[track_caller]
    pub fn consume_again(&mut self) {
        self.consumer = self.broker().consume(&self.queue());
    }

    fn queue_of(database: &str, exchange: &str) -> Queue {
        Queue::durable(&format!("{database}-queue")).bound_to(exchange, "#")
    }
}

impl Drop for Fixture<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.testbed.print_logs_once();
        }
    }
}

/// Waits until everything that has been committed so far is published and confirmed.
#[track_caller]
pub fn wait_until_confirmed(client: &mut Client) {
    wait_until_confirmed_within(client, DEADLINE);
}

/// Like [`wait_until_confirmed`], for more than is published within [`DEADLINE`].
#[track_caller]
pub fn wait_until_confirmed_within(client: &mut Client, deadline: Duration) {
    const NOTHING_OUTSTANDING: &str = "SELECT coalesce(lag_bytes, 0) = 0 \
         AND coalesce(lag_seconds, 0) = 0 FROM amqp.status";
    wait_until("amqp.status shows nothing outstanding", deadline, || {
        let row = client.query_one(NOTHING_OUTSTANDING, &[]);
        let row = row.unwrap_or_else(|error| panic!("could not read amqp.status: {error:?}"));
        row.get::<_, bool>(0).then_some(())
    });
}

/// A name that needs no quotes and fits into an identifier (63 bytes).
fn unique(name: &str, number: u32) -> String {
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() { letter } else { '_' }
    };
    let name: String = name.chars().map(plain).take(40).collect();
    format!("{}_{number}", name.to_ascii_lowercase())
}
