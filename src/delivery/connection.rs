//! One connection to the broker: a channel with confirms to publish on, a second one to ask about
//! exchanges and to declare them, which the broker closes with an answer that is no. Where it closes the first
//! one that is not opened again: a connection that failed is thrown away whole.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use amq_protocol::frame::{AMQPFrame, ProtocolVersion};
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange};
use amq_protocol::types::{AMQPValue, FieldTable, LongString, ShortString};

use super::failure::{Failure, NOT_FOUND, PRECONDITION_FAILED, SessionEnd};
use super::frame::short;
use super::message::{Message, ResendReason};
use super::window::Answer;
use super::wire::{FRAME_MAX, FRAME_MIN, Wire};
use super::{Address, BrokerSettings, Link, Report};
use crate::memory;

/// `reply-code` of an orderly close (AMQP 0-9-1, 1.2).
const REPLY_SUCCESS: u16 = 200;

/// The channels; 0 is the connection itself (AMQP 0-9-1, 4.2.3).
const CONNECTION: u16 = 0;
const PUBLISHING: u16 = 1;
const ASKING: u16 = 2;

/// Exchanges whose names begin so are the broker's own (AMQP 0-9-1, 3.1.3.1): nobody else may declare them.
const RESERVED: &str = "amq.";

/// What the broker says while the connection is in use.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// About a message, or all messages up to that.
    Answered { tag: u64, is_multiple: bool, answer: Answer },
    /// No queue is bound for the message; it is confirmed afterwards.
    Returned { exchange: String, message_id: String, routing_key: String },
    /// It declined to declare this exchange, for this reason.
    Declined { exchange: String, reason: String },
    /// It does not read from the connection for now, for this reason.
    Blocked(String),
    /// It reads again.
    Unblocked,
}

/// What is known of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: the broker is to be asked.
    Unknown,
    /// It is there, or may be: publishing will tell.
    There,
    /// It is not there, in these words of the broker.
    Missing(Rc<str>),
}

/// An answer about an exchange.
#[derive(Debug)]
struct Answered {
    /// Why it is not there, if it is not.
    missing: Option<Rc<str>>,
    /// Whether nobody wanted it to be declared if it is not there.
    was_only_asked: bool,
}

/// A question that the broker has not answered.
#[derive(Debug)]
struct Question {
    exchange: String,
    may_declare: bool,
    /// It is not there, in these words: that it is declared is asked for now.
    missing: Option<Rc<str>>,
}

/// An open connection.
pub struct Connection {
    wire: Wire,
    is_asking_open: bool,
    asking: Option<Question>,
    answers: HashMap<String, Answered>,
    exchange_type: String,
    /// Exchange and routing key of a message of which the broker returns the rest in the next frames.
    returning: Option<(String, String)>,
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
            is_asking_open: false,
            asking: None,
            answers: HashMap::new(),
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

    /// What is known of an exchange. `may_declare`: one that is not there is to be declared.
    pub fn standing(&self, exchange: &str, may_declare: bool) -> Standing {
        // The default exchange is always there, and nobody may ask about it (AMQP 0-9-1, 3.1.3.1).
        if exchange.is_empty() {
            return Standing::There;
        }
        match self.answers.get(exchange) {
            None => Standing::Unknown,
            Some(Answered { missing: None, .. }) => Standing::There,
            Some(Answered { was_only_asked: true, .. })
                if may_declare && self.is_to_be_declared(exchange) =>
            {
                Standing::Unknown
            }
            Some(Answered { missing: Some(reason), .. }) => Standing::Missing(Rc::clone(reason)),
        }
    }

    /// What was answered about an exchange counts no more.
    pub fn forget(&mut self, exchange: &str) {
        self.answers.remove(exchange);
    }

    fn is_to_be_declared(&self, exchange: &str) -> bool {
        !self.exchange_type.is_empty() && !exchange.starts_with(RESERVED)
    }

    /// Asks the broker whether the exchange is there, unless something has been asked already; if it is not,
    /// and `may_declare`, to declare it, durable.
    pub fn ask(&mut self, exchange: &str, may_declare: bool) {
        if self.asking.is_some() {
            return;
        }
        let exchange = exchange.to_owned();
        self.put_question(Question { exchange, may_declare, missing: None });
    }

    fn put_question(&mut self, question: Question) {
        if !self.is_asking_open {
            self.is_asking_open = true;
            self.open_channel(ASKING);
        }
        let declare = exchange::Declare {
            exchange: short_string(&question.exchange),
            kind: short_string(&self.exchange_type),
            passive: question.missing.is_none(),
            durable: true,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: FieldTable::default(),
        };
        self.asking = Some(question);
        self.put(ASKING, AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare)));
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
                    if let Some(question) = self.asking.take() {
                        self.take_answer(question, None);
                    }
                    None
                }
                AMQPFrame::Header(_, header) => {
                    self.returning.take().map(|(exchange, routing_key)| {
                        let id = header.properties.message_id().as_ref();
                        let message_id = id.map_or_else(String::new, ShortString::to_string);
                        News::Returned { exchange, message_id, routing_key }
                    })
                }
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
                let exchange = returned.exchange.to_string();
                self.returning = Some((exchange, returned.routing_key.to_string()));
                return None;
            }
            _ => return None,
        };
        Some(News::Answered { tag, is_multiple, answer })
    }

    fn take_answer(&mut self, question: Question, missing: Option<Rc<str>>) {
        let was_only_asked = !question.may_declare;
        memory::reserve_entry(&mut self.answers);
        self.answers.insert(question.exchange, Answered { missing, was_only_asked });
    }

    /// The broker's answer to a question is no.
    fn take_denial(&mut self, close: &channel::Close) -> Option<News> {
        let question = self.asking.take()?;
        let reason: Rc<str> = close.reply_text.as_str().into();
        match &question.missing {
            None if close.reply_code != NOT_FOUND => {
                // Whatever that is: publishing will tell.
                self.take_answer(question, None);
                None
            }
            None if question.may_declare && self.is_to_be_declared(&question.exchange) => {
                self.put_question(Question { missing: Some(reason), ..question });
                None
            }
            None => {
                self.take_answer(question, Some(reason));
                None
            }
            Some(missing) => {
                let missing = Rc::clone(missing);
                let exchange = question.exchange.clone();
                // Somebody else may have made it meanwhile, of another type.
                let is_there = close.reply_code == PRECONDITION_FAILED;
                self.take_answer(question, (!is_there).then_some(missing));
                Some(News::Declined { exchange, reason: reason.to_string() })
            }
        }
    }

    fn take_channel_close(
        &mut self,
        number: u16,
        close: &channel::Close,
    ) -> Result<Option<News>, Failure> {
        let agree = AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}));
        if number == ASKING {
            self.is_asking_open = false;
            self.put(ASKING, agree);
            return Ok(self.take_denial(close));
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
