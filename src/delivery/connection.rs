//! One connection to the broker: a channel with confirms to publish on, a second one to declare
//! exchanges on. What the broker closes is not opened again: a connection that failed is thrown away
//! whole.

use std::collections::HashSet;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use amq_protocol::frame::{AMQPFrame, ProtocolVersion};
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange};
use amq_protocol::types::{AMQPValue, FieldTable, LongString, ShortString};

use super::failure::{Failure, SessionEnd};
use super::frame::short;
use super::message::{Message, ResendReason};
use super::window::Answer;
use super::wire::{FRAME_MAX, FRAME_MIN, Wire};
use super::{Address, BrokerSettings, Link, Report};

/// `reply-code` of an orderly close (AMQP 0-9-1, 1.2).
const REPLY_SUCCESS: u16 = 200;

/// The channels; 0 is the connection itself (AMQP 0-9-1, 4.2.3).
const CONNECTION: u16 = 0;
const PUBLISHING: u16 = 1;
const DECLARING: u16 = 2;

/// What the broker says while the connection is in use.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// About a message, or all messages up to that.
    Answered { tag: u64, is_multiple: bool, answer: Answer },
    /// No queue is bound for the message; it is confirmed afterwards.
    Returned { message_id: String, routing_key: String },
    /// It declined to declare this exchange, for this reason.
    Declined { exchange: String, reason: String },
    /// It does not read from the connection for now, for this reason.
    Blocked(String),
    /// It reads again.
    Unblocked,
}

/// An open connection.
pub struct Connection {
    wire: Wire,
    is_declaring_open: bool,
    /// The exchange about which the broker has been asked and has not answered.
    declaring: Option<String>,
    /// Those about which it has.
    declared: HashSet<String>,
    exchange_type: String,
    /// Routing key of a message of which the broker returns the rest in the next frames.
    returning: Option<String>,
    /// Whether one side has closed the connection and the other one agreed.
    is_closed: bool,
}

