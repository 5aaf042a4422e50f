//! One connection to the broker: a channel with confirms to publish on, a second one to declare
//! exchanges on. lapin's own recovery stays off: a connection that failed is thrown away whole.

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{
    Channel, Confirmation, Connection as LapinConnection, ConnectionProperties, Event, ExchangeKind,
};
use tokio::time::timeout;

use super::failure::{Failure, FailureKind};
use super::message::{Message, short};
use super::window::ResendReason;
use super::{Address, BrokerSettings};

/// How long a polite goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(250);

/// `reply-code` of an orderly close (AMQP 0-9-1, 1.2).
const REPLY_SUCCESS: u16 = 200;

/// A confirm that is under way.
pub type Confirm = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

/// An open connection.
pub struct Connection {
    connection: LapinConnection,
    publishing: Channel,
    declaring: Option<Channel>,
    declared: HashSet<String>,
    exchange_type: String,
    answer_timeout: Duration,
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
}

impl Connection {
    /// Connects, logs in and turns confirms on. Takes at most the connect timeout.
    ///
    /// # Errors
    ///
    /// Why the broker cannot be used.
    pub async fn open(settings: &BrokerSettings, address: &Address) -> Result<Connection, Failure> {
        timeout(settings.connect_timeout, Connection::open_slowly(settings, address))
            .await
            .unwrap_or_else(|_| {
                Err(Failure::new(
                    FailureKind::Unreachable,
                    format!("broker did not answer within {:?}", settings.connect_timeout),
                ))
            })
    }

    async fn open_slowly(
        settings: &BrokerSettings,
        address: &Address,
    ) -> Result<Connection, Failure> {
        let uri = AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: settings.username.clone(),
                    password: settings.password.reveal().to_owned(),
                },
                host: address.host.clone(),
                port: address.port,
            },
            vhost: settings.vhost.clone(),
            query: AMQPQueryString {
                heartbeat: Some(settings.heartbeat),
                ..AMQPQueryString::default()
            },
        };
        let properties = ConnectionProperties::default().with_connection_name("amqp_cdc".into());
        let failed = |error| Failure::while_connecting(&error);
        let connection = LapinConnection::connect_uri(uri, properties).await.map_err(failed)?;
        let events = Box::pin(connection.events_listener());
        let publishing = connection.create_channel().await.map_err(failed)?;
        publishing.confirm_select(ConfirmSelectOptions::default()).await.map_err(failed)?;
        Ok(Connection {
            connection,
            publishing,
            declaring: None,
            declared: HashSet::new(),
            exchange_type: settings.exchange_type.clone(),
            answer_timeout: settings.connect_timeout,
            events,
        })
    }

    /// Whether the exchange is to be declared and this connection has not done so.
    pub fn must_declare(&self, exchange: &str) -> bool {
        // The default exchange and the predeclared ones are always there (AMQP 0-9-1, 3.1.3.1).
        let is_built_in = exchange.is_empty() || exchange.starts_with("amq.");
        !(self.exchange_type.is_empty() || is_built_in || self.declared.contains(exchange))
    }

    /// Declares the exchange, durable. A broker that declines
    /// (the exchange exists with another type, or declaring is not permitted) is not a failure: the
    /// exchange may well be there, and publishing will tell. Then the reason is returned.
    ///
    /// # Errors
    ///
    /// If the connection broke, or there is no answer in time.
    pub async fn declare(&mut self, exchange: &str) -> Result<Option<String>, Failure> {
        self.declared.insert(exchange.to_owned());
        match timeout(self.answer_timeout, self.declare_slowly(exchange)).await {
            Err(_) => Err(Failure::new(
                FailureKind::Unreachable,
                format!("broker did not answer a declaration within {:?}", self.answer_timeout),
            )),
            Ok(Ok(())) => Ok(None),
            Ok(Err(error)) if error.is_amqp_soft_error() => {
                // The broker has closed that channel.
                self.declaring = None;
                Ok(Some(format!("exchange \"{exchange}\" was not declared: {error}")))
            }
            Ok(Err(error)) => Err(Failure::while_streaming(&error)),
        }
    }

    async fn declare_slowly(&mut self, exchange: &str) -> lapin::Result<()> {
        let channel = match &self.declaring {
            Some(channel) => channel.clone(),
            None => self.declaring.insert(self.connection.create_channel().await?).clone(),
        };
        let kind = match self.exchange_type.as_str() {
            "topic" => ExchangeKind::Topic,
            "direct" => ExchangeKind::Direct,
            "fanout" => ExchangeKind::Fanout,
            "headers" => ExchangeKind::Headers,
            other => ExchangeKind::Custom(other.to_owned()),
        };
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel.exchange_declare(short(exchange), kind, options, FieldTable::default()).await
    }

    /// Publishes a message; the result resolves when the broker has confirmed it. The message is
    /// sent when the result is first polled.
    pub fn publish(&self, message: Arc<Message>, resent: Option<ResendReason>) -> Confirm {
        let channel = self.publishing.clone();
        Box::pin(async move {
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            channel
                .basic_publish(
                    short(&message.exchange),
                    short(&message.routing_key),
                    options,
                    &message.body,
                    message.properties(resent),
                )
                .await?
                .await
        })
    }

    /// What happens to the connection; never resolves once it is gone.
    pub async fn next_event(&mut self) -> Event {
        loop {
            match poll_fn(|cx| self.events.as_mut().poll_next(cx)).await {
                Some(event) => return event,
                None => std::future::pending().await,
            }
        }
    }

    /// Says goodbye, if the broker listens.
    pub async fn close(self) {
        let goodbye = self.connection.close(REPLY_SUCCESS, "amqp_cdc stops".into());
        // Unsaid, it does no harm: the broker sees the socket close.
        let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
    }
}
