//! Delivery: the part of the worker that owns the broker connection. It takes messages in order, publishes
//! each with a confirm, and tells how many, counted from the first, the broker has confirmed. It never gives
//! up: while the broker is away, refuses or is blocked it says why and tries again, and sends everything
//! from the first unconfirmed message on anew.
//!
//! It never waits: the worker's loop steps it. A session is written as the story that it is, with an `await`
//! wherever it has to wait for the broker; what it waits for stands in its [`pause`], and a step goes on with
//! the story from there. There is no runtime, and no thread but a short-lived one that looks a name up and
//! connects ([`dial`]). Nothing here calls PostgreSQL.

mod connection;
mod debts;
mod dial;
mod envelope;
mod failure;
mod message;
pub mod pause;
mod policy;
mod refusals;
mod session;
mod spares;
mod tally;
mod transport;
mod window;

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

pub use debts::Debt;
use debts::Debts;
use dial::Dialler;
pub use dial::Spawn;
use failure::{Backoff, Failure, SessionEnd};
pub use message::{HeaderValue, Message, ResendReason};
use pause::{Pause, Wants};
pub use policy::Policies;
use refusals::{ASK_AGAIN, Refusals, Why};
use spares::Spares;
use tally::Tally;
use window::{Kind, Unconfirmed, Window};

use crate::memory;
use crate::stream::gap::OwedGap;

/// Messages that may wait for their turn. It would not help to have more of them made.
const MOST_WAITING: usize = 1000;

/// Bytes of bodies, waiting or unconfirmed, above which no more messages are taken.
const MAX_OUTSTANDING_BYTES: usize = 32 * 1024 * 1024;

/// A session that went on for so long was a good one: the next attempt need not wait.
const LASTING: Duration = Duration::from_secs(30);

/// A broker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text, for the one place that needs it.
    fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Everything that is to be known of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerSettings {
    /// Tried in turn. Not empty.
    pub addresses: Vec<Address>,
    pub vhost: String,
    pub username: String,
    pub password: Secret,
    /// Type with which an exchange is declared on first use; empty: never declared.
    pub exchange_type: String,
    /// Longest time for a connection to be made, or for an answer to a declaration.
    pub connect_timeout: Duration,
    /// Seconds; 0 leaves it to the broker.
    pub heartbeat: u16,
    /// Longest time without a confirm while messages are in flight.
    pub confirm_timeout: Duration,
    /// Unconfirmed messages at most.
    pub max_in_flight: usize,
    pub unroutable: Unroutable,
    /// What becomes of events that it refuses.
    pub policies: Policies,
}

/// What to do with a message that no queue is bound for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unroutable {
    /// Nobody asked for it: it counts as delivered.
    Drop,
    /// The stream stands still until a queue is bound.
    Hold,
}

/// What the worker wants.
enum Order {
    Settings(Box<BrokerSettings>),
    /// Pass over the message with this message_id.
    Skip(String),
    Stop,
}

/// What the worker is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It tries to reach this broker.
    Connecting(String),
    /// It publishes to this broker.
    Streaming(String),
    /// The stream stands still, at the message with this message_id if it is known, since so many
    /// were confirmed.
    StandingStill { reason: String, held: Option<String>, confirmed: u64 },
    /// The operator's wish was carried out: the message with this description is passed over.
    Skipped(String),
    /// The broker does not read from the connection for now (memory or disk alarm).
    Blocked(String),
    /// The broker reads from the connection again.
    Unblocked,
    /// Something that the operator may want to know, without effect on the stream.
    Notice(String),
    /// The password goes unencrypted to this host, which was found at this address and is another machine.
    /// LogLimit once of a host.
    PasswordInClear { host: String, peer: IpAddr },
    /// So many messages came back because no queue was bound, the last one being this.
    Returned { count: u64, example: String },
    /// So many more events did not go to this exchange, for this reason, but to the dead-letter exchange or
    /// nowhere.
    PassedOver { exchange: String, count: u64, reason: String, is_dead_letter: bool },
    /// These exchanges refuse everything, and why.
    Refusing(String),
}

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Messages sent, those sent again included.
    pub published: u64,
    /// Messages confirmed or skipped, without a gap from the first.
    pub confirmed: u64,
    /// Messages skipped.
    pub skipped: u64,
    /// Messages the broker returned.
    pub returned: u64,
    /// Messages sent again.
    pub resent: u64,
    /// Messages passed over by the policy of their exchange.
    pub passed_over: u64,
    /// Messages that went to the dead-letter exchange instead.
    pub dead_lettered: u64,
}

