//! Whom the worker takes for its broker.

use pg_test::{Authority, CertificateFiles, Shutdown};

use super::ground::{
    arrive, assert_accepted, assert_refused, bed, file, fixture, ground, insert, line, set,
    stands_still, streams_at, was_interrupted,
};
use crate::settings::{forward, outside_address};

/// What `amqp.sslrootcert` is to be.
fn root(name: &str) -> String {
    line("amqp.sslrootcert", file(name).display())
}

fn mode(mode: &str) -> String {
    line("amqp.sslmode", mode)
}

#[test]
fn a_broker_whose_certificate_is_for_its_name_gets_everything() {
    assert_accepted("tls_right", ground().ports.right, &[]);
}

#[test]
fn a_broker_whose_certificate_is_for_its_address_gets_everything() {
    assert_accepted("tls_address", ground().ports.address, &[line("amqp.host", "127.0.0.1")]);
}

#[test]
fn a_broker_that_shows_what_is_between_its_certificate_and_the_root_gets_everything() {
    assert_accepted("tls_chained", ground().ports.chained, &[]);
}

#[test]
fn a_broker_of_several_names_is_told_which_one_is_meant() {
    assert_accepted("tls_by_name", ground().ports.by_name, &[]);
}

/// SNI is for names (RFC 6066).
#[test]
fn a_broker_of_several_names_is_not_told_an_address() {
    let bed = bed(ground().ports.by_name, &[line("amqp.host", "127.0.0.1")]);
    let (fixture, mut client) = fixture(&bed, "tls_by_address");
    stands_still(&mut client, 1, &["amqp.sslrootcert"]);
    set(&bed, &[("amqp.host", "localhost")]);
    arrive(&fixture, &mut client, &[1]);
}

#[test]
fn a_certificate_for_another_name_is_refused_in_full() {
    assert_refused("tls_other_name", ground().ports.other_name, &[], &["localhost", "elsewhere"]);
}

#[test]
fn a_certificate_for_the_name_is_none_for_the_address() {
    let bed = bed(ground().ports.right, &[line("amqp.host", "127.0.0.1")]);
    let (fixture, mut client) = fixture(&bed, "tls_not_the_address");
    stands_still(&mut client, 1, &["127.0.0.1", "localhost"]);
    set(&bed, &[("amqp.host", "localhost")]);
    arrive(&fixture, &mut client, &[1]);
}

#[test]
fn verify_ca_asks_for_no_name() {
    assert_accepted("tls_any_name", ground().ports.other_name, &[mode("verify-ca")]);
}

/// libpq looks at it; no browser does any more.
#[test]
fn a_name_in_the_common_name_alone_is_none() {
    assert_refused("tls_common_name", ground().ports.common_name, &[], &["subjectAltName"]);
}

