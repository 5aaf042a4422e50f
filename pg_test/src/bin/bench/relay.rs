//! The classic relay of NOTIFY: a process that listens and publishes each payload as it comes,
//! without confirms. It is woken by the notification itself; nothing is polled.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, NoTls};
use tokio::runtime::{self, Runtime};

use crate::server::Server;

/// By this word this program knows that it is the relay.
pub const COMMAND: &str = "relay";

/// What the trigger notifies.
pub const CHANNEL: &str = "changed_row";

/// What the relay says when it listens.
const READY: &str = "ready";

/// The relay's process, until dropped.
pub struct Relay {
    process: Child,
}

impl Relay {
    /// Relays from the server's database to its exchange. Returns when it listens.
    pub fn start(server: &Server) -> Relay {
        let program = std::env::current_exe().expect("could not find this program");
        let (broker, database) = (server.broker(), server.connection_string());
        let process = Command::new(program)
            .args([COMMAND, &database, broker.url(), server.exchange()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("could not run the relay");
        let mut relay = Relay { process };
        let output = relay.process.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("could not read from the relay");
        assert_eq!(line.trim(), READY, "the relay failed");
        relay
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The relay's process.
pub fn main(arguments: &[&str]) -> ExitCode {
    let &[database, url, exchange] = arguments else { return ExitCode::from(2) };
    let mut client = Client::connect(database, NoTls).expect("could not connect");
    client.batch_execute(&format!("LISTEN {CHANNEL}")).expect("could not listen");
    let (connection, channel) = connect(url).expect("could not connect to the broker");
    let publishing = runtime();
    println!("{READY}");

    let mut notifications = client.notifications();
    let mut notifications = notifications.blocking_iter();
    while let Ok(Some(notification)) = notifications.next() {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2);
        let published = publishing.block_on(channel.basic_publish(
            exchange.into(),
            COMMAND.into(),
            BasicPublishOptions::default(),
            notification.payload().as_bytes(),
            properties,
        ));
        published.expect("could not publish");
    }
    drop(connection);
    ExitCode::SUCCESS
}

/// Connects. The connection's runtime gets a thread of its own, since ours waits for PostgreSQL.
fn connect(url: &str) -> lapin::Result<(Connection, Channel)> {
    let runtime = Arc::new(runtime());
    let connected = runtime.block_on(async {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    });
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    connected
}

fn runtime() -> Runtime {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("could not make a tokio runtime")
}
