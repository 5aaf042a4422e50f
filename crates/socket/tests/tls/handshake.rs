//! Who is let be the broker, and what is said of who is not.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustls::version::{TLS12, TLS13};
use socket::{Identity, Roots, Socket, Tls, Trust, Verify, connect};

use crate::peer::certificates::{
    Authority, Folder, Leaf, authority, authority_below, expired, leaf, of_the_future, params,
    revocation_list, revocation_list_until, self_signed,
};
use crate::peer::server::{Server, serve_tcp};

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn wait(socket: &Socket, has_more: bool) {
    if socket.has_unread() {
        return;
    }
    let room = if socket.awaits_room(has_more) { PollFlags::OUT } else { PollFlags::empty() };
    poll(&mut [PollFd::new(socket, PollFlags::IN | room)], None).unwrap();
}

/// Sends this and reads as much, as an owner does who waits for both at once.
fn exchange(socket: &mut Socket, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let (mut sent, mut received, mut buffer) = (0, Vec::new(), [0; 3000]);
    while received.len() < bytes.len() {
        if sent < bytes.len() {
            match socket.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        socket.flush()?;
        wait(socket, sent < bytes.len());
        match socket.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(received)
}

/// What comes of a connection to this host: nothing, or what was said.
fn try_out(server: &Server, host: &str, tls: &Tls) -> Result<(), String> {
    let (port, thread) = server.echo();
    let result = connect(host, port, Some(tls), deadline()).and_then(|mut socket| {
        let received = exchange(&mut socket, b"hello")?;
        assert_eq!(received, b"hello");
        socket.say_goodbye();
        Ok(())
    });
    let heard = thread.join().unwrap();
    if result.is_err() {
        // It knows nothing of what we had to say.
        assert_ne!(heard.ok(), Some(5));
    }
    result.map_err(|error| error.to_string())
}

/// A test's folder and authority.
struct World {
    folder: Folder,
    authority: Authority,
}

impl World {
    fn new() -> World {
        World { folder: Folder::new(), authority: authority("ours") }
    }

    fn leaf(&self, names: &[&str]) -> Leaf {
        leaf(params(names), &self.authority)
    }

    fn roots(&self) -> PathBuf {
        self.folder.write("root.pem", &self.authority.pem())
    }

    fn trust(&self) -> Trust {
        Trust { roots: Roots::File(self.roots()), revoked: None }
    }

    fn full(&self) -> Tls {
        Tls { verify: Verify::SignerAndName(self.trust()), identity: None }
    }

    fn signer(&self) -> Tls {
        Tls { verify: Verify::Signer(self.trust()), identity: None }
    }

    fn identity(&self, leaf: &Leaf) -> Identity {
        Identity {
            certificate: self.folder.write("client.pem", &leaf.chain_pem()),
            key: self.folder.write("client.key", &leaf.key.serialize_pem()),
        }
    }
}

const NOTHING: Tls = Tls { verify: Verify::Nothing, identity: None };

#[track_caller]
fn assert_says(result: Result<(), String>, words: &[&str]) {
    let said = result.expect_err("it is refused");
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

#[test]
fn the_right_broker_is_let_in() {
    let world = World::new();
    let named = Server::new(&world.leaf(&["localhost"]));
    let numbered = Server::new(&world.leaf(&["127.0.0.1"]));
    for tls in [world.full(), world.signer(), NOTHING] {
        try_out(&named, "localhost", &tls).unwrap();
        try_out(&numbered, "127.0.0.1", &tls).unwrap();
    }
}

#[test]
fn another_name_is_refused_unless_only_the_signer_counts() {
    let world = World::new();
    let other = Server::new(&world.leaf(&["example.org"]));
    assert_says(
        try_out(&other, "localhost", &world.full()),
        &["localhost", "example.org", "amqp.host"],
    );
    try_out(&other, "localhost", &world.signer()).unwrap();
    let many: Vec<String> = (1..=50).map(|number| format!("{number}.example.org")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let said = try_out(&Server::new(&world.leaf(&many)), "localhost", &world.full()).unwrap_err();
    assert!(said.contains("5.example.org\") and 45 more: amqp.host"), "{said}");
    // An address is no name, and the common name counts for nothing.
    let named = Server::new(&world.leaf(&["localhost"]));
    assert_says(try_out(&named, "127.0.0.1", &world.full()), &["127.0.0.1", "localhost"]);
    let common = Server::new(&world.leaf(&[]));
    assert_says(try_out(&common, "localhost", &world.full()), &["subjectAltName"]);
    try_out(&common, "localhost", &world.signer()).unwrap();
}

#[test]
fn who_signed_it_counts() {
    let world = World::new();
    let stranger = authority("another");
    let server = Server::new(&leaf(params(&["localhost"]), &stranger));
    for tls in [world.full(), world.signer()] {
        assert_says(try_out(&server, "localhost", &tls), &["amqp.sslrootcert"]);
    }
    try_out(&server, "localhost", &NOTHING).unwrap();
}

#[test]
fn the_dates_count() {
    let world = World::new();
    let server = Server::new(&leaf(expired(&["localhost"]), &world.authority));
    let early = Server::new(&leaf(of_the_future(&["localhost"]), &world.authority));
    for tls in [world.full(), world.signer()] {
        assert_says(try_out(&server, "localhost", &tls), &["expired", "days ago"]);
        assert_says(try_out(&early, "localhost", &tls), &["valid only in"]);
    }
    // Without a check of the signer the dates are his word alone.
    try_out(&server, "localhost", &NOTHING).unwrap();
}

#[test]
fn what_stands_between_the_broker_and_its_ca_must_come_along() {
    let world = World::new();
    let middle = authority_below("in between", &world.authority);
    let mut leaf = leaf(params(&["localhost"]), &middle);
    assert_says(try_out(&Server::new(&leaf), "localhost", &world.full()), &["between"]);
    leaf.between.push(middle.as_ref().clone());
    try_out(&Server::new(&leaf), "localhost", &world.full()).unwrap();
}

#[test]
fn a_revoked_certificate_is_refused() {
    let world = World::new();
    let list = world.folder.write("crl.pem", &revocation_list(&world.authority));
    let trust = Trust { revoked: Some(list), ..world.trust() };
    let server = Server::new(&world.leaf(&["localhost"]));
    for verify in [Verify::SignerAndName(trust.clone()), Verify::Signer(trust.clone())] {
        assert_says(
            try_out(&server, "localhost", &Tls { verify, identity: None }),
            &["amqp.sslcrl"],
        );
    }
    let mut other = params(&["localhost"]);
    other.serial_number = Some(8u64.into());
    let other = Server::new(&leaf(other, &world.authority));
    let tls = Tls { verify: Verify::SignerAndName(trust), identity: None };
    try_out(&other, "localhost", &tls).unwrap();
}

/// As libpq has it: who keeps lists of what is revoked wants one of each CA, and of today.
#[test]
fn where_there_are_lists_each_ca_has_one_that_is_not_out_of_date() {
    let world = World::new();
    let middle = authority_below("in between", &world.authority);
    let mut other = params(&["localhost"]);
    other.serial_number = Some(8u64.into());
    let mut leaf = leaf(other, &middle);
    leaf.between.push(middle.as_ref().clone());
    let server = Server::new(&leaf);
    let try_with = |lists: &[String]| {
        let list = world.folder.write("crl.pem", &lists.concat());
        let trust = Trust { revoked: Some(list), ..world.trust() };
        let tls = Tls { verify: Verify::SignerAndName(trust), identity: None };
        try_out(&server, "localhost", &tls)
    };
    let [ours, between] = [&world.authority, &middle].map(revocation_list);
    try_with(&[ours.clone(), between.clone()]).unwrap();
    for lists in [[ours.clone()], [between.clone()], [revocation_list(&authority("another"))]] {
        assert_says(try_with(&lists), &["amqp.sslcrl", "no list"]);
    }
    let old = revocation_list_until(&middle, 2023);
    assert_says(try_with(&[ours, old]), &["amqp.sslcrl", "out of date", "days"]);
}

#[test]
fn a_certificate_that_signed_itself_may_stand_as_its_own_root() {
    let folder = Folder::new();
    let leaf = self_signed(params(&["localhost"]));
    let tls = |roots: &Leaf, with_name: bool| {
        let roots = Roots::File(folder.write("root.pem", &roots.certificate.pem()));
        let trust = Trust { roots, revoked: None };
        let verify = if with_name { Verify::SignerAndName(trust) } else { Verify::Signer(trust) };
        Tls { verify, identity: None }
    };
    let server = Server::new(&leaf);
    try_out(&server, "localhost", &tls(&leaf, true)).unwrap();
    assert_says(try_out(&server, "127.0.0.1", &tls(&leaf, true)), &["127.0.0.1", "localhost"]);
    try_out(&server, "127.0.0.1", &tls(&leaf, false)).unwrap();
    // Not as anybody else's, and not once it has expired.
    let another = self_signed(params(&["localhost"]));
    assert_says(try_out(&server, "localhost", &tls(&another, false)), &["amqp.sslrootcert"]);
    let old = self_signed(expired(&["localhost"]));
    assert_says(try_out(&Server::new(&old), "localhost", &tls(&old, false)), &["expired"]);
}

#[test]
fn both_versions_are_spoken() {
    let world = World::new();
    for (version, name) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
        let server = Server::with(&world.leaf(&["localhost"]), &[version], None);
        let (port, thread) = server.echo();
        let mut socket = connect("localhost", port, Some(&world.full()), deadline()).unwrap();
        assert_eq!(socket.tls_version(), None);
        exchange(&mut socket, b"hello").unwrap();
        assert_eq!((socket.tls_version(), socket.is_unverified()), (Some(name), false));
        socket.say_goodbye();
        assert_eq!(thread.join().unwrap().unwrap(), 5);
    }
}

#[test]
fn a_broker_may_want_a_certificate_of_ours() {
    let world = World::new();
    for version in [&TLS12, &TLS13] {
        let server = Server::with(&world.leaf(&["localhost"]), &[version], Some(&world.authority));
        let shown = |leaf: &Leaf| Tls { identity: Some(world.identity(leaf)), ..world.full() };
        try_out(&server, "localhost", &shown(&world.leaf(&["us"]))).unwrap();
        assert_says(try_out(&server, "localhost", &world.full()), &["amqp.sslcert"]);
        let stranger = leaf(params(&["us"]), &authority("another"));
        assert_says(try_out(&server, "localhost", &shown(&stranger)), &["refuses", "amqp.sslcert"]);
    }
}

#[test]
fn files_are_read_anew_for_each_connection() {
    let world = World::new();
    let tls = world.full();
    let server = Server::new(&world.leaf(&["localhost"]));
    try_out(&server, "localhost", &tls).unwrap();
    let successor = authority("successor");
    let renewed = Server::new(&leaf(params(&["localhost"]), &successor));
    assert_says(try_out(&renewed, "localhost", &tls), &["amqp.sslrootcert"]);
    world.folder.write("root.pem", &successor.pem());
    try_out(&renewed, "localhost", &tls).unwrap();
}

/// Lines that end as on Windows, words around, and other things in the same file.
#[test]
fn files_are_read_as_other_programs_write_them() {
    let world = World::new();
    let ours = world.leaf(&["us"]);
    let server =
        Server::with(&world.leaf(&["localhost"]), rustls::ALL_VERSIONS, Some(&world.authority));
    let parameters =
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let key = ours.key.serialize_pem();
    let all = format!("Bag Attributes: none\n{parameters}{key}Subject: us\n{}", ours.chain_pem());
    let windows = |text: &str| text.replace('\n', "\r\n");
    for file in [all.clone(), windows(&all)] {
        let file = world.folder.write("all.pem", &file);
        let roots = world.folder.write("roots.pem", &windows(&world.authority.pem()));
        let trust = Trust { roots: Roots::File(roots), revoked: None };
        let identity = Some(Identity { certificate: file.clone(), key: file });
        let tls = Tls { verify: Verify::SignerAndName(trust), identity };
        try_out(&server, "localhost", &tls).unwrap();
        // As names may be written, too.
        try_out(&server, "LocalHost", &tls).unwrap();
        try_out(&server, "localhost.", &tls).unwrap();
    }
}

/// What is said of a file before anything is connected to.
fn said_of(tls: &Tls) -> String {
    connect("localhost", 1, Some(tls), deadline()).unwrap_err().to_string()
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_its_setting() {
    let world = World::new();
    let folder = &world.folder;
    let roots = |path: PathBuf| {
        let trust = Trust { roots: Roots::File(path), revoked: None };
        said_of(&Tls { verify: Verify::Signer(trust), identity: None })
    };
    let gone = std::env::temp_dir().join("there is no such file");
    assert!(roots(gone.clone()).starts_with("amqp.sslrootcert \""));
    assert!(roots(gone.clone()).contains("there is no such file\" cannot be read: No such file"));
    assert!(roots(std::env::temp_dir()).contains("is no regular file"));
    assert!(roots(folder.write("empty", "")).contains("holds no certificate"));
    assert!(roots(folder.write("text", "hello")).contains("holds no certificate"));
    assert!(
        roots(folder.write("half", "-----BEGIN CERTIFICATE-----\nAAAA")).contains("is no PEM file")
    );
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(roots(folder.write("nonsense", nonsense)).starts_with("amqp.sslrootcert \""));

    let trust = Trust { revoked: Some(folder.write("crl", nonsense)), ..world.trust() };
    let said = said_of(&Tls { verify: Verify::Signer(trust), identity: None });
    assert!(
        said.starts_with("amqp.sslcrl \"") && said.contains("holds no revocation list"),
        "{said}"
    );
    let broken = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    let trust = Trust { revoked: Some(folder.write("crl", broken)), ..world.trust() };
    let said = said_of(&Tls { verify: Verify::Signer(trust), identity: None });
    assert!(said.starts_with("amqp.sslcrl \""), "{said}");
}

#[test]
fn a_key_that_cannot_be_used_is_named_with_what_is_wrong() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let ours = world.leaf(&["us"]);
    let said = |identity: Identity| said_of(&Tls { identity: Some(identity), ..NOTHING });
    let of = |text: &str| Identity {
        key: world.folder.write("other.key", text),
        ..world.identity(&ours)
    };

    let said_of_another = said(of(&world.leaf(&["us"]).key.serialize_pem()));
    assert!(said_of_another.starts_with("amqp.sslkey \""), "{said_of_another}");
    assert!(said_of_another.contains("is not the key of the certificate in amqp.sslcert"));

    assert!(said(of(&ours.certificate.pem())).contains("holds no private key"));
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert!(said(of(encrypted)).contains("passphrase"));
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
        -----END RSA PRIVATE KEY-----\n";
    assert!(said(of(old)).contains("passphrase"), "{}", said(of(old)));

    let open = world.identity(&ours);
    std::fs::set_permissions(&open.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(said(open).contains("is open to others"));
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let certificate = world.folder.write("nonsense", nonsense);
    let said_of_nonsense = said(Identity { certificate, ..world.identity(&ours) });
    assert!(said_of_nonsense.starts_with("amqp.sslcert \""), "{said_of_nonsense}");
    let mut gone = world.identity(&ours);
    gone.certificate = std::env::temp_dir().join("there is no such file");
    assert!(said(gone).starts_with("amqp.sslcert \""));
}

#[test]
fn who_speaks_no_tls_is_told_apart() {
    let (port, thread) = serve_tcp(|mut stream| {
        stream.write_all(b"AMQP\0\0\x09\x01")?;
        stream.read(&mut [0; 1000])
    });
    let mut socket = connect("localhost", port, Some(&NOTHING), deadline()).unwrap();
    let said = exchange(&mut socket, b"hello").unwrap_err().to_string();
    assert!(said.contains("does not speak TLS on this port"), "{said}");
    drop(socket);
    thread.join().unwrap().unwrap();
}

/// All that leaves before the handshake is over is the handshake.
#[test]
fn nothing_leaves_before_the_other_side_has_proved_who_it_is() {
    let (port, thread) = serve_tcp(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        Ok(all)
    });
    let mut socket = connect("localhost", port, Some(&NOTHING), deadline()).unwrap();
    let secret = [b'x'; 100_000];
    let mut taken = 0;
    while let Ok(count) = socket.write(&secret[taken..]) {
        taken += count;
    }
    // What it takes it keeps, and no more than it has to.
    assert!(taken < secret.len());
    assert!(!socket.awaits_room(true));
    drop(socket);
    let left = thread.join().unwrap().unwrap();
    assert!(!left.is_empty() && !left.windows(10).any(|bytes| bytes == [b'x'; 10]));
}

/// More than all buffers hold together, both ways at once.
#[test]
fn what_is_sent_comes_as_it_was() {
    let world = World::new();
    let bytes: Vec<u8> =
        (0..20_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for version in [&TLS12, &TLS13] {
        let server = Server::with(&world.leaf(&["localhost"]), &[version], None);
        let (port, thread) = server.echo();
        let mut socket = connect("localhost", port, Some(&world.full()), deadline()).unwrap();
        assert!(exchange(&mut socket, &bytes).unwrap() == bytes);
        socket.say_goodbye();
        assert_eq!(thread.join().unwrap().unwrap(), bytes.len());
    }
}

/// The operating system knows nothing of what TLS has read already.
#[test]
fn what_was_read_and_had_no_room_is_not_forgotten() {
    let world = World::new();
    let (port, thread) = Server::new(&world.leaf(&["localhost"])).serve(|mut stream| {
        stream.write_all(&[7; 10_000])?;
        stream.flush()?;
        stream.read(&mut [0; 10])
    });
    let mut socket = connect("localhost", port, Some(&world.full()), deadline()).unwrap();
    let (mut received, mut buffer) = (0, [0; 100]);
    while received < 10_000 {
        socket.flush().unwrap();
        wait(&socket, false);
        match socket.read(&mut buffer) {
            Ok(count) => received += count,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    socket.write(b"x").unwrap();
    assert_eq!(thread.join().unwrap().unwrap(), 1);
}

#[test]
fn a_broker_that_hangs_up_is_heard_to_the_end() {
    let world = World::new();
    for is_polite in [true, false] {
        let (port, thread) = Server::new(&world.leaf(&["localhost"])).serve(move |mut stream| {
            stream.write_all(b"goodbye")?;
            if is_polite {
                stream.conn.send_close_notify();
            }
            stream.flush()
        });
        let mut socket = connect("localhost", port, Some(&world.full()), deadline()).unwrap();
        let (mut received, mut buffer) = (Vec::new(), [0; 100]);
        loop {
            socket.flush().unwrap();
            wait(&socket, false);
            match socket.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The server went without having read our half of the handshake's end.
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                    break;
                }
            }
        }
        assert_eq!(received, b"goodbye");
        thread.join().unwrap().unwrap();
    }
}
