//! Every setting of the extension, and snapshots of them for the worker. No other module reads a setting.
//! All take effect on reload; docs/operations.md lists them for users.

mod hosts;
mod kinds;
mod password;
mod tls;

use std::ffi::{CStr, CString};

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

use crate::delivery::{BrokerSettings, Credentials, Policies, Unroutable};
use crate::event::{MAX_BODY, MAX_SHORT_STRING};
use crate::pg::{secret, server, text};
use hosts::parse_hosts;
use kinds::{define_number, define_text, seconds, string};
pub use password::PasswordSource;
use password::{password, source_of};

/// The AMQP ports without TLS and with it (IANA).
const PORT_IN_CLEAR: u16 = 5672;
const PORT_OF_TLS: u16 = 5671;

/// How we prove who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
enum AuthSetting {
    #[name = c"password"]
    Password,
    #[name = c"certificate"]
    Certificate,
}

/// What to do with a message that no queue is bound for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
enum UnroutableSetting {
    #[name = c"drop"]
    Drop,
    #[name = c"hold"]
    Hold,
}

/// What to do with an event above the size limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum Oversize {
    /// Send the keys of its rows alone.
    #[name = c"keys"]
    Keys,
    /// Fail the statement.
    #[name = c"error"]
    Error,
}

/// Broker hosts, tried in turn.
static HOST: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"localhost"));
/// Port of the hosts that name none; 0: AMQP's own.
static PORT: GucSetting<i32> = GucSetting::<i32>::new(0);
/// RabbitMQ virtual host.
static VHOST: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"/"));
/// How we prove who we are.
static AUTH: GucSetting<AuthSetting> = GucSetting::<AuthSetting>::new(AuthSetting::Password);
/// Broker user.
static USERNAME: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"guest"));
/// Broker password; shown to nobody, never logged by us. None: it is not set.
static PASSWORD: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// File that holds the password, so that PostgreSQL cannot log it on reload.
static PASSWORD_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
/// Exchange of this session's events.
static EXCHANGE: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"pg-messaging"));
/// The setting that holds it.
pub const EXCHANGE_NAME: &CStr = c"amqp.exchange";
/// Type with which the worker declares an exchange on its first use.
static EXCHANGE_TYPE: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"topic"));
/// Longest time to reach the broker and log in.
static CONNECT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10);
/// AMQP heartbeat interval.
static HEARTBEAT: GucSetting<i32> = GucSetting::<i32>::new(30);
/// Longest time the broker may take to confirm an event.
static CONFIRM_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30);
/// Unconfirmed events at most.
static MAX_IN_FLIGHT: GucSetting<i32> = GucSetting::<i32>::new(2000);
/// What to do with a message that no queue is bound for.
static UNROUTABLE: GucSetting<UnroutableSetting> =
    GucSetting::<UnroutableSetting>::new(UnroutableSetting::Drop);
/// What happens to events that the broker refuses, by exchange.
static EXCHANGE_POLICY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
/// Exchange for refused events, if the policy sends them there.
static DEAD_LETTER_EXCHANGE: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c""));
/// Bytes of the largest body.
static MAX_MESSAGE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(16 * 1024 * 1024);
/// What to do with an event whose body would be larger.
static OVERSIZE: GucSetting<Oversize> = GucSetting::<Oversize>::new(Oversize::Keys);
/// Whether a server that was restored from a backup publishes without being told to.
static PUBLISH_AFTER_RESTORE: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Whether nothing is published while another server of the cluster does.
static SINGLE_PUBLISHER: GucSetting<bool> = GucSetting::<bool>::new(false);
/// Damaged WAL records that an operator wants to be passed over.
static SKIP_WAL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
/// Whether a standby retains what it needs to take the stream over.
static STANDBY_SLOT: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Whether triggers write events at all.
static CAPTURE: GucSetting<bool> = GucSetting::<bool>::new(true);

