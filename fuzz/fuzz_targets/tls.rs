//! A socket whose peer says anything in any pieces: bytes that are no TLS, or what a genuine server says, changed on
//! the way. Nothing panics, nobody reads without end, what is received is what was sent as far as it goes, and
//! nothing of ours leaves in clear.

#![no_main]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};
use socket::{Socket, Tls, Verify, connect};

/// What nobody else is to see.
const SECRET: &[u8] = b"AMQP\0\0\x09\x01 and a password";

/// Flights of a server, and one more.
const ROUNDS: usize = 5;

#[derive(Arbitrary, Debug)]
enum Peer {
    /// Says this.
    Stranger { bytes: Vec<u8> },
    /// Is a server, but for what is changed. Then it says this, and that in clear.
    Server { is_1_2: bool, changes: Vec<Change>, data: Vec<u8>, closes: bool, behind: Vec<u8> },
}

/// Of the bytes that a server says, at such a place of all of them.
#[derive(Arbitrary, Debug)]
enum Change {
    Flip { at: u16, bits: u8 },
    Leave { at: u16, count: u8 },
    Insert { at: u16, bytes: Vec<u8> },
    Repeat { at: u16, count: u8 },
    End { at: u16 },
}

impl Change {
    fn at(&self) -> usize {
        let (Change::Flip { at, .. }
        | Change::Leave { at, .. }
        | Change::Insert { at, .. }
        | Change::Repeat { at, .. }
        | Change::End { at }) = self;
        usize::from(*at)
    }

    /// Does it to these bytes, of which the first one stands at `begin`.
    fn make(&self, bytes: &mut Vec<u8>, begin: usize) {
        let Some(at) = self.at().checked_sub(begin).filter(|&at| at < bytes.len()) else { return };
        let end = |count: u8| bytes.len().min(at + usize::from(count));
        match self {
            Change::Flip { bits, .. } => bytes[at] ^= bits,
            Change::Leave { count, .. } => drop(bytes.drain(at..end(*count))),
            Change::Insert { bytes: more, .. } => drop(bytes.splice(at..at, more.iter().copied())),
            Change::Repeat { count, .. } => {
                let again = bytes[at..end(*count)].to_vec();
                bytes.splice(at..at, again);
            }
            Change::End { .. } => bytes.truncate(at),
        }
    }
}

fn configuration(version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("it is known")
        .with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![cert.der().clone()], key).expect("they belong together"))
}

fn pair() -> (Socket, TcpStream) {
    static LISTENER: LazyLock<TcpListener> =
        LazyLock::new(|| TcpListener::bind("127.0.0.1:0").expect("there is a free port"));
    let port = LISTENER.local_addr().expect("it has an address").port();
    let tls = Tls { verify: Verify::Nothing, identity: None };
    let deadline = Instant::now() + Duration::from_secs(10);
    let socket = connect("127.0.0.1", port, Some(&tls), deadline).expect("it listens");
    let (wire, _) = LISTENER.accept().expect("it is there");
    wire.set_nonblocking(true).expect("it need not block");
    wire.set_nodelay(true).expect("it need not wait");
    (socket, wire)
}

/// Who has the socket, and what it got.
struct Owner {
    socket: Socket,
    received: Vec<u8>,
    secret: &'static [u8],
}

impl Owner {
    /// Writes and reads what it can, as often as it is told to. Whether the connection lives.
    fn turn(&mut self, told: usize) -> bool {
        let mut buffer = [0; 100];
        // Each of these bytes at most; and once more for what there was before, and to see that there is nothing.
        for _ in 0..told + 70_000 {
            if let Ok(count) = self.socket.write(self.secret) {
                self.secret = &self.secret[count..];
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !self.socket.has_unread() {
                        let _ = self.socket.flush();
                        return true;
                    }
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return false;
                }
            }
        }
        panic!("it reads without end")
    }
}

/// Sends these bytes in pieces of these sizes.
fn tell(mut wire: &TcpStream, owner: &mut Owner, mut bytes: &[u8], sizes: &[u8]) -> bool {
    let mut sizes = sizes.iter().cycle();
    while !bytes.is_empty() {
        let size = sizes.next().map_or(bytes.len(), |&size| usize::from(size).max(1));
        let (piece, rest) = bytes.split_at(size.min(bytes.len()));
        match wire.write(piece) {
            Ok(count) if count == piece.len() => {}
            _ => return false,
        }
        bytes = rest;
        if !owner.turn(piece.len()) {
            return false;
        }
    }
    true
}

/// What the owner has said.
fn heard(mut wire: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = wire.read_to_end(&mut bytes);
    assert!(!bytes.windows(8).any(|part| SECRET.windows(8).any(|secret| part == secret)));
    bytes
}

fuzz_target!(|input: (Vec<u8>, Peer)| {
    static CONFIGURATIONS: LazyLock<[Arc<ServerConfig>; 2]> =
        LazyLock::new(|| [&TLS12, &TLS13].map(configuration));
    let (sizes, peer) = input;
    let (socket, wire) = pair();
    let mut owner = Owner { socket, received: Vec::new(), secret: SECRET };
    owner.turn(0);
    match peer {
        Peer::Stranger { bytes } => {
            tell(&wire, &mut owner, &bytes, &sizes);
            heard(&wire);
            assert!(owner.received.is_empty());
        }
        Peer::Server { is_1_2, changes, data, closes, behind } => {
            let configuration = Arc::clone(&CONFIGURATIONS[usize::from(!is_1_2)]);
            let mut server = ServerConnection::new(configuration).expect("it is fine");
            let (mut place, mut has_said) = (0, false);
            for _ in 0..ROUNDS {
                let mut bytes = &heard(&wire)[..];
                while !bytes.is_empty() && server.read_tls(&mut bytes).is_ok() {
                    if server.process_new_packets().is_err() {
                        break;
                    }
                    let _ = server.reader().read_to_end(&mut Vec::new());
                }
                if !server.is_handshaking() && !has_said {
                    let _ = server.writer().write_all(&data);
                    if closes {
                        server.send_close_notify();
                    }
                    has_said = true;
                }
                let mut said = Vec::new();
                while server.wants_write() {
                    server.write_tls(&mut said).expect("there is memory");
                }
                let begin = place;
                place += said.len();
                changes.iter().for_each(|change| change.make(&mut said, begin));
                if !tell(&wire, &mut owner, &said, &sizes) {
                    break;
                }
            }
            tell(&wire, &mut owner, &behind, &sizes);
            heard(&wire);
            assert!(data.starts_with(&owner.received));
        }
    }
    owner.socket.abort();
});
