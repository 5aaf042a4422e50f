//! A real AMQP consumer on a thread of its own. It acknowledges every message as it comes and
//! hands it on through a channel; the test takes them with a deadline. When its connection ends,
//! as in a restart of the broker, so does the consumer: make another one for the same queue.

use std::fmt::Write;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_lite::{StreamExt, future};
use lapin::Connection;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::sync::oneshot;

use crate::broker::{Broker, Queue, TIMEOUT, runtime, short};
use crate::message::Message;
use crate::wait::DEADLINE;

/// How many messages the broker may have under way to us.
const PREFETCH: u16 = 1000;

/// Consumes one queue until dropped.
#[derive(Debug)]
pub struct Consumer {
    queue: String,
    deadline: Duration,
    /// Ends with the reason when the connection has ended.
    received: Mutex<Receiver<Result<Message, String>>>,
    /// Dropping it tells the thread to stop.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    /// Declares a queue with its bindings and consumes it, with a connection that lasts as long
    /// as the consumer.
    #[track_caller]
    pub fn consume(&self, queue: &Queue) -> Consumer {
        Consumer::start(self, queue)
    }
}

impl Consumer {
    #[track_caller]
    fn start(broker: &Broker, queue: &Queue) -> Consumer {
        let (started, has_started) = mpsc::sync_channel(1);
        let (hand_on, received) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = {
            let (broker, queue) = (broker.clone(), queue.clone());
            thread::spawn(move || {
                let work = consume(&broker, &queue, &started, &hand_on, stopped);
                if let Err(error) = runtime().block_on(work) {
                    // Whichever of the two is still listened to.
                    let _ = started.try_send(Err(error.clone()));
                    let _ = hand_on.send(Err(error));
                }
            })
        };

        match has_started.recv_timeout(TIMEOUT) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("could not consume {}: {error}", queue.name()),
            Err(_) => panic!("could not consume {}: no answer in {TIMEOUT:?}", queue.name()),
        }
        Consumer {
            queue: queue.name().to_owned(),
            deadline: DEADLINE,
            received: Mutex::new(received),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Sets how long this consumer waits ([`DEADLINE`] if not set).
    pub fn with_deadline(mut self, deadline: Duration) -> Consumer {
        self.deadline = deadline;
        self
    }

    /// The queue's name.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// The next `count` messages.
    ///
    /// # Panics
    /// If fewer come until the deadline; the panic tells which did.
    #[track_caller]
    pub fn wait_for_events(&self, count: usize) -> Vec<Message> {
        let mut events = Vec::with_capacity(count);
        let received = self.received();
        let end = Instant::now() + self.deadline;
        while events.len() < count {
            match next(&received, end) {
                Ok(event) => events.push(event),
                Err(why) => {
                    panic!("{} of {count} events came, {why}:{}", events.len(), listed(&events))
                }
            }
        }
        events
    }

    /// Everything that comes before the first message with this routing key. That nothing is
    /// published cannot be waited for; that nothing was published before the marker can.
    ///
    /// # Panics
    /// If the marker does not come until the deadline; the panic tells what did.
    #[track_caller]
    pub fn wait_for_marker(&self, routing_key: &str) -> Vec<Message> {
        self.wait_for(&format!("the marker {routing_key}"), |event| {
            event.routing_key == routing_key
        })
    }

    /// Everything that comes before the first message that is the one, which is called `what`.
    ///
    /// # Panics
    /// If that does not come until the deadline; the panic tells what did.
    #[track_caller]
    pub fn wait_for(&self, what: &str, is_it: impl Fn(&Message) -> bool) -> Vec<Message> {
        let mut before = Vec::new();
        let received = self.received();
        let end = Instant::now() + self.deadline;
        loop {
            match next(&received, end) {
                Ok(event) if is_it(&event) => return before,
                Ok(event) => before.push(event),
                Err(why) => panic!(
                    "{what} did not come, {why}; {} others did:{}",
                    before.len(),
                    listed(&before)
                ),
            }
        }
    }

    /// The next message, if one comes within this time.
    ///
    /// # Panics
    /// If the connection has ended.
    #[track_caller]
    pub fn next_within(&self, time: Duration) -> Option<Message> {
        match self.received().recv_timeout(time) {
            Ok(Ok(message)) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Ok(Err(why)) => panic!("the consumer's connection ended: {why}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the consumer has ended"),
        }
    }

    fn received(&self) -> MutexGuard<'_, Receiver<Result<Message, String>>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic over there has been printed; a second one here would abort the process.
            let _ = thread.join();
        }
    }
}

/// Consumes until told to stop. That the connection ends before is an error.
async fn consume(
    broker: &Broker,
    queue: &Queue,
    started: &SyncSender<Result<(), String>>,
    hand_on: &mpsc::Sender<Result<Message, String>>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<(), String> {
    let describe = |error: lapin::Error| error.to_string();
    let (connection, mut deliveries) = subscribe(broker, queue).await.map_err(describe)?;
    let _ = started.send(Ok(()));

    loop {
        let stop = async {
            // An error, always: the sender is dropped, which is the way to stop us.
            let _ = (&mut stopped).await;
            None
        };
        let next = async { Some(deliveries.next().await) };
        let Some(delivery) = future::or(stop, next).await else {
            break;
        };
        let delivery = delivery.ok_or("the broker cancelled the consumer")?.map_err(describe)?;
        let acker = delivery.acker.clone();
        // Handed on first: a message that is acknowledged and lost would be a failure of ours.
        let _ = hand_on.send(Ok(Message::from(delivery)));
        acker.ack(BasicAckOptions::default()).await.map_err(describe)?;
    }
    // In good order, so that the broker has seen every acknowledgement when the consumer is gone.
    let close = connection.close(200, short("done"));
    let _ = tokio::time::timeout(TIMEOUT, close).await;
    Ok(())
}

pub(crate) async fn subscribe(
    broker: &Broker,
    queue: &Queue,
) -> lapin::Result<(Connection, lapin::Consumer)> {
    let connection = broker.connect().await?;
    let channel = connection.create_channel().await?;
    queue.declare(&channel).await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let tag = short("pg_test");
    let options = BasicConsumeOptions::default();
    let deliveries =
        channel.basic_consume(short(queue.name()), tag, options, FieldTable::default()).await?;
    Ok((connection, deliveries))
}

/// The next message, or why there is none.
fn next(received: &Receiver<Result<Message, String>>, end: Instant) -> Result<Message, String> {
    match received.recv_timeout(end.saturating_duration_since(Instant::now())) {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(why)) => Err(format!("then the connection ended ({why})")),
        Err(RecvTimeoutError::Timeout) => Err("then the deadline passed".to_owned()),
        Err(RecvTimeoutError::Disconnected) => Err("the consumer has ended".to_owned()),
    }
}

fn listed(messages: &[Message]) -> String {
    messages.iter().fold(String::new(), |mut list, message| {
        let _ = write!(list, "\n  {}", message.routing_key);
        list
    })
}
