//! The harness's certificates are what they are said to be, and its RabbitMQ shows them as it is told: seen by a
//! client that has nothing to do with the extension.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use pg_test::{Authority, CertificateFiles, Identity, RabbitMq, Subject, TlsListener};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, Stream};

/// Who connects.
#[derive(Clone, Default)]
struct Client<'a> {
    trusts: &'a str,
    /// As PEM.
    list: Option<String>,
    identity: Option<&'a Identity>,
}

impl<'a> Client<'a> {
    fn trusting(root: &'a str) -> Client<'a> {
        Client { trusts: root, ..Client::default() }
    }

    /// The version that is spoken with this server, once it has greeted, or why it has not.
    fn greeted(&self, name: &'static str, port: u16) -> Result<ProtocolVersion, String> {
        let config = self.config().expect("a client's configuration");
        let name = ServerName::try_from(name).expect("a name");
        let mut session = ClientConnection::new(Arc::new(config), name).expect("a session");
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut stream = Stream::new(&mut session, &mut socket);
        let mut greeting = [0; 7];
        let greeted =
            stream.write_all(b"AMQP\0\0\x09\x01").and_then(|()| stream.read_exact(&mut greeting));
        if let Err(error) = greeted {
            // Who refuses us may hang up before it has taken all of that: what it said counts.
            while let Ok(1..) = session.read_tls(&mut socket) {
                session.process_new_packets().map_err(|said| said.to_string())?;
            }
            return Err(error.to_string());
        }
        session.protocol_version().ok_or_else(|| "no version".to_owned())
    }

    fn config(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(self.trusts));
        let lists = self.list.iter().map(|list| {
            CertificateRevocationListDer::from_pem_slice(list.as_bytes()).expect("a list")
        });
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .with_crls(lists)
                .build()
                .expect("a verifier");
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_webpki_verifier(verifier);
        let Some(identity) = self.identity else { return Ok(config.with_no_client_auth()) };
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key");
        config.with_client_auth_cert(certificates(&identity.certificate), key)
    }
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(|found| found.expect("PEM")).collect()
}

/// A server of this name.
fn server() -> Subject {
    Subject::server(&["localhost"])
}

#[track_caller]
fn assert_refused(greeted: Result<ProtocolVersion, String>, words: &str) {
    let error = greeted.expect_err(words);
    assert!(error.contains(words), "{error}");
}

#[test]
fn a_rabbitmq_shows_at_each_port_what_it_is_told() {
    let files = CertificateFiles::new();
    let [authority, stranger] = ["trusted", "stranger"].map(Authority::new);
    let intermediate = authority.intermediate("between");
    let root = files.put("root.pem", authority.certificate());
    let [right, revoked] = [(); 2].map(|()| authority.issue(server()));
    let other = stranger.issue(Subject::server(&["elsewhere.example"]));
    let own_root = server().sign_itself();
    let listener = |name: &str, identity: &Identity| TlsListener::new(&files, name, identity);

    let rabbitmq = RabbitMq::create_with_tls(&listener("right", &right));
    let [strange, expired, early, address, common_name] = rabbitmq.listen_for_tls([
        &listener("strange", &stranger.issue(server())),
        &listener("expired", &authority.issue(server().valid_in(2020..2021))),
        &listener("early", &authority.issue(server().valid_in(2110..2120))),
        &listener("address", &authority.issue(Subject::server(&["127.0.0.1"]))),
        &listener("common_name", &authority.issue(Subject::server_by_common_name("localhost"))),
    ]);
    let [revoked_port, chained, unchained, own_root_port, by_name] = rabbitmq.listen_for_tls([
        &listener("revoked", &revoked),
        &listener("chained", &intermediate.issue(server()).behind(&intermediate)),
        &listener("unchained", &intermediate.issue(server())),
        &listener("own_root", &own_root),
        &listener("by_name", &other).showing_for("localhost", &files, &right),
    ]);
    let [only_1_2, only_1_3, demanding, asking, new_keys] = rabbitmq.listen_for_tls([
        &listener("only_1_2", &right).speaking("tlsv1.2"),
        &listener("only_1_3", &right).speaking("tlsv1.3"),
        &listener("demanding", &right).demanding(&root),
        &listener("asking", &right).asking_for(&root),
        &listener("new_keys", &right).speaking("tlsv1.3").with_new_keys_after(1000),
    ]);

    let client = Client::trusting(authority.certificate());
    let latest = Ok(ProtocolVersion::TLSv1_3);
    for port in [rabbitmq.tls_port(), revoked_port, chained, by_name, only_1_3, asking, new_keys] {
        assert_eq!(client.greeted("localhost", port), latest);
    }
    assert_eq!(client.greeted("127.0.0.1", address), latest);
    assert_eq!(client.greeted("localhost", only_1_2), Ok(ProtocolVersion::TLSv1_2));
    assert_eq!(Client::trusting(stranger.certificate()).greeted("localhost", strange), latest);
    assert_refused(client.greeted("localhost", strange), "UnknownIssuer");
    assert_refused(client.greeted("localhost", unchained), "UnknownIssuer");
    assert_refused(client.greeted("127.0.0.1", by_name), "UnknownIssuer");
    assert_refused(client.greeted("localhost", expired), "expired");
    assert_refused(client.greeted("localhost", early), "not valid yet");
    assert_refused(client.greeted("localhost", address), "not valid for name");
    assert_refused(client.greeted("localhost", common_name), "not valid for");
    let of_its_own = Client::trusting(&own_root.certificate);
    assert_refused(of_its_own.greeted("localhost", own_root_port), "CaUsedAsEndEntity");

    let list = Some(authority.revocations(&[&revoked]));
    let informed = Client { list, ..client.clone() };
    assert_eq!(informed.greeted("localhost", rabbitmq.tls_port()), latest);
    assert_refused(informed.greeted("localhost", revoked_port), "Revoked");

    let user = authority.issue(Subject::user("cdc"));
    let known = Client { identity: Some(&user), ..client.clone() };
    assert_eq!(known.greeted("localhost", demanding), latest);
    assert_eq!(known.greeted("localhost", asking), latest);
    assert_refused(client.greeted("localhost", demanding), "CertificateRequired");
    let user = stranger.issue(Subject::user("cdc"));
    let unknown = Client { identity: Some(&user), ..client.clone() };
    assert_refused(unknown.greeted("localhost", demanding), "UnknownCA");

    // Renewed, by another authority.
    TlsListener::new(&files, "strange", &right);
    rabbitmq.read_certificates_again();
    assert_eq!(client.greeted("localhost", strange), latest);
}

#[test]
fn a_key_with_a_passphrase_is_none_without_it() {
    let identity = Authority::new("any").issue(server());
    let encrypted = identity.encrypted_key("open sesame");
    assert!(encrypted.contains("ENCRYPTED PRIVATE KEY"), "{encrypted}");
    assert!(PrivateKeyDer::from_pem_slice(encrypted.as_bytes()).is_err());
    assert!(PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).is_ok());
}
