//! What a test asks of a virtual host over AMQP: declare exchanges and queues, publish, count. Each
//! request is a connection of its own, so that it works again after the broker was down, and a
//! failure (a panic) leaves nothing behind.

use std::time::Duration;

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions,
    ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, ExchangeUnbindOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use tokio::runtime::{self, Runtime};

use crate::message::Message;

/// For one request: lapin waits for ever for the answers of a broker that hangs.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// A virtual host of a broker.
#[derive(Clone, Debug)]
pub struct Broker {
    url: String,
}

/// A queue, as it is to be declared.
#[derive(Clone, Debug)]
pub struct Queue {
    name: String,
    durable: bool,
    arguments: FieldTable,
    /// Exchange and pattern.
    bindings: Vec<(String, String)>,
}

impl Queue {
    /// A queue that outlives a restart of the broker, with its persistent messages.
    pub fn durable(name: &str) -> Queue {
        Queue {
            name: name.to_owned(),
            durable: true,
            arguments: FieldTable::default(),
            bindings: Vec::new(),
        }
    }

    /// A queue that the broker forgets when it stops.
    pub fn transient(name: &str) -> Queue {
        Queue { durable: false, ..Queue::durable(name) }
    }

    /// Binds the queue to an exchange, for routing keys that match `pattern`.
    pub fn bound_to(mut self, exchange: &str, pattern: &str) -> Queue {
        self.bindings.push((exchange.to_owned(), pattern.to_owned()));
        self
    }

    /// Adds an optional argument with a number, such as `x-max-length`.
    pub fn with_number(mut self, argument: &str, value: i64) -> Queue {
        self.arguments.insert(short(argument), AMQPValue::LongLongInt(value));
        self
    }

    /// Adds an optional argument with a text, such as `x-overflow`.
    pub fn with_text(mut self, argument: &str, value: &str) -> Queue {
        self.arguments.insert(short(argument), AMQPValue::LongString(value.into()));
        self
    }

    /// Has one consumer served at a time. What that had not acknowledged when its connection ended is the next
    /// one's first; without this a quorum queue gives it later messages before (RabbitMQ 3.10).
    pub fn with_single_active_consumer(mut self) -> Queue {
        self.arguments.insert(short("x-single-active-consumer"), AMQPValue::Boolean(true));
        self
    }

    /// The queue's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let options = QueueDeclareOptions { durable: self.durable, ..Default::default() };
        channel.queue_declare(short(&self.name), options, self.arguments.clone()).await?;
        for (exchange, pattern) in &self.bindings {
            let (queue, exchange, pattern) = (short(&self.name), short(exchange), short(pattern));
            let options = QueueBindOptions::default();
            channel.queue_bind(queue, exchange, pattern, options, FieldTable::default()).await?;
        }
        Ok(())
    }
}

impl Broker {
    /// The virtual host with this URL, for users and hosts other than
    /// [`RabbitMq::broker`](crate::RabbitMq::broker)'s.
    pub fn at(url: impl Into<String>) -> Broker {
        Broker { url: url.into() }
    }

    /// The URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Declares a durable exchange of this kind (`topic`, `fanout`, …).
    #[track_caller]
    pub fn declare_exchange(&self, name: &str, kind: &str) {
        self.request("declare an exchange", async |channel| {
            let kind = ExchangeKind::Custom(kind.to_owned());
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            channel.exchange_declare(short(name), kind, options, FieldTable::default()).await
        });
    }

    /// Deletes an exchange.
    #[track_caller]
    pub fn delete_exchange(&self, name: &str) {
        self.request("delete an exchange", async |channel| {
            channel.exchange_delete(short(name), ExchangeDeleteOptions::default()).await
        });
    }

    /// Passes everything that comes to exchange `from` on to exchange `to`.
    #[track_caller]
    pub fn bind_exchange(&self, from: &str, to: &str) {
        self.request("bind an exchange", async |channel| {
            let (from, to, options) = (short(from), short(to), ExchangeBindOptions::default());
            channel.exchange_bind(to, from, short("#"), options, FieldTable::default()).await
        });
    }

    /// Takes a [`Broker::bind_exchange`] back.
    #[track_caller]
    pub fn unbind_exchange(&self, from: &str, to: &str) {
        self.request("unbind an exchange", async |channel| {
            let (from, to, options) = (short(from), short(to), ExchangeUnbindOptions::default());
            channel.exchange_unbind(to, from, short("#"), options, FieldTable::default()).await
        });
    }

