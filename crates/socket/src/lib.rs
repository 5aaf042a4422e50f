//! A connection to a broker that never blocks, in clear or over TLS. What goes over it is somebody else's business:
//! [`Socket::read`] and [`Socket::write`] take and give bytes, and say `WouldBlock` where there is nothing to do
//! for now. When it is worth trying again the owner's `poll` tells, with two exceptions that only TLS knows:
//! [`Socket::has_unread`] and [`Socket::awaits_room`].
//!
//! TLS is rustls. What is checked of the broker are libpq's words and meanings (`sslmode`, `sslrootcert`, `sslcert`,
//! `sslkey`, `sslcrl`), so that who has secured connections to PostgreSQL knows all of it; errors name the
//! setting or file that is at fault, as amqp_cdc calls them. Files are read whenever a connection is made: a renewed
//! certificate is used by the next one.
//!
//! | module | owns |
//! |---|---|
//! | `connect` | [`connect`]: names and addresses |
//! | `socket` | [`Socket`]: bytes in and out |
//! | `tls` | [`Tls`]: what is checked, and who we are |
//! | `tls::files` | certificates, keys and revocation lists as they lie on disk |
//! | `tls::verifier` | whether the other side is the broker |
//! | `tls::words` | what an operator is told |

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod connect;
mod socket;
mod tls;

pub use connect::{Attempt, attempt, connect};
pub use socket::Socket;
pub use tls::{Identity, Roots, Tls, Trust, Verify};
