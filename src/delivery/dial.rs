//! Makes TCP connections: on a thread of its own, since looking up a name and connecting block, and the
//! worker has other things to do.

use std::io::{Error, ErrorKind, Result};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use super::Address;

/// Starts a thread with this work, and has the worker look after it is done.
pub type Spawn = fn(Box<dyn FnOnce() + Send>) -> Result<()>;

/// Begins to connect. The result comes within `timeout`, as far as looking up names does. Who is not
/// interested any more drops the receiver; the thread ends by itself.
///
/// # Errors
///
/// If the operating system refuses the thread.
pub fn dial(
    address: &Address,
    timeout: Duration,
    spawn: Spawn,
) -> Result<Receiver<Result<TcpStream>>> {
    let (result, receiver) = sync_channel(1);
    let Address { host, port } = address.clone();
    spawn(Box::new(move || {
        // A receiver that is gone has no use for the connection.
        let _ = result.send(connect(&host, port, Instant::now() + timeout));
    }))?;
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

    use super::*;

    fn dial_and_wait(port: u16) -> Result<TcpStream> {
        let address = Address { host: "localhost".to_owned(), port };
        let spawn: Spawn = |work| {
            std::thread::spawn(work);
            Ok(())
        };
        dial(&address, Duration::from_secs(10), spawn).unwrap().recv().unwrap()
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
