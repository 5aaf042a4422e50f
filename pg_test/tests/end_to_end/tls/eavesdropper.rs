//! A broker that is none: it shows a certificate, and keeps what clients send it, as it came and decrypted.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use pg_test::Identity;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection, Stream, SupportedProtocolVersion};

/// Listens for as long as the test process lives.
pub struct Eavesdropper {
    port: u16,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
struct Notes {
    heard: Vec<u8>,
    decrypted: Vec<u8>,
}

/// A socket of which all is kept that comes out of it.
struct Tapped {
    socket: TcpStream,
    notes: Arc<Mutex<Notes>>,
}

impl Eavesdropper {
    /// Begins to listen on a port of 127.0.0.1.
    pub fn start(identity: &Identity) -> Eavesdropper {
        Eavesdropper::speaking(rustls::ALL_VERSIONS, identity)
    }

    /// The same for these versions of TLS.
    pub fn speaking(
        versions: &[&'static SupportedProtocolVersion],
        identity: &Identity,
    ) -> Eavesdropper {
        let certificates = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
        let certificates = certificates.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key");
        // Whether they belong together is the client's business.
        let key = ring::sign::any_supported_type(&key).expect("a key of a usual kind");
        let shown = SingleCertAndKey::from(CertifiedKey::new(certificates, key));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions that there are")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shown));
        let config = Arc::new(config);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its port").port();
        let notes = Arc::<Mutex<Notes>>::default();
        let kept = Arc::clone(&notes);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (notes, config) = (Arc::clone(&kept), Arc::clone(&config));
                // That the client leaves is what it is there for.
                thread::spawn(move || listen(Tapped { socket, notes }, config));
            }
        });
        Eavesdropper { port, notes }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Somebody came, and said neither one of these words nor anything else, in clear or in confidence.
    #[track_caller]
    pub fn assert_has_heard_nothing_but_the_handshake(&self, words: &[&str]) {
        let notes = lock(&self.notes);
        let contains = |text: &[u8]| notes.heard.windows(text.len()).any(|window| window == text);
        assert!(contains(b"\x16\x03"), "it heard no handshake");
        for word in words.iter().chain(&["AMQP"]) {
            assert!(!contains(word.as_bytes()), "it heard {word}");
        }
        assert_eq!(String::from_utf8_lossy(&notes.decrypted), "");
    }

    /// What clients said to it in confidence.
    pub fn decrypted(&self) -> Vec<u8> {
        lock(&self.notes).decrypted.clone()
    }
}

fn listen(mut tapped: Tapped, config: Arc<ServerConfig>) -> io::Result<()> {
    let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
    let notes = Arc::clone(&tapped.notes);
    let mut bytes = [0; 1024];
    loop {
        let count = Stream::new(&mut session, &mut tapped).read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        lock(&notes).decrypted.extend_from_slice(&bytes[..count]);
    }
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Read for Tapped {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.read(bytes)?;
        lock(&self.notes).heard.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}

impl Write for Tapped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
