//! The client of our own, one connection of it: a channel with confirms to publish on, a second one to ask about
//! exchanges and to declare them, which the broker closes with an answer that is no. Where it closes the first
//! one that is not opened again: a connection that failed is thrown away whole.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use ::socket::Socket;
use amqp::{
    Event, ExchangeDeclare, Login, Phase, QueueDeclare, Refusal, ReplyCode, Returned, TableBuf,
};

use super::broker::{Address, BrokerSettings, Credentials};
use super::client::{AmqpClient, News, Standing};
use super::failure::{Failure, SessionEnd};
use super::message::{Message, ResendReason};
use super::publisher::Publisher;
use super::transport::{Transport, Trouble};
use super::unconfirmed::Answer;
use super::update::Update;
use crate::memory;

/// The channels.
const PUBLISHING: u16 = 1;
const ASKING: u16 = 2;

/// The largest frame that is asked for, and what RabbitMQ proposes.
const FRAME_MAX: u32 = 128 * 1024;

/// Exchanges whose names begin so are the broker's own (AMQP 0-9-1, 3.1.3.1): nobody else may declare them.
const RESERVED: &str = "amq.";

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
    transport: Transport,
    is_asking_open: bool,
    asking: Option<Question>,
    answers: HashMap<String, Answered>,
    exchange_type: String,
}

impl AmqpClient for Connection {
    async fn open(publisher: &mut Publisher, address: &Address) -> Result<Connection, SessionEnd> {
        let settings = publisher.settings.clone();
        let deadline = Instant::now() + settings.connect_timeout;
        let socket = connect(publisher, address, &settings, deadline).await?;
        let transport = Transport::new(socket, login(&settings, deadline));
        let mut connection = Connection {
            transport: transport.map_err(|error| Failure::unreachable(&error.into(), &settings))?,
            is_asking_open: false,
            asking: None,
            answers: HashMap::new(),
            exchange_type: settings.exchange_type.clone(),
        };
        while !connection.get_on(publisher, address, &settings)? {
            publisher.obey()?;
            if Instant::now() >= deadline {
                return Err(Failure::no_answer(&settings).into());
            }
            let waited = connection.transport.wait(&publisher.mailbox.pause, Some(deadline)).await;
            waited.map_err(|trouble| Failure::unreachable(&trouble, &settings))?;
        }
        Ok(connection)
    }

    fn security(&self) -> &'static str {
        self.transport.socket.tls_version().unwrap_or("no TLS")
    }

    fn standing(&self, exchange: &str, may_declare: bool) -> Standing {
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

    fn forget(&mut self, exchange: &str) {
        self.answers.remove(exchange);
    }

    fn ask(&mut self, exchange: &str, may_declare: bool) -> Result<(), Failure> {
        if self.asking.is_some() {
            return Ok(());
        }
        let exchange = exchange.to_owned();
        self.put_question(Question { exchange, may_declare, missing: None })
    }

    fn make_room(&mut self) -> bool {
        if !self.transport.amqp.has_room() {
            // If the connection is gone, the next wait says so, and what the broker said before.
            let _ = self.transport.flush();
        }
        self.transport.amqp.has_room()
    }

    fn is_in_message(&self) -> bool {
        self.transport.amqp.is_in_message()
    }

    fn publish(
        &mut self,
        message: Rc<Message>,
        resent: Option<ResendReason>,
    ) -> Result<(), Failure> {
        let put = self.transport.put_message(PUBLISHING, message, resent);
        put.map_err(|reason| Failure::not_sent(&reason))
    }

    async fn wait(&mut self, publisher: &Publisher, until: Option<Instant>) -> Result<(), Failure> {
        let waited = self.transport.wait(&publisher.mailbox.pause, until).await;
        waited.map_err(|trouble| Failure::lost(&trouble))
    }

    fn next(&mut self) -> Result<Option<News>, Failure> {
        loop {
            let event = match self.transport.amqp.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(None),
                Err(error) => {
                    // The last word. The broker may not wait for it.
                    let _ = self.transport.flush();
                    return Err(Failure::lost(&error.into()));
                }
            };
            let news = match event {
                Event::Acked { tag, is_multiple, .. } => {
                    Some(News::Answered { tag, is_multiple, answer: Answer::Confirmed })
                }
                Event::Nacked { tag, is_multiple, .. } => {
                    Some(News::Answered { tag, is_multiple, answer: Answer::Refused })
                }
                Event::Returned(returned) => Some(News::returned(&returned)),
                Event::Blocked { reason } => Some(News::Blocked(reason.to_string())),
                Event::Unblocked => Some(News::Unblocked),
                Event::ExchangeDeclared { .. } => {
                    if let Some(question) = self.asking.take() {
                        self.take_answer(question, None);
                    }
                    None
                }
                Event::ChannelRefused { channel: ASKING, refusal: Refusal { code, text, .. } } => {
                    let reason = text.to_string().into();
                    self.is_asking_open = false;
                    self.take_denial(code, reason)?
                }
                Event::ChannelRefused { refusal: Refusal { code, text, .. }, .. } => {
                    return Err(Failure::closed_channel(code, &text.to_string_lossy()));
                }
                // A returned body, and what was asked for on the way.
                _ => None,
            };
            if news.is_some() {
                return Ok(news);
            }
        }
    }

    fn close(&mut self) {
        self.transport.amqp.close("amqp_cdc stops");
    }

    fn is_over(&self) -> bool {
        matches!(self.transport.amqp.phase(), Phase::Closed | Phase::Failed)
    }
}