impl Connection {
    /// Connects, logs in and turns confirms on. Takes at most the connect timeout.
    ///
    /// # Errors
    ///
    /// Why the broker cannot be used, or what the worker wants instead.
    pub async fn open(link: &mut Link, address: &Address) -> Result<Connection, SessionEnd> {
        let settings = link.settings.clone();
        let deadline = Instant::now() + settings.connect_timeout;
        let wire = connect(link, address, &settings, deadline).await?;
        let mut connection = Connection {
            wire,
            is_declaring_open: false,
            declaring: None,
            declared: HashSet::new(),
            exchange_type: settings.exchange_type.clone(),
            returning: None,
            is_closed: false,
        };
        connection.wire.put(&AMQPFrame::ProtocolHeader(ProtocolVersion::amqp_0_9_1()));
        let start = match connection.expect_method(link, &settings, deadline).await? {
            AMQPClass::Connection(connection::AMQPMethod::Start(start)) => start,
            other => return Err(unexpected(&other)),
        };
        connection.warn_of_listeners(link, address);
        connection.log_in(&start, &settings)?;
        let tune = match connection.expect_method(link, &settings, deadline).await? {
            AMQPClass::Connection(connection::AMQPMethod::Tune(tune)) => tune,
            other => return Err(unexpected(&other)),
        };
        connection.tune(&tune, &settings)?;
        match connection.expect_method(link, &settings, deadline).await? {
            AMQPClass::Connection(connection::AMQPMethod::OpenOk(_)) => {}
            other => return Err(unexpected(&other)),
        }
        connection.open_channel(PUBLISHING);
        match connection.expect_method(link, &settings, deadline).await? {
            AMQPClass::Channel(channel::AMQPMethod::OpenOk(_)) => {}
            other => return Err(unexpected(&other)),
        }
        let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
        connection.put(PUBLISHING, AMQPClass::Confirm(select));
        match connection.expect_method(link, &settings, deadline).await? {
            AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(_)) => Ok(connection),
            other => Err(unexpected(&other)),
        }
    }

    /// The broker's next method while the connection is being made.
    async fn expect_method(
        &mut self,
        link: &mut Link,
        settings: &BrokerSettings,
        deadline: Instant,
    ) -> Result<AMQPClass, SessionEnd> {
        let unreachable = |error: io::Error| Failure::unreachable(&error);
        loop {
            link.obey()?;
            match self.wire.next_frame().map_err(unreachable)? {
                Some(AMQPFrame::Method(
                    _,
                    AMQPClass::Connection(connection::AMQPMethod::Close(close)),
                )) => {
                    self.agree_to_close();
                    let text = format!("broker refused the connection: {}", close.reply_text);
                    return Err(Failure::of_connection(text).into());
                }
                Some(AMQPFrame::Method(_, method)) => return Ok(method),
                // A heartbeat.
                Some(_) => {}
                None if Instant::now() >= deadline => return Err(no_answer(settings).into()),
                None => {
                    let waited = self.wire.wait(&link.desk.pause, Some(deadline)).await;
                    waited.map_err(unreachable)?;
                }
            }
        }
    }

    /// The password is about to leave as it is. It stays on this machine only where the address that was
    /// connected to is a loopback one; the name does not tell.
    fn warn_of_listeners(&self, link: &mut Link, address: &Address) {
        if let Some(peer) = self.wire.peer().filter(|peer| !peer.is_loopback())
            && link.hosts_in_clear.insert(address.host.clone())
        {
            link.report(Report::PasswordInClear { host: address.host.clone(), peer });
        }
    }

    /// Answers `connection.start`: who we are, and that we know of confirms and of alarms.
    fn log_in(
        &mut self,
        start: &connection::Start,
        settings: &BrokerSettings,
    ) -> Result<(), Failure> {
        const MECHANISM: &str = "PLAIN";
        let offered = start.mechanisms.to_string();
        if !offered.split(' ').any(|mechanism| mechanism == MECHANISM) {
            let text =
                format!("broker offers no login with a password, but \"{}\"", short(&offered));
            return Err(Failure::of_connection(text));
        }
        let mut capabilities = FieldTable::default();
        for name in [
            "publisher_confirms",
            "basic.nack",
            "connection.blocked",
            "authentication_failure_close",
        ] {
            capabilities.insert(name.into(), AMQPValue::Boolean(true));
        }
        let mut client_properties = FieldTable::default();
        for (name, value) in [
            ("product", env!("CARGO_PKG_NAME")),
            ("version", env!("CARGO_PKG_VERSION")),
            ("platform", "PostgreSQL"),
            ("connection_name", env!("CARGO_PKG_NAME")),
        ] {
            client_properties.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
        }
        client_properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
        // RFC 4616, without an authorization identity.
        let response = format!("\0{}\0{}", settings.username, settings.password.reveal());
        self.put_on_connection(connection::AMQPMethod::StartOk(connection::StartOk {
            client_properties,
            mechanism: MECHANISM.into(),
            response: response.into(),
            locale: "en_US".into(),
        }));
        Ok(())
    }

    /// Answers `connection.tune`, and opens the virtual host. Of two limits the lower one holds; 0 is none.
    fn tune(&mut self, tune: &connection::Tune, settings: &BrokerSettings) -> Result<(), Failure> {
        let frame_max = match tune.frame_max {
            0 => FRAME_MAX,
            limit => FRAME_MAX.min(limit as usize),
        };
        if frame_max < FRAME_MIN {
            return Err(Failure::of_connection(format!(
                "broker takes frames of {frame_max} bytes only"
            )));
        }
        let heartbeat = match (tune.heartbeat, settings.heartbeat) {
            (0, ours) => ours,
            (theirs, 0) => theirs,
            (theirs, ours) => theirs.min(ours),
        };
        self.wire.tune(frame_max, Duration::from_secs(heartbeat.into()));
        self.put_on_connection(connection::AMQPMethod::TuneOk(connection::TuneOk {
            channel_max: tune.channel_max,
            frame_max: frame_max as u32,
            heartbeat,
        }));
        let virtual_host = short_string(&settings.vhost);
        self.put_on_connection(connection::AMQPMethod::Open(connection::Open { virtual_host }));
        Ok(())
    }

    fn open_channel(&mut self, number: u16) {
        self.put(number, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})));
    }

    fn put_on_connection(&mut self, method: connection::AMQPMethod) {
        self.put(CONNECTION, AMQPClass::Connection(method));
    }

    fn put(&mut self, channel: u16, method: AMQPClass) {
        self.wire.put(&AMQPFrame::Method(channel, method));
    }

    /// Whether the exchange is to be declared and the broker has not answered to that.
    pub fn must_declare(&self, exchange: &str) -> bool {
        // The default exchange and the predeclared ones are always there (AMQP 0-9-1, 3.1.3.1).
        let is_built_in = exchange.is_empty() || exchange.starts_with("amq.");
        !(self.exchange_type.is_empty() || is_built_in || self.declared.contains(exchange))
    }

    /// Asks the broker to declare the exchange, durable, unless it has been asked already.
    pub fn declare(&mut self, exchange: &str) {
        if self.declaring.is_some() {
            return;
        }
        self.declaring = Some(exchange.to_owned());
        if !self.is_declaring_open {
            self.is_declaring_open = true;
            self.open_channel(DECLARING);
        }
        let declare = exchange::Declare {
            exchange: short_string(exchange),
            kind: short_string(&self.exchange_type),
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: FieldTable::default(),
        };
        self.put(DECLARING, AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare)));
    }

    /// Whether a message would be taken now. If the socket is full, waiting makes room.
    pub fn make_room(&mut self) -> bool {
        if !self.wire.has_room() {
            // If the connection is gone, the next wait says so, and what the broker said before.
            let _ = self.wire.flush();
        }
        self.wire.has_room()
    }

    /// Whether a part of a message is still to be sent.
    pub fn is_in_message(&self) -> bool {
        self.wire.is_in_message()
    }

    /// Publishes a message. Only after [`Connection::make_room`]; it goes out at the next wait at the
    /// latest.
    pub fn publish(&mut self, message: Rc<Message>, resent: Option<ResendReason>) {
        self.wire.put_message(PUBLISHING, message, resent);
    }

    /// Sends what is to be sent, and waits for the next step, which is to come at this time at the latest.
    ///
    /// # Errors
    ///
    /// If the connection is gone.
    pub async fn wait(&mut self, link: &Link, until: Option<Instant>) -> Result<(), Failure> {
        let waited = self.wire.wait(&link.desk.pause, until).await;
        waited.map_err(|error| Failure::lost(&error))
    }

    /// What the broker said. All news are to be taken before the next wait.
    ///
    /// # Errors
    ///
    /// If it closed the connection or the channel for publishing, or what it says makes no sense.
    pub fn next(&mut self) -> Result<Option<News>, Failure> {
        while let Some(frame) = self.wire.next_frame().map_err(|error| Failure::lost(&error))? {
            let news = match frame {
                AMQPFrame::Method(_, AMQPClass::Basic(method)) => self.take_basic(method),
                AMQPFrame::Method(
                    number,
                    AMQPClass::Channel(channel::AMQPMethod::Close(close)),
                ) => self.take_channel_close(number, &close)?,
                AMQPFrame::Method(_, AMQPClass::Connection(method)) => {
                    self.take_connection(method)?
                }
                AMQPFrame::Method(_, AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(_))) => {
                    self.take_declaration();
                    None
                }
                AMQPFrame::Header(_, header) => self.returning.take().map(|routing_key| {
                    let message_id = header.properties.message_id().as_ref();
                    let message_id = message_id.map_or_else(String::new, ShortString::to_string);
                    News::Returned { message_id, routing_key }
                }),
                // Heartbeats, a returned body, `channel.open-ok`.
                _ => None,
            };
            if news.is_some() {
                return Ok(news);
            }
        }
        Ok(None)
    }

    fn take_basic(&mut self, method: basic::AMQPMethod) -> Option<News> {
        let (tag, is_multiple, answer) = match method {
            basic::AMQPMethod::Ack(ack) => (ack.delivery_tag, ack.multiple, Answer::Confirmed),
            basic::AMQPMethod::Nack(nack) => (nack.delivery_tag, nack.multiple, Answer::Refused),
            basic::AMQPMethod::Return(returned) => {
                self.returning = Some(returned.routing_key.to_string());
                return None;
            }
            _ => return None,
        };
        Some(News::Answered { tag, is_multiple, answer })
    }

    /// The broker has answered about this exchange.
    fn take_declaration(&mut self) -> Option<String> {
        let exchange = self.declaring.take();
        self.declared.extend(exchange.clone());
        exchange
    }

    /// A broker that declines to declare (the exchange exists with another type, or declaring is not
    /// permitted) is not a failure: the exchange may well be there, and publishing will tell.
    fn take_channel_close(
        &mut self,
        number: u16,
        close: &channel::Close,
    ) -> Result<Option<News>, Failure> {
        let agree = AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}));
        if number == DECLARING {
            self.is_declaring_open = false;
            self.put(DECLARING, agree);
            let reason = close.reply_text.to_string();
            let declined = self.take_declaration();
            return Ok(declined.map(|exchange| News::Declined { exchange, reason }));
        }
        // In the middle of a message no other frame of its channel may come.
        if !self.wire.abandon() {
            self.put(PUBLISHING, agree);
        }
        Err(Failure::closed_channel(close.reply_code, close.reply_text.as_str()))
    }

    fn take_connection(&mut self, method: connection::AMQPMethod) -> Result<Option<News>, Failure> {
        match method {
            connection::AMQPMethod::Blocked(blocked) => {
                Ok(Some(News::Blocked(blocked.reason.to_string())))
            }
            connection::AMQPMethod::Unblocked(_) => Ok(Some(News::Unblocked)),
            connection::AMQPMethod::Close(close) => {
                self.agree_to_close();
                let text = format!("broker closed the connection: {}", close.reply_text);
                Err(Failure::of_connection(text))
            }
            connection::AMQPMethod::CloseOk(_) => {
                self.is_closed = true;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Answers `connection.close`. The broker may not wait for it.
    fn agree_to_close(&mut self) {
        self.wire.abandon();
        self.put_on_connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}));
        let _ = self.wire.flush();
        self.is_closed = true;
    }

    /// Says goodbye, in the middle of a message if it must be. [`Connection::is_closed`] tells when
    /// the broker has answered.
    pub fn close(&mut self) {
        if self.is_closed {
            return;
        }
        self.wire.abandon();
        self.put_on_connection(connection::AMQPMethod::Close(connection::Close {
            reply_code: REPLY_SUCCESS,
            reply_text: "amqp_cdc stops".into(),
            class_id: 0,
            method_id: 0,
        }));
    }

    /// Whether one side has closed the connection and the other one agreed.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}

