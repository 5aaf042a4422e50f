//! From a name to a socket. It blocks, as looking up a name does: it belongs on a thread of its own.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::socket::Socket;
use crate::tls::Tls;

/// How an attempt to connect ended.
#[derive(Debug)]
pub struct Attempt {
    /// The connection, or why there is none: no address answered in time, or, before that, a file cannot be used that
    /// TLS needs.
    pub socket: Result<Socket>,
    /// The addresses that did not answer.
    pub failed: Vec<IpAddr>,
}

/// Connects to a broker. Each address that the name has is tried, and may take an equal part of the time that is
/// left. The TLS handshake is not made here: it is under way when the first bytes are written and read.
///
/// # Errors
///
/// If no address answers in time. Before that: if a file cannot be used that TLS needs.
pub fn connect(host: &str, port: u16, tls: Option<&Tls>, deadline: Instant) -> Result<Socket> {
    attempt(host, port, tls, &[], deadline).socket
}

/// Like [`connect`], with `last_ones` after all other addresses of the name, in their own order; and tells which
/// addresses did not answer.
pub fn attempt(
    host: &str,
    port: u16,
    tls: Option<&Tls>,
    last_ones: &[IpAddr],
    deadline: Instant,
) -> Attempt {
    let mut failed = Vec::new();
    let mut connect = || {
        let session = tls.map(|tls| tls.begin(host)).transpose()?;
        let stream = connect_tcp(host, port, last_ones, deadline, &mut failed)?;
        Socket::new(stream, session)
    };
    Attempt { socket: connect(), failed }
}

fn connect_tcp(
    host: &str,
    port: u16,
    last_ones: &[IpAddr],
    deadline: Instant,
    failed: &mut Vec<IpAddr>,
) -> Result<TcpStream> {
    let mut addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    // None, of an address that is not among them, is less than any place.
    addresses.sort_by_key(|address| {
        last_ones.iter().position(|last_one| *last_one == address.ip().to_canonical())
    });
    let mut problem = Error::new(ErrorKind::NotFound, format!("\"{host}\" has no address"));
    for (number, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let part = left / (addresses.len() - number) as u32;
        match TcpStream::connect_timeout(address, part.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                failed.push(address.ip().to_canonical());
                problem = error;
            }
        }
    }
    Err(problem)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn connect_to(host: &str, port: u16, last_ones: &[IpAddr]) -> Attempt {
        attempt(host, port, None, last_ones, Instant::now() + Duration::from_secs(10))
    }

    #[test]
    fn every_address_of_a_name_is_tried() {
        let connect = |port| connect_to("localhost", port, &[]).socket;
        // "localhost" often is ::1 first.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(connect(port).unwrap().peer().unwrap().is_loopback());
        drop(listener);
        assert_eq!(connect(port).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    /// As the resolver gives them, but for those that are to be last.
    #[test]
    fn addresses_that_did_not_answer_are_tried_last() {
        let in_order = |last_ones: &[IpAddr]| {
            // Nobody listens: all are tried.
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            connect_to("localhost", port, last_ones).failed
        };
        let all = in_order(&[]);
        let is_known = |address: &IpAddr| all.contains(address);
        assert!(is_known(&[127, 0, 0, 1].into()));
        for first in &all {
            let mut expected: Vec<_> =
                all.iter().filter(|other| *other != first).copied().collect();
            expected.push(*first);
            assert_eq!(in_order(&[*first]), expected);
        }
        let reversed: Vec<_> = all.iter().rev().copied().collect();
        assert_eq!(in_order(&reversed), reversed);
    }
}
