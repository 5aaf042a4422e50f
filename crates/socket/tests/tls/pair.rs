//! Both ends of a connection in the test's hands: what the server says is bytes, which go over the wire when and as
//! the test likes, and how often the other side has to read for them is counted.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::{ConnectionTrafficSecrets, ProtocolVersion, ServerConnection};
use socket::{Socket, Tls, Verify, connect};

use crate::peer::server::Server;

/// For whatever a test waits for.
pub const PATIENCE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// What records hold.
pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const DATA: u8 = 23;

/// A server and its client.
pub struct Pair {
    pub owner: Owner,
    pub wire: TcpStream,
    pub server: ServerConnection,
    /// What the server has of the owner's.
    pub heard: Vec<u8>,
}

/// Who has a socket, and does with it as it says.
pub struct Owner {
    pub socket: Socket,
    pub received: Vec<u8>,
    /// How often it had to read.
    pub reads: usize,
}

impl Pair {
    /// Connected; no word of TLS was said.
    pub fn new(server: &Server) -> Pair {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let anybody = Tls { verify: Verify::Nothing, identity: None };
        let deadline = Instant::now() + Duration::from_secs(20);
        let socket = connect("127.0.0.1", port, Some(&anybody), deadline).unwrap();
        let (wire, _) = listener.accept().unwrap();
        wire.set_nonblocking(true).unwrap();
        wire.set_nodelay(true).unwrap();
        let owner = Owner { socket, received: Vec::new(), reads: 0 };
        Pair { owner, wire, server: server.begin(), heard: Vec::new() }
    }

    /// After the handshake, and all that belongs to it.
    pub fn open(server: &Server) -> Pair {
        let mut pair = Pair::new(server);
        while pair.server.is_handshaking() {
            let said = pair.answer();
            pair.tell(&said).unwrap();
        }
        pair
    }

    /// What the server has to say to what the client says next, which must be something. It does not say it yet.
    pub fn answer(&mut self) -> Vec<u8> {
        loop {
            self.owner.socket.flush().unwrap();
            let mut both = [
                PollFd::new(&self.wire, PollFlags::IN),
                PollFd::new(&self.owner.socket, PollFlags::IN),
            ];
            let count = poll(&mut both, Some(&PATIENCE)).unwrap();
            assert!(count > 0, "neither side has anything to say");
            let is_client_to_read = !both[1].revents().is_empty();
            if self.hear() > 0 {
                return self.said();
            }
            if is_client_to_read {
                self.owner.step().unwrap();
            }
        }
    }

    /// The server hears what is there. How many bytes that was.
    pub fn hear(&mut self) -> usize {
        let mut all = 0;
        loop {
            match self.server.read_tls(&mut self.wire) {
                Ok(0) => return all,
                Ok(count) => all += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return all,
                Err(error) => panic!("{error}"),
            }
            self.server.process_new_packets().unwrap();
            let read = self.server.reader().read_to_end(&mut self.heard);
            assert!(read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
        }
    }

    /// Everything that the server wants to say, as bytes.
    pub fn said(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.server.wants_write() {
            self.server.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// The same with these bytes for the owner.
    pub fn said_with(&mut self, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in data.chunks(10_000) {
            self.server.writer().write_all(part).unwrap();
            bytes.extend(self.said());
        }
        bytes
    }

    /// Sends these bytes, of which there are some, and has the owner read what comes.
    pub fn tell(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.send(bytes);
        self.owner.step()?;
        self.owner.read_rest()
    }

    /// [`send`].
    pub fn send(&mut self, bytes: &[u8]) {
        send(&self.wire, &mut self.owner, bytes);
    }

    /// From here on the server says what no server would.
    pub fn forge(self) -> (Owner, TcpStream, Forger) {
        (self.owner, self.wire, Forger::new(self.server))
    }
}

/// Sends these bytes. The owner reads only where there is no more room for them; if it fails, it tells again.
pub fn send(mut wire: &TcpStream, owner: &mut Owner, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match wire.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if owner.step().is_err() {
                    return;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl Owner {
    /// Waits until it is to read, and reads once. How much that was; none: nothing for now.
    ///
    /// # Panics
    /// If nothing wakes it.
    pub fn step(&mut self) -> io::Result<Option<usize>> {
        // If that fails, reading tells why.
        let _ = self.socket.flush();
        assert!(self.is_woken(&PATIENCE), "it sleeps, and nothing wakes it");
        let mut buffer = [0; 5000];
        self.reads += 1;
        match self.socket.read(&mut buffer) {
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                Ok(Some(count))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn is_woken(&self, timeout: &Timespec) -> bool {
        self.socket.has_unread()
            || poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(timeout)).unwrap() > 0
    }

    /// Reads what is there, without waiting for more.
    pub fn read_rest(&mut self) -> io::Result<()> {
        while self.is_woken(&AT_ONCE) && self.step()? != Some(0) {}
        Ok(())
    }

    /// Reads until there is so much in all.
    pub fn read_until(&mut self, count: usize) {
        while self.received.len() < count {
            assert_ne!(self.step().unwrap(), Some(0), "it has hung up");
        }
    }

    /// Reads to the end. What is said of that; none: it hung up.
    pub fn read_to_end(&mut self) -> Option<String> {
        loop {
            match self.step() {
                Ok(Some(0)) => return None,
                Ok(_) => {}
                Err(error) => return Some(error.to_string()),
            }
        }
    }

    /// Whether there is nothing to do: neither to read nor to write.
    pub fn is_at_rest(&mut self) -> bool {
        self.socket.flush().unwrap();
        !self.is_woken(&AT_ONCE) && !self.socket.awaits_room(false)
    }
}

/// Makes records out of anything, with the keys of a server that had them.
pub struct Forger {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
    version: ProtocolVersion,
}

impl Forger {
    fn new(server: ServerConnection) -> Forger {
        let version = server.protocol_version().unwrap();
        let (sequence, secrets) = server.dangerous_extract_secrets().unwrap().tx;
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
            panic!("this cipher is the first choice of both")
        };
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
        Forger { key, iv: iv.as_ref().try_into().unwrap(), sequence, version }
    }

    /// One record with this content (RFC 8446, 5.2; RFC 5246, 6.2.3.3 and RFC 5288, 3). `padding`: zeros behind
    /// it, which only TLS 1.3 has.
    pub fn record(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let sequence = self.sequence.to_be_bytes();
        self.sequence += 1;
        let head = |kind: u8, size: usize| [kind, 3, 3, (size >> 8) as u8, size as u8];
        let mut nonce = self.iv;
        if self.version == ProtocolVersion::TLSv1_3 {
            nonce[4..].iter_mut().zip(sequence).for_each(|(byte, number)| *byte ^= number);
            let mut inner = [content, &[kind], &vec![0; padding]].concat();
            let head = head(DATA, inner.len() + AES_256_GCM.tag_len());
            self.seal(nonce, &head, &mut inner);
            [&head[..], &inner].concat()
        } else {
            nonce[4..].copy_from_slice(&sequence);
            let mut inner = content.to_vec();
            let about = [&sequence[..], &head(kind, content.len())].concat();
            self.seal(nonce, &about, &mut inner);
            [&head(kind, sequence.len() + inner.len())[..], &sequence, &inner].concat()
        }
    }

    fn seal(&self, nonce: [u8; 12], about: &[u8], inner: &mut Vec<u8>) {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(about), inner).unwrap();
    }
}
