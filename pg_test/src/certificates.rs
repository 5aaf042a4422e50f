//! Certificates as tests need them: signed by an authority or by nobody, for a name or without one, of another
//! time, revoked. They are made anew for each run, so that none stands in the repository, and none expires there.
//!
//! What servers read of them are [`CertificateFiles`].

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

use crate::folder::{Folder, Place};
use crate::janitor::StopSignal;

/// What everything here is valid in, unless it says otherwise: longer than any test lives.
const YEARS: Range<i32> = 2020..2120;

/// Who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// Whom a certificate is to be for.
#[derive(Clone, Debug)]
pub struct Subject {
    params: CertificateParams,
    serial: u64,
}

/// A certificate with its key, both as PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate; behind it those between it and its root, if it was made with [`Identity::behind`].
    pub certificate: String,
    /// The private key, in the clear.
    pub key: String,
    serial: u64,
}

impl Authority {
    /// A root, of which nobody has heard yet.
    pub fn new(name: &str) -> Authority {
        let (params, key) = (authority_params(name), new_key());
        let certificate = params.self_signed(&key).expect("a root");
        let certificate = certificate.pem();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// An authority below this one.
    pub fn intermediate(&self, name: &str) -> Authority {
        let (params, key) = (authority_params(name), new_key());
        let certificate = params.signed_by(&key, &self.issuer).expect("an intermediate");
        let certificate = certificate.pem();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// Signs a certificate.
    pub fn issue(&self, subject: Subject) -> Identity {
        let key = new_key();
        let certificate = subject.params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            serial: subject.serial,
        }
    }

    /// Its own certificate as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A list as PEM that revokes these certificates of it.
    pub fn revocations(&self, revoked: &[&Identity]) -> String {
        self.revocations_in(YEARS, revoked)
    }

    /// The same of another time: the next list was to come at the beginning of the last year.
    pub fn revocations_in(&self, years: Range<i32>, revoked: &[&Identity]) -> String {
        let (since, until) = (date_time_ymd(years.start, 1, 1), date_time_ymd(years.end, 1, 1));
        let revoke = |identity: &&Identity| RevokedCertParams {
            serial_number: SerialNumber::from(identity.serial),
            revocation_time: since,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: since,
            next_update: until,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(revoke).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list of revocations");
        list.pem().expect("a list of revocations as PEM")
    }
}

impl Subject {
    /// A server with these names or IP addresses. The first one is its common name, too.
    pub fn server(names: &[&str]) -> Subject {
        let names_text = names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let params = CertificateParams::new(names_text).expect("names of a server");
        Subject::of(params, names[0], ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A server whose only name is the common name, as before the year 2000.
    pub fn server_by_common_name(name: &str) -> Subject {
        Subject::of(CertificateParams::default(), name, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client whose common name is this user's.
    pub fn user(name: &str) -> Subject {
        Subject::of(CertificateParams::default(), name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// Valid from the beginning of the first year to that of the other one.
    pub fn valid_in(mut self, years: Range<i32>) -> Subject {
        self.params.not_before = date_time_ymd(years.start, 1, 1);
        self.params.not_after = date_time_ymd(years.end, 1, 1);
        self
    }

    /// Signed by itself, and an authority by its own account: what `openssl req -x509` makes.
    pub fn sign_itself(mut self) -> Identity {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // openssl req -x509 says nothing of usages.
        self.params.extended_key_usages = Vec::new();
        let key = new_key();
        let certificate = self.params.self_signed(&key).expect("a certificate");
        Identity { certificate: certificate.pem(), key: key.serialize_pem(), serial: self.serial }
    }

    fn of(mut params: CertificateParams, name: &str, usage: ExtendedKeyUsagePurpose) -> Subject {
        // A list of revocations names certificates by these.
        static ISSUED: AtomicU64 = AtomicU64::new(1);
        let serial = ISSUED.fetch_add(1, Ordering::Relaxed);
        params.serial_number = Some(SerialNumber::from(serial));
        params.distinguished_name = named(name);
        params.extended_key_usages = vec![usage];
        Subject { params, serial }.valid_in(YEARS)
    }
}

impl Identity {
    /// The same with the certificate of the authority that signed it, as a server shows it.
    pub fn behind(mut self, intermediate: &Authority) -> Identity {
        self.certificate.push_str(intermediate.certificate());
        self
    }

    /// The key as PEM, encrypted with this passphrase.
    ///
    /// # Panics
    /// If there is no `openssl` that does it.
    pub fn encrypted_key(&self, passphrase: &str) -> String {
        let mut openssl = Command::new("openssl")
            .args(["pkcs8", "-topk8", "-passout", &format!("pass:{passphrase}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("could not run openssl");
        let mut stdin = openssl.stdin.take().expect("a pipe");
        stdin.write_all(self.key.as_bytes()).expect("openssl reads the key");
        drop(stdin);
        let output = openssl.wait_with_output().expect("openssl ends");
        assert!(output.status.success(), "openssl encrypted no key");
        String::from_utf8(output.stdout).expect("PEM is text")
    }
}

/// Files of certificates and keys, which belong to the user that the servers run as.
#[derive(Debug)]
pub struct CertificateFiles {
    folder: Folder,
}

impl CertificateFiles {
    /// A folder for them, removed when dropped.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> CertificateFiles {
        CertificateFiles { folder: Folder::new(Place::Disk, StopSignal::Kill) }
    }

    /// Where the file of this name is, or would be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file that its owner alone may read. One of this name is replaced at one blow: who reads gets the
    /// old or the new one, whole.
    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        self.put_with_mode(name, text, 0o600)
    }

    /// The same, for a file with these permissions.
    pub fn put_with_mode(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let new = self.folder.write(&format!("{name}.new"), text);
        self.finish(&new, name, mode)
    }

    /// The same, for a file of root's that the servers' group has a part in. False, and nothing written, if we are
    /// not root.
    pub fn put_of_root(&self, name: &str, text: &str, mode: u32) -> bool {
        let new = self.folder.write(&format!("{name}.new"), text);
        let is_given = chown(&new, Some(0), None).is_ok();
        if is_given {
            self.finish(&new, name, mode);
        }
        is_given
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) {
        let path = self.path(name);
        fs::remove_file(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    fn finish(&self, new: &Path, name: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        let done = fs::set_permissions(new, fs::Permissions::from_mode(mode))
            .and_then(|()| fs::rename(new, &path));
        done.unwrap_or_else(|error| panic!("could not write {}: {error}", path.display()));
        path
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.not_before = date_time_ymd(YEARS.start, 1, 1);
    params.not_after = date_time_ymd(YEARS.end, 1, 1);
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}
