//! The broker that the tests share. Whoever breaks one makes another.

use std::sync::LazyLock;

use pg_test::{Broker, RabbitMq};

/// Names the port of a broker on this machine that the tests take instead of one of their own: one of another
/// version, for instance, with its user `guest`.
const OTHER: &str = "AMQP_TEST_PORT";

/// A broker.
pub struct Shared {
    port: u16,
    /// None: somebody else has started it.
    own: Option<RabbitMq>,
}

/// The one.
pub fn broker() -> &'static Shared {
    static SHARED: LazyLock<Shared> = LazyLock::new(Shared::start);
    &SHARED
}

impl Shared {
    fn start() -> Shared {
        match std::env::var(OTHER) {
            Ok(port) => Shared { port: port.parse().expect("it is a port"), own: None },
            Err(_) => {
                let own = RabbitMq::create();
                Shared { port: own.port(), own: Some(own) }
            }
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of its default virtual host.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Which RabbitMQ it is, if it is the one that is installed here.
    pub fn version(&self) -> Option<String> {
        self.own.as_ref().map(|_| RabbitMq::version())
    }

    /// Deletes a queue, as somebody else.
    pub fn delete_queue(&self, name: &str) {
        Broker::at(self.url()).delete_queue(name);
    }
}
