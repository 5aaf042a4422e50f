//! Whether the other side is the broker that it should be: libpq's rules, on rustls's checks.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

/// Checks one broker's certificate.
#[derive(Debug)]
pub struct Verifier {
    /// None: anything will do. That the other side has the certificate's key is checked all the same.
    checks: Option<Checks>,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
struct Checks {
    chain_and_name: Arc<WebPkiServerVerifier>,
    with_name: bool,
    /// Certificates that the operator has put down as trusted.
    own: Vec<CertificateDer<'static>>,
}

impl Verifier {
    /// One that takes whoever answers.
    pub fn of_nothing(provider: &Arc<CryptoProvider>) -> Verifier {
        Verifier { checks: None, algorithms: provider.signature_verification_algorithms }
    }

    /// One that trusts `roots`, or `own` as they are, but for what is `revoked`.
    ///
    /// # Errors
    ///
    /// If a revocation list cannot be used.
    pub fn new(
        roots: RootCertStore,
        own: Vec<CertificateDer<'static>>,
        revoked: Vec<CertificateRevocationListDer<'static>>,
        with_name: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Verifier, String> {
        let chain_and_name =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                // Where there are any, each CA has to have one, and a list is no list once it is out of date: so libpq
                // has it (X509_V_FLAG_CRL_CHECK_ALL), and a list that somebody forgot to put there revokes nothing.
                .with_crls(revoked)
                .enforce_revocation_expiration()
                .build()
                .map_err(|error| error.to_string())?;
        Ok(Verifier {
            checks: Some(Checks { chain_and_name, with_name, own }),
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(Checks { chain_and_name, with_name, own }) = &self.checks else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = chain_and_name.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // The name comes last: all else was right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !with_name => Ok(ServerCertVerified::assertion()),
            // One that signed itself, as `openssl req -x509` makes them, says that it is a CA's. As its own root it
            // is good enough for OpenSSL, and so for libpq. Its dates were looked at before.
            Err(error) if is_ca(&error) && own.contains(end_entity) => {
                if *with_name {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether nothing speaks against a certificate but that it is a CA's.
pub fn is_ca(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(error))) = error else {
        return false;
    };
    error.downcast_ref::<webpki::Error>() == Some(&webpki::Error::CaUsedAsEndEntity)
}
