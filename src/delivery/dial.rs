//! Makes TCP connections: on a thread of its own, since looking up a name and connecting block, and the
//! worker has other things to do.

use std::io::{Error, ErrorKind, Result};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use super::broker::Address;

/// Starts a thread with this work, and has the worker look after it is done.
pub type Spawn = fn(Box<dyn FnOnce() + Send>) -> Result<()>;

/// Connections that are being made, one at a time to an address: a name server that never answers would have
/// one more thread wait for it at each attempt.
#[derive(Default)]
pub struct Dialler {
    under_way: Vec<(Address, Receiver<Result<TcpStream>>)>,
}

impl Dialler {
    /// Begins to connect, or goes on with an earlier attempt that has not come to an end. The result comes
    /// within `timeout`, as far as looking up names does.
    ///
    /// # Errors
    ///
    /// If the operating system refuses the thread.
    pub fn begin(&mut self, address: &Address, timeout: Duration, spawn: Spawn) -> Result<()> {
        // What nobody waited for any more is too old.
        self.under_way.retain(|(_, result)| matches!(result.try_recv(), Err(TryRecvError::Empty)));
        if self.under_way.iter().any(|(other, _)| other == address) {
            return Ok(());
        }
        let (result, receiver) = sync_channel(1);
        let Address { host, port } = address.clone();
        spawn(Box::new(move || {
            // A receiver that is gone has no use for the connection.
            let _ = result.send(connect(&host, port, Instant::now() + timeout));
        }))?;
        self.under_way.push((address.clone(), receiver));
        Ok(())
    }

    /// How the attempt at this address ended, once it has.
    pub fn take(&mut self, address: &Address) -> Option<Result<TcpStream>> {
        let place = self.under_way.iter().position(|(other, _)| other == address)?;
        let ended = match self.under_way[place].1.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(Error::other("the attempt was given up")),
        };
        self.under_way.swap_remove(place);
        Some(ended)
    }
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
    use std::cell::RefCell;
    use std::net::TcpListener;

    use super::*;

    fn dial_and_wait(port: u16) -> Result<TcpStream> {
        let address = Address { host: "localhost".to_owned(), port };
        let spawn: Spawn = |work| {
            std::thread::spawn(work);
            Ok(())
        };
        let mut dialler = Dialler::default();
        dialler.begin(&address, Duration::from_secs(10), spawn).unwrap();
        loop {
            if let Some(result) = dialler.take(&address) {
                return result;
            }
            std::thread::yield_now();
        }
    }

    thread_local! {
        /// Work that threads never come to do.
        static HUNG: RefCell<Vec<Box<dyn FnOnce() + Send>>> = const { RefCell::new(Vec::new()) };
    }

    #[test]
    fn one_attempt_at_a_time_hangs_at_an_address() {
        let hang: Spawn = |work| {
            HUNG.with_borrow_mut(|hung| hung.push(work));
            Ok(())
        };
        let address = |host: &str| Address { host: host.to_owned(), port: 5672 };
        let (one, other) = (address("one"), address("other"));
        let mut dialler = Dialler::default();
        for address in [&one, &one, &other, &one, &other] {
            dialler.begin(address, Duration::from_secs(1), hang).unwrap();
            assert!(dialler.take(address).is_none());
        }
        assert_eq!(HUNG.with_borrow(Vec::len), 2);
        // Both end without a result: the next attempts are new ones.
        HUNG.take().clear();
        assert!(dialler.take(&one).is_some_and(|ended| ended.is_err()));
        dialler.begin(&other, Duration::from_secs(1), hang).unwrap();
        assert!(dialler.take(&other).is_none());
        assert_eq!(HUNG.with_borrow(Vec::len), 1);
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
