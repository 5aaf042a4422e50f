//! From a name to a socket. It blocks, as looking up a name does: it belongs on a thread of its own.

use std::io::{Error, ErrorKind, Result};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::socket::Socket;
use crate::tls::Tls;

/// Connects to a broker. Each address that the name has is tried, and may take an equal part of the time that is
/// left. The TLS handshake is not made here: it is under way when the first bytes are written and read.
///
/// # Errors
///
/// If no address answers in time. Before that: if a file cannot be used that TLS needs.
pub fn connect(host: &str, port: u16, tls: Option<&Tls>, deadline: Instant) -> Result<Socket> {
    let session = tls.map(|tls| tls.begin(host)).transpose()?;
    let stream = connect_tcp(host, port, deadline)?;
    Socket::new(stream, session)
}

fn connect_tcp(host: &str, port: u16, deadline: Instant) -> Result<TcpStream> {
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let mut problem = Error::new(ErrorKind::NotFound, format!("\"{host}\" has no address"));
    for (number, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let part = left / (addresses.len() - number) as u32;
        match TcpStream::connect_timeout(address, part.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn every_address_of_a_name_is_tried() {
        let connect = |port| {
            super::connect("localhost", port, None, Instant::now() + Duration::from_secs(10))
        };
        // "localhost" often is ::1 first.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(connect(port).unwrap().peer().unwrap().is_loopback());
        drop(listener);
        assert_eq!(connect(port).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
