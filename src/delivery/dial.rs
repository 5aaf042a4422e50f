//! Makes connections: on a thread of its own, since looking up a name, reading certificates and connecting block,
//! and the worker has other things to do.

use std::io::{Error, Result};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use ::socket::{Attempt, Socket, Tls, attempt};

use super::broker::Address;
use super::rota::Sign;
use super::shunned::Shunned;

/// Starts a thread with this work, and has the worker look after it is done.
pub type Spawn = fn(Box<dyn FnOnce() + Send>) -> Result<()>;

/// Connections that are being made, one at a time to an address: a name server that never answers would have
/// one more thread wait for it at each attempt.
#[derive(Default)]
pub struct Dialler {
    under_way: Vec<(Destination, Receiver<Attempt>)>,
    shunned: Shunned,
    /// Where the last connection that was made goes.
    last: Option<IpAddr>,
}

/// Where a connection goes, and how it is secured.
type Destination = (Address, Option<Tls>);

impl Dialler {
    /// Begins to connect, or goes on with an earlier attempt that has not come to an end. The result comes
    /// within `timeout`, as far as looking up names does.
    ///
    /// # Errors
    ///
    /// If the operating system refuses the thread.
    pub fn begin(
        &mut self,
        destination: &Destination,
        timeout: Duration,
        spawn: Spawn,
    ) -> Result<()> {
        self.last = None;
        // What nobody waited for any more is too old.
        self.under_way.retain(|(_, result)| matches!(result.try_recv(), Err(TryRecvError::Empty)));
        if self.under_way.iter().any(|(other, _)| other == destination) {
            return Ok(());
        }
        let (result, receiver) = sync_channel(1);
        let (Address { host, port }, tls) = destination.clone();
        let last_ones = self.shunned.addresses().to_vec();
        spawn(Box::new(move || {
            let deadline = Instant::now() + timeout;
            // A receiver that is gone has no use for the connection.
            let _ = result.send(attempt(&host, port, tls.as_ref(), &last_ones, deadline));
        }))?;
        self.under_way.push((destination.clone(), receiver));
        Ok(())
    }

    /// How the attempt to go there ended, once it has.
    pub fn take(&mut self, destination: &Destination) -> Option<Result<Socket>> {
        let place = self.under_way.iter().position(|(other, _)| other == destination)?;
        let ended = match self.under_way[place].1.try_recv() {
            Ok(attempt) => {
                attempt.failed.iter().for_each(|&address| self.shunned.add(address));
                attempt.socket
            }
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(Error::other("the attempt was given up")),
        };
        self.under_way.swap_remove(place);
        self.last = ended.as_ref().ok().and_then(Socket::peer);
        Some(ended)
    }

    /// What the last connection that was made says of the address that it goes to, if any was made.
    pub fn heed(&mut self, sign: Sign) {
        match (self.last, sign) {
            (Some(address), Sign::OfLife) => self.shunned.remove(address),
            (Some(address), Sign::OfDeath) => self.shunned.add(address),
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use ::socket::Verify;

    use super::*;

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
        let (one, other) = ((address("one"), None), (address("other"), None));
        // An attempt that was begun in clear is none over TLS.
        let secured = (address("one"), Some(Tls { verify: Verify::Nothing, identity: None }));
        let mut dialler = Dialler::default();
        for destination in [&one, &one, &other, &one, &other, &secured, &secured] {
            dialler.begin(destination, Duration::from_secs(1), hang).unwrap();
            assert!(dialler.take(destination).is_none());
        }
        assert_eq!(HUNG.with_borrow(Vec::len), 3);
        // Both end without a result: the next attempts are new ones.
        HUNG.take().clear();
        assert!(dialler.take(&one).is_some_and(|ended| ended.is_err()));
        dialler.begin(&other, Duration::from_secs(1), hang).unwrap();
        assert!(dialler.take(&other).is_none());
        assert_eq!(HUNG.with_borrow(Vec::len), 1);
    }

    #[test]
    fn an_address_that_gave_a_connection_and_then_no_answer_is_tried_last_until_it_answers() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (host, port) = ("127.0.0.1".to_owned(), listener.local_addr().unwrap().port());
        let destination = (Address { host, port }, None);
        let here: Spawn = |work| {
            work();
            Ok(())
        };
        let mut dialler = Dialler::default();
        let mut dial = |sign| {
            dialler.begin(&destination, Duration::from_secs(10), here).unwrap();
            let made = dialler.take(&destination).is_some_and(|socket| socket.is_ok());
            dialler.heed(sign);
            (made, dialler.shunned.addresses().to_vec())
        };
        let here = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(dial(Sign::OfDeath), (true, vec![here]));
        assert_eq!(dial(Sign::OfLife), (true, vec![]));
        drop(listener);
        assert_eq!(dial(Sign::OfDeath), (false, vec![here]));
    }
}
