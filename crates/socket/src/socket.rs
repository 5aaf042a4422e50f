//! Bytes over a socket that never blocks, with TLS between or without.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::tls::Session;

/// Reads in a row, of some kilobytes each, without a byte for the owner among them. Then it is asked again later:
/// whoever sends nothing but such bytes must not keep us busy.
const READS: usize = 64;

/// A connection to a broker.
pub struct Socket {
    stream: TcpStream,
    tls: Option<Box<Session>>,
    /// Whether the session may hold bytes for the owner, of which the operating system knows nothing any more.
    has_unread: bool,
}

impl Socket {
    /// Speaks over this stream, with this session between.
    ///
    /// # Errors
    ///
    /// If the stream cannot be set up.
    pub(crate) fn new(stream: TcpStream, tls: Option<Box<Session>>) -> io::Result<Socket> {
        stream.set_nonblocking(true)?;
        // What is written is as much as there is: waiting for more would only cost time.
        stream.set_nodelay(true)?;
        Ok(Socket { stream, tls, has_unread: false })
    }

    /// Speaks over this stream in clear.
    ///
    /// # Errors
    ///
    /// If the stream cannot be set up.
    pub fn plain(stream: TcpStream) -> io::Result<Socket> {
        Socket::new(stream, None)
    }

    /// Reads what there is. 0: the broker has hung up.
    ///
    /// # Errors
    ///
    /// `WouldBlock`: nothing is there for now. `InvalidData`: the broker is not the one that it should be, or what it
    /// says is not TLS; the words are for the operator. Any other: the operating system's.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Socket { stream, tls, has_unread } = self;
        let Some(tls) = tls else { return again(|| stream.read(buffer)) };
        // Until it turns out that there is nothing.
        *has_unread = true;
        for _ in 0..READS {
            // What came before something went wrong counts: it is read first.
            let processed = tls.connection.process_new_packets();
            match (tls.connection.reader().read(buffer), processed) {
                (Ok(count), processed) => {
                    let goes_on = processed.is_ok_and(|state| !state.peer_has_closed());
                    *has_unread = count == buffer.len() || !goes_on;
                    return Ok(count);
                }
                (Err(_), Err(error)) => {
                    // The other side is told why.
                    let _ = tls.connection.write_tls(stream);
                    return Err(tls.explain(&error));
                }
                (Err(error), Ok(_)) if error.kind() == ErrorKind::WouldBlock => {}
                // It hung up without a word of TLS. AMQP has words of its own for that.
                (Err(error), Ok(_)) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                (Err(error), Ok(_)) => return Err(error),
            }
            if let Err(error) = again(|| tls.connection.read_tls(stream)) {
                *has_unread = false;
                return Err(tls.explain_io(error));
            }
        }
        Err(ErrorKind::WouldBlock.into())
    }

    /// Whether [`Socket::read`] may have more, though the operating system has nothing.
    pub fn has_unread(&self) -> bool {
        self.has_unread
    }

    /// Takes of these bytes what there is room for. With TLS what was taken may still be here:
    /// [`Socket::flush`].
    ///
    /// # Errors
    ///
    /// `WouldBlock`: there is no room. Any other: the operating system's.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Socket { stream, tls, .. } = self;
        let Some(tls) = tls else { return again(|| stream.write(bytes)) };
        flush(stream, tls)?;
        // Nothing is encrypted before what was is gone. What is here has a limit then, whatever the other side asks for.
        if tls.connection.wants_write() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = tls.encrypt(bytes)?;
        if count == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        flush(stream, tls)?;
        Ok(count)
    }

    /// Writes what was taken and is still here, as far as the operating system takes it.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn flush(&mut self) -> io::Result<()> {
        let Socket { stream, tls, .. } = self;
        tls.as_mut().map_or(Ok(()), |tls| flush(stream, tls))
    }

    /// Whether something is to be written as soon as the operating system has room; `has_more`: the owner has
    /// bytes that were not taken.
    pub fn awaits_room(&self, has_more: bool) -> bool {
        match &self.tls {
            // Before the handshake is over nothing of the owner's may leave: there is no use in trying.
            Some(tls) if tls.connection.is_handshaking() => tls.connection.wants_write(),
            Some(tls) => has_more || tls.connection.wants_write(),
            None => has_more,
        }
    }

    /// The version of TLS, once both sides have agreed upon one; none without TLS.
    pub fn tls_version(&self) -> Option<&'static str> {
        self.tls.as_ref()?.version()
    }

    /// Whether the other side was let be who it likes: TLS that hides, and proves nothing.
    pub fn is_unverified(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_unverified)
    }

    /// The broker's address; none if the connection is gone again.
    pub fn peer(&self) -> Option<IpAddr> {
        self.stream.peer_addr().ok().map(|address| address.ip().to_canonical())
    }

    /// Says that nothing more will come.
    pub fn say_goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.connection.send_close_notify();
            // If there is no room for it the broker does without.
            let _ = self.flush();
        }
    }

    /// What the operating system has taken and not sent is not sent when the socket is closed.
    pub fn abort(&self) {
        // If that fails it is sent: not worse than a broker that had it all before.
        let _ = set_socket_linger(&self.stream, Some(Duration::ZERO));
    }
}

/// Writes what the session has to say, as far as the operating system takes it.
fn flush(stream: &mut TcpStream, tls: &mut Session) -> io::Result<()> {
    while tls.connection.wants_write() {
        match again(|| tls.connection.write_tls(stream)) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Tries again what a signal interrupted.
fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("stream", &self.stream).finish_non_exhaustive()
    }
}