impl Published {
    /// Messages that the broker took, without a gap from the first.
    pub fn taken(&self) -> u64 {
        self.confirmed - self.skipped - self.passed_over
    }
}

/// What the worker and the sessions share.
#[derive(Default)]
struct Desk {
    /// Messages that no session has taken yet.
    waiting: RefCell<VecDeque<Message>>,
    orders: RefCell<VecDeque<Order>>,
    reports: RefCell<Vec<Report>>,
    done: Cell<Published>,
    /// Bytes of bodies that are waiting or unconfirmed.
    outstanding_bytes: Cell<usize>,
    /// What exchanges are owed.
    debts: RefCell<Debts>,
    spares: Spares,
    pause: Pause,
}

/// The delivery, as the worker has it.
pub struct Delivery {
    desk: Rc<Desk>,
    /// One session after the other; none once it was stopped.
    sessions: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Delivery {
    /// Begins with the next step. `spawn` starts the thread that connects.
    pub fn new(settings: BrokerSettings, spawn: Spawn) -> Delivery {
        let desk = Rc::<Desk>::default();
        let link = Link {
            desk: Rc::clone(&desk),
            spawn,
            dialler: Dialler::default(),
            settings,
            stands_still: false,
            hosts_in_clear: HashSet::new(),
            refusals: Refusals::default(),
            tally: Tally::default(),
        };
        Delivery { desk, sessions: Some(Box::pin(deliver_until_stopped(link))) }
    }

    /// Does what can be done without waiting. `is_readable`: whether the socket that it waits for is worth
    /// reading from.
    pub fn step(&mut self, is_readable: bool) {
        self.desk.pause.set_readable(is_readable);
        let mut context = Context::from_waker(Waker::noop());
        if let Some(sessions) = &mut self.sessions
            && sessions.as_mut().poll(&mut context).is_ready()
        {
            self.sessions = None;
        }
    }

    /// What the next step waits for.
    pub fn wants(&self) -> Wants {
        self.desk.pause.wants()
    }

    /// Whether a message of this size would be taken now. One message always is when nothing is
    /// outstanding, however large.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        let outstanding = self.desk.outstanding_bytes.get();
        let mut waiting = self.desk.waiting.borrow_mut();
        waiting.len() < MOST_WAITING
            && waiting.try_reserve(1).is_ok()
            && (outstanding == 0 || outstanding + bytes <= MAX_OUTSTANDING_BYTES)
    }

    /// Whether something was taken that is not confirmed.
    pub fn has_unconfirmed(&self) -> bool {
        self.desk.outstanding_bytes.get() > 0
    }

    /// Takes the next message. Only after [`Delivery::has_room_for`]. The next step sends it, if it can.
    pub fn publish(&self, message: Message) {
        let bytes = self.desk.outstanding_bytes.get() + message.body.len();
        self.desk.outstanding_bytes.set(bytes);
        self.desk.waiting.borrow_mut().push_back(message);
    }

    /// Memory for a message, of one that is done with.
    pub fn spare(&self) -> Message {
        self.desk.spares.take()
    }

    /// Sets other settings; a new connection is made if they differ, or if the stream stands still: what
    /// it stood still for may have been mended.
    pub fn reconfigure(&self, settings: BrokerSettings) {
        self.order(Order::Settings(Box::new(settings)));
    }

    /// Passes over the message with this message_id, if the stream stands still there.
    pub fn skip(&self, message_id: String) {
        self.order(Order::Skip(message_id));
    }

    /// An exchange is owed this from an earlier life of the worker.
    pub fn owe(&self, debt: Debt) {
        // Too many they are not: that life had a limit, too.
        self.desk.debts.borrow_mut().add(debt, None);
    }

    /// What exchanges are owed: for as long as this is not announced, a later life has to know it.
    pub fn owed(&self) -> Vec<OwedGap> {
        self.desk.debts.borrow().owed()
    }

