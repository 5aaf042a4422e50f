//! How the connection is secured: libpq's settings, with their meanings (its manual, "SSL Support").

use std::ffi::CString;
use std::path::PathBuf;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use socket::{Identity, Roots, Tls, Trust, Verify};

use super::kinds::{define_text, string};

/// What the broker has to prove. libpq's `allow` and `prefer` are missing: nothing falls back to clear text with a
/// password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
enum SslMode {
    #[name = c"disable"]
    Disable,
    #[name = c"require"]
    Require,
    #[name = c"verify-ca"]
    VerifyCa,
    #[name = c"verify-full"]
    VerifyFull,
}

/// Whom libpq's `sslrootcert` means by this word.
const SYSTEM: &str = "system";

static SSLMODE: GucSetting<SslMode> = GucSetting::<SslMode>::new(SslMode::Disable);
/// Who may sign the broker's certificate.
static SSLROOTCERT: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
/// Our own certificate.
static SSLCERT: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
/// Its key.
static SSLKEY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
/// Certificates that do not count any more.
static SSLCRL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// Defines the settings.
pub fn init() {
    GucRegistry::define_enum_guc(
        c"amqp.sslmode",
        c"Whether the connection to the broker is encrypted, and what the broker has to prove.",
        c"",
        &SSLMODE,
        GucContext::Sighup,
        GucFlags::default(),
    );
    let file = |name, description, setting| {
        define_text(name, description, setting, GucContext::Sighup, GucFlags::default());
    };
    file(
        c"amqp.sslrootcert",
        c"File of the certificates of who may sign the broker's; system: whom this machine trusts.",
        &SSLROOTCERT,
    );
    file(c"amqp.sslcert", c"File of our own certificate.", &SSLCERT);
    file(c"amqp.sslkey", c"File of the key of amqp.sslcert.", &SSLKEY);
    file(c"amqp.sslcrl", c"File of the list of revoked certificates of brokers.", &SSLCRL);
}

/// How the connection is to be secured, as the settings stand now; none: in clear.
///
/// # Errors
///
/// Which settings do not go together.
pub fn tls() -> Result<Option<Tls>, String> {
    let file = |setting| Some(string(setting)).filter(|path| !path.is_empty());
    Files {
        sslrootcert: file(&SSLROOTCERT),
        sslcert: file(&SSLCERT),
        sslkey: file(&SSLKEY),
        sslcrl: file(&SSLCRL),
    }
    .tls(SSLMODE.get())
}

/// The files as they are set.
#[derive(Default)]
struct Files {
    sslrootcert: Option<String>,
    sslcert: Option<String>,
    sslkey: Option<String>,
    sslcrl: Option<String>,
}

impl Files {
    fn tls(self, mode: SslMode) -> Result<Option<Tls>, String> {
        if mode == SslMode::Disable {
            return Ok(None);
        }
        let identity = match (self.sslcert, self.sslkey) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                Some(Identity { certificate: PathBuf::from(certificate), key: PathBuf::from(key) })
            }
            (Some(_), None) => return Err("amqp.sslcert needs amqp.sslkey".to_owned()),
            (None, Some(_)) => return Err("amqp.sslkey needs amqp.sslcert".to_owned()),
        };
        let revoked = self.sslcrl.map(PathBuf::from);
        let trust = match self.sslrootcert {
            Some(word) if word == SYSTEM && mode != SslMode::VerifyFull => {
                return Err("amqp.sslrootcert = system needs amqp.sslmode = verify-full: \
                    anybody can have a certificate that the whole world trusts"
                    .to_owned());
            }
            Some(word) if word == SYSTEM => Some(Trust { roots: Roots::System, revoked }),
            Some(file) => Some(Trust { roots: Roots::File(PathBuf::from(file)), revoked }),
            None if revoked.is_some() => {
                return Err("amqp.sslcrl needs amqp.sslrootcert".to_owned());
            }
            None => None,
        };
        let verify = match (mode, trust) {
            (SslMode::VerifyFull, Some(trust)) => Verify::SignerAndName(trust),
            // Also with require, as libpq has it: who names a CA wants it to count.
            (_, Some(trust)) => Verify::Signer(trust),
            (SslMode::VerifyCa | SslMode::VerifyFull, None) => {
                return Err("amqp.sslmode = verify-ca and verify-full need amqp.sslrootcert: \
                    a file with the certificate of the CA, or system"
                    .to_owned());
            }
            (_, None) => Verify::Nothing,
        };
        Ok(Some(Tls { verify, identity }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: [&str; 4]) -> Files {
        let [sslrootcert, sslcert, sslkey, sslcrl] =
            names.map(|name| Some(name.to_owned()).filter(|name| !name.is_empty()));
        Files { sslrootcert, sslcert, sslkey, sslcrl }
    }

    fn verify(mode: SslMode, names: [&str; 4]) -> Verify {
        files(names).tls(mode).unwrap().unwrap().verify
    }

    #[test]
    fn the_words_mean_what_they_mean_in_libpq() {
        let trust = |roots: Roots, revoked: Option<&str>| Trust {
            roots,
            revoked: revoked.map(PathBuf::from),
        };
        let file = || Roots::File(PathBuf::from("ca"));
        assert_eq!(files(["ca", "", "", ""]).tls(SslMode::Disable).unwrap(), None);
        assert_eq!(verify(SslMode::Require, ["", "", "", ""]), Verify::Nothing);
        for mode in [SslMode::Require, SslMode::VerifyCa] {
            assert_eq!(verify(mode, ["ca", "", "", ""]), Verify::Signer(trust(file(), None)));
        }
        let full = |names| verify(SslMode::VerifyFull, names);
        assert_eq!(full(["ca", "", "", "crl"]), Verify::SignerAndName(trust(file(), Some("crl"))));
        assert_eq!(full(["system", "", "", ""]), Verify::SignerAndName(trust(Roots::System, None)));
    }

    #[test]
    fn what_does_not_go_together_is_refused_by_its_names() {
        let refused = |mode, names| files(names).tls(mode).unwrap_err();
        for mode in [SslMode::Require, SslMode::VerifyCa] {
            assert!(refused(mode, ["system", "", "", ""]).contains("verify-full"));
        }
        for mode in [SslMode::VerifyCa, SslMode::VerifyFull] {
            assert!(refused(mode, ["", "", "", ""]).contains("amqp.sslrootcert"));
        }
        assert!(refused(SslMode::Require, ["", "", "", "crl"]).contains("amqp.sslcrl"));
        assert!(refused(SslMode::Require, ["", "cert", "", ""]).contains("amqp.sslkey"));
        assert!(refused(SslMode::Require, ["", "", "key", ""]).contains("amqp.sslcert"));
        // Nothing of it counts in clear.
        assert!(files(["system", "cert", "", "crl"]).tls(SslMode::Disable).is_ok());
    }

    #[test]
    fn our_own_certificate_is_shown_whatever_is_checked() {
        let identity = Identity { certificate: PathBuf::from("c"), key: PathBuf::from("k") };
        let tls = files(["", "c", "k", ""]).tls(SslMode::Require).unwrap().unwrap();
        assert_eq!(tls, Tls { verify: Verify::Nothing, identity: Some(identity) });
    }
}
