//! What TLS is to check, and who we are.

mod files;
mod verifier;
mod words;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, SupportedCipherSuite,
};

use verifier::Verifier;

/// Bytes in the largest record.
const RECORD: usize = 16 * 1024;

/// Records that are left to a key when it counts as used up: more than one write needs, and what the session says of
/// itself.
const SPARE: u64 = 1000;

/// How a connection is secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// What the broker has to prove (`sslmode`).
    pub verify: Verify,
    /// What we prove.
    pub identity: Option<Identity>,
}

/// What the broker has to prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Nothing: whoever answers is taken for the broker (`require`).
    Nothing,
    /// That somebody whom we trust has signed its certificate (`verify-ca`).
    Signer(Trust),
    /// The same, and that the certificate was made for the name or address that we connect to (`verify-full`).
    SignerAndName(Trust),
}

/// Whom we trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Who may sign (`sslrootcert`).
    pub roots: Roots,
    /// File of certificates that do not count any more (`sslcrl`).
    pub revoked: Option<PathBuf>,
}

/// Who may sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Whom the machine trusts.
    System,
    /// The certificates in this file.
    File(PathBuf),
}

/// Our own certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// File of the certificate, and of those between it and its CA (`sslcert`).
    pub certificate: PathBuf,
    /// File of its key (`sslkey`).
    pub key: PathBuf,
}

impl Tls {
    /// Begins a session with this host.
    ///
    /// # Errors
    ///
    /// Which file cannot be used, and why.
    pub(crate) fn begin(&self, host: &str) -> io::Result<Box<Session>> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            io::Error::other(format!("\"{host}\" is no name that a certificate can have"))
        })?;
        let provider = Arc::new(ring::default_provider());
        let config = self.config(&provider)?;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        Ok(Box::new(Session {
            connection,
            is_unverified: self.verify == Verify::Nothing,
            has_identity: self.identity.is_some(),
            records: 0,
        }))
    }

    fn config(&self, provider: &Arc<CryptoProvider>) -> io::Result<ClientConfig> {
        let verifier = self.verifier(provider)?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let chain = files::certificates("amqp.sslcert", certificate)?;
                let config = builder.with_client_auth_cert(chain, files::key("amqp.sslkey", key)?);
                config.map_err(|error| files::unusable_pair(certificate, key, &error))?
            }
        };
        // The next connection checks everything anew. What it could be spared by would only be kept for nothing.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> io::Result<Verifier> {
        let (trust, with_name) = match &self.verify {
            Verify::Nothing => return Ok(Verifier::of_nothing(provider)),
            Verify::Signer(trust) => (trust, false),
            Verify::SignerAndName(trust) => (trust, true),
        };
        let mut roots = RootCertStore::empty();
        let own = match &trust.roots {
            Roots::System => {
                let found = rustls_native_certs::load_native_certs();
                let (count, _) = roots.add_parsable_certificates(found.certs);
                if count == 0 {
                    return Err(files::no_system_roots(&found.errors));
                }
                Vec::new()
            }
            Roots::File(path) => {
                let certificates = files::certificates("amqp.sslrootcert", path)?;
                for certificate in &certificates {
                    roots.add(certificate.clone()).map_err(|error| {
                        let what = files::no_certificate(&error);
                        files::unusable("amqp.sslrootcert", path, &what)
                    })?;
                }
                certificates
            }
        };
        let revoked = match &trust.revoked {
            Some(path) => files::revocation_lists("amqp.sslcrl", path)?,
            None => Vec::new(),
        };
        Verifier::new(roots, own, revoked, with_name, provider).map_err(|error| {
            let path = trust.revoked.clone().unwrap_or_default();
            files::unusable("amqp.sslcrl", &path, &error.to_string())
        })
    }
}

/// One session.
pub(crate) struct Session {
    pub connection: ClientConnection,
    pub is_unverified: bool,
    has_identity: bool,
    /// How many were written, about.
    records: u64,
}

impl Session {
    /// Encrypts of these bytes what there is room for.
    ///
    /// # Errors
    ///
    /// If the session has failed, or has used its key up: TLS 1.2 has no new ones for it. rustls would take the bytes all
    /// the same, and send a farewell in their place.
    pub fn encrypt(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(SupportedCipherSuite::Tls12(suite)) = self.connection.negotiated_cipher_suite()
            && self.records > suite.common.confidentiality_limit.saturating_sub(SPARE)
        {
            return Err(io::Error::new(io::ErrorKind::InvalidData, words::USED_UP));
        }
        let written = self.connection.writer().write(bytes);
        let count = written.map_err(|error| self.explain_io(error))?;
        self.records += count.div_ceil(RECORD) as u64;
        Ok(count)
    }

    /// What went wrong, for the operator.
    pub fn explain(&self, error: &rustls::Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, words::of(error, self.has_identity))
    }

    /// The same for what comes of the session as an error of the operating system's.
    pub fn explain_io(&self, error: io::Error) -> io::Error {
        if error.kind() != io::ErrorKind::InvalidData {
            return error;
        }
        match error.downcast::<rustls::Error>() {
            Ok(error) => self.explain(&error),
            Err(error) => io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {error}")),
        }
    }

    pub fn version(&self) -> Option<&'static str> {
        Some(match self.connection.protocol_version()? {
            ProtocolVersion::TLSv1_2 => "TLSv1.2",
            ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => "TLS",
        })
    }
}
