//! How a broker's TLS listener is to be, as rabbitmq.conf has it for the one that a broker begins with, and as
//! Erlang has it for those that it is told of while it runs.

use std::path::{Path, PathBuf};

use crate::certificates::{CertificateFiles, Identity};

/// A listener that shows a certificate, and may want one.
#[derive(Clone, Debug)]
pub struct TlsListener {
    /// Names and values of `ssl_options`.
    options: Vec<(&'static str, Value)>,
    /// Other certificates, for who asks for these names.
    by_name: Vec<(String, [PathBuf; 2])>,
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Word(&'static str),
    Words(&'static str),
    Number(u64),
}

impl TlsListener {
    /// One that shows this certificate, whose files get this name.
    pub fn new(files: &CertificateFiles, name: &str, identity: &Identity) -> TlsListener {
        let [certificate, key] = put(files, name, identity);
        let options = vec![("certfile", text(&certificate)), ("keyfile", text(&key))];
        TlsListener { options, by_name: Vec::new() }
    }

    /// That asks clients for certificates of this authority, and lets in who has none.
    pub fn asking_for(mut self, authority: &Path) -> TlsListener {
        self.options.push(("cacertfile", text(authority)));
        self.options.push(("verify", Value::Word("verify_peer")));
        self
    }

    /// That asks clients for certificates of this authority, and refuses who has none.
    pub fn demanding(self, authority: &Path) -> TlsListener {
        let mut listener = self.asking_for(authority);
        listener.options.push(("fail_if_no_peer_cert", Value::Word("true")));
        listener
    }

    /// That speaks this version of TLS alone: `tlsv1.2`, `tlsv1.3`.
    pub fn speaking(mut self, version: &'static str) -> TlsListener {
        self.options.push(("versions", Value::Words(version)));
        self
    }

    /// That takes new keys after so many bytes. Of TLS 1.3.
    pub fn with_new_keys_after(mut self, bytes: u64) -> TlsListener {
        self.options.push(("key_update_at", Value::Number(bytes)));
        self
    }

    /// That shows another certificate to who asks for a server of this name (SNI).
    pub fn showing_for(
        mut self,
        name: &str,
        files: &CertificateFiles,
        identity: &Identity,
    ) -> TlsListener {
        self.by_name.push((name.to_owned(), put(files, &format!("for_{name}"), identity)));
        self
    }

    /// As lines of rabbitmq.conf, which does not have all.
    pub(crate) fn conf(&self) -> String {
        let lines = self.options.iter().map(|(name, value)| match value {
            Value::Text(value) => format!("ssl_options.{name} = {value}\n"),
            Value::Word(value) => format!("ssl_options.{name} = {value}\n"),
            Value::Words(value) => format!("ssl_options.{name}.1 = {value}\n"),
            Value::Number(value) => format!("ssl_options.{name} = {value}\n"),
        });
        lines.collect()
    }

    /// As a list of Erlang's options.
    pub(crate) fn erlang(&self) -> String {
        let mut options: Vec<String> = self
            .options
            .iter()
            .map(|(name, value)| match value {
                Value::Text(value) => format!("{{{name}, \"{value}\"}}"),
                Value::Word(value) => format!("{{{name}, {value}}}"),
                Value::Words(value) => format!("{{{name}, ['{value}']}}"),
                Value::Number(value) => format!("{{{name}, {value}}}"),
            })
            .collect();
        let names = self.by_name.iter().map(|(name, [certificate, key])| {
            let (certificate, key) = (certificate.display(), key.display());
            format!("{{\"{name}\", [{{certfile, \"{certificate}\"}}, {{keyfile, \"{key}\"}}]}}")
        });
        let names: Vec<String> = names.collect();
        if !names.is_empty() {
            options.push(format!("{{sni_hosts, [{}]}}", names.join(", ")));
        }
        format!("[{}]", options.join(", "))
    }
}

fn put(files: &CertificateFiles, name: &str, identity: &Identity) -> [PathBuf; 2] {
    let certificate = files.put(&format!("{name}.pem"), &identity.certificate);
    [certificate, files.put(&format!("{name}.key"), &identity.key)]
}

fn text(path: &Path) -> Value {
    Value::Text(path.display().to_string())
}
