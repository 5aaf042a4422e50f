//! What tests/protocol has a broker say, and worse, once more over TLS.

#[path = "../protocol/channels.rs"]
mod channels;
#[path = "../protocol/handshake.rs"]
mod handshake;
#[path = "../protocol/hostile.rs"]
mod hostile;
#[path = "../protocol/peer.rs"]
mod peer;
#[path = "../protocol/recorded.rs"]
mod recorded;
#[path = "../shared/scenario.rs"]
mod scenario;
#[path = "../protocol/time.rs"]
mod time;
mod way;