    /// Whether there is an exchange of this name.
    #[track_caller]
    pub fn has_exchange(&self, name: &str) -> bool {
        self.request("look for an exchange", async |channel| {
            let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
            let kind = ExchangeKind::Topic;
            let answer =
                channel.exchange_declare(short(name), kind, options, FieldTable::default()).await;
            match answer {
                Err(error) if is_not_found(&error) => Ok(false),
                answer => answer.map(|()| true),
            }
        })
    }

    /// Declares a queue and its bindings. Messages wait in it until somebody consumes.
    #[track_caller]
    pub fn declare_queue(&self, queue: &Queue) {
        self.request("declare a queue", async |channel| queue.declare(channel).await);
    }

    /// Takes one binding away.
    #[track_caller]
    pub fn unbind(&self, queue: &str, exchange: &str, pattern: &str) {
        self.request("unbind a queue", async |channel| {
            let (queue, exchange, pattern) = (short(queue), short(exchange), short(pattern));
            channel.queue_unbind(queue, exchange, pattern, FieldTable::default()).await
        });
    }

    /// Deletes a queue with what is in it.
    #[track_caller]
    pub fn delete_queue(&self, name: &str) {
        self.request("delete a queue", async |channel| {
            channel.queue_delete(short(name), QueueDeleteOptions::default()).await
        });
    }

    /// How many messages wait in a queue (without those that a consumer has not acknowledged yet).
    #[track_caller]
    pub fn message_count(&self, queue: &str) -> u32 {
        self.request("count a queue's messages", async |channel| {
            let options = QueueDeclareOptions { passive: true, ..Default::default() };
            let queue = channel.queue_declare(short(queue), options, FieldTable::default()).await?;
            Ok(queue.message_count())
        })
    }

    /// The first message that waits in a queue, which keeps it.
    #[track_caller]
    pub fn peek(&self, queue: &str) -> Option<Message> {
        self.request("look at a message", async |channel| {
            let first = channel.basic_get(short(queue), BasicGetOptions::default()).await?;
            let Some(first) = first else { return Ok(None) };
            first.delivery.acker.reject(BasicRejectOptions { requeue: true }).await?;
            Ok(Some(Message::from(first.delivery)))
        })
    }

    /// Publishes a persistent message, and returns when the broker has taken it.
    ///
    /// # Panics
    /// Also if no queue is bound for it.
    #[track_caller]
    pub fn publish(&self, exchange: &str, routing_key: &str, body: &[u8]) {
        let confirmation = self.request("publish", async |channel| {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let persistent = BasicProperties::default().with_delivery_mode(2);
            channel
                .basic_publish(short(exchange), short(routing_key), options, body, persistent)
                .await?
                .await
        });
        assert!(
            confirmation.is_ack() && confirmation.take_message().is_none(),
            "the message with routing key {routing_key} was not delivered"
        );
    }

    /// Completes a handshake and opens a channel, or tells why that does not work.
    pub(crate) fn try_connection(&self) -> Result<(), String> {
        runtime().block_on(self.on_channel(async |_channel| Ok(())))
    }

    /// Connects, without lapin's own recovery.
    pub(crate) async fn connect(&self) -> lapin::Result<Connection> {
        Connection::connect(&self.url, ConnectionProperties::default()).await
    }

    #[track_caller]
    fn request<T>(&self, what: &str, ask: impl AsyncFnOnce(&Channel) -> lapin::Result<T>) -> T {
        match runtime().block_on(self.on_channel(ask)) {
            Ok(answer) => answer,
            Err(error) => panic!("could not {what} at {}: {error}", self.url),
        }
    }

    async fn on_channel<T>(
        &self,
        ask: impl AsyncFnOnce(&Channel) -> lapin::Result<T>,
    ) -> Result<T, String> {
        let work = async {
            let connection = self.connect().await?;
            let channel = connection.create_channel().await?;
            let answer = ask(&channel).await?;
            // The channel must live until here: one that is just being closed fails this.
            connection.close(200, short("done")).await?;
            Ok(answer)
        };
        match tokio::time::timeout(TIMEOUT, work).await {
            Ok(answer) => answer.map_err(|error: lapin::Error| error.to_string()),
            Err(_) => Err(format!("no answer within {TIMEOUT:?}")),
        }
    }
}

/// A runtime for the calling thread.
pub(crate) fn runtime() -> Runtime {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("could not make a tokio runtime")
}

/// AMQP's short string: a name of at most 255 bytes.
pub(crate) fn short(text: &str) -> ShortString {
    ShortString::from(text)
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(error) if error.get_id() == 404)
}
