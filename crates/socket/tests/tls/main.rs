//! TLS with a server that is one, and with peers that are none. How real brokers take us the end-to-end tests tell.

mod handshake;
mod hostile;
mod pair;
mod peer;
