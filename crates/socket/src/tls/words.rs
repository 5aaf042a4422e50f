//! What an operator is told. Where rustls's words are good they stay; where they speak of records and alerts they
//! become what can be done about it.

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

use super::verifier::is_ca;

/// A connection that has sent all that it may.
pub const USED_UP: &str = "this connection has sent as many records as one key of TLS 1.2 is good for; \
                           the next one has another";

/// Names of a certificate that are said at most.
const NAMES: usize = 5;

/// What went wrong, after "broker cannot be reached: ". `has_identity`: whether we have a certificate of our own.
pub fn of(error: &Error, has_identity: bool) -> String {
    match error {
        // What is read first is no record: plain AMQP, or something else altogether.
        Error::InvalidMessage(_) => {
            format!(
                "it does not speak TLS on this port, or something between us changes what it says ({error})"
            )
        }
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::AlertReceived(alert) => of_alert(*alert, has_identity),
        Error::PeerIncompatible(_) => {
            format!(
                "it offers no version or cipher of TLS that we know, which are those of 1.2 and 1.3 ({error})"
            )
        }
        _ => format!("TLS: {error}"),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "its certificate is not signed by a CA in amqp.sslrootcert \
            (or it does not send the certificates between its own and the CA's)"
                .to_owned()
        }
        CertificateError::Revoked => "its certificate is revoked (amqp.sslcrl)".to_owned(),
        CertificateError::UnknownRevocationStatus => {
            "amqp.sslcrl has no list of a CA that its certificate depends on".to_owned()
        }
        CertificateError::ExpiredRevocationListContext { time, next_update } => format!(
            "a list in amqp.sslcrl is out of date: there should have been another one {} ago",
            between(next_update, time)
        ),
        CertificateError::ExpiredContext { time, not_after } => {
            format!("its certificate expired {} ago", between(not_after, time))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("its certificate is valid only in {}", between(time, not_before))
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            match presented.as_slice() {
                [] => format!(
                    "its certificate is for no host at all (subjectAltName), and we connect to \"{expected}\": \
                     amqp.host, or amqp.sslmode = verify-ca"
                ),
                names => {
                    // There are certificates for hundreds.
                    let (said, left) = names.split_at(names.len().min(NAMES));
                    let more = match left.len() {
                        0 => String::new(),
                        left => format!(" and {left} more"),
                    };
                    let said = said.join(", ");
                    format!(
                        "its certificate is not for \"{expected}\", but for {said}{more}: \
                         amqp.host, or amqp.sslmode = verify-ca"
                    )
                }
            }
        }
        error if is_ca(&Error::InvalidCertificate(error.clone())) => {
            "its certificate is a CA's, and does not stand in amqp.sslrootcert itself".to_owned()
        }
        error => format!("its certificate cannot be used: {error}"),
    }
}

fn of_alert(alert: AlertDescription, has_identity: bool) -> String {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked,
        CertificateUnknown, DecryptError, HandshakeFailure, ProtocolVersion, UnknownCA,
        UnsupportedCertificate,
    };
    match alert {
        CertificateRequired => {
            "it wants a client certificate: amqp.sslcert, amqp.sslkey".to_owned()
        }
        HandshakeFailure | BadCertificate if !has_identity => format!(
            "it breaks off the handshake, and may want a client certificate: amqp.sslcert, amqp.sslkey ({alert:?})"
        ),
        BadCertificate
        | CertificateExpired
        | CertificateRevoked
        | CertificateUnknown
        | DecryptError
        | AccessDenied
        | UnknownCA
        | UnsupportedCertificate
            if has_identity =>
        {
            format!("it refuses the certificate in amqp.sslcert ({alert:?})")
        }
        ProtocolVersion => {
            "it offers no version of TLS that we know, which are 1.2 and 1.3".to_owned()
        }
        alert => format!("it breaks off TLS ({alert:?})"),
    }
}

/// The time from one to the other, in words.
fn between(from: &UnixTime, to: &UnixTime) -> String {
    let seconds = to.as_secs().saturating_sub(from.as_secs());
    match seconds {
        0..120 => format!("{seconds} seconds"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
