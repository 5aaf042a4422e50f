//! A TLS server on a thread of its own, by rustls, which is the only one that can be made to misbehave. How real
//! brokers take us the end-to-end tests tell.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
};

use super::certificates::{Authority, Leaf};

/// What a server is asked for.
pub struct Server {
    config: Arc<ServerConfig>,
}

pub type Stream = StreamOwned<ServerConnection, TcpStream>;

impl Server {
    pub fn new(leaf: &Leaf) -> Server {
        Server::with(leaf, rustls::ALL_VERSIONS, None)
    }

    /// One that speaks these versions, and wants a certificate of this authority's from its client.
    pub fn with(
        leaf: &Leaf,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<&Authority>,
    ) -> Server {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = std::iter::once(&leaf.certificate).chain(&leaf.between);
        let chain = chain.map(|certificate| certificate.der().clone()).collect();
        let key = PrivateKeyDer::try_from(leaf.key.serialize_der()).unwrap();
        Server { config: Arc::new(builder.with_single_cert(chain, key).unwrap()) }
    }

    /// The same with something about it that is not usual.
    pub fn tuned(mut self, tune: impl FnOnce(&mut ServerConfig)) -> Server {
        tune(Arc::make_mut(&mut self.config));
        self
    }

    /// Its side of a connection.
    pub fn begin(&self) -> ServerConnection {
        ServerConnection::new(Arc::clone(&self.config)).unwrap()
    }

    /// Waits for one client and does this with it. The port, and what comes of it.
    pub fn serve<T: Send + 'static>(
        &self,
        work: impl FnOnce(Stream) -> io::Result<T> + Send + 'static,
    ) -> (u16, JoinHandle<io::Result<T>>) {
        let connection = self.begin();
        serve_tcp(move |stream| work(StreamOwned::new(connection, stream)))
    }

    /// One that sends back what it gets until its client has had enough. It tells how much that was.
    pub fn echo(&self) -> (u16, JoinHandle<io::Result<usize>>) {
        self.serve(|mut stream| {
            let (mut count, mut buffer) = (0, [0; 10_000]);
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(count),
                    some => {
                        stream.write_all(&buffer[..some])?;
                        stream.flush()?;
                        count += some;
                    }
                }
            }
        })
    }
}

/// The same without TLS.
pub fn serve_tcp<T: Send + 'static>(
    work: impl FnOnce(TcpStream) -> io::Result<T> + Send + 'static,
) -> (u16, JoinHandle<io::Result<T>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, thread::spawn(move || work(listener.accept()?.0)))
}
