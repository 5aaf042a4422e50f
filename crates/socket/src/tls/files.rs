//! Certificates, keys and revocation lists as they lie on disk: PEM files. They are read by whoever runs us, the
//! operating system's user of the server.

use std::fmt::Display;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// Bytes of the largest file: a machine's whole store of authorities has some 200 kB, large revocation lists
/// several megabytes.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Who may do nothing with a key of the server's own user: the group, and others. These are libpq's rules
/// (fe-secure-openssl.c, `initialize_SSL`).
const OTHERS: u32 = 0o077;

/// The same for a key of root's, which the group may read.
const OTHERS_OF_ROOT: u32 = 0o037;

/// How a file begins to speak of a passphrase, in the two ways that there are.
const ENCRYPTED: [&str; 2] = ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED"];

/// What is wrong with the file that a setting names.
pub fn unusable(setting: &str, path: &Path, what: &dyn Display) -> io::Error {
    io::Error::other(format!("{setting} \"{}\" {what}", path.display()))
}

/// What is wrong with our certificate and key, taken together.
pub fn unusable_pair(certificate: &Path, key: &Path, error: &rustls::Error) -> io::Error {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            let whose = format!(
                "is not the key of the certificate in amqp.sslcert \"{}\"",
                certificate.display()
            );
            unusable("amqp.sslkey", key, &whose)
        }
        // To compare it with the key it is looked into for the first time.
        rustls::Error::InvalidCertificate(_) => {
            unusable("amqp.sslcert", certificate, &no_certificate(error))
        }
        _ => unusable("amqp.sslkey", key, &format_args!("cannot be used: {error}")),
    }
}

/// What is wrong with something that a file has for a certificate.
pub fn no_certificate(error: &rustls::Error) -> String {
    let error: &dyn Display = match error {
        rustls::Error::InvalidCertificate(error) => error,
        error => error,
    };
    format!("holds a certificate that cannot be used: {error}")
}

/// Why the machine trusts nobody.
pub fn no_system_roots(errors: &[impl Display]) -> io::Error {
    let why = errors.first().map(|error| format!(": {error}")).unwrap_or_default();
    io::Error::other(format!(
        "amqp.sslrootcert = system finds no certificate authorities on this machine{why}"
    ))
}

/// The certificates in a file, one at least.
pub fn certificates(setting: &str, path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    all(setting, path, "certificate")
}

/// The revocation lists in a file, one at least.
pub fn revocation_lists(
    setting: &str,
    path: &Path,
) -> io::Result<Vec<CertificateRevocationListDer<'static>>> {
    all(setting, path, "revocation list")
}

fn all<T: PemObject>(setting: &str, path: &Path, what: &str) -> io::Result<Vec<T>> {
    let (text, _) = read(setting, path)?;
    let parsed: Result<Vec<T>, pem::Error> = T::pem_slice_iter(&text).collect();
    let found = parsed
        .map_err(|error| unusable(setting, path, &format_args!("is no PEM file: {error}")))?;
    if found.is_empty() {
        return Err(unusable(setting, path, &format_args!("holds no {what} (PEM)")));
    }
    Ok(found)
}

/// The key in a file that nobody else may read.
pub fn key(setting: &str, path: &Path) -> io::Result<PrivateKeyDer<'static>> {
    let (text, metadata) = read(setting, path)?;
    if let Some(problem) = is_too_open(metadata.uid(), metadata.mode()) {
        return Err(unusable(setting, path, &problem));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let text = String::from_utf8_lossy(&text);
        if ENCRYPTED.iter().any(|mark| text.contains(mark)) {
            let what = "is protected by a passphrase, which nobody is there to enter: store it without \
                        (openssl pkey -in … -out …)";
            return unusable(setting, path, &what);
        }
        match error {
            pem::Error::NoItemsFound => unusable(setting, path, &"holds no private key (PEM)"),
            error => unusable(setting, path, &format_args!("is no PEM file: {error}")),
        }
    })
}

/// What is wrong with the rights on a key's file, if anything is.
fn is_too_open(owner: u32, mode: u32) -> Option<&'static str> {
    match owner {
        0 if mode & OTHERS_OF_ROOT != 0 => Some("is open to others: chmod 0640, or less"),
        0 => None,
        _ if owner != rustix::process::geteuid().as_raw() => {
            Some("belongs neither to the server's user nor to root")
        }
        _ if mode & OTHERS != 0 => Some("is open to others: chmod 0600, or less"),
        _ => None,
    }
}

fn read(setting: &str, path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    let problem =
        |error: io::Error| unusable(setting, path, &format_args!("cannot be read: {error}"));
    // Before it is opened: a pipe would have us wait for who writes to it.
    if !std::fs::metadata(path).map_err(problem)?.is_file() {
        return Err(unusable(setting, path, &"is no regular file"));
    }
    let file = File::open(path).map_err(problem)?;
    let metadata = file.metadata().map_err(problem)?;
    let mut text = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut text).map_err(problem)?;
    if text.len() as u64 > LARGEST {
        return Err(unusable(setting, path, &format_args!("is larger than {LARGEST} bytes")));
    }
    Ok((text, metadata))
}