    /// How many exchanges are owed something.
    pub fn owed_count(&self) -> usize {
        self.desk.debts.borrow().len()
    }

    /// Takes leave of the broker, in the next steps. [`Delivery::is_stopped`] tells when that is done.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    /// Whether nothing more will be done.
    pub fn is_stopped(&self) -> bool {
        self.sessions.is_none()
    }

    fn order(&self, order: Order) {
        self.desk.orders.borrow_mut().push_back(order);
    }

    /// What was done so far.
    pub fn done(&self) -> Published {
        self.desk.done.get()
    }

    /// The reports since the last call.
    pub fn take_reports(&self) -> Vec<Report> {
        self.desk.reports.take()
    }
}

/// A session's end of everything that it shares with the worker.
struct Link {
    desk: Rc<Desk>,
    spawn: Spawn,
    dialler: Dialler,
    settings: BrokerSettings,
    /// Whether the stream stands still.
    stands_still: bool,
    /// Hosts of which it was said that the password goes there in clear.
    hosts_in_clear: HashSet<String>,
    refusals: Refusals,
    tally: Tally,
}

impl Link {
    fn report(&mut self, report: Report) {
        self.stands_still |= matches!(report, Report::StandingStill { .. });
        memory::push(&mut self.desk.reports.borrow_mut(), report);
    }

    fn count(&self, change: impl FnOnce(&mut Published)) {
        let mut done = self.desk.done.get();
        change(&mut done);
        self.desk.done.set(done);
    }

    fn confirmed(&self) -> u64 {
        self.desk.done.get().confirmed
    }

    /// The oldest event is done with.
    fn confirm(&mut self, done: &Unconfirmed) {
        let bytes = self.desk.outstanding_bytes.get() - done.size;
        self.desk.outstanding_bytes.set(bytes);
        self.count(|done| done.confirmed += 1);
        self.stands_still = false;
    }

    /// The broker has the oldest message.
    fn finish(&mut self, done: &Unconfirmed) {
        let Unconfirmed { message, kind, .. } = done;
        match kind {
            Kind::Event => {
                self.confirm(done);
                self.desk.debts.borrow_mut().hasten(&message.exchange);
            }
            Kind::DeadLetter(origin) => {
                self.confirm(done);
                self.count(|done| done.dead_lettered += 1);
                self.owe(message, &origin.exchange);
                self.tell(&origin.exchange, &origin.reason, true);
            }
            Kind::Gap => {
                self.desk.debts.borrow_mut().pay(&message.exchange, &message.message_id);
                self.report(Report::Notice(format!(
                    "exchange \"{}\" was told that events are missing",
                    message.exchange
                )));
            }
        }
        if !self.refusals.is_empty() && self.refusals.lift(message) {
            self.report(Report::Refusing(self.refusals.shown()));
        }
    }

    /// The oldest event does not go to its exchange.
    fn pass_over(&mut self, done: &Unconfirmed, why: &Why) {
        self.confirm(done);
        self.count(|done| done.passed_over += 1);
        self.owe(&done.message, &done.message.exchange);
        self.tell(&done.message.exchange, &why.reason, false);
    }

    /// Whether it is time to announce a gap.
    fn owes_now(&self) -> bool {
        let debts = self.desk.debts.borrow();
        !debts.is_empty() && debts.due(Instant::now()).is_some()
    }

    /// Events did not go to this exchange, the last of them with this message.
    fn owe(&mut self, message: &Message, exchange: &Rc<str>) {
        let until = self.refusals.until(exchange);
        let forgotten = self.desk.debts.borrow_mut().add(Debt::of(message, exchange), until);
        if let Some(debt) = forgotten {
            let exchange = debt.owed.exchange;
            self.report(Report::Notice(format!(
                "exchange \"{exchange}\" is not told that events are missing: too many exchanges are to be"
            )));
        }
    }

    /// Says now and then that events do not go to this exchange.
    fn tell(&mut self, exchange: &Rc<str>, reason: &str, is_dead_letter: bool) {
        if let Some(count) = self.tally.add(exchange, Instant::now()) {
            let (exchange, reason) = (exchange.to_string(), reason.to_owned());
            self.report(Report::PassedOver { exchange, count, reason, is_dead_letter });
        }
    }

