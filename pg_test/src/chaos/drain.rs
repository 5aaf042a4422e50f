//! Takes everything out of a queue for as long as the run lasts, over restarts of the broker, and
//! keeps of it what the checks need.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_lite::StreamExt;
use lapin::options::BasicAckOptions;
use tokio::time::timeout;

use super::clock::micros_now;
use super::delivery::Delivery;
use super::verdict::Received;
use crate::broker::{Broker, Queue, runtime};
use crate::consumer::subscribe;
use crate::end_signal::EndSignal;
use crate::message::Message;

/// Between two looks whether the run has ended.
const LOOK: Duration = Duration::from_millis(200);

/// A broker that has not answered for so long is asked anew.
const PATIENCE: Duration = Duration::from_secs(10);

/// One queue's consumer.
#[derive(Debug)]
pub(super) struct Drain {
    pub queue: Queue,
    received: Mutex<Received>,
}

impl Drain {
    /// A drain of this queue.
    pub fn new(queue: Queue) -> Drain {
        Drain { queue, received: Mutex::default() }
    }

    /// Consumes until the run ends, with one connection after the other.
    pub fn run(&self, broker: &Broker, end_signal: &EndSignal) {
        while !end_signal.is_given() {
            // That the connection ends is nothing to tell: the broker is being killed.
            let _ = runtime().block_on(self.consume(broker, end_signal));
            end_signal.comes_within(LOOK);
        }
    }

    /// Whether a transaction with this tag has arrived.
    pub fn has_seen(&self, tag: &str) -> bool {
        self.received().deliveries.iter().rev().any(|delivery| delivery.change.key == tag)
    }

    /// Everything that has arrived.
    pub fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn consume(&self, broker: &Broker, end_signal: &EndSignal) -> Result<(), lapin::Error> {
        let Ok(subscribed) = timeout(PATIENCE, subscribe(broker, &self.queue)).await else {
            return Ok(());
        };
        // The connection lives until the end of this function.
        let (connection, mut deliveries) = subscribed?;
        while !end_signal.is_given() {
            let Ok(next) = timeout(LOOK, deliveries.next()).await else { continue };
            let Some(delivery) = next.transpose()? else { break };
            let acker = delivery.acker.clone();
            self.take(&Message::from(delivery));
            // Of a connection that has just ended nobody may say whether this was sent.
            let Ok(acked) = timeout(PATIENCE, acker.ack(BasicAckOptions::default())).await else {
                break;
            };
            acked?;
        }
        let _ = timeout(PATIENCE, connection.close(200, "done".into())).await;
        Ok(())
    }

    fn take(&self, message: &Message) {
        let is_of_the_stream = |kind: &str| message.kind.as_deref() == Some(kind);
        if is_of_the_stream("gap") || is_of_the_stream("timeline") {
            let mut received = self.received();
            let others = received.deliveries.len();
            let added = match is_of_the_stream("gap") {
                true => received.gaps.add(message),
                false => received.switches.add(message, others),
            };
            if let Err(problem) = added {
                received.unreadable.push(format!("{:?}: {problem}", message.message_id));
            }
            return;
        }
        let read = Delivery::read(message, micros_now());
        let mut received = self.received();
        received.longest = received.longest.max(message.body.len());
        match read {
            Ok((delivery, after)) => {
                received.replica.apply(&delivery, after);
                received.deliveries.push(delivery);
            }
            Err(problem) => {
                received.unreadable.push(format!("{:?}: {problem}", message.message_id));
            }
        }
    }
}