#[test]
fn verify_ca_takes_a_certificate_whose_name_is_in_the_common_name_alone() {
    assert_accepted("tls_common_name_ca", ground().ports.common_name, &[mode("verify-ca")]);
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused() {
    for sslmode in ["verify-full", "verify-ca"] {
        let conf = [mode(sslmode)];
        assert_refused("tls_strange", ground().ports.strange, &conf, &["amqp.sslrootcert"]);
    }
}

#[test]
fn require_with_an_authority_is_verify_ca() {
    let ports = &ground().ports;
    let conf = [mode("require")];
    assert_refused("tls_require_root", ports.strange, &conf, &["amqp.sslrootcert"]);
    assert_accepted("tls_require_root", ports.other_name, &conf);
}

/// Where nobody else can listen there is nothing to warn of.
#[test]
fn require_without_an_authority_takes_any_broker_and_the_log_warns_once() {
    let conf = [mode("require"), line("amqp.sslrootcert", "")];
    let bed = bed(ground().ports.strange, &conf);
    let (fixture, mut client) = fixture(&bed, "tls_require");
    insert(&mut client, 1);
    arrive(&fixture, &mut client, &[1]);
    let warnings = || bed.postgres.log().matches("it is not checked whether broker host").count();
    assert_eq!(warnings(), 0);
    let Some(address) = outside_address() else {
        eprintln!("half tested: this machine has no address but the loopback ones");
        return;
    };
    let port = forward(address, ground().ports.strange);
    for (id, heartbeat) in [(2, "31"), (3, "32")] {
        // The second time: another connection to the same broker.
        set(&bed, &[("amqp.host", &format!("{address}:{port}")), ("amqp.heartbeat", heartbeat)]);
        streams_at(&mut client, port);
        insert(&mut client, id);
    }
    arrive(&fixture, &mut client, &[2, 3]);
    assert_eq!(warnings(), 1, "{}", bed.postgres.log());
    // Nobody can read along.
    assert!(!bed.postgres.log().contains("goes unencrypted"), "{}", bed.postgres.log());
}

#[test]
fn an_expired_certificate_is_refused() {
    for sslmode in ["verify-full", "verify-ca"] {
        let conf = [mode(sslmode)];
        assert_refused("tls_expired", ground().ports.expired, &conf, &["expired"]);
    }
}

#[test]
fn a_certificate_of_the_future_is_refused() {
    assert_refused("tls_early", ground().ports.early, &[], &["valid only in"]);
}

#[test]
fn a_revoked_certificate_is_refused() {
    let crl = line("amqp.sslcrl", file("crl.pem").display());
    for sslmode in ["verify-full", "verify-ca"] {
        let conf = [mode(sslmode), crl.clone()];
        assert_refused("tls_revoked", ground().ports.revoked, &conf, &["revoked"]);
    }
    assert_accepted("tls_not_revoked", ground().ports.right, &[crl]);
    // Nobody said so.
    assert_accepted("tls_without_crl", ground().ports.revoked, &[]);
}

/// libpq's rule: a list that somebody forgot would revoke nothing, without a word.
#[test]
fn where_there_are_lists_each_authority_on_the_way_has_one() {
    let (ground, files) = (ground(), CertificateFiles::new());
    let list = |authority: &Authority| authority.revocations(&[&ground.revoked]);
    let path = files.path("crl.pem");
    let crl = line("amqp.sslcrl", path.display());
    let refused = |port, list: &str| {
        files.put("crl.pem", list);
        let bed = bed(port, std::slice::from_ref(&crl));
        let (fixture, mut client) = fixture(&bed, "tls_list_missing");
        stands_still(&mut client, 1, &["amqp.sslcrl", "no list"]);
        files.put("crl.pem", &(list.to_owned() + &ground.authority.revocations(&[])));
        set(&bed, &[("amqp.port", &ground.ports.right.to_string())]);
        arrive(&fixture, &mut client, &[1]);
    };
    refused(ground.ports.right, &list(&ground.stranger));
    refused(ground.ports.chained, &list(&ground.authority));
    files.put("crl.pem", &(list(&ground.intermediate) + &list(&ground.authority)));
    assert_accepted("tls_lists", ground.ports.chained, &[crl]);
}

#[test]
fn a_list_that_is_out_of_date_is_none() {
    let (ground, files) = (ground(), CertificateFiles::new());
    let list = files.put("crl.pem", &ground.authority.revocations_in(2020..2021, &[]));
    let bed = bed(ground.ports.right, &[line("amqp.sslcrl", list.display())]);
    let (fixture, mut client) = fixture(&bed, "tls_old_list");
    stands_still(&mut client, 1, &["amqp.sslcrl", "out of date"]);
    files.put("crl.pem", &ground.authority.revocations(&[]));
    arrive(&fixture, &mut client, &[1]);
}

#[test]
fn a_list_is_read_at_each_connection() {
    let files = CertificateFiles::new();
    let list = files.put("crl.pem", &ground().authority.revocations(&[]));
    let bed = bed(ground().ports.revoked, &[line("amqp.sslcrl", list.display())]);
    let (fixture, mut client) = fixture(&bed, "tls_new_list");
    insert(&mut client, 1);
    arrive(&fixture, &mut client, &[1]);
    files.put("crl.pem", &ground().authority.revocations(&[&ground().revoked]));
    // Of settings that change nothing but that there is another connection.
    set(&bed, &[("amqp.heartbeat", "31")]);
    stands_still(&mut client, 2, &["revoked"]);
    files.put("crl.pem", &ground().authority.revocations(&[]));
    arrive(&fixture, &mut client, &[2]);
}

#[test]
fn a_broker_that_does_not_show_what_is_between_is_refused_unless_the_worker_has_it() {
    assert_refused("tls_unchained", ground().ports.unchained, &[], &["amqp.sslrootcert"]);
}

#[test]
fn a_certificate_that_signed_itself_is_its_own_root() {
    let ports = &ground().ports;
    for sslmode in ["verify-full", "verify-ca"] {
        let conf = [mode(sslmode), root("own_root.pem")];
        assert_accepted("tls_own_root", ports.own_root, &conf);
    }
    let conf = [mode("verify-ca"), root("own_root_other_name.pem")];
    assert_accepted("tls_own_root_ca", ports.own_root_other_name, &conf);
}

#[test]
fn a_certificate_that_signed_itself_is_refused_for_all_that_is_wrong_with_it() {
    let ports = &ground().ports;
    for (port, its_root, words) in [
        (ports.own_root, "root.pem", "amqp.sslrootcert"),
        (ports.own_root_expired, "own_root_expired.pem", "expired"),
        (ports.own_root_other_name, "own_root_other_name.pem", "elsewhere"),
        // Of the same name, and another key.
        (ports.own_root, "own_root_expired.pem", "amqp.sslrootcert"),
    ] {
        let bed = bed(port, &[root(its_root)]);
        let (fixture, mut client) = fixture(&bed, "tls_own_root_refused");
        stands_still(&mut client, 1, &[words]);
        let right = ports.right.to_string();
        let its_root = file("root.pem").display().to_string();
        set(&bed, &[("amqp.port", &right), ("amqp.sslrootcert", &its_root)]);
        arrive(&fixture, &mut client, &[1]);
    }
}

/// As while an authority is replaced by another one.
#[test]
fn several_authorities_in_one_file_are_all_trusted() {
    let files = CertificateFiles::new();
    let [one, other] = [&ground().authority, &ground().stranger].map(Authority::certificate);
    let both = files.put("both.pem", &format!("{one}\n# a comment\n{other}"));
    let bed = bed(ground().ports.right, &[line("amqp.sslrootcert", both.display())]);
    let (fixture, mut client) = fixture(&bed, "tls_both");
    insert(&mut client, 1);
    arrive(&fixture, &mut client, &[1]);
    set(&bed, &[("amqp.port", &ground().ports.strange.to_string())]);
    streams_at(&mut client, ground().ports.strange);
    insert(&mut client, 2);
    arrive(&fixture, &mut client, &[2]);
    assert!(!was_interrupted(&bed), "{}", bed.postgres.log());
}

/// The system's, here by the variable that says where they are.
#[test]
fn the_authorities_of_the_system_are_trusted_if_that_is_said() {
    let bed = bed(ground().ports.right, &[line("amqp.sslrootcert", "system")]);
    let (fixture, mut client) = fixture(&bed, "tls_system");
    // None of them has signed it; some machines have none.
    stands_still(&mut client, 1, &["amqp.sslrootcert"]);
    drop(client);
    bed.postgres.stop(Shutdown::Fast);
    bed.postgres.start_with(&[("SSL_CERT_FILE", file("root.pem").as_os_str())]);
    let mut client = fixture.client();
    arrive(&fixture, &mut client, &[1]);
}

/// Anybody may have a certificate signed by one of them, for a name of his own.
#[test]
fn the_authorities_of_the_system_are_not_trusted_without_a_name() {
    let system = line("amqp.sslrootcert", "system");
    for sslmode in ["verify-ca", "require"] {
        let bed = bed(ground().ports.right, &[mode(sslmode), system.clone()]);
        let (fixture, mut client) = fixture(&bed, "tls_system_weak");
        stands_still(&mut client, 1, &["amqp.sslrootcert", "verify-full"]);
        let its_root = file("root.pem").display().to_string();
        set(&bed, &[("amqp.sslrootcert", &its_root)]);
        arrive(&fixture, &mut client, &[1]);
    }
}

#[test]
fn nobody_is_verified_against_nothing() {
    for sslmode in ["verify-full", "verify-ca"] {
        let bed = bed(ground().ports.right, &[mode(sslmode), line("amqp.sslrootcert", "")]);
        let (fixture, mut client) = fixture(&bed, "tls_no_root");
        stands_still(&mut client, 1, &["amqp.sslrootcert"]);
        let its_root = file("root.pem").display().to_string();
        set(&bed, &[("amqp.sslrootcert", &its_root)]);
        arrive(&fixture, &mut client, &[1]);
    }
}