    /// The exchange takes nothing, not even what it is owed.
    fn refuse(&mut self, exchange: &Rc<str>, reason: Rc<str>) {
        let now = Instant::now();
        self.desk.debts.borrow_mut().postpone(exchange, now + ASK_AGAIN, true);
        if self.settings.policies.of(exchange).passes_over() {
            self.refusals.note_exchange(exchange, reason, now);
            self.report(Report::Refusing(self.refusals.shown()));
        }
    }

    fn report_standstill(&mut self, failure: &Failure) {
        let confirmed = self.confirmed();
        let (reason, held) = (failure.to_string(), failure.held());
        self.report(Report::StandingStill { reason, held, confirmed });
    }

    /// Waits for the next step, which is to come at this time at the latest.
    async fn pause_until(&self, until: Instant) {
        self.desk.pause.wait(Wants { socket: None, until: Some(until) }).await;
    }

    /// Takes new settings, if there are any, and orders.
    ///
    /// # Errors
    ///
    /// What ends the session, if something does.
    fn obey(&mut self) -> Result<(), SessionEnd> {
        let mut result = Ok(());
        loop {
            let order = self.desk.orders.borrow_mut().pop_front();
            match order {
                Some(Order::Settings(settings)) => {
                    if *settings != self.settings || self.stands_still {
                        self.settings = *settings;
                        result = Err(SessionEnd::Reconfigured);
                    }
                    self.refusals.expire();
                    self.desk.debts.borrow_mut().hasten_all();
                }
                // That makes a new connection, too.
                Some(Order::Skip(message_id)) => return Err(SessionEnd::Skip(message_id)),
                Some(Order::Stop) => return Err(SessionEnd::Stopped),
                None => return result,
            }
        }
    }
}

/// One session after the other until it is told to stop.
async fn deliver_until_stopped(mut link: Link) {
    let mut window = Window::default();
    let mut backoff = Backoff::default();
    let mut attempt = 0usize;
    loop {
        let address = link.settings.addresses[attempt % link.settings.addresses.len()].clone();
        let confirmed = link.confirmed();
        let (began, delay) = (Instant::now(), backoff.delay());
        let end = caught(session::run(&mut link, &mut window, &address, delay)).await;
        if link.confirmed() > confirmed || began.elapsed() > delay + LASTING {
            backoff.reset();
        }
        // Whatever ended the session: what was under way on its connection is unconfirmed.
        match end {
            SessionEnd::Stopped => return,
            SessionEnd::Reconfigured => {
                window.rewind(ResendReason::Reconnect);
                window.revive();
                backoff.reset();
                attempt = 0;
            }
            // The next session knows what not to send.
            SessionEnd::Refused => window.rewind(ResendReason::Reconnect),
            SessionEnd::Skip(message_id) => {
                window.rewind(ResendReason::Reconnect);
                skip(&mut link, &mut window, &message_id);
                backoff.reset();
            }
            SessionEnd::Failed(failure) => {
                window.rewind(failure.resend_reason());
                let is_unclear = failure.is_about_a_message() && failure.held().is_none();
                if is_unclear && window.is_one_at_a_time() {
                    // Which one it is about will be known in a moment.
                    continue;
                }
                backoff.grow(failure.kind());
                attempt += 1;
                link.report_standstill(&failure);
            }
        }
    }
}

/// How a session ends; a panic in it is a failure like others.
async fn caught(session: impl Future<Output = SessionEnd>) -> SessionEnd {
    let mut session = pin!(session);
    poll_fn(|context| {
        let step = catch_unwind(AssertUnwindSafe(|| session.as_mut().poll(context)));
        step.unwrap_or_else(|panic| {
            Poll::Ready(SessionEnd::Failed(Failure::from_panic(panic.as_ref())))
        })
    })
    .await
}