/// Of a connection that was not closed in agreement the broker gets nothing more: what it took from it after
/// the next one's messages would be out of order.
impl Drop for Connection {
    fn drop(&mut self) {
        if !self.is_closed {
            self.wire.abort();
        }
    }
}

/// A socket to the broker.
async fn connect(
    link: &mut Link,
    address: &Address,
    settings: &BrokerSettings,
    deadline: Instant,
) -> Result<Wire, SessionEnd> {
    let unreachable = |error: io::Error| Failure::unreachable(&error);
    link.dialler.begin(address, settings.connect_timeout, link.spawn).map_err(unreachable)?;
    loop {
        link.obey()?;
        match link.dialler.take(address) {
            Some(socket) => return Ok(socket.and_then(Wire::new).map_err(unreachable)?),
            None if Instant::now() < deadline => link.pause_until(deadline).await,
            None => return Err(no_answer(settings).into()),
        }
    }
}

fn no_answer(settings: &BrokerSettings) -> Failure {
    let text = format!("broker did not answer within {:?}", settings.connect_timeout);
    Failure::of_connection(text)
}

fn unexpected(method: &AMQPClass) -> SessionEnd {
    let (class, method) = (method.get_amqp_class_id(), method.get_amqp_method_id());
    let text = format!("broker said something else than was asked for: method {class}.{method}");
    Failure::of_connection(text).into()
}

fn short_string(text: &str) -> ShortString {
    ShortString::from(short(text))
}
