//! The classic relay of NOTIFY: a process that listens and publishes each payload as it comes. It is
//! woken by the notification itself; nothing is polled. It may ask the broker for confirms, as one must
//! who does not want to lose what the broker did not take, or not, as it is mostly done.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, NoTls};
use tokio::runtime::{self, Runtime};

use crate::server::Server;

/// By this word this program knows that it is the relay.
pub const COMMAND: &str = "relay";

/// What the trigger notifies.
pub const CHANNEL: &str = "changed_row";

/// As an argument, that it asks for confirms.
const CONFIRMS: &str = "confirms";

/// Unconfirmed messages at most.
const WINDOW: usize = 1000;

/// What the relay says when it listens.
const READY: &str = "ready";

/// The relay's process, until dropped.
pub struct Relay {
    process: Child,
}

impl Relay {
    /// Relays what is notified in a database of the server to its exchange. Returns when it listens.
    /// It should be the only one there: PostgreSQL wakes all who listen in a database, whatever they
    /// listen to (async.c: `SignalBackends`).
    pub fn start(server: &Server, database: &str, with_confirms: bool) -> Relay {
        let program = std::env::current_exe().expect("could not find this program");
        let broker = server.broker();
        let database = server.bed.postgres.connection_string(database);
        let process = Command::new(program)
            .args([COMMAND, &database, broker.url(), server.exchange()])
            .args(with_confirms.then_some(CONFIRMS))
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
    let &[database, url, exchange, ref rest @ ..] = arguments else {
        return ExitCode::from(2);
    };
    let with_confirms = rest.contains(&CONFIRMS);
    let mut client = Client::connect(database, NoTls).expect("could not connect");
    client.batch_execute(&format!("LISTEN {CHANNEL}")).expect("could not listen");
    let (connection, channel) = connect(url, with_confirms).expect("could not reach the broker");
    let publishing = runtime();
    let mut confirms = VecDeque::with_capacity(WINDOW);
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
        confirms.push_back(published.expect("could not publish"));
        if confirms.len() >= WINDOW
            && let Some(oldest) = confirms.pop_front()
        {
            let confirmed = publishing.block_on(oldest).expect("could not publish");
            assert!(!confirmed.is_nack(), "the broker refused a message");
        }
    }
    drop(connection);
    ExitCode::SUCCESS
}

/// Connects. The connection's runtime gets a thread of its own, since ours waits for PostgreSQL.
fn connect(url: &str, with_confirms: bool) -> lapin::Result<(Connection, Channel)> {
    let runtime = Arc::new(runtime());
    let connected = runtime.block_on(async {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        if with_confirms {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
        }
        Ok((connection, channel))
    });
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    connected
}

fn runtime() -> Runtime {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("could not make a tokio runtime")
}