/// Passes over the oldest message, if it is the one that is meant.
fn skip(link: &mut Link, window: &mut Window, message_id: &str) {
    match window.skip(message_id) {
        Some(done) => {
            link.confirm(&done);
            link.count(|done| done.skipped += 1);
            let Unconfirmed { message, kind, .. } = &done;
            match kind {
                Kind::DeadLetter(origin) => link.owe(message, &origin.exchange),
                Kind::Event | Kind::Gap => link.owe(message, &message.exchange),
            }
            link.report(Report::Skipped(message.description()));
        }
        None => link.report(Report::Notice(format!(
            "message {message_id} is not skipped: the stream does not stand still there any more"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn settings(port: u16) -> BrokerSettings {
        BrokerSettings {
            addresses: vec![Address { host: "127.0.0.1".to_owned(), port }],
            vhost: "/".to_owned(),
            username: "guest".to_owned(),
            password: Secret::new("guest".to_owned()),
            exchange_type: "topic".to_owned(),
            connect_timeout: Duration::from_millis(50),
            heartbeat: 30,
            confirm_timeout: Duration::from_secs(30),
            max_in_flight: 2000,
            unroutable: Unroutable::Drop,
            policies: Policies::default(),
        }
    }

    fn message() -> Message {
        Message {
            exchange: Rc::default(),
            routing_key: Rc::default(),
            body: vec![0; 10],
            message_id: "id".to_owned(),
            timestamp: 0,
            kind: "insert",
            headers: Vec::new(),
            ..Message::default()
        }
    }

    thread_local! {
        /// Work that a thread never comes to do.
        static HUNG: RefCell<Vec<Box<dyn FnOnce() + Send>>> = const { RefCell::new(Vec::new()) };
    }

    fn hang(work: Box<dyn FnOnce() + Send>) -> std::io::Result<()> {
        HUNG.with_borrow_mut(|hung| hung.push(work));
        Ok(())
    }

    /// Steps until a report says this.
    fn step_until(delivery: &mut Delivery, is_said: impl Fn(&Report) -> bool) {
        while !delivery.take_reports().iter().any(&is_said) {
            delivery.step(true);
        }
    }

    fn says(words: &'static str) -> impl Fn(&Report) -> bool {
        move |report| matches!(report, Report::StandingStill { reason, .. } if reason.contains(words))
    }

    #[test]
    fn a_name_look_up_that_hangs_holds_nothing_up_but_the_connection() {
        let mut delivery = Delivery::new(settings(1), hang);
        delivery.publish(message());
        let begin = Instant::now();
        delivery.step(false);
        let until = delivery.wants().until.expect("it waits for no longer than it may");
        assert!(until <= begin + Duration::from_secs(10));
        assert_eq!(delivery.wants().socket, None);
        assert!(delivery.has_unconfirmed() && delivery.has_room_for(10));
        step_until(&mut delivery, says("did not answer within"));
        // An order is heard at once, whatever hangs.
        delivery.stop();
        delivery.step(false);
        assert!(delivery.is_stopped());
    }

    #[test]
    fn a_panic_in_a_session_is_a_failure_that_is_tried_again_and_loses_nothing() {
        fn panic(_: Box<dyn FnOnce() + Send>) -> std::io::Result<()> {
            panic!("no thread, but a bug");
        }
        let mut delivery = Delivery::new(settings(1), panic);
        delivery.publish(message());
        for _ in 0..2 {
            step_until(&mut delivery, says("delivery panicked: no thread, but a bug"));
        }
        assert!(delivery.has_unconfirmed() && !delivery.is_stopped());
        assert_eq!(delivery.done(), Published::default());
    }

    #[test]
    fn a_broker_that_says_nothing_is_left_after_the_timeout_and_asked_again_later() {
        fn spawn(work: Box<dyn FnOnce() + Send>) -> std::io::Result<()> {
            std::thread::spawn(work);
            Ok(())
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut delivery = Delivery::new(settings(listener.local_addr().unwrap().port()), spawn);
        let mut peers: Vec<TcpStream> = Vec::new();
        let mut numbers = Vec::new();
        for _ in 0..2 {
            step_until(&mut delivery, |report| matches!(report, Report::Connecting(_)));
            while delivery.wants().socket.is_none() {
                delivery.step(false);
            }
            peers.push(listener.accept().unwrap().0);
            numbers.extend(delivery.wants().socket.map(|socket| socket.number));
            step_until(&mut delivery, says("did not answer within 50ms"));
            assert_eq!(delivery.wants().socket, None);
        }
        assert!(numbers.len() == 2 && numbers[0] != numbers[1], "{numbers:?}");
    }
}
