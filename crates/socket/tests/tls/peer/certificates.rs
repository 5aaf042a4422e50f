//! Certificates, made as they are needed, in a folder of the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams,
    CertifiedIssuer, DnType, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A folder that is gone with the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("socket_test.{}.{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    /// Writes a file that its owner alone may read.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Who signs certificates.
pub type Authority = CertifiedIssuer<'static, KeyPair>;

pub fn authority(name: &str) -> Authority {
    CertifiedIssuer::self_signed(authority_params(name), KeyPair::generate().unwrap()).unwrap()
}

/// One that another one has signed.
pub fn authority_below(name: &str, above: &Authority) -> Authority {
    let key = KeyPair::generate().unwrap();
    CertifiedIssuer::signed_by(authority_params(name), key, above).unwrap()
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A certificate with its key, and those between it and its authority.
pub struct Leaf {
    pub certificate: Certificate,
    pub key: KeyPair,
    pub between: Vec<Certificate>,
}

impl Leaf {
    /// As files have it.
    pub fn chain_pem(&self) -> String {
        let between = self.between.iter().map(Certificate::pem);
        std::iter::once(self.certificate.pem()).chain(between).collect()
    }
}

/// What a certificate says of these names.
pub fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.serial_number = Some(SerialNumber::from(7u64));
    params
}

pub fn expired(names: &[&str]) -> CertificateParams {
    let mut params = params(names);
    params.not_after = date_time_ymd(2020, 1, 1);
    params
}

pub fn of_the_future(names: &[&str]) -> CertificateParams {
    let mut params = params(names);
    params.not_before = date_time_ymd(2500, 1, 1);
    params
}

pub fn leaf(params: CertificateParams, authority: &Authority) -> Leaf {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    Leaf { certificate, key, between: Vec::new() }
}

/// One that signed itself, as `openssl req -x509` makes it: it says that it is an authority's.
pub fn self_signed(mut params: CertificateParams) -> Leaf {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Leaf { certificate, key, between: Vec::new() }
}

/// A list that revokes certificate 7.
pub fn revocation_list(authority: &Authority) -> String {
    revocation_list_until(authority, 2400)
}

/// The same, of which there should be another one by the beginning of this year.
pub fn revocation_list_until(authority: &Authority, year: i32) -> String {
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(7u64),
        revocation_time: date_time_ymd(2021, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2022, 1, 1),
        next_update: date_time_ymd(year, 1, 1),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(authority).unwrap().pem().unwrap()
}