/// Defines the settings. This works also when the library is loaded late: no setting needs a restart.
pub fn init() {
    let plain = GucFlags::default();
    define_text(
        c"amqp.host",
        c"Broker hosts, comma-separated, each host or host:port, tried in turn.",
        &HOST,
        GucContext::Sighup,
        plain,
    );
    define_number(
        c"amqp.port",
        c"Port of the broker hosts that name none; 0: 5671 with TLS, 5672 without.",
        &PORT,
        0..=65535,
        plain,
    );
    define_text(c"amqp.vhost", c"RabbitMQ virtual host.", &VHOST, GucContext::Sighup, plain);
    GucRegistry::define_enum_guc(
        c"amqp.auth",
        c"How to log in: with a password, or with the certificate in amqp.sslcert.",
        c"",
        &AUTH,
        GucContext::Sighup,
        plain,
    );
    define_text(c"amqp.username", c"Broker user.", &USERNAME, GucContext::Sighup, plain);
    secret::define(
        c"amqp.password",
        c"Broker password; amqp.password_file is the safer way.",
        &PASSWORD,
    );
    define_text(
        c"amqp.password_file",
        c"File with the broker password, readable by the server's user alone; overrides amqp.password.",
        &PASSWORD_FILE,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    define_text(
        EXCHANGE_NAME,
        c"Exchange to which this session's events go.",
        &EXCHANGE,
        GucContext::Suset,
        plain,
    );
    define_text(
        c"amqp.exchange_type",
        c"Type with which an exchange that is not there is declared on first use; empty: never declared.",
        &EXCHANGE_TYPE,
        GucContext::Sighup,
        plain,
    );
    define_number(
        c"amqp.connect_timeout",
        c"Longest time to reach the broker and log in.",
        &CONNECT_TIMEOUT,
        1..=3600,
        GucFlags::UNIT_S,
    );
    define_number(
        c"amqp.heartbeat",
        c"AMQP heartbeat interval; 0 leaves it to the broker.",
        &HEARTBEAT,
        0..=3600,
        GucFlags::UNIT_S,
    );
    define_number(
        c"amqp.confirm_timeout",
        c"Longest time the broker may take to confirm an event before the connection is made anew.",
        &CONFIRM_TIMEOUT,
        1..=3600,
        GucFlags::UNIT_S,
    );
    define_number(
        c"amqp.max_in_flight",
        c"Unconfirmed events at most.",
        &MAX_IN_FLIGHT,
        1..=100_000,
        plain,
    );
    GucRegistry::define_enum_guc(
        c"amqp.unroutable",
        c"What to do with a message that no queue is bound for: drop it, or hold the stream.",
        c"",
        &UNROUTABLE,
        GucContext::Sighup,
        plain,
    );
    define_text(
        c"amqp.exchange_policy",
        c"What becomes of events that the broker refuses: a list of exchange: hold, skip or dead_letter, and nack, unroutable.",
        &EXCHANGE_POLICY,
        GucContext::Sighup,
        plain,
    );
    define_text(
        c"amqp.dead_letter_exchange",
        c"Exchange for events that the broker refuses, where amqp.exchange_policy says dead_letter.",
        &DEAD_LETTER_EXCHANGE,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_int_guc(
        c"amqp.max_message_size",
        c"Size of the largest message body; amqp.oversize says what becomes of larger ones.",
        c"",
        &MAX_MESSAGE_SIZE,
        1024,
        MAX_BODY as i32,
        GucContext::Suset,
        GucFlags::UNIT_BYTE,
    );
    GucRegistry::define_enum_guc(
        c"amqp.oversize",
        c"What to do with a larger event: send the keys of its rows alone, or raise an error.",
        c"",
        &OVERSIZE,
        GucContext::Suset,
        plain,
    );
    GucRegistry::define_bool_guc(
        c"amqp.publish_after_restore",
        c"Whether a server that was restored from a backup publishes; off: it stands still.",
        c"",
        &PUBLISH_AFTER_RESTORE,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_bool_guc(
        c"amqp.single_publisher",
        c"Whether to publish only while no other server of this cluster does, which an exclusive queue shows.",
        c"",
        &SINGLE_PUBLISHER,
        GucContext::Sighup,
        plain,
    );
    define_text(
        c"amqp.skip_wal",
        c"Damaged WAL records to pass, comma-separated, as amqp.status and the log name them.",
        &SKIP_WAL,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_bool_guc(
        c"amqp.standby_slot",
        c"Whether this server, while it is a standby, retains the WAL of unconfirmed events to take the stream over.",
        c"",
        &STANDBY_SLOT,
        GucContext::Sighup,
        plain,
    );
    GucRegistry::define_bool_guc(
        c"amqp.capture",
        c"Whether capture triggers write events; off for bulk migrations.",
        c"",
        &CAPTURE,
        GucContext::Suset,
        plain,
    );
    tls::init();
    server::reserve_setting_prefix(c"amqp");
}

/// Whether this server, while it is a standby, is to be able to take the stream over.
pub fn standby_slot() -> bool {
    STANDBY_SLOT.get()
}

/// Whether this server publishes if it was restored from a backup.
pub fn publish_after_restore() -> bool {
    PUBLISH_AFTER_RESTORE.get()
}

/// Whether triggers write events in this session.
pub fn capture_is_on() -> bool {
    CAPTURE.get()
}

/// Bytes of the largest message body in this session.
pub fn max_message_size() -> usize {
    MAX_MESSAGE_SIZE.get() as usize
}

/// What happens to larger events in this session.
pub fn oversize() -> Oversize {
    OVERSIZE.get()
}

/// Exchange of this session's events.
pub fn exchange() -> String {
    let mut exchange = String::new();
    copy_exchange(&mut exchange);
    exchange
}

/// Overwrites `exchange` with the exchange of this session's events.
pub fn copy_exchange(exchange: &mut String) {
    text::copy_setting(&EXCHANGE, exchange);
}

/// Returns the type with which the worker declares an exchange; empty if it declares none.
pub fn exchange_type() -> String {
    string(&EXCHANGE_TYPE)
}

/// Returns the virtual host of the broker.
pub fn vhost() -> String {
    string(&VHOST)
}

/// Returns true if an operator wants the WAL record of this name to be passed over if it cannot be read.
pub fn skips_wal(record: &str) -> bool {
    string(&SKIP_WAL).split(',').any(|entry| entry.trim().eq_ignore_ascii_case(record))
}

/// Returns the WAL records that an operator wants to be passed over, as the setting has them, if there are any.
pub fn skipped_wal() -> Option<String> {
    Some(string(&SKIP_WAL)).filter(|list| !list.trim().is_empty())
}

/// Returns the settings of the delivery as they are now.
///
/// # Errors
///
/// What is wrong with a setting, in words for the operator that hold no secret.
pub fn broker() -> Result<BrokerSettings, String> {
    let (vhost, exchange_type) = (string(&VHOST), string(&EXCHANGE_TYPE));
    for (name, value) in [("amqp.vhost", &vhost), ("amqp.exchange_type", &exchange_type)] {
        if value.len() > MAX_SHORT_STRING {
            return Err(format!("{name} is longer than {MAX_SHORT_STRING} bytes"));
        }
    }
    let tls = tls::tls()?;
    let port = match (PORT.get() as u16, &tls) {
        (0, Some(_)) => PORT_OF_TLS,
        (0, None) => PORT_IN_CLEAR,
        (port, _) => port,
    };
    let credentials = match AUTH.get() {
        AuthSetting::Password => Credentials::Password {
            username: string(&USERNAME),
            password: password(&string(&PASSWORD_FILE), PASSWORD.get())?,
        },
        AuthSetting::Certificate if tls.as_ref().is_none_or(|tls| tls.identity.is_none()) => {
            return Err("amqp.auth = certificate needs amqp.sslmode, amqp.sslcert and amqp.sslkey"
                .to_owned());
        }
        AuthSetting::Certificate => Credentials::Certificate,
    };
    Ok(BrokerSettings {
        addresses: parse_hosts(&string(&HOST), port)?,
        vhost,
        credentials,
        tls,
        exchange_type,
        connect_timeout: seconds(&CONNECT_TIMEOUT),
        heartbeat: HEARTBEAT.get() as u16,
        confirm_timeout: seconds(&CONFIRM_TIMEOUT),
        max_in_flight: MAX_IN_FLIGHT.get() as usize,
        unroutable: match UNROUTABLE.get() {
            UnroutableSetting::Drop => Unroutable::Drop,
            UnroutableSetting::Hold => Unroutable::Hold,
        },
        policies: Policies::parse(&string(&EXCHANGE_POLICY), &string(&DEAD_LETTER_EXCHANGE))?,
        exclusive_queue: SINGLE_PUBLISHER
            .get()
            .then(|| format!("amqp_cdc.{}", server::system_identifier())),
    })
}

/// Returns where the password comes from, as the settings are now.
pub fn password_source() -> PasswordSource {
    match AUTH.get() {
        AuthSetting::Password => source_of(&string(&PASSWORD_FILE), PASSWORD.get().is_some()),
        AuthSetting::Certificate => PasswordSource::None,
    }
}
