//! What the delivery tells the worker. Pure.

use std::net::IpAddr;

/// What the worker is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// It tries to reach this broker.
    Connecting(String),
    /// It publishes to this broker, over a connection that is secured so.
    Streaming { broker: String, security: &'static str },
    /// The stream stands still, at the message with this message_id if it is known, since so many
    /// were confirmed. `kind` is what is the same for each message that this befalls.
    StandingStill { reason: String, kind: String, held: Option<String>, confirmed: u64 },
    /// The operator's wish was carried out: the message with this description is passed over.
    Skipped(String),
    /// The broker does not read from the connection for now (memory or disk alarm).
    Blocked(String),
    /// The broker reads from the connection again.
    Unblocked,
    /// Something that the operator may want to know, without effect on the stream.
    Notice(String),
    /// The password and the events go to this host, which was found at this address and is another machine: in
    /// clear, or over TLS that does not check who is there. Once of a host.
    Unsecured { host: String, peer: IpAddr, is_in_clear: bool },
    /// So many messages came back because no queue was bound, the last one being this.
    Returned { count: u64, example: String },
    /// So many more events did not go to this exchange, for this reason, but to the dead-letter exchange or
    /// nowhere.
    PassedOver { exchange: String, count: u64, reason: String, is_dead_letter: bool },
    /// These exchanges refuse everything, and why.
    Refusing(String),
}
