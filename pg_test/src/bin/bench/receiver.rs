//! Who receives: consumes a queue on a thread of its own and notes when each message came. Writers
//! are threads of the same process, so that both look at the same clock.

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver as Channel, Sender, SyncSender};
use std::thread;
use std::time::Instant;

use futures_lite::StreamExt;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use pg_test::DEADLINE;
use serde_json::Value;
use tokio::runtime;

/// Consumes until the process ends.
pub struct Receiver {
    received: Channel<(Instant, Vec<u8>)>,
}

impl Receiver {
    /// Returns when it consumes.
    pub fn start(url: &str, queue: &str) -> Receiver {
        let (hand_on, received) = mpsc::channel();
        let (started, has_started) = mpsc::sync_channel(1);
        let (url, queue) = (url.to_owned(), queue.to_owned());
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("could not make a tokio runtime");
            // It ends with the broker.
            let _ = runtime.block_on(consume(&url, &queue, &started, &hand_on));
        });
        has_started.recv_timeout(DEADLINE).expect("could not consume");
        Receiver { received }
    }

    /// The next messages, by the id of the row that they are about.
    ///
    /// # Panics
    /// If they do not come in time.
    #[track_caller]
    pub fn take(&self, messages: usize) -> HashMap<i64, Instant> {
        let next = || match self.received.recv_timeout(DEADLINE) {
            Ok((at, body)) => (id(&body), at),
            Err(error) => panic!("a message did not come: {error}"),
        };
        (0..messages).map(|_| next()).collect()
    }
}

async fn consume(
    url: &str,
    queue: &str,
    started: &SyncSender<()>,
    hand_on: &Sender<(Instant, Vec<u8>)>,
) -> lapin::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut deliveries = channel
        .basic_consume(queue.into(), "receiver".into(), options, FieldTable::default())
        .await?;
    let _ = started.send(());
    while let Some(delivery) = deliveries.next().await {
        let at = Instant::now();
        let _ = hand_on.send((at, delivery?.data));
    }
    Ok(())
}

/// Of the row: our messages have it in `current`, the relay's are the row.
fn id(body: &[u8]) -> i64 {
    let message: Value = serde_json::from_slice(body).expect("a message is not JSON");
    let row = message.get("current").unwrap_or(&message);
    row["id"].as_i64().expect("a row has no id")
}