impl Connection {
    /// Hears what the broker says while the connection is being made. Whether that is done.
    fn get_on(
        &mut self,
        publisher: &mut Publisher,
        address: &Address,
        settings: &BrokerSettings,
    ) -> Result<bool, Failure> {
        loop {
            let event = match self.transport.amqp.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(false),
                Err(error) => {
                    // The last word.
                    let _ = self.transport.flush();
                    return Err(Failure::unreachable(&error.into(), settings));
                }
            };
            match event {
                Event::Greeted { .. } => self.warn_of_strangers(publisher, address),
                Event::Ready => {
                    self.open_channel(PUBLISHING)?;
                    self.transport.amqp.turn_confirms_on(PUBLISHING);
                }
                Event::ConfirmsOn { .. } => match &settings.exclusive_queue {
                    Some(queue) => self.ask_to_be_alone(queue)?,
                    None => return Ok(true),
                },
                Event::QueueDeclared { .. } => return Ok(true),
                Event::ChannelRefused { channel: ASKING, refusal } => {
                    let queue = settings.exclusive_queue.as_deref().unwrap_or_default();
                    let text = refusal.text.to_string_lossy();
                    return Err(Failure::not_alone(queue, refusal.code, &text));
                }
                Event::ChannelRefused { refusal, .. } => {
                    return Err(Failure::of_connection(format!(
                        "broker opens no channel: {refusal}"
                    )));
                }
                _ => {}
            }
        }
    }

    /// The password and the events are about to leave. They stay on this machine only where the address that was
    /// connected to is a loopback one; the name does not tell.
    fn warn_of_strangers(&self, publisher: &mut Publisher, address: &Address) {
        let socket = &self.transport.socket;
        let is_in_clear = socket.tls_version().is_none();
        if let Some(peer) = socket.peer().filter(|peer| !peer.is_loopback())
            && (is_in_clear || socket.is_unverified())
            && publisher.hosts_warned_of.insert((address.host.clone(), is_in_clear))
        {
            publisher.report(Update::Unsecured { host: address.host.clone(), peer, is_in_clear });
        }
    }

    fn open_channel(&mut self, number: u16) -> Result<(), Failure> {
        let opened = self.transport.amqp.open_channel(number);
        opened.map_err(|error| Failure::of_connection(format!("no channel can be opened: {error}")))
    }

    /// Asks for the queue that belongs to one connection at a time, and goes with it.
    fn ask_to_be_alone(&mut self, queue: &str) -> Result<(), Failure> {
        self.open_channel(ASKING)?;
        self.is_asking_open = true;
        let mut arguments = TableBuf::new();
        // Where a virtual host makes queues quorum queues if nothing is said, which cannot be exclusive.
        arguments.put_text("x-queue-type", "classic");
        let declare = QueueDeclare {
            queue,
            is_exclusive: true,
            arguments: arguments.as_table(),
            ..QueueDeclare::default()
        };
        self.transport.amqp.declare_queue(ASKING, &declare);
        Ok(())
    }

    fn is_to_be_declared(&self, exchange: &str) -> bool {
        !self.exchange_type.is_empty() && !exchange.starts_with(RESERVED)
    }

    fn put_question(&mut self, question: Question) -> Result<(), Failure> {
        if !self.is_asking_open {
            self.open_channel(ASKING)?;
            self.is_asking_open = true;
        }
        let declare = ExchangeDeclare {
            exchange: &question.exchange,
            kind: &self.exchange_type,
            is_passive: question.missing.is_none(),
            is_durable: true,
            ..ExchangeDeclare::default()
        };
        self.transport.amqp.declare_exchange(ASKING, &declare);
        self.asking = Some(question);
        Ok(())
    }

    fn take_answer(&mut self, question: Question, missing: Option<Rc<str>>) {
        let was_only_asked = !question.may_declare;
        memory::reserve_entry(&mut self.answers);
        self.answers.insert(question.exchange, Answered { missing, was_only_asked });
    }

    /// The broker's answer to a question is no.
    fn take_denial(&mut self, code: ReplyCode, reason: Rc<str>) -> Result<Option<News>, Failure> {
        let Some(question) = self.asking.take() else { return Ok(None) };
        match &question.missing {
            None if code != ReplyCode::NotFound => {
                // Whatever that is: publishing will tell.
                self.take_answer(question, None);
                Ok(None)
            }
            None if question.may_declare && self.is_to_be_declared(&question.exchange) => {
                self.put_question(Question { missing: Some(reason), ..question })?;
                Ok(None)
            }
            None => {
                self.take_answer(question, Some(reason));
                Ok(None)
            }
            Some(missing) => {
                let missing = Rc::clone(missing);
                let exchange = question.exchange.clone();
                // Somebody else may have made it meanwhile, of another type.
                let is_there = code == ReplyCode::PreconditionFailed;
                self.take_answer(question, (!is_there).then_some(missing));
                Ok(Some(News::Declined { exchange, reason: reason.to_string() }))
            }
        }
    }
}

