//! Makes TCP connections: on a thread of its own, since looking up a name and connecting block,
//! and the publisher listens to the worker meanwhile.

use std::io::{Error, ErrorKind, Result};
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use super::Address;
use super::bell::Bell;

/// Begins to connect. The result comes within `timeout`, as far as looking up names does, and the
/// bell rings then. Who is not interested any more drops the receiver; the thread ends by itself.
///
/// # Errors
///
/// If the operating system refuses the thread.
pub fn dial(
    address: &Address,
    timeout: Duration,
    bell: Bell,
) -> Result<Receiver<Result<TcpStream>>> {
    let (result, receiver) = bounded(1);
    let Address { host, port } = address.clone();
    thread::Builder::new().name("amqp_cdc dial".to_owned()).spawn(move || {
        // A receiver that is gone has no use for the connection.
        let _ = result.send(connect(&host, port, Instant::now() + timeout));
        bell.ring();
    })?;
    Ok(receiver)
}

/// Tries every address that the name has. Each may take an equal part of the time that is left.
fn connect(host: &str, port: u16, deadline: Instant) -> Result<TcpStream> {
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let mut problem = Error::new(ErrorKind::NotFound, format!("\"{host}\" has no address"));
    for (number, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let part = left / (addresses.len() - number) as u32;
        match TcpStream::connect_timeout(address, part.max(Duration::from_millis(1))) {
            Ok(socket) => return Ok(socket),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::bell::bell;
    use super::*;

    fn dial_and_wait(port: u16) -> Result<TcpStream> {
        let (bell, _listener) = bell().unwrap();
        let address = Address { host: "localhost".to_owned(), port };
        dial(&address, Duration::from_secs(10), bell).unwrap().recv().unwrap()
    }

    #[test]
    fn every_address_of_a_name_is_tried() {
        // "localhost" often is ::1 first.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(dial_and_wait(port).unwrap().peer_addr().unwrap().port(), port);
        drop(listener);
        assert_eq!(dial_and_wait(port).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
