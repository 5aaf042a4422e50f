//! Takes everything out of a queue or a stream for as long as the run lasts, from whichever node lets it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use futures_lite::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use pg_test::{Broker, Message};
use tokio::time::timeout;

use super::ledger::{Row, Seen};
use super::probe;

/// Never changes: a quorum queue keeps the order of what was given back only so.
const PREFETCH: u16 = 200;

/// Between two looks whether the run has ended.
const LOOK: Duration = Duration::from_millis(200);

/// A node that has not answered for so long is left.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is tapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What is acknowledged is gone.
    Queue,
    /// What was read is read no more.
    Stream,
}

/// A consumer.
#[derive(Debug)]
pub struct Tap {
    pub name: &'static str,
    pub kind: Kind,
    seen: Mutex<Vec<Seen>>,
    problems: Mutex<Vec<String>>,
}

impl Tap {
    /// Of this queue or stream.
    pub fn new(name: &'static str, kind: Kind) -> Tap {
        Tap { name, kind, seen: Mutex::default(), problems: Mutex::default() }
    }

    /// Consumes until the run ends, at one node after the other.
    pub fn run(&self, brokers: &[Broker], is_over: &AtomicBool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("could not make a tokio runtime");
        let mut next_offset = 0;
        for broker in brokers.iter().cycle() {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            // That the connection ends is nothing to tell: nodes are being killed.
            let _ = runtime.block_on(self.consume(broker, &mut next_offset, is_over));
            thread::park_timeout(LOOK);
        }
    }

    /// Everything that has arrived.
    pub fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What could not be understood.
    pub fn problems(&self) -> Vec<String> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn consume(
        &self,
        broker: &Broker,
        next_offset: &mut i64,
        is_over: &AtomicBool,
    ) -> Result<(), String> {
        let say = |error: lapin::Error| error.to_string();
        let subscribing = async {
            let connection =
                Connection::connect(broker.url(), ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
            let mut arguments = FieldTable::default();
            if self.kind == Kind::Stream {
                arguments.insert("x-stream-offset".into(), AMQPValue::LongLongInt(*next_offset));
            }
            let options = BasicConsumeOptions::default();
            let (queue, tag) = (self.name.into(), "tap".into());
            let deliveries = channel.basic_consume(queue, tag, options, arguments).await?;
            Ok((connection, deliveries))
        };
        // The connection lives until the end of this function.
        let subscribed = timeout(PATIENCE, subscribing).await.map_err(|error| error.to_string())?;
        let (connection, mut deliveries) = subscribed.map_err(say)?;
        while !is_over.load(Ordering::Relaxed) {
            let Ok(next) = timeout(LOOK, deliveries.next()).await else { continue };
            let Some(delivery) = next.transpose().map_err(say)? else { break };
            let acker = delivery.acker.clone();
            self.take(&Message::from(delivery), next_offset);
            let Ok(acked) = timeout(PATIENCE, acker.ack(BasicAckOptions::default())).await else {
                break;
            };
            acked.map_err(say)?;
        }
        let _ = timeout(PATIENCE, connection.close(200, "done".into())).await;
        Ok(())
    }

    fn take(&self, message: &Message, next_offset: &mut i64) {
        if let Some(offset) = message.headers.get("x-stream-offset").and_then(|at| at.as_i64()) {
            // A node begins with the chunk that the offset is in.
            if offset < *next_offset {
                return;
            }
            *next_offset = offset + 1;
        }
        if message.routing_key == probe::KEY {
            return;
        }
        match read(message) {
            Some(seen) => self.seen().push(seen),
            None => {
                let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
                problems.push(format!("{message:?}"));
            }
        }
    }
}

fn read(message: &Message) -> Option<Seen> {
    let body: serde_json::Value = serde_json::from_slice(&message.body).ok()?;
    let current = &body["current"];
    let writer = current["writer"].as_u64()? as usize;
    let row = match body["tablename"].as_str()? {
        "events" => Row::Inserted { writer, number: current["number"].as_u64()? },
        "counters" => Row::Counted { writer, rows: current["rows"].as_u64()? },
        _ => return None,
    };
    let (high, low) = message.headers.get("commit_lsn")?.as_str()?.split_once('/')?;
    let lsn = u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?;
    Some(Seen {
        message_id: message.message_id.clone()?,
        place: (lsn, message.headers.get("tx_seq")?.as_u64()?),
        tx_size: message.headers.get("tx_size")?.as_u64()?,
        row,
        is_resent: message.headers.contains_key("resent"),
        is_redelivered: message.redelivered,
    })
}
