//! The broker, as the settings describe it: where it is, how to log in, and what may be asked of it.

use std::fmt;
use std::time::Duration;

use socket::Tls;

use super::policy::Policies;

/// A broker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text, for the one place that needs it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// How we prove who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    Password {
        username: String,
        password: Secret,
    },
    /// The certificate that TLS shows the broker.
    Certificate,
}

/// Everything that is to be known of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerSettings {
    /// Tried in turn. Not empty.
    pub addresses: Vec<Address>,
    pub vhost: String,
    pub credentials: Credentials,
    /// None: in clear.
    pub tls: Option<Tls>,
    /// Type with which an exchange is declared on first use; empty: never declared.
    pub exchange_type: String,
    /// Longest time for a connection to be made, or for an answer to a declaration.
    pub connect_timeout: Duration,
    /// Seconds; 0 leaves it to the broker.
    pub heartbeat: u16,
    /// Longest time without a confirm while messages are in flight.
    pub confirm_timeout: Duration,
    /// Unconfirmed messages at most.
    pub max_in_flight: usize,
    pub unroutable: Unroutable,
    /// What becomes of events that it refuses.
    pub policies: Policies,
    /// The queue that only one connection can have; only with it anything is published. None: nobody asks.
    pub exclusive_queue: Option<String>,
}

/// What to do with a message that no queue is bound for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unroutable {
    /// Nobody asked for it: it counts as delivered.
    Drop,
    /// The stream stands still until a queue is bound.
    Hold,
}
