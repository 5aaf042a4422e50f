//! Whom the broker takes the worker for: by a password, by a certificate, by both; and the files that this takes.

use pg_test::{Authority, CertificateFiles, Identity, Subject};

use super::ground::{
    USER, arrive, assert_accepted, bed, fixture, ground, insert, line, set, stands_still,
    streams_at,
};

const PASSPHRASE: &str = "open-sesame-of-the-test";

/// Files of one worker, each of which may be spoilt and put right.
struct Papers {
    files: CertificateFiles,
    identity: Identity,
}

impl Papers {
    /// Those of a user that the broker knows.
    fn of_the_user() -> Papers {
        Papers::of(&ground().authority, USER)
    }

    fn of(authority: &Authority, user: &str) -> Papers {
        let files = CertificateFiles::new();
        let papers = Papers { files, identity: authority.issue(Subject::user(user)) };
        ["root.pem", "client.pem", "client.key", "crl.pem"]
            .iter()
            .for_each(|name| papers.put_right(name));
        papers
    }

    /// The file as it is to be.
    fn put_right(&self, name: &str) {
        let list = || ground().authority.revocations(&[&ground().revoked]);
        match name {
            "root.pem" => self.files.put(name, ground().authority.certificate()),
            "client.pem" => self.files.put(name, &self.identity.certificate),
            "client.key" => self.files.put(name, &self.identity.key),
            "crl.pem" => self.files.put(name, &list()),
            _ => panic!("there is no {name} among the papers"),
        };
    }

    /// Settings that name all of them.
    fn conf(&self) -> Vec<String> {
        let path = |name: &str| self.files.path(name).display().to_string();
        vec![
            line("amqp.sslrootcert", path("root.pem")),
            line("amqp.sslcert", path("client.pem")),
            line("amqp.sslkey", path("client.key")),
            line("amqp.sslcrl", path("crl.pem")),
        ]
    }

    /// Those of a login by certificate alone: user and password are wrong.
    fn conf_of_certificate(&self) -> Vec<String> {
        let mut conf = self.conf();
        conf.push(line("amqp.auth", "certificate"));
        conf.push(line("amqp.username", "nobody"));
        conf.push(line("amqp.password", "wrong"));
        conf
    }
}

/// A file that was spoilt before the server started is named with its setting; put right, all goes on, without a
/// reload.
#[track_caller]
fn assert_mended(name: &str, setting: &str, spoil: impl FnOnce(&CertificateFiles)) {
    let papers = Papers::of_the_user();
    spoil(&papers.files);
    let bed = bed(ground().ports.demanding, &papers.conf());
    let (fixture, mut client) = fixture(&bed, "tls_file");
    let path = papers.files.path(name).display().to_string();
    let reason = stands_still(&mut client, 1, &[setting, &path]);
    for secret in ["PRIVATE KEY", PASSPHRASE] {
        assert!(!reason.contains(secret), "{reason}");
    }
    papers.put_right(name);
    arrive(&fixture, &mut client, &[1]);
}

#[test]
fn a_file_that_is_missing_is_named() {
    for (name, setting) in [
        ("root.pem", "amqp.sslrootcert"),
        ("client.pem", "amqp.sslcert"),
        ("client.key", "amqp.sslkey"),
        ("crl.pem", "amqp.sslcrl"),
    ] {
        assert_mended(name, setting, |files| files.remove(name));
    }
}

#[test]
fn a_file_that_is_not_pem_is_named() {
    for (name, setting) in [
        ("root.pem", "amqp.sslrootcert"),
        ("client.pem", "amqp.sslcert"),
        ("client.key", "amqp.sslkey"),
        ("crl.pem", "amqp.sslcrl"),
    ] {
        assert_mended(name, setting, |files| drop(files.put(name, "what is this?\n")));
    }
}

#[test]
fn a_file_of_authorities_without_one_is_named() {
    assert_mended("root.pem", "amqp.sslrootcert", |files| drop(files.put("root.pem", "")));
    let key = ground().authority.issue(Subject::user(USER)).key;
    assert_mended("root.pem", "amqp.sslrootcert", |files| drop(files.put("root.pem", &key)));
}

