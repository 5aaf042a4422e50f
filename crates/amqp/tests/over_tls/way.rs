//! The way over TLS: through a socket of ours, with rustls at the broker's end of it. Its records are short, so that
//! frames lie across them. One connection is the way of all that a test says.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};
use socket::{Socket, Tls, Verify, connect};

/// Bytes of a record. A frame may have 131,072.
const RECORD: usize = 1000;

thread_local! {
    static TUNNEL: RefCell<Tunnel> = RefCell::new(Tunnel::dig());
}

/// Bytes on their way from the broker.
pub struct Way<'a> {
    /// What the broker has not said yet.
    rest: &'a [u8],
    /// What it has said, and has not come.
    under_way: usize,
}

impl<'a> Way<'a> {
    /// The broker says this.
    pub fn of(bytes: &'a [u8]) -> Way<'a> {
        Way { rest: bytes, under_way: 0 }
    }

    /// Whether all of it has come.
    pub fn is_over(&self) -> bool {
        self.rest.is_empty() && self.under_way == 0
    }

    /// Puts what has come into this room, some at least if there is any. How much that was.
    pub fn read(&mut self, room: &mut [u8]) -> usize {
        if self.is_over() {
            return 0;
        }
        TUNNEL.with_borrow_mut(|tunnel| {
            loop {
                let said = tunnel.server.writer().write(self.rest).expect("it may be said");
                self.rest = &self.rest[said..];
                self.under_way += said;
                tunnel.pump();
                match tunnel.socket.read(room) {
                    Ok(count) => {
                        self.under_way -= count;
                        return count;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => tunnel.wait(),
                    Err(error) => panic!("{error}"),
                }
            }
        })
    }
}

/// What nobody wants to hear is not to come later.
impl Drop for Way<'_> {
    fn drop(&mut self) {
        self.rest = &[];
        while self.under_way > 0 && !std::thread::panicking() {
            self.read(&mut [0; 10_000]);
        }
    }
}

/// What the broker hears of this.
pub fn back(bytes: &[u8]) -> Vec<u8> {
    let (mut rest, mut heard) = (bytes, Vec::new());
    TUNNEL.with_borrow_mut(|tunnel| {
        while heard.len() < bytes.len() {
            match tunnel.socket.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            // The handshake waits for somebody who reads.
            match tunnel.socket.read(&mut [0]) {
                Ok(count) => panic!("{count} bytes came that nobody sent"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            tunnel.pump();
            let read = tunnel.server.reader().read_to_end(&mut heard);
            assert!(read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
        }
    });
    heard
}

/// Both ends.
struct Tunnel {
    socket: Socket,
    wire: TcpStream,
    server: ServerConnection,
}

impl Tunnel {
    fn dig() -> Tunnel {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth();
        let mut config =
            builder.with_single_cert(vec![cert.der().clone()], key).expect("they belong together");
        config.max_fragment_size = Some(RECORD);
        let server = ServerConnection::new(Arc::new(config)).expect("a server");

        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("it has an address").port();
        let tls = Tls { verify: Verify::Nothing, identity: None };
        let deadline = Instant::now() + Duration::from_secs(60);
        let socket = connect("127.0.0.1", port, Some(&tls), deadline).expect("it listens");
        let (wire, _) = listener.accept().expect("it is there");
        wire.set_nonblocking(true).expect("it need not block");
        wire.set_nodelay(true).expect("it need not wait");
        Tunnel { socket, wire, server }
    }

    /// Carries what there is, both ways.
    fn pump(&mut self) {
        self.socket.flush().expect("it takes it");
        loop {
            match self.server.read_tls(&mut self.wire) {
                Ok(count) => assert!(count > 0, "it has hung up"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
            self.server.process_new_packets().expect("they are fine");
            if self.server.wants_write() || !self.server.wants_read() {
                break;
            }
        }
        while self.server.wants_write() {
            match self.server.write_tls(&mut self.wire) {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
    }

    /// Until one side has something to do.
    fn wait(&self) {
        if self.socket.has_unread() {
            return;
        }
        let until_room = |is_full| if is_full { PollFlags::OUT } else { PollFlags::empty() };
        let mut both = [
            PollFd::new(&self.socket, PollFlags::IN | until_room(self.socket.awaits_room(false))),
            PollFd::new(&self.wire, PollFlags::IN | until_room(self.server.wants_write())),
        ];
        poll(&mut both, None).expect("it waits");
    }
}