/// Of a connection that was not closed in agreement the broker gets nothing more: what it took from it after
/// the next one's messages would be out of order.
impl Drop for Connection {
    fn drop(&mut self) {
        if self.transport.amqp.phase() == Phase::Closed {
            self.transport.socket.say_goodbye();
        } else {
            self.transport.socket.abort();
        }
    }
}

impl News {
    fn returned(returned: &Returned<'_>) -> News {
        News::Returned {
            exchange: returned.exchange.to_string(),
            message_id: returned
                .properties
                .message_id
                .map_or_else(String::new, |id| id.to_string()),
            routing_key: returned.routing_key.to_string(),
        }
    }
}

/// Who we are.
fn login(settings: &BrokerSettings, deadline: Instant) -> Login {
    let mut properties = TableBuf::new();
    properties
        .put_text("product", env!("CARGO_PKG_NAME"))
        .put_text("version", env!("CARGO_PKG_VERSION"))
        .put_text("platform", "PostgreSQL")
        .put_text("connection_name", env!("CARGO_PKG_NAME"));
    Login {
        credentials: match &settings.credentials {
            Credentials::Password { username, password } => amqp::Credentials::Password {
                user: username.clone(),
                password: password.reveal().to_owned(),
            },
            Credentials::Certificate => amqp::Credentials::External,
        },
        virtual_host: settings.vhost.clone(),
        properties,
        frame_max: FRAME_MAX,
        // More than are used, and no more than RabbitMQ agrees to.
        channel_max: 2047,
        heartbeat: settings.heartbeat,
        deadline,
    }
}

/// A socket to the broker.
async fn connect(
    publisher: &mut Publisher,
    address: &Address,
    settings: &BrokerSettings,
    deadline: Instant,
) -> Result<Socket, SessionEnd> {
    let unreachable = |error| Failure::unreachable(&Trouble::Socket(error), settings);
    let destination = (address.clone(), settings.tls.clone());
    let (dialler, spawn) = (&mut publisher.dialler, publisher.spawn);
    dialler.begin(&destination, settings.connect_timeout, spawn).map_err(unreachable)?;
    loop {
        publisher.obey()?;
        match publisher.dialler.take(&destination) {
            Some(socket) => return Ok(socket.map_err(unreachable)?),
            None if Instant::now() < deadline => publisher.pause_until(deadline).await,
            None => return Err(Failure::no_answer(settings).into()),
        }
    }
}