/// PEM around what is no certificate.
#[test]
fn a_file_of_authorities_with_something_else_is_named() {
    let text = "-----BEGIN CERTIFICATE-----\nbm8gY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
    assert_mended("root.pem", "amqp.sslrootcert", |files| drop(files.put("root.pem", text)));
    assert_mended("client.pem", "amqp.sslcert", |files| drop(files.put("client.pem", text)));
}

/// libpq's rule.
#[test]
fn a_key_that_others_may_read_is_refused() {
    let key = |papers: &Papers| papers.identity.key.clone();
    for mode in [0o644, 0o640, 0o604, 0o660] {
        let papers = Papers::of_the_user();
        papers.files.put_with_mode("client.key", &key(&papers), mode);
        let bed = bed(ground().ports.demanding, &papers.conf());
        let (fixture, mut client) = fixture(&bed, "tls_key_open");
        stands_still(&mut client, 1, &["amqp.sslkey", "open to others"]);
        papers.put_right("client.key");
        arrive(&fixture, &mut client, &[1]);
    }
}

/// As certificates that the system hands out are: root's, and for a group that the server is in.
#[test]
fn a_key_of_root_may_be_read_by_its_group() {
    let papers = Papers::of_the_user();
    let key = &papers.identity.key;
    if !papers.files.put_of_root("client.key", key, 0o640) {
        eprintln!("not tested: only root can give a file to root");
        return;
    }
    assert_accepted("tls_key_of_root", ground().ports.demanding, &papers.conf());
    papers.files.put_of_root("client.key", key, 0o644);
    let bed = bed(ground().ports.demanding, &papers.conf());
    let (fixture, mut client) = fixture(&bed, "tls_key_of_root_open");
    stands_still(&mut client, 1, &["amqp.sslkey", "open to others"]);
    papers.put_right("client.key");
    arrive(&fixture, &mut client, &[1]);
}

#[test]
fn a_key_that_the_server_may_not_read_is_named() {
    let key = ground().authority.issue(Subject::user(USER)).key;
    assert_mended("client.key", "amqp.sslkey", |files| {
        files.put_with_mode("client.key", &key, 0o000);
    });
}

#[test]
fn a_key_of_another_certificate_is_named() {
    let other = ground().authority.issue(Subject::user(USER)).key;
    assert_mended("client.key", "amqp.sslkey", |files| drop(files.put("client.key", &other)));
}

#[test]
fn a_key_with_a_passphrase_is_refused_and_named() {
    let papers = Papers::of_the_user();
    let encrypted = papers.identity.encrypted_key(PASSPHRASE);
    papers.files.put("client.key", &encrypted);
    let bed = bed(ground().ports.demanding, &papers.conf());
    let (fixture, mut client) = fixture(&bed, "tls_passphrase");
    stands_still(&mut client, 1, &["amqp.sslkey", "passphrase"]);
    papers.put_right("client.key");
    arrive(&fixture, &mut client, &[1]);
}

#[test]
fn a_certificate_and_a_password_together_are_let_in() {
    let papers = Papers::of_the_user();
    assert_accepted("tls_both_of_them", ground().ports.demanding, &papers.conf());
}

#[test]
fn a_broker_that_demands_a_certificate_refuses_who_has_none() {
    let papers = Papers::of_the_user();
    let bed = bed(ground().ports.demanding, &[]);
    let (fixture, mut client) = fixture(&bed, "tls_no_certificate");
    stands_still(&mut client, 1, &["amqp.sslcert"]);
    let [certificate, key] =
        ["client.pem", "client.key"].map(|name| papers.files.path(name).display().to_string());
    set(&bed, &[("amqp.sslcert", &certificate), ("amqp.sslkey", &key)]);
    arrive(&fixture, &mut client, &[1]);
}

