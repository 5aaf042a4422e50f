//! What a client says of itself, and what it wants, when a connection begins.

use std::fmt;
use std::time::Instant;

use crate::table::{TableBuf, Value};

/// What RabbitMQ is told that we know of.
const CAPABILITIES: [&str; 5] = [
    "publisher_confirms",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "authentication_failure_close",
];

/// How to prove who one is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password (SASL `PLAIN`).
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// What the transport knows: the certificate of a TLS client (SASL `EXTERNAL`).
    External,
}

impl Credentials {
    pub(crate) fn mechanism(&self) -> &'static str {
        match self {
            Credentials::Password { .. } => "PLAIN",
            Credentials::External => "EXTERNAL",
        }
    }

    pub(crate) fn response(&self) -> String {
        match self {
            // RFC 4616, without an authorization identity.
            Credentials::Password { user, password } => format!("\0{user}\0{password}"),
            Credentials::External => String::new(),
        }
    }
}

// The password is never printed.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Password { user, .. } => write!(f, "Password({user:?}, …)"),
            Credentials::External => f.write_str("External"),
        }
    }
}

/// What a connection begins with.
#[derive(Clone, Debug)]
pub struct Login {
    /// Who one is.
    pub credentials: Credentials,
    /// The virtual host.
    pub virtual_host: String,
    /// What an operator sees of this client: `product`, `version`, `platform`, `connection_name`, …
    /// Capabilities are not for the caller to add.
    pub properties: TableBuf,
    /// The largest frame that is wanted, from 8,192 to 131,072 bytes, which is what RabbitMQ agrees to: at
    /// anything else it hangs up.
    pub frame_max: u32,
    /// Channels at most, from 1 to 2,047, for the same reason.
    pub channel_max: u16,
    /// Seconds between heartbeats; 0 leaves it to the broker.
    pub heartbeat: u16,
    /// When the broker is to have let us in.
    pub deadline: Instant,
}

impl Login {
    /// The client's properties, with its capabilities.
    pub(crate) fn all_properties(&self) -> TableBuf {
        let mut capabilities = TableBuf::new();
        for name in CAPABILITIES {
            capabilities.put(name, Value::Boolean(true));
        }
        let mut properties = self.properties.clone();
        properties.put("capabilities", Value::Table(capabilities.as_table()));
        properties
    }
}