#[test]
fn a_certificate_that_the_broker_does_not_trust_is_refused() {
    let papers = Papers::of(&ground().stranger, USER);
    let bed = bed(ground().ports.demanding, &papers.conf());
    let (fixture, mut client) = fixture(&bed, "tls_strange_client");
    stands_still(&mut client, 1, &["amqp.sslcert"]);
    // Two files that belong together: whoever reads between gets neither, and tries again.
    let right = ground().authority.issue(Subject::user(USER));
    papers.files.put("client.pem", &right.certificate);
    papers.files.put("client.key", &right.key);
    arrive(&fixture, &mut client, &[1]);
}

#[test]
fn a_certificate_alone_lets_in_the_user_of_its_common_name() {
    let papers = Papers::of_the_user();
    for port in [ground().ports.demanding, ground().ports.asking] {
        assert_accepted("tls_external", port, &papers.conf_of_certificate());
    }
}

#[test]
fn a_user_whom_the_broker_does_not_know_is_refused() {
    let papers = Papers::of(&ground().authority, "unheard-of");
    let bed = bed(ground().ports.demanding, &papers.conf_of_certificate());
    let (fixture, mut client) = fixture(&bed, "tls_unknown_user");
    stands_still(&mut client, 1, &["refused"]);
    ground().rabbitmq.ctl(&["add_user", "unheard-of", "is-let-in-by-its-certificate"]);
    ground().rabbitmq.ctl(&["set_permissions", "unheard-of", ".*", ".*", ".*"]);
    arrive(&fixture, &mut client, &[1]);
}

#[test]
fn a_login_by_certificate_without_one_is_refused() {
    let papers = Papers::of_the_user();
    let mut conf = papers.conf_of_certificate();
    conf.push(line("amqp.sslcert", ""));
    conf.push(line("amqp.sslkey", ""));
    let bed = bed(ground().ports.asking, &conf);
    let (fixture, mut client) = fixture(&bed, "tls_external_without");
    stands_still(&mut client, 1, &["amqp.sslcert"]);
    let [certificate, key] =
        ["client.pem", "client.key"].map(|name| papers.files.path(name).display().to_string());
    set(&bed, &[("amqp.sslcert", &certificate), ("amqp.sslkey", &key)]);
    arrive(&fixture, &mut client, &[1]);
}

#[test]
fn a_login_by_certificate_needs_tls() {
    let conf = [line("amqp.sslmode", "disable"), line("amqp.auth", "certificate")];
    let bed = bed(ground().rabbitmq.port(), &conf);
    let (fixture, mut client) = fixture(&bed, "tls_external_plain");
    stands_still(&mut client, 1, &["amqp.auth", "amqp.sslmode"]);
    set(&bed, &[("amqp.auth", "password")]);
    arrive(&fixture, &mut client, &[1]);
}

#[test]
fn a_certificate_without_a_key_and_a_key_without_a_certificate_are_refused() {
    let papers = Papers::of_the_user();
    for (missing, name) in [("amqp.sslcert", "client.pem"), ("amqp.sslkey", "client.key")] {
        let mut conf = papers.conf();
        conf.push(line(missing, ""));
        let bed = bed(ground().ports.demanding, &conf);
        let (fixture, mut client) = fixture(&bed, "tls_half");
        stands_still(&mut client, 1, &[missing]);
        set(&bed, &[(missing, &papers.files.path(name).display().to_string())]);
        arrive(&fixture, &mut client, &[1]);
    }
}

/// From one user to another and back, as by a certificate that was renewed for another.
#[test]
fn a_new_certificate_and_key_are_used_from_the_next_connection_on() {
    let papers = Papers::of_the_user();
    let bed = bed(ground().ports.demanding, &papers.conf_of_certificate());
    let (fixture, mut client) = fixture(&bed, "tls_new_identity");
    insert(&mut client, 1);
    arrive(&fixture, &mut client, &[1]);
    let stranger = ground().authority.issue(Subject::user("never-added"));
    papers.files.put("client.pem", &stranger.certificate);
    papers.files.put("client.key", &stranger.key);
    // Nothing that concerns the certificate: another connection.
    set(&bed, &[("amqp.heartbeat", "31")]);
    stands_still(&mut client, 2, &["refused"]);
    papers.put_right("client.pem");
    papers.put_right("client.key");
    arrive(&fixture, &mut client, &[2]);
    streams_at(&mut client, ground().ports.demanding);
}
